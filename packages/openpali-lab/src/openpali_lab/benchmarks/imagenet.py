"""ImageNet: zero-shot by the names of the classes, and a linear probe on the frozen encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from openpali.eval.benchmark import Advance, Embedded, EncoderBenchmark, Encoders, SeenSamples
from openpali.home import home
from openpali.infer.batches import chunked
from openpali.metrics.scores import mean_scores
from openpali_lab.benchmarks.features import BATCH, CACHE, FeatureEncoder, Load
from openpali_lab.benchmarks.files import Folder, described
from openpali_lab.benchmarks.probes import Labels, RidgeSums, limited
from openpali_lab.benchmarks.zero_shot import canonical, class_embeddings, prompt_of, zero_shot

CLASSES = "imagenet/LOC_synset_mapping.txt"
ANSWERS = "imagenet/LOC_val_solution.csv"
VAL = "imagenet/ILSVRC/Data/CLS-LOC/val"
TRAIN = "imagenet/ILSVRC/Data/CLS-LOC/train"
NAMES = "imagenet/class_names.txt"
CRANES = {"n02012849": "crane bird", "n03126707": "construction crane"}  # WordNet has only "crane" for both
HOME = described("imagenet-linear")["home"]


def read_classes(folder: Folder) -> tuple[list[str], list[str]]:
    """Codes of the classes ("n01440764") in order, and their names: the first name of each in WordNet.

    Classes with the same first name ("Cardigan", a dog, and "cardigan", a garment) get all of their names. The file
    ``class_names.txt``, one line per class, overrides them, for example with CLIP's names.
    """
    codes, aliases = zip(*folder.columns(CLASSES, 2), strict=True)
    first = [CRANES.get(code, names.split(",")[0]) for code, names in zip(codes, aliases, strict=True)]
    often = Counter(map(canonical, first))
    first = [name if often[canonical(name)] == 1 else names for name, names in zip(first, aliases, strict=True)]
    if (folder.root / NAMES).is_file():
        first = folder.lines(NAMES)
        if len(first) != len(codes):
            raise ValueError(f"{folder.root / NAMES} has {len(first)} names for {len(codes)} classes: one a line")
    return list(codes), first


def read_answers(folder: Folder, codes: Sequence[str]) -> tuple[list[str], Labels]:
    """Names of the validation images and their classes."""
    number = {code: i for i, code in enumerate(codes)}
    images, labels = [], []
    for row in folder.rows(ANSWERS):
        code = row.text("PredictionString").split()[0]  # pairs of a class and a box
        if code not in number:
            raise ValueError(f"{row.where}: class {code} is not in {CLASSES}; the originals are at {HOME}")
        images.append(f"{VAL}/{row.text('ImageId')}.JPEG")
        labels.append(number[code])
    return images, np.array(labels)


def run_zeroshot(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Top-1 and top-5 accuracy: the class whose sentences, in 80 templates, are nearest to the image."""
    folder = Folder(root, "ImageNet", HOME)
    codes, names = read_classes(folder)
    every, truth = read_answers(folder, codes)
    images, labels, seen = every[:limit], truth[:limit], SeenSamples()
    seen.texts(*names, *labels)
    total = len(names) + len(images)
    classes = class_embeddings(model.embed_text, names, advance=lambda done: advance(done, total))
    chunks = []
    for some in chunked(images, BATCH):
        chunks.append(model.embed_image([seen.image(folder.image(name)) for name in some]))
        advance(len(names) + sum(map(len, chunks)), total)
    scores = zero_shot(np.concatenate(chunks), classes, labels.tolist())
    return Embedded(scores=scores, n=len(images), of=len(every), data=seen.hash, prompt=prompt_of(names))


def run_linear(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Top-1 accuracy of a ridge regression on the features of all training images.

    Args:
        limit: number of images to train on, and of validation images.
    """
    folder = Folder(root, "ImageNet", HOME)
    codes, _ = read_classes(folder)
    every, truth = read_answers(folder, codes)
    images, labels, seen = every[:limit], truth[:limit], SeenSamples()
    encoder = FeatureEncoder(model, cache=home() / CACHE)
    files: list[str] = []
    classes: list[int] = []
    for path in folder.subfolders(TRAIN):
        if path.name not in codes:
            raise ValueError(f"{path} is a class that {CLASSES} lacks; the originals are at {HOME}")
        names = sorted(file.name for file in path.glob("*.JPEG"))
        files += [f"{TRAIN}/{path.name}/{name}" for name in names]
        classes += [codes.index(path.name)] * len(names)
    kept = limited(np.array(classes, np.int64), limit)
    train: list[Load] = [partial(folder.image, files[i]) for i in kept]
    train_labels = np.array(classes, np.int64)[kept]
    total = len(train) + len(images)
    sums, done = RidgeSums(encoder.vit.config.width, len(codes)), 0
    seen.texts(*train_labels, *labels)
    for features in encoder(seen.images(train)):
        sums.add(features, train_labels[done : done + len(features)])
        done += len(features)
        advance(done, total)
    classify, hits = sums.fit(), list[float]()
    for features in encoder(seen.images([partial(folder.image, name) for name in images])):
        hits += (classify(features) == labels[len(hits) : len(hits) + len(features)]).astype(float).tolist()
        advance(len(train) + len(hits), total)
    return Embedded(
        scores=mean_scores({"acc": hits}),
        n=len(images),
        of=len(every),
        train=(len(train), len(files)),
        data=seen.hash,
        preprocessing=encoder.facts(),
    )


BENCHMARKS = (
    EncoderBenchmark(name="imagenet-zeroshot", run=run_zeroshot, **described("imagenet-zeroshot")),
    EncoderBenchmark(name="imagenet-linear", run=run_linear, **described("imagenet-linear")),
)
