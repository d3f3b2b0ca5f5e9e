"""COCO's JSON: instances (boxes, polygons, run lengths) and captions. Most annotation tools can write it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from openpali.data.importers.base import (
    Found,
    ImageFinder,
    Imported,
    Request,
    Thing,
    add_objects,
    read_entry,
    read_json,
)
from openpali.data.sources.mask_formats import Shape, read_polygons, read_run_lengths
from openpali.tasks.example import Box, Size

TITLE = "COCO"


class _Image(BaseModel):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(BaseModel):
    id: int | str
    name: str


class _Annotation(BaseModel):
    id: int | str = ""
    image_id: int | str
    category_id: int | str | None = None
    bbox: list[float] | None = None
    segmentation: Any = None
    iscrowd: int = 0
    caption: str | None = None

    @property
    def text(self) -> str:
        return (self.caption or "").strip()

    @property
    def located(self) -> bool:
        return bool(self.bbox or self.segmentation)


def read(request: Request, log: Imported) -> Iterator[Found]:
    """One sample per image. The path is the JSON file, or a folder with a single one."""
    request.refuse_split("a file of COCO")
    path = _file(request.path)
    whole = read_json(path, TITLE, "images", "annotations")
    folder, split = path.parent, path.stem.rpartition("_")[2]  # instances_train2017.json, images in train2017
    places = (split, "images", f"images/{split}", "")
    finder = ImageFinder(request, [each / name for each in (folder, folder.parent) for name in places])
    entries, seen = _annotations(path, whole, log), set[int | str]()
    names = _names(path, whole, log)
    for i, value in enumerate(whole["images"]):
        where = f"{path.name}, images[{i}]"
        image = read_entry(_Image, value, where, log)
        if image is None:
            continue
        if image.id in seen:
            log.add("image listed twice", f"{where}: id {image.id}")
            continue
        seen.add(image.id)
        mine = entries.pop(image.id, [])
        if (opened := finder.find(image.file_name, where, log)) is None:
            continue
        file, size = opened
        fields: dict[str, Any] = {"key": str(image.id)}
        if captions := [entry.text for _, entry in mine if entry.text]:
            fields["caption"] = captions
        shown = [(at, entry) for at, entry in mine if entry.located or entry.caption is None]
        for at, entry in mine:
            if not (entry.located or entry.caption is None or entry.text):
                log.add("empty caption", at)
        if shown or not captions:
            annotated = Size(image.height or size.height, image.width or size.width)
            things = [thing for at, entry in shown for thing in _things(entry, names, at, log)]
            for found in add_objects(fields["key"], file, things, annotated, size, log):
                fields |= found.fields
        if len(fields) > 1:
            yield Found(file, fields)
    for left in entries.values():
        for where, entry in left:
            log.add("annotation of an unlisted image", f"{where}: image_id {entry.image_id}")


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{path} is a folder: give the JSON file of {TITLE} to import (in it: {names})")
    return found[0]


def _names(path: Path, whole: dict[str, Any], log: Imported) -> dict[int | str, str]:
    """Category -> its name."""
    found: dict[int | str, str] = {}
    for i, value in enumerate(whole.get("categories") or []):
        where = f"{path.name}, categories[{i}]"
        category = read_entry(_Category, value, where, log)
        if category and found.setdefault(category.id, category.name) != category.name:
            log.add("category with two names", f"{where}: id {category.id} is {found[category.id]!r} before")
    return found


def _annotations(
    path: Path, whole: dict[str, Any], log: Imported
) -> dict[int | str, list[tuple[str, _Annotation]]]:
    """Image -> its annotations, each with its place in the file."""
    found: dict[int | str, list[tuple[str, _Annotation]]] = {}
    for i, value in enumerate(whole["annotations"]):
        where = f"{path.name}, annotations[{i}]"
        if entry := read_entry(_Annotation, value, where, log):
            found.setdefault(entry.image_id, []).append((where, entry))
    return found


def _things(entry: _Annotation, names: dict[int | str, str], where: str, log: Imported) -> Iterator[Thing]:
    if entry.iscrowd:
        log.add("crowd region", f"{where}: it stands for several objects")
    elif entry.category_id not in names:
        log.add("unknown category", f"{where}: category_id {entry.category_id} is not in categories")
    elif entry.bbox and len(entry.bbox) != 4:
        log.add("bad object", f"{where}: bbox is {entry.bbox}, not [x, y, width, height]")
    else:
        box = None
        # some tools write an empty box beside a polygon
        if entry.bbox and (any(entry.bbox[2:]) or not entry.segmentation):
            x, y, width, height = entry.bbox
            box = Box(y, x, y + height, x + width)
        try:
            shape = _shape(entry.segmentation)
        except ValueError as error:
            if box is None:
                log.add("bad object", f"{where}: segmentation: {error}")
                return
            log.add("damaged mask, box kept", f"{where}: segmentation: {error}")
            shape = None
        if box is None and shape is None:
            log.add("bad object", f"{where}: it has no bbox and no segmentation")
        else:
            yield Thing(names[entry.category_id], box, shape, where)


def _shape(value: Any) -> Shape | None:
    if isinstance(value, dict):
        return read_run_lengths(value)
    if isinstance(value, list) and value:
        return read_polygons(value)
    return None
