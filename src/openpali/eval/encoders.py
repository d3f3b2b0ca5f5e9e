"""What an image encoder is worth on sets that this machine can build: Fashion-MNIST and the stamps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openpali.data.build import data_folder
from openpali.data.home import home
from openpali.data.sources import open_source
from openpali.data.world.compose import WorldSource
from openpali.data.world.world import World
from openpali.eval.benchmarks.base import Advance, EncoderBenchmark
from openpali.eval.features import Encoder, Floats, Load
from openpali.eval.metrics.scores import Scores, mean_scores
from openpali.eval.probes import Labels, fewshot, logistic, ridge
from openpali.eval.retrieval import retrieve
from openpali.eval.zero_shot import class_embeddings, zero_shot
from openpali.infer.pali import Pali
from openpali.tasks.example import Image

CACHE = "features"  # folder of features under the home
LEAST = 20  # stamps that a category has to have, to be a class


def fashion_mnist(pali: Pali, root: Path, limit: int | None, advance: Advance) -> Scores:
    """Few-shot, ridge and L-BFGS probes on mean patch tokens, of SigLIP and of the classification control.

    The pictures of 28 x 28 pixels are enlarged whole: their things reach the edges.
    """
    encoders = [part for part in ("siglip", "classifier") if part in pali.parts]
    if not encoders:
        raise ValueError(f"the model {pali.folder} has neither a siglip nor a classifier part to probe")
    (train, labels), (test, test_labels) = _fashion("train", None), _fashion("test", limit)
    total = len(encoders) * (len(train) + len(test))
    scores: dict[str, float] = {}
    hits: dict[str, list[float]] = {}
    for number, part in enumerate(encoders):
        encoder = Encoder(pali, part, crop=False)
        encode = partial(_encode, encoder, "fashion-mnist", advance=advance, total=total)
        before = number * (len(train) + len(test))
        x, x_test = encode(train, before=before), encode(test, before=before + len(train))
        few = fewshot(x, labels, x_test, test_labels)
        scores |= {f"{name}/{part}": value for name, value in few.summary.items()}
        hits |= {f"{name}/{part}": values for name, values in few.per_sample.items()}
        for name, fit in (("full", ridge), ("lbfgs", logistic)):
            right = fit(x, labels)(x_test) == test_labels
            hits[f"acc/{name}/{part}"] = right.astype(float).tolist()
    return Scores(mean_scores(hits).summary | scores, hits)


def fashion_mnist_zero_shot(pali: Pali, root: Path, limit: int | None, advance: Advance) -> Scores:
    """Zero-shot by the names of the ten classes in CLIP's templates."""
    pictures, labels = _fashion("test", limit)
    names = (data_folder("fashion-mnist") / "classes.txt").read_text("utf-8").split("\n")[:10]
    total = len(names) + len(pictures)
    classes = class_embeddings(
        pali.embed_text, [name.replace("/", " or ") for name in names], advance=lambda done: advance(done, total)
    )
    images = pali.embed_image([load() for load in pictures])
    advance(total, total)
    return zero_shot(images, classes, [{int(label)} for label in labels])


def stamps_probe(pali: Pali, root: Path, limit: int | None, advance: Advance) -> Scores:
    """Few-shot probe: the category of a stamp, by those of its own kind of which there are enough.

    Every second stamp of a category is for training, the others for testing.
    """
    stamps = _world().stamps
    categories = [stamp.category for stamp in stamps]
    names = sorted({name for name in categories if categories.count(name) >= LEAST})
    rows = [(partial(_on_white, s.rgba), names.index(s.category)) for s in stamps if s.category in names]
    order = sorted(range(len(rows)), key=lambda i: rows[i][1])
    train, test = [rows[i] for i in order[::2]], [rows[i] for i in order[1::2]][:limit]
    total = len(train) + len(test)
    encoder = Encoder(pali, crop=False)
    x, x_test = (
        _encode(encoder, f"stamps {part}", [load for load, _ in some], advance=advance, total=total, before=before)
        for part, some, before in (("train", train, 0), ("test", test, len(train)))
    )
    return fewshot(x, np.array([c for _, c in train]), x_test, np.array([c for _, c in test]), shots=(1, 5, 10))


def stamps_retrieval(pali: Pali, root: Path, limit: int | None, advance: Advance) -> Scores:
    """Stamps on white <-> their captions, in every language of the world that half of them or more have one in."""
    world = _world()
    stamps = world.stamps[:limit]
    captions = {
        lang: [[s.captions[lang]] if lang in s.captions else [] for s in stamps] for lang in world.languages
    }
    captions = {lang: texts for lang, texts in captions.items() if 2 * sum(map(len, texts)) >= len(stamps)}
    images = pali.embed_image([_on_white(stamp.rgba) for stamp in stamps])
    return retrieve(images, captions, pali.embed_text, advance=lambda done: advance(done, len(captions)))


def _fashion(split: str, limit: int | None) -> tuple[list[Load], Labels]:
    with np.load(data_folder("fashion-mnist") / f"{split}.npz", allow_pickle=False) as file:
        images, labels = file["images"][:limit], file["labels"][:limit].astype(np.int64)
    return [partial(_rgb, image) for image in images], labels


def _world() -> World:
    source = open_source("mini/single", {})
    assert isinstance(source, WorldSource)
    return source.world


def _rgb(grey: NDArray[np.uint8]) -> Image:
    return np.repeat(grey[..., None], 3, axis=2)


def _on_white(rgba: NDArray[np.uint8]) -> Image:
    """A stamp in the middle of a white square."""
    height, width = rgba.shape[:2]
    side = max(height, width)
    out = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    alpha = rgba[..., 3:] / 255
    out[top : top + height, left : left + width] = np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha))
    return out


def _encode(
    encoder: Encoder, name: str, pictures: Sequence[Load], *, advance: Advance, total: int, before: int
) -> Floats:
    """Features out of the cache, which is under the home; the key holds the pixels."""
    digest = hashlib.sha256()
    for load in pictures:
        digest.update(load().tobytes())
    key = f"{name} {digest.hexdigest()}"
    return encoder.features(
        pictures, cache=home() / CACHE, key=key, advance=lambda done: advance(before + done, total)
    )


Run = Callable[[Pali, Path, int | None, Advance], Scores]


def _benchmark(
    name: str, title: str, split: str, metric: str, data: str, run: Run, note: str = ""
) -> EncoderBenchmark:
    home_ = f"Debian packages; `openpali data build {data}` fetches them"
    return EncoderBenchmark(name=name, title=title, split=split, metric=metric, home=home_, note=note, run=run)


ENCODER_SETS = (
    _benchmark(
        "fashion-mnist",
        "Fashion-MNIST, linear probes",
        "test",
        "acc/10-shot/siglip",
        "fashion-mnist",
        fashion_mnist,
    ),
    _benchmark(
        "fashion-mnist-zeroshot",
        "Fashion-MNIST, zero-shot",
        "test",
        "acc",
        "fashion-mnist",
        fashion_mnist_zero_shot,
        "CLIP's 80 templates.",
    ),
    _benchmark(
        "stamps-fewshot",
        "Stamps, few-shot probe of the category",
        "every second of a category",
        "acc/10-shot",
        "stamps",
        stamps_probe,
        f"Categories of {LEAST} stamps and more. 128 of the stamps are those that nano is trained on.",
    ),
    _benchmark(
        "stamps-retrieval",
        "Stamps, retrieval over languages",
        "all",
        "img2txt_recall@1",
        "stamps",
        stamps_retrieval,
        "Stamps alone on white, in all languages that half of them have a caption in. Some have the same caption, "
        "and a tie counts against the model.",
    ),
)
