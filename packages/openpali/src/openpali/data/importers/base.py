"""What importers share: an importer reads entries; their images are found and their objects placed here."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from openpali.data.media.images import read_size
from openpali.data.problems import Problems
from openpali.data.sources.files import is_file, is_url
from openpali.data.sources.mask_formats import RunLengths, Shape
from openpali.data.sources.records import ObjectRecord
from openpali.messages import shorten
from openpali.mistakes import reason
from openpali.tasks.example import Box, Size

M = TypeVar("M", bound=BaseModel)
ROUNDING = 1.0  # pixels that a box may exceed the image by without being called clipped


class Unusable(ValueError):
    """Something that is left out; ``kind`` is what it is counted as."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(kw_only=True)
class Imported(Problems):
    """What became of a data set; ``problems`` counts what was left out, by reason."""

    out: str  # the JSONL file
    # samples, images, objects: number of samples, of distinct images, and of objects in the file
    samples: int = 0
    images: int = 0
    objects: int = 0
    # what was changed -> number of objects, or of whatever else it is about
    changed: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what else the user should know, a sentence each

    def change(self, what: str) -> None:
        self.changed[what] = self.changed.get(what, 0) + 1

    @contextmanager
    def counting(self, where: str, kind: str = "damaged entry") -> Iterator[None]:
        """Count a ``ValueError`` about what is at ``where``, as its own kind or as ``kind``, and go on."""
        try:
            yield
        except Unusable as error:
            self.add(error.kind, f"{where}: {error}")
        except ValueError as error:
            self.add(kind, f"{where}: {reason(error)}")


class Request(NamedTuple):
    """What to import."""

    path: Path  # the annotations, a file or a folder
    images: Path | None = None  # folder of the images; None: where the format has them


class Thing(NamedTuple):
    """An object as annotated. With a shape, the box may be left out."""

    name: str
    box: Box | None
    shape: Shape | None
    where: str


class Entry(NamedTuple):
    """What annotations hold about an image."""

    where: str  # place in the annotations
    name: str  # of its file
    folders: Sequence[Path]  # where its file may be, the first choice first
    fields: Mapping[str, Any]  # of the record
    things: Sequence[Thing] | None = None  # its objects; None: it is not annotated with objects
    size: Size | None = None  # of the image when it was annotated, which things refer to; None: as it is now


Importer = Callable[[Request, Imported], Iterator[Entry]]
"""Reads annotations, and counts in the second argument what it leaves out or changes.

Raises:
    FileNotFoundError: a file of the format is missing.
    ValueError: a file is not in the format.
"""


def records(entries: Iterator[Entry], request: Request, log: Imported) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Image and other fields of the record of each entry that can be used."""
    shortened: dict[Path, str] = {}
    for entry in entries:
        with log.counting(entry.where, "bad image"):
            image = _find(entry, [request.images] if request.images else entry.folders, shortened)
            size, fields = read_size(image), dict(entry.fields)
            if entry.things is not None and (objects := _place(entry, image, entry.things, size, log)):
                fields["objects"] = objects
            if set(fields) - {"key"}:
                yield image, fields


def _find(entry: Entry, folders: Sequence[Path], shortened: dict[Path, str]) -> Path:
    """The image of an entry.

    A name with folders, of this system or of Windows, is looked up as it is in all places, then without them.
    Without its folders an image is found by one name only: a/1.png and b/1.png are two.

    Args:
        shortened: image that was found without its folders -> the name it was found by.
    """
    name = entry.name
    if is_url(name):
        raise Unusable("no image file", f"{name} is a URL: download the image, and give its path")
    plain = PureWindowsPath(name)
    for each in (name, plain.as_posix(), plain.name):
        forms = dict.fromkeys((each, *(unicodedata.normalize(form, each) for form in ("NFC", "NFD"))))
        for path in (folder / form for form in forms for folder in folders):
            if not is_file(path):
                continue
            whole = plain.as_posix()
            if each not in (name, whole) and (first := shortened.setdefault(path, whole)) != whole:
                found = f"{name} is only found as {path}, as {first} was: give --images their folder"
                raise Unusable("one file for two images", found)
            return path
    searched = ", ".join(map(str, dict.fromkeys(folders)))
    raise Unusable("no image file", f"no {shorten(name, 80)} in {searched} (--images names another folder)")


def _place(entry: Entry, image: Path, things: Sequence[Thing], size: Size, log: Imported) -> list[dict[str, Any]]:
    """Objects of a record, in pixels of an image of ``size``; none, counted, if they cannot be placed."""
    annotated = entry.size or size
    if annotated.height != annotated.width and annotated == (size.width, size.height):
        log.add(
            "image lies on its side",
            f"{image}: annotated at {_by(annotated)} pixels, upright (after EXIF) it is {_by(size)}",
        )
        return []
    placed = []
    for thing in things:
        with log.counting(thing.where, "bad object"):
            placed.append(_placed(thing, annotated, size, log))
    if not placed:
        log.add("image without usable objects", str(image))
    return placed


def _placed(thing: Thing, annotated: Size, size: Size, log: Imported) -> dict[str, Any]:
    box, shape = thing.box, thing.shape
    if isinstance(shape, RunLengths) and shape.size != annotated:
        damage = f"the mask is of {_by(shape.size)} pixels, and the image was annotated at {_by(annotated)}"
        if box is None:
            raise Unusable("damaged mask", damage)
        log.add("damaged mask, box kept", f"{thing.where}: {damage}")
        shape = None
    if annotated != size:
        down, right = size.height / annotated.height, size.width / annotated.width
        box = box and Box(box.ymin * down, box.xmin * right, box.ymax * down, box.xmax * right)
        shape = shape and shape.resized(annotated, size)
        log.change("objects moved with their resized image")
    record: dict[str, Any] = {"name": thing.name}
    if box is not None:
        inside = Box(max(box.ymin, 0), max(box.xmin, 0), min(box.ymax, size.height), min(box.xmax, size.width))
        if inside.ymin >= inside.ymax or inside.xmin >= inside.xmax:
            kind = "empty box" if box.ymin >= box.ymax or box.xmin >= box.xmax else "box outside the image"
            raise Unusable(kind, f"{[round(edge, 3) for edge in box]} (ymin, xmin, ymax, xmax)")
        if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > ROUNDING:
            log.change("boxes clipped to the image")
        record["box"] = [round(edge, 3) for edge in inside]
    if shape is not None:
        record["mask"] = shape.as_json()
    ObjectRecord.model_validate(record)
    return record


def _by(size: Size) -> str:
    return f"{size.width} x {size.height}"


def read_entries(model: type[M], values: Sequence[Any], where: str, log: Imported) -> Iterator[tuple[str, M]]:
    """The entries of a list in an annotation file, each with its place; others are counted."""
    for number, value in enumerate(values):
        place = f"{where}[{number}]"
        with log.counting(place):
            yield place, model.model_validate(value)


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
