"""Benchmarks of image encoders on data that `openpali data build` makes: Fashion-MNIST and the stamps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import Advance, Embedded, EncoderBenchmark, Encoders, SeenSamples
from openpali.home import data_folder, home
from openpali.metrics.scores import Scores, mean_scores
from openpali.tasks.example import Image
from openpali_lab.benchmarks.features import CACHE, FeatureEncoder, Floats, Load
from openpali_lab.benchmarks.probes import Labels, fewshot, limited, logistic, ridge
from openpali_lab.worlds.compose import WorldSource
from openpali_lab.worlds.world import Stamp, World

LEAST = 20  # smaller categories of stamps are not classes


def fashion_mnist(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Few-shot, ridge and L-BFGS probes on mean patch tokens, of SigLIP and of the classification control.

    The images of 28 x 28 pixels are resized whole, without a crop: their objects reach the edges.
    """
    encoders = [part for part in ("siglip", "classifier") if part in model.parts]
    if not encoders:
        raise ValueError(f"the model {model.name} has neither a siglip nor a classifier part to probe")
    (every, every_label), (test, test_labels) = fashion_images("train"), fashion_images("test")
    kept = limited(every_label, limit)
    train, labels = [every[i] for i in kept], every_label[kept]
    of, seen = len(test), SeenSamples()
    test, test_labels = test[:limit], test_labels[:limit]
    seen.texts(*labels, *test_labels)
    for load in (*train, *test):
        seen.image(load())
    total = len(encoders) * (len(train) + len(test))
    scores: dict[str, float] = {}
    hits: dict[str, list[float]] = {}
    preprocessing: dict[str, dict[str, Any]] = {}
    for number, part in enumerate(encoders):
        encoder = FeatureEncoder(model, part, crop=False, cache=home() / CACHE)
        encode = partial(_encode, encoder, advance=advance, total=total)
        before = number * (len(train) + len(test))
        x, x_test = encode(train, before=before), encode(test, before=before + len(train))
        preprocessing |= encoder.facts()
        few = fewshot(x, labels, x_test, test_labels)
        scores |= {f"{name}/{part}": value for name, value in few.summary.items()}
        hits |= {f"{name}/{part}": values for name, values in few.per_sample.items()}
        for name, fit in (("full", ridge), ("lbfgs", logistic)):
            right = fit(x, labels)(x_test) == test_labels
            hits[f"acc/{name}/{part}"] = right.astype(float).tolist()
    return Embedded(
        scores=Scores(mean_scores(hits).summary | scores, hits),
        n=len(test),
        of=of,
        train=(len(train), len(every)),
        data=seen.hash,
        preprocessing=preprocessing,
    )


def stamps_probe(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Few-shot probe of a stamp's category, among the categories with enough stamps."""
    sides = stamps_by_category()
    names = sorted({category for rows in sides for _, category in rows})
    for_training, for_testing = ([(load, names.index(category)) for load, category in rows] for rows in sides)
    kept = limited(np.array([c for _, c in for_training]), limit)
    train, test, seen = [for_training[i] for i in kept], for_testing[:limit], SeenSamples()
    seen.texts(*names, *(c for _, c in (*train, *test)))
    total = len(train) + len(test)
    encoder = FeatureEncoder(model, crop=False, cache=home() / CACHE)
    x, x_test = (
        _encode(encoder, seen.images([load for load, _ in some]), advance=advance, total=total, before=before)
        for some, before in ((train, 0), (test, len(train)))
    )
    scores = fewshot(x, np.array([c for _, c in train]), x_test, np.array([c for _, c in test]), shots=(1, 5, 10))
    return Embedded(
        scores=scores,
        n=len(test),
        of=len(for_testing),
        train=(len(train), len(for_training)),
        data=seen.hash,
        preprocessing=encoder.facts(),
    )


def stamps_by_category() -> tuple[list[tuple[Load, str]], list[tuple[Load, str]]]:
    """Stamps on white and their categories, without small ones: to train on, and to test on.

    Sorted by category, every second stamp is to train on. Of the others those that nano is trained on are left out.
    """
    stamps, own = _world("mini").stamps, {stamp.key for stamp in _world("nano").stamps}
    sizes = Counter(stamp.category for stamp in stamps)
    chosen = sorted((s for s in stamps if sizes[s.category] >= LEAST), key=lambda stamp: stamp.category)
    return _shown(chosen[::2]), _shown([stamp for stamp in chosen[1::2] if stamp.key not in own])


def _shown(stamps: Sequence[Stamp]) -> list[tuple[Load, str]]:
    return [(partial(on_white, stamp.rgba), stamp.category) for stamp in stamps]


def fashion_images(split: str) -> tuple[list[Load], Labels]:
    """Images of a split of Fashion-MNIST and their classes."""
    with np.load(data_folder("fashion-mnist") / f"{split}.npz", allow_pickle=False) as file:
        images, labels = file["images"], file["labels"].astype(np.int64)
    return [partial(_rgb, image) for image in images], labels


def _world(name: str) -> World:
    source = open_source(f"{name}/single", {})
    assert isinstance(source, WorldSource)
    return source.world


def _rgb(grey: NDArray[np.uint8]) -> Image:
    return np.repeat(grey[..., None], 3, axis=2)


def on_white(rgba: NDArray[np.uint8]) -> Image:
    """A stamp, centred on a white square."""
    height, width = rgba.shape[:2]
    side = max(height, width)
    out = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    alpha = rgba[..., 3:] / 255
    out[top : top + height, left : left + width] = np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha))
    return out


def _encode(encoder: FeatureEncoder, loads: Sequence[Load], *, advance: Advance, total: int, before: int) -> Floats:
    return encoder.features(loads, advance=lambda done: advance(before + done, total))


def _home(data: str) -> str:
    return f"Debian packages; `openpali data build {data}` fetches them"


ENCODER_SETS = (
    EncoderBenchmark(
        name="fashion-mnist",
        title="Fashion-MNIST, linear probes",
        split="test",
        metric="acc/10-shot/siglip",
        home=_home("fashion-mnist"),
        run=fashion_mnist,
    ),
    EncoderBenchmark(
        name="stamps-fewshot",
        title="Stamps, few-shot probe of the category",
        split="every second of a category",
        metric="acc/10-shot",
        home=_home("stamps"),
        note=f"Categories of {LEAST} stamps and more. No image of the test is one that nano is trained on.",
        run=stamps_probe,
    ),
)
