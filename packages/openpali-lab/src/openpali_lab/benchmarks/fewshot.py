"""The few-shot probe: linear classifiers on a few images per class of eight data sets, encoder frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from openpali.data.media.images import is_image
from openpali.eval.benchmark import Advance, Embedded, EncoderBenchmark, Encoders, SeenSamples
from openpali.home import home
from openpali.metrics.scores import Scores, macro_values, mean
from openpali_lab.benchmarks.features import CACHE, FeatureEncoder, Load
from openpali_lab.benchmarks.files import Folder, described
from openpali_lab.benchmarks.probes import SHOTS, fewshot, limited

HEADLINE = 10  # shots


@dataclass(frozen=True)
class Labelled:
    """Image loaders, and the classes of the images."""

    images: Sequence[Load]
    labels: Sequence[str]

    def at(self, indices: Iterable[int]) -> Labelled:
        """Some of them, by index."""
        chosen = list(indices)
        return Labelled([self.images[i] for i in chosen], [self.labels[i] for i in chosen])


Split = tuple[Labelled, Labelled]  # train, test


Row = tuple[bool, Load, str]
"""Whether an image is to train on, the image, and its class."""


@dataclass(frozen=True)
class ProbeSet:
    """One of the eight data sets.

    Attributes:
        rows: all images of both splits, in order.
        layout: its files under the data root.
    """

    name: str
    rows: Callable[[Folder], Iterable[Row]]
    title: str
    home: str
    layout: Sequence[str]

    def open(self, root: Path) -> Split:
        rows = [*self.rows(Folder(root, self.title, self.home, self.layout))]
        if len({trains for trains, *_ in rows}) < 2:
            raise ValueError(f"{self.title} in {root} lacks the images of a split; see {self.home}")
        train, test = ([row[1:] for row in rows if row[0] == trains] for trains in (True, False))
        return Labelled(*zip(*train, strict=True)), Labelled(*zip(*test, strict=True))


def _probe_set(name: str) -> Callable[[Callable[[Folder], Iterable[Row]]], ProbeSet]:
    """Makes a data set of a function that reads its files."""
    return partial(ProbeSet, name, **described(f"probes/{name}"))


CUB = "birds/CUB_200_2011"


@_probe_set("birds")
def birds(folder: Folder) -> Iterator[Row]:
    """Lines of "image value"."""
    names = ("images", "train_test_split", "image_class_labels")
    images, split, labels = (dict(folder.columns(f"{CUB}/{name}.txt", 2)) for name in names)
    if not images.keys() == split.keys() == labels.keys():
        raise ValueError(
            f"the tables of {folder.title} in {folder.root} do not list the same images; see {folder.home}"
        )
    for image, name in images.items():
        yield split[image] == "1", partial(folder.image, f"{CUB}/images/{name}"), labels[image]


def _sorted_folders(folder: Folder, train: Callable[[int], int]) -> Iterator[Row]:
    """Folders of images, one per class, without an official split: split by the hash of the file names.

    ``train``: number of images of a class -> number of those for training.
    """
    [place] = folder.layout
    for each in folder.subfolders(place):
        names = [path.name for path in each.iterdir() if is_image(path)]
        names.sort(key=lambda name: hashlib.sha256(f"{each.name}/{name}".encode()).digest())
        for i, name in enumerate(names):
            yield i < train(len(names)), partial(folder.image, f"{place}/{each.name}/{name}"), each.name


caltech101 = _probe_set("caltech101")(partial(_sorted_folders, train=lambda count: min(30, count - 1)))


@_probe_set("cars196")
def cars196(folder: Folder) -> Iterator[Row]:
    """MATLAB's structures with ``fname`` and ``class``."""
    from scipy.io import loadmat  # takes half a second to import

    for split, name in (("train", "cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        path = folder.file(f"cars196/devkit/{name}", f"cars196/{name}")
        try:
            for each in np.atleast_1d(loadmat(path, squeeze_me=True)["annotations"]):
                image = partial(folder.image, f"cars196/cars_{split}/{each['fname']}")
                yield split == "train", image, str(int(each["class"]))
        except (ValueError, KeyError, TypeError, NotImplementedError) as error:
            raise ValueError(
                f"{path} has no annotations with fname and class; get it anew at {folder.home}"
            ) from error


@_probe_set("cifar100")
def cifar100(folder: Folder) -> Iterator[Row]:
    """The binary version: coarse label, fine label, then 3 x 32 x 32 bytes."""
    for split in ("train", "test"):
        path = folder.file(f"cifar100/cifar-100-binary/{split}.bin")
        data = np.fromfile(path, np.uint8)
        if not data.size or data.size % 3074:
            raise ValueError(f"{path} is not made of records of 3,074 bytes; get it anew at {folder.home}")
        for record in data.reshape(-1, 3074):
            image = record[2:].reshape(3, 32, 32).transpose(1, 2, 0)
            yield split == "train", partial(np.ascontiguousarray, image), str(record[1])


col_hist = _probe_set("col_hist")(partial(_sorted_folders, train=lambda count: count // 2))


@_probe_set("dtd")
def dtd(folder: Folder) -> Iterator[Row]:
    """The first of ten official splits."""
    for split in ("train", "test"):
        for name in folder.lines(f"dtd/labels/{split}1.txt"):
            yield split == "train", partial(folder.image, f"dtd/images/{name}"), name.partition("/")[0]


@_probe_set("pets")
def pets(folder: Folder) -> Iterator[Row]:
    """Lines of "name class species breed"."""
    for split in ("trainval", "test"):
        for name, label, *_ in folder.columns(f"pets/annotations/{split}.txt", 4):
            yield split == "trainval", partial(folder.image, f"pets/images/{name}.jpg"), label


uc_merced = _probe_set("uc_merced")(partial(_sorted_folders, train=lambda count: count // 2))

DATA_SETS = (birds, caltech101, cars196, cifar100, col_hist, dtd, pets, uc_merced)


def _advance(advance: Advance, before: int, total: int, done: int) -> None:
    advance(before + done, total)


def run_fewshot(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Accuracy at 1, 5, 10 and 25 shots, mean of three seeds, per data set and over all eight.

    Args:
        limit: images per data set, to train on and to test on.
    """
    whole = {each.name: each.open(root) for each in DATA_SETS}
    return probe_splits(FeatureEncoder(model, cache=home() / CACHE), whole, limit, advance)


def probe_splits(
    encoder: FeatureEncoder, whole: Mapping[str, Split], limit: int | None, advance: Advance
) -> Embedded:
    """The few-shot probe of each data set, and the mean over them."""
    seen = SeenSamples()
    splits = {
        name: (train.at(limited(np.array(train.labels), limit)), test.at(range(len(test.labels))[:limit]))
        for name, (train, test) in whole.items()
    }
    total = sum(len(part.labels) for split in splits.values() for part in split)
    done = 0
    scores: dict[str, float] = {}
    hits: dict[str, list[float]] = {}
    for name, (train, test) in splits.items():
        numbers = {label: i for i, label in enumerate(sorted(set(train.labels)))}
        features, labels = [], []
        for images, names in ((train.images, train.labels), (test.images, test.labels)):
            seen.texts(*names)
            step = partial(_advance, advance, done, total)
            features.append(encoder.features(seen.images(images), advance=step))
            done += len(images)
            labels.append(np.array([numbers.get(label, -1) for label in names]))  # an unknown class is never right
        found = fewshot(features[0], labels[0], features[1], labels[1])
        scores |= {f"acc/{k}-shot/{name}": found.summary[f"acc/{k}-shot"] for k in SHOTS}
        hits |= {f"acc/{k}-shot/{name}": found.per_sample[f"acc/{k}-shot"] for k in SHOTS}
    means = {f"acc/{k}-shot": mean([scores[f"acc/{k}-shot/{name}"] for name in splits]) for k in SHOTS}
    counts = [len(test.labels) for _, test in splits.values()]
    starts = np.cumsum([0, *counts]).tolist()
    places = [range(start, start + count) for start, count in zip(starts, counts, strict=False)]
    per_image = {
        f"acc/{k}-shot": macro_values(
            sum(counts), [(own, hits[f"acc/{k}-shot/{name}"]) for own, name in zip(places, splits, strict=True)]
        )
        for k in SHOTS
    }
    return Embedded(
        scores=Scores(means | scores, per_image | hits),
        n=sum(counts),
        of=sum(len(test.labels) for _, test in whole.values()),
        train=(
            sum(len(train.labels) for train, _ in splits.values()),
            sum(len(train.labels) for train, _ in whole.values()),
        ),
        data=seen.hash,
        preprocessing=encoder.facts(),
    )


BENCHMARKS = (
    EncoderBenchmark(
        name="fewshot",
        layout=tuple(name for each in DATA_SETS for name in each.layout),
        home=", ".join(each.home for each in DATA_SETS),
        **described("fewshot"),
        run=run_fewshot,
    ),
)
