"""RefCOCO, RefCOCO+ and RefCOCOg: segment the object that an expression refers to, in COCO's images.

The splits are UNC's for RefCOCO/+ and UMD's for RefCOCOg. The three are trained together, and an image may be in
the training split of one and in a validation or test split of another: :func:`write_training` leaves these images
out, as big_vision's ``refcocox_combined`` does, and counts them.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openpali.data.sources.files import relative_to
from openpali.data.sources.mask_formats import read_polygons, read_run_lengths
from openpali.messages import cannot_import
from openpali.tasks.example import Box, Example, Mask, Object, Size
from openpali.tasks.polygons import Polygons
from openpali_lab.benchmarks.files import Fields, Folder, Sample, described, published

HOME = described("refcoco")["home"]
FILE_NAME = "coco/train2014/COCO_train2014_{:012d}.jpg"


@dataclass(frozen=True)
class ReferringSet:
    """One of the three data sets: its folder, the author of its split, and the splits."""

    name: str
    split_by: str
    splits: tuple[str, ...]  # without "train"

    @property
    def files(self) -> tuple[str, str]:
        """Expressions and objects."""
        return f"{self.name}/refs({self.split_by}).p", f"{self.name}/instances.json"


DATA_SETS = (
    ReferringSet("refcoco", "unc", ("val", "testA", "testB")),
    ReferringSet("refcoco+", "unc", ("val", "testA", "testB")),
    ReferringSet("refcocog", "umd", ("val", "test")),
)


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries, and refuses everything else that a pickle can hold."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, but plain data refers to no code")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to data outside the file")


def read_expressions(folder: Folder, name: str) -> list[Fields]:
    """The referred objects, each with its sentences, from the owners' pickle; no code in it can run."""
    path = folder.file(name)
    try:
        values = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="utf-8").load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise ValueError(
            f"{path} cannot be read as {folder.title}'s expressions: {error}; get it anew at {HOME}"
        ) from error
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"{path} is not a list of referred objects; the original is at {HOME}")
    return [Fields(value, f"{path.name}, ref {i + 1}", folder) for i, value in enumerate(values)]


def read_split(data_set: ReferringSet, split: str, folder: Folder) -> Iterator[Sample]:
    """Every sentence of a split is a sample."""
    images = _images(folder, data_set)
    own = images.get(split, frozenset())
    if shared := own & images.get("train", frozenset()):
        raise ValueError(
            f"{len(shared)} images of {data_set.files[0]} are both in {split} and in train: the split leaks "
            f"(as Google's of RefCOCOg does); take refs({data_set.split_by}).p of {HOME}"
        )
    for expression in _expressions(folder, data_set, split, own):
        yield partial(_with_mask, folder, expression)


def write_training(root: Path, out: Path) -> dict[str, tuple[int, int]]:
    """Write the training splits of all three as one JSONL file for recipes (docs/data.md), without any image of a
    validation or test split of the three.

    Returns:
        Data set -> number of its training images in the file, and number left out.
    """
    lines, counts = list[str](), dict[str, tuple[int, int]]()
    splits = [_images(_folder(data_set, root), data_set) for data_set in DATA_SETS]
    scored = frozenset().union(*(ids for by_split in splits for split, ids in by_split.items() if split != "train"))
    for data_set, by_split in zip(DATA_SETS, splits, strict=True):
        train = by_split.get("train", frozenset())
        counts[data_set.name] = len(train - scored), len(train & scored)
        for each in _expressions(_folder(data_set, root), data_set, "train", train - scored):
            file = relative_to((root / FILE_NAME.format(each.image_id)).resolve(), out.resolve().parent)
            thing = {"name": each.name, "mask": each.annotation.values.get("segmentation")}
            key = f"{data_set.name}_{each.key}"
            line = {"key": key, "images": file, "expression": each.text, "objects": [thing], "referred": [0]}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(lines), "utf-8")
    return counts


def _folder(data_set: ReferringSet, root: Path) -> Folder:
    return Folder(root, _title(data_set), HOME)


def _title(data_set: ReferringSet) -> str:
    return data_set.name.replace("refcoco", "RefCOCO")


def _images(folder: Folder, data_set: ReferringSet) -> Mapping[str, frozenset[int]]:
    """Split -> numbers of its images."""
    found: dict[str, set[int]] = {}
    for entry in read_expressions(folder, data_set.files[0]):
        found.setdefault(entry.text("split"), set()).add(entry.integer("image_id"))
    return {split: frozenset(ids) for split, ids in found.items()}


@dataclass(frozen=True)
class _Expression:
    """A sentence, and the object of an image that it refers to."""

    key: str
    text: str
    image_id: int
    annotation: Fields
    name: str


def _expressions(
    folder: Folder, data_set: ReferringSet, split: str, images: frozenset[int]
) -> Iterator[_Expression]:
    expressions, instances = data_set.files
    described = folder.json(instances)
    objects = {entry.integer("id"): entry for entry in described.entries("annotations")}
    names = {entry.integer("id"): entry.text("name") for entry in described.entries("categories")}
    for ref in read_expressions(folder, expressions):
        image_id, number = ref.integer("image_id"), ref.integer("ann_id")
        if ref.text("split") != split or image_id not in images:
            continue
        if number not in objects:
            raise ValueError(f"{instances} lacks object {number} of {ref.where}; the originals are at {HOME}")
        annotation = objects[number]
        name = names.get(annotation.integer("category_id"), "object")
        for sentence in ref.entries("sentences"):
            key = f"{image_id}_{sentence.text('sent_id')}"
            yield _Expression(key, sentence.text("sent"), image_id, annotation, name)


def _with_mask(folder: Folder, expression: _Expression) -> Example:
    image = folder.image(FILE_NAME.format(expression.image_id))
    left, top, width, height = expression.annotation.numbers("bbox", 4)
    size = Size(*image.shape[:2])
    box = Box(max(top, 0), max(left, 0), min(top + height, size.height), min(left + width, size.width))
    thing = Object(expression.name, box, _mask(expression.annotation, size))
    return Example(expression.key, [image], expression=expression.text, objects=[thing], referred=[0])


def _mask(annotation: Fields, size: Size) -> Mask:
    value = annotation.values.get("segmentation")
    try:
        if isinstance(value, dict):
            return read_run_lengths(value).draw(size)
        if isinstance(value, list):
            return _draw(read_polygons(value), size)
        raise ValueError("it is neither polygons nor run lengths")
    except ValueError as error:
        raise annotation.wrong(f"field 'segmentation': {error}") from error


def _draw(polygons: Polygons, size: Size) -> Mask:
    """Mask ``[H, W]`` with exactly the pixels of COCO's tools, from which COCO's scores are computed.

    Some pixels at the edge differ from :meth:`Polygons.draw`.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError(cannot_import("COCO's masks need pycocotools", "openpali-lab[eval]", error)) from error
    drawn = mask.decode(mask.frPyObjects([corners.ravel() for corners in polygons.parts], *size))
    return np.asarray(drawn.any(axis=2))


_PAPER = {"refcoco/val": 0.773, "refcoco+/val": 0.735, "refcocog/val": 0.727}

BENCHMARKS = tuple(
    published(
        name := f"{data_set.name}/{split}",
        {
            **described("refcoco"),
            "title": _title(data_set),
            "split": f"{split} ({data_set.split_by.upper()})",
            "paper": {"miou": _PAPER[name]} if name in _PAPER else {},
            "layout": (*data_set.files, "coco/train2014/COCO_train2014_000000000009.jpg, ..."),
        },
    )(partial(read_split, data_set, split))
    for data_set in DATA_SETS
    for split in data_set.splits
)
