"""The few-shot probe on nine small data sets that package managers carry, or that are rendered on demand."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import SEED, Advance, Embedded, EncoderBenchmark, Encoders
from openpali.home import data_folder, home
from openpali.rng import generator
from openpali.tasks.example import Example, Image
from openpali_lab.benchmarks.features import CACHE, FeatureEncoder, Load
from openpali_lab.benchmarks.fewshot import HEADLINE, Labelled, Split, probe_splits
from openpali_lab.benchmarks.probes import SHOTS
from openpali_lab.worlds.benchmarks.encoders import fashion_images, on_white, stamps_by_category
from openpali_lab.worlds.builders import clipart, packages
from openpali_lab.worlds.builders.emoji import ARTISTS

TRAIN = max(SHOTS)  # images of each class to draw shots from
TEST = 400  # images of each data set
LARGE = 4_000_000  # pixels of a drawing that would take too long to read
LANGUAGES = (  # each has a script of its own
    *("en", "el", "ru", "ar", "hy", "hi", "am", "ka", "gu"),
    *("zh", "ja", "ko", "he", "km", "ml", "ta", "th"),
)
CLIPART = (
    *("animals", "buildings", "food", "geography", "office"),
    *("people", "plants", "recreation", "tools", "transportation"),
)
"""Folders of the package that no background of a world is made of."""

Rows = Sequence[tuple[Load, str]]


def _fashion() -> Split:
    train, test = ([*zip(*fashion_images(split), strict=True)] for split in ("train", "test"))
    return _chosen([(load, str(label)) for load, label in train], [(load, str(label)) for load, label in test])


def _digits() -> Split:
    """scikit-learn's digits: the first half for training, as in its example."""
    path = "usr/lib/python3/dist-packages/sklearn/datasets/data/digits.csv.gz"
    with gzip.open(_package("python3-sklearn", "ood") / path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    rows = [(partial(_grey, row[:-1].reshape(8, 8) * 255 // 16), str(row[-1])) for row in table]
    return _chosen(rows[: len(rows) // 2], rows[len(rows) // 2 :])


def _stamps() -> Split:
    return _chosen(*stamps_by_category())


def _easy_vqa(kind: str) -> Split:
    """The shape, or the colour, of the one thing in each image of easy-VQA, by its own split."""
    train, test = (_asked(split, kind) for split in ("train", "test"))
    return _chosen(train, test)


def _asked(split: str, kind: str) -> Rows:
    source: Any = open_source("easy-vqa", {"split": split})
    rows = []
    for index in range(len(source)):
        record = source.record(index)
        if record.question_kind == kind and record.question.startswith("what"):
            rows.append((partial(_image, source, index), str(record.answers[0])))
    return rows


def _clipart() -> Split:
    """Folders of Debian's clip art, split by the hash of the file's name.

    The package holds copies: no image to test on is a background of a world, or is to train on, too.
    """
    root = _package(clipart.PACKAGE, "clipart") / clipart.FOLDER
    found: tuple[list[tuple[Load, str]], list[tuple[Load, str]]] = ([], [])
    for name in CLIPART:
        for path in sorted((root / name).rglob("*.png"), key=lambda path: _hash(path.name)):
            if _pixels(path) <= LARGE:
                found[_hash(path.name)[0] % 2].append((partial(_drawn, path), name))
    train, test = _chosen(*found)
    backgrounds: list[Load] = [partial(_drawn, path) for paths in clipart.choose(root).values() for path in paths]
    known = {load().tobytes() for load in (*backgrounds, *train.images)}
    return train, test.at(i for i, load in enumerate(test.images) if load().tobytes() not in known)


def _emoji() -> Split:
    """Unicode's groups of emoji, drawn by one artist to train on and by two others to test on."""
    root = data_folder("emoji")
    drawn = {
        artist: [
            (partial(_drawn, path), path.parent.name)
            for path in sorted((root / artist).glob("*/*.png"), key=lambda path: _hash(path.name))
        ]
        for artist in ARTISTS
    }
    train, *tests = drawn.values()
    return _chosen(train, [row for rows in zip(*tests, strict=True) for row in rows])


def _rendered(world_kind: str, options: Mapping[str, Any], label: Callable[[Example], str], classes: int) -> Split:
    """Images of a world, drawn from both splits with the seed of evaluations."""
    splits = []
    for split, number in (("train", 2 * classes * TRAIN), ("heldout", TEST)):
        source = open_source(world_kind, {"split": split, "seed": SEED, **options})
        examples = [source[index] for index in range(number)]
        splits.append([(partial(np.asarray, example.images[0]), label(example)) for example in examples])
    return _chosen(*splits)


SETS: Mapping[str, Callable[[], Split]] = {
    "fashion-mnist": _fashion,
    "digits": _digits,
    "stamps": _stamps,
    "shapes": partial(_easy_vqa, "shape"),
    "colours": partial(_easy_vqa, "colour"),
    "clip-art": _clipart,
    "letters": partial(
        _rendered, "nano/word", {"min_letters": 1, "max_letters": 1}, lambda example: example.text, 26
    ),
    "scripts": partial(
        _rendered,
        "mini/document",
        {"canvas": 144, "min_lines": 1, "max_lines": 2, "languages": LANGUAGES},
        lambda example: example.lang,
        len(LANGUAGES),
    ),
    "emoji": _emoji,
}


def small_fewshot(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Accuracy at 1, 5, 10 and 25 shots, mean of three seeds, per data set and over all nine."""
    splits = {name: open_set() for name, open_set in SETS.items()}
    return probe_splits(FeatureEncoder(model, crop=False, cache=home() / CACHE), splits, limit, advance)


def _chosen(train: Rows, test: Rows) -> Split:
    """The first images of each class to train on, and images to test on, the same share of each class."""
    seen: dict[str, count[int]] = {}
    few = [row for row in train if next(seen.setdefault(row[1], count())) < TRAIN]
    ordered = sorted(test, key=lambda row: row[1])
    spread = np.linspace(0, len(ordered) - 1, min(TEST, len(ordered))).astype(int)
    spread = generator(SEED).permutation(spread)  # so that a limit leaves some of each class
    return _labelled(few), _labelled([ordered[i] for i in spread])


def _labelled(rows: Rows) -> Labelled:
    return Labelled([load for load, _ in rows], [label for _, label in rows])


def _package(name: str, data_set: str) -> Path:
    """The folder of a package that a data set is built from."""
    if not packages.is_fetched(name):
        raise FileNotFoundError(
            f"the package {name} is not in the cache: run `openpali data build {data_set} --force`"
        )
    return packages.fetch(name)


def _image(source: Any, index: int) -> Image:
    image: Image = source[index].images[0]
    return image


def _grey(pixels: NDArray[np.int64]) -> Image:
    return np.repeat(pixels.astype(np.uint8)[..., None], 3, axis=2)


def _drawn(path: Path) -> Image:
    with PILImage.open(path) as opened:
        opened.thumbnail((256, 256))
        return on_white(np.asarray(opened.convert("RGBA")))


def _pixels(path: Path) -> int:
    """Width times height of a PNG, from its header."""
    with path.open("rb") as file:
        width, height = struct.unpack(">16xII", file.read(24))
    return int(width * height)


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


SMALL_FEWSHOT = EncoderBenchmark(
    name="small-fewshot",
    title="Few-shot probe, 9 small tasks",
    split=f"{TEST} pictures of each, at most",
    metric=f"acc/{HEADLINE}-shot",
    home="`openpali data build all` and `openpali data build emoji` fetch them",
    note="Fashion-MNIST, scikit-learn's digits, categories of stamps, shapes and colours of easy-VQA, folders of "
    f"Debian's clip art, capital letters, {len(LANGUAGES)} scripts, and groups of emoji, learned from one "
    "artist and asked of two others. No stamp of the test is one that nano is trained on, and no clip art is a "
    "background. Images are resized whole.",
    run=small_fewshot,
)
