"""What importers share: finding images, moving shapes to the image's own pixels, and counting what is left out."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from openpali.data.media.images import read_size
from openpali.data.problems import Problems
from openpali.data.sources.files import is_file, is_url
from openpali.data.sources.mask_formats import RunLengths, Shape
from openpali.data.sources.records import ObjectRecord
from openpali.messages import shorten
from openpali.mistakes import reason
from openpali.tasks.example import Box, Size

M = TypeVar("M", bound=BaseModel)


@dataclass(kw_only=True)
class Imported(Problems):
    """What became of a data set; ``problems`` counts what was left out, by reason.

    Attributes:
        out: the JSONL file.
        samples, images, objects: number of samples, of distinct images, and of objects in the file.
        changed: what was changed -> number of objects, or of whatever else it is about.
        notes: what else the user should know, a sentence each.
    """

    out: str
    samples: int = 0
    images: int = 0
    objects: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def change(self, what: str) -> None:
        self.changed[what] = self.changed.get(what, 0) + 1


@dataclass(frozen=True)
class Request:
    """What to import.

    Attributes:
        path: the annotations, a file or a folder.
        images: folder of the images; ``None``: where the format has them.
        split: the part of the data set, for formats that name parts; empty: the format's own default.
    """

    path: Path
    images: Path | None = None
    split: str = ""

    def refuse_split(self, title: str) -> None:
        """For formats without splits. Raises ``ValueError`` if one is asked for."""
        if self.split:
            raise ValueError(
                f"--split {self.split}: {title} has no splits in it; give the file of the one you want"
            )


class Found(NamedTuple):
    """A sample: its image, and the other fields of its record."""

    image: Path
    fields: Mapping[str, Any]


Importer = Callable[[Request, Imported], Iterator[Found]]
"""Reads annotations, and counts in the second argument what it leaves out or changes.

Raises:
    FileNotFoundError: a file of the format is missing.
    ValueError: a file is not in the format.
"""


class Thing(NamedTuple):
    """An object as annotated. With a shape, the box may be left out."""

    name: str
    box: Box | None
    shape: Shape | None
    where: str


class ImageFinder:
    """Finds images by the names in annotations.

    Args:
        request: its folder of images is the only one searched, if it is given.
        folders: where the format has them, the first choice first.
    """

    def __init__(self, request: Request, folders: Sequence[Path]) -> None:
        self.folders = [request.images] if request.images else list(dict.fromkeys(folders))
        if request.images and not request.images.is_dir():
            raise FileNotFoundError(f"--images {request.images} is not a folder")
        self.shortened: dict[Path, str] = {}  # image that was found without its folders -> the name it was found by

    def find(self, name: str, where: str, log: Imported, others: Sequence[str] = ()) -> tuple[Path, Size] | None:
        """The image of this name and its upright size; ``None``, counted, where it is missing or damaged.

        A name with folders, of this system or of Windows, is looked up as it is in all places, then without them,
        then ``others`` are. Without its folders an image is found by one name only: a/1.png and b/1.png are two.
        """
        if is_url(name):
            log.add("no image file", f"{where}: {name} is a URL: download the image, and give its path")
            return None
        plain = PureWindowsPath(name)
        for each in (name, plain.as_posix(), plain.name, *others):
            for path in (folder / form for form in _forms(each) for folder in self.folders):
                if not is_file(path):
                    continue
                told = plain.as_posix()
                if each not in (name, told) and (first := self.shortened.setdefault(path, told)) != told:
                    log.add(
                        "one file for two images",
                        f"{where}: {name} is only found as {path}, as {first} was: give --images their folder",
                    )
                    return None
                size = open_image(path, where, log)
                return size and (path, size)
        searched = ", ".join(map(str, self.folders))
        log.add("no image file", f"{where}: no {shorten(name, 80)} in {searched} (--images names another folder)")
        return None


def _forms(name: str) -> Iterable[str]:
    """A name as it is, then in the Unicode forms that it is not in."""
    return dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))


def open_image(path: Path, where: str, log: Imported) -> Size | None:
    """The upright size of an image; ``None``, counted, where it is missing or damaged."""
    try:
        return read_size(path)
    except FileNotFoundError as error:
        log.add("no image file", f"{where}: {error}")
    except ValueError as error:
        log.add("bad image", f"{where}: {error}")
    return None


def place(things: Sequence[Thing], annotated: Size, size: Size, log: Imported) -> list[dict[str, Any]]:
    """Objects of a record, in pixels of the image.

    Args:
        things: what is annotated, in pixels of an image of size ``annotated``.
        annotated: size of the image by its annotations; the image may have been resized since.
        size: upright size of the image file.
    """
    return [record for thing in things if (record := _placed(thing, annotated, size, log))]


def _placed(thing: Thing, annotated: Size, size: Size, log: Imported) -> dict[str, Any] | None:
    """One object for :func:`place`; ``None``, counted, if it cannot be used."""
    box, shape = thing.box, thing.shape
    if isinstance(shape, RunLengths) and shape.size != annotated:
        log.add(
            "damaged mask, box kept" if box else "damaged mask",
            f"{thing.where}: the mask is of {shape.size.width} x {shape.size.height} pixels, and the image was "
            f"annotated at {annotated.width} x {annotated.height}",
        )
        if box is None:
            return None
        shape = None
    if annotated != size:
        down, right = size.height / annotated.height, size.width / annotated.width
        box = box and Box(box.ymin * down, box.xmin * right, box.ymax * down, box.xmax * right)
        shape = shape and shape.resized(annotated, size)
        log.change("objects moved with their resized image")
    if box is not None:
        inside = Box(max(box.ymin, 0), max(box.xmin, 0), min(box.ymax, size.height), min(box.xmax, size.width))
        if inside.ymin >= inside.ymax or inside.xmin >= inside.xmax:
            what = "empty box" if box.ymin >= box.ymax or box.xmin >= box.xmax else "box outside the image"
            log.add(what, f"{thing.where}: {[round(edge, 3) for edge in box]} (ymin, xmin, ymax, xmax)")
            return None
        if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > ROUNDING:
            log.change("boxes clipped to the image")
        box = inside
    record: dict[str, Any] = {"name": thing.name}
    if box is not None:
        record["box"] = [round(edge, 3) for edge in box]
    if shape is not None:
        record["mask"] = shape.as_json()
    try:
        ObjectRecord.model_validate(record)
    except ValidationError as error:
        log.add("bad object", f"{thing.where}: {reason(error)}")
        return None
    return record


ROUNDING = 1.0  # pixels that a box may exceed the image by without being called clipped


def is_turned(annotated: Size, size: Size) -> bool:
    """Whether an image is annotated in the other orientation: it lies on its side, and shapes cannot be placed."""
    return annotated.height != annotated.width and annotated == (size.width, size.height)


def add_objects(
    key: str, image: Path, things: Sequence[Thing], annotated: Size, size: Size, log: Imported
) -> Iterator[Found]:
    """The sample of an image with objects, if it has any that can be placed: see :func:`place`."""
    if is_turned(annotated, size):
        log.add(
            "image lies on its side",
            f"{image}: annotated at {annotated.width} x {annotated.height} pixels, upright (after EXIF) it is "
            f"{size.width} x {size.height}",
        )
    elif objects := place(things, annotated, size, log):
        yield Found(image, {"key": key, "objects": objects})
    else:
        log.add("image without usable objects", str(image))


def read_entry(model: type[M], value: Any, where: str, log: Imported) -> M | None:
    """An entry of an annotation file; ``None``, counted, where it is not what the format has there."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        log.add("damaged entry", f"{where}: {reason(error)}")
        return None


def read_text(path: Path) -> str:
    """The content of a text file.

    Raises:
        ValueError: it is not in UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): save it in UTF-8") from error


def read_json(path: Path, title: str, *lists: str) -> dict[str, Any]:
    """The object in a JSON file of the format ``title``, which has these ``lists``."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give the JSON file of {title}")
    text = read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # the last where lists are nested a thousand times
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not {title}: it holds a {type(value).__name__}, not an object")
    for name in lists:
        if not isinstance(value.get(name), list):
            others = ", ".join(map(repr, value)) or "nothing"
            raise ValueError(f"{path} is not {title}: it has no list {name!r}, but {others}")
    return value
