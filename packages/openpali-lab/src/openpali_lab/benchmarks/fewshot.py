"""The few-shot probe: linear classifiers on a few images per class of eight data sets, encoder frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from openpali.data.media.images import is_image
from openpali.eval.benchmark import Advance, Embedded, EncoderBenchmark, Encoders, SeenSamples
from openpali.home import home
from openpali.metrics.scores import Scores, macro_values, mean
from openpali.tasks.example import Image
from openpali_lab.benchmarks.features import CACHE, FeatureEncoder, Load
from openpali_lab.benchmarks.files import Folder
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


@dataclass(frozen=True)
class ProbeSet:
    """One of the eight data sets.

    Attributes:
        layout: its files under the data root.
        open: reads train and test split.
    """

    name: str
    title: str
    home: str
    layout: Sequence[str]
    open: Callable[[Folder], Split]


def _birds(folder: Folder) -> Split:
    """CUB-200-2011: lines of "image value"."""
    images, split, labels = (
        dict(folder.columns(f"birds/CUB_200_2011/{name}.txt", 2))
        for name in ("images", "train_test_split", "image_class_labels")
    )
    if not images.keys() == split.keys() == labels.keys():
        raise ValueError(
            f"the tables of {folder.title} in {folder.root} do not list the same images; see {folder.home}"
        )
    rows = [(split[i], f"birds/CUB_200_2011/images/{name}", labels[i]) for i, name in images.items()]
    return _labelled(folder, rows, "1"), _labelled(folder, rows, "0")


def _cars(folder: Folder) -> Split:
    return _cars_split(folder, "train", "cars_train_annos.mat"), _cars_split(
        folder, "test", "cars_test_annos_withlabels.mat"
    )


def _cars_split(folder: Folder, split: str, name: str) -> Labelled:
    """Stanford Cars: MATLAB's structures with ``fname`` and ``class``."""
    from scipy.io import loadmat  # takes half a second to import

    path = folder.file(f"cars196/devkit/{name}", f"cars196/{name}")
    try:
        annotations = loadmat(path, squeeze_me=True)["annotations"]
        rows = [
            (split, f"cars196/cars_{split}/{each['fname']}", str(int(each["class"])))
            for each in np.atleast_1d(annotations)
        ]
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{path} has no annotations with fname and class; get it anew at {folder.home}") from error
    return _labelled(folder, rows, split)


def _cifar100(folder: Folder) -> Split:
    return _cifar_split(folder, "train"), _cifar_split(folder, "test")


def _cifar_split(folder: Folder, split: str) -> Labelled:
    """The binary version: coarse label, fine label, then 3 x 32 x 32 bytes."""
    path = folder.file(f"cifar100/cifar-100-binary/{split}.bin")
    data = np.fromfile(path, np.uint8)
    if not data.size or data.size % 3074:
        raise ValueError(f"{path} is not made of records of 3,074 bytes; get it anew at {folder.home}")
    records = data.reshape(-1, 3074)
    images = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Labelled([partial(np.ascontiguousarray, image) for image in images], [str(n) for n in records[:, 1]])


def _dtd(folder: Folder) -> Split:
    """Describable Textures: the first of ten official splits."""
    rows = [
        (split, f"dtd/images/{name}", name.partition("/")[0])
        for split in ("train", "test")
        for name in folder.lines(f"dtd/labels/{split}1.txt")
    ]
    return _labelled(folder, rows, "train"), _labelled(folder, rows, "test")


def _pets(folder: Folder) -> Split:
    """Oxford-IIIT Pets: lines of "name class species breed"."""
    rows = [
        (split, f"pets/images/{name}.jpg", label)
        for split in ("trainval", "test")
        for name, label, *_ in folder.columns(f"pets/annotations/{split}.txt", 4)
    ]
    return _labelled(folder, rows, "trainval"), _labelled(folder, rows, "test")


def _sorted_folders(place: str, train: Callable[[int], int], folder: Folder) -> Split:
    """Folders of images, one per class, without an official split: split by the hash of the file names.

    ``train``: number of images of a class -> number of those for training.
    """
    rows = []
    for each in folder.subfolders(place):
        names = [path.name for path in each.iterdir() if is_image(path)]
        names.sort(key=lambda name: hashlib.sha256(f"{each.name}/{name}".encode()).digest())
        cut = train(len(names))
        rows += [
            ("train" if i < cut else "test", f"{place}/{each.name}/{name}", each.name)
            for i, name in enumerate(names)
        ]
    return _labelled(folder, rows, "train"), _labelled(folder, rows, "test")


def _labelled(folder: Folder, rows: Sequence[tuple[str, str, str]], split: str) -> Labelled:
    """The images of a split, from rows of (split, file, class)."""
    chosen = [(name, label) for row_split, name, label in rows if row_split == split]
    if not chosen:
        raise ValueError(f"{folder.title} in {folder.root} has no images of split {split!r}; see {folder.home}")
    images: list[Callable[[], Image]] = [partial(folder.image, name) for name, _ in chosen]
    return Labelled(images, [label for _, label in chosen])


def _thirty(count: int) -> int:
    return min(30, count - 1)


def _half(count: int) -> int:
    return count // 2


DATA_SETS = (
    ProbeSet(
        "birds",
        "CUB-200-2011",
        "https://www.vision.caltech.edu/datasets/cub_200_2011",
        tuple(
            f"birds/CUB_200_2011/{n}"
            for n in ("images.txt", "train_test_split.txt", "image_class_labels.txt", "images")
        ),
        _birds,
    ),
    ProbeSet(
        "caltech101",
        "Caltech-101",
        "https://data.caltech.edu/records/mzrjq-6wc02",
        ("caltech101/101_ObjectCategories",),
        partial(_sorted_folders, "caltech101/101_ObjectCategories", _thirty),
    ),
    ProbeSet(
        "cars196",
        "Stanford Cars",
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        (
            "cars196/devkit/cars_train_annos.mat",
            "cars196/devkit/cars_test_annos_withlabels.mat",
            "cars196/cars_train",
            "cars196/cars_test",
        ),
        _cars,
    ),
    ProbeSet(
        "cifar100",
        "CIFAR-100",
        "https://www.cs.toronto.edu/~kriz/cifar.html (binary version)",
        ("cifar100/cifar-100-binary/train.bin", "cifar100/cifar-100-binary/test.bin"),
        _cifar100,
    ),
    ProbeSet(
        "col_hist",
        "Colorectal Histology",
        "https://zenodo.org/record/53169",
        ("col_hist/Kather_texture_2016_image_tiles_5000",),
        partial(_sorted_folders, "col_hist/Kather_texture_2016_image_tiles_5000", _half),
    ),
    ProbeSet(
        "dtd",
        "Describable Textures",
        "https://www.robots.ox.ac.uk/~vgg/data/dtd",
        ("dtd/labels/train1.txt", "dtd/labels/test1.txt", "dtd/images"),
        _dtd,
    ),
    ProbeSet(
        "pets",
        "Oxford-IIIT Pets",
        "https://www.robots.ox.ac.uk/~vgg/data/pets",
        ("pets/annotations/trainval.txt", "pets/annotations/test.txt", "pets/images"),
        _pets,
    ),
    ProbeSet(
        "uc_merced",
        "UC Merced Land Use",
        "http://weegee.vision.ucmerced.edu/datasets/landuse.html",
        ("uc_merced/UCMerced_LandUse/Images",),
        partial(_sorted_folders, "uc_merced/UCMerced_LandUse/Images", _half),
    ),
)


def _advance(advance: Advance, before: int, total: int, done: int) -> None:
    advance(before + done, total)


def run_fewshot(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Accuracy at 1, 5, 10 and 25 shots, mean of three seeds, per data set and over all eight.

    Args:
        limit: images per data set, to train on and to test on.
    """
    whole = {each.name: each.open(Folder(root, each.title, each.home)) for each in DATA_SETS}
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
            step = partial(_advance, advance, done, total)
            seen.texts(*names)
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
        title="Few-shot probe, 8 tasks",
        split="test of each",
        metric=f"acc/{HEADLINE}-shot",
        resolution=224,
        layout=tuple(name for each in DATA_SETS for name in each.layout),
        home=", ".join(each.home for each in DATA_SETS),
        note="The eight data sets and the shots are those of big_vision's few-shot evaluator and the ViT papers. "
        "Caltech-101 (30 images a class for training), Colorectal Histology and UC Merced (half of each class) "
        "have no official split and are split by the hash of their names.",
        run=run_fewshot,
    ),
)
