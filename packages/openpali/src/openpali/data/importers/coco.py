"""COCO's JSON: instances (boxes, polygons, run lengths) and captions. Most annotation tools can write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from openpali.data.importers.base import Entry, Imported, Request, Thing, Unusable, read_entries, read_json
from openpali.data.sources.mask_formats import Shape, read_polygons, read_run_lengths
from openpali.tasks.example import Box, Size


class _Image(BaseModel):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(BaseModel):
    id: int | str
    name: str


class _Annotation(BaseModel):
    image_id: int | str
    category_id: int | str | None = None
    bbox: list[float] | None = None
    segmentation: Any = None
    iscrowd: int = 0
    caption: str | None = None


def read(request: Request, log: Imported) -> Iterator[Entry]:
    """One sample per image. The path is the JSON file, or a folder with a single one."""
    path = _file(request.path)
    whole = read_json(path, "COCO", "images", "annotations")
    folder, split = path.parent, path.stem.rpartition("_")[2]  # instances_train2017.json, images in train2017
    folders = [each / at for each in (folder, folder.parent) for at in (split, "images", f"images/{split}", "")]
    names: dict[int | str | None, str] = {}
    for where, category in read_entries(_Category, whole.get("categories") or [], f"{path.name}, categories", log):
        if names.setdefault(category.id, category.name) != category.name:
            log.add("category with two names", f"{where}: id {category.id} is {names[category.id]!r} before")
    annotations: dict[int | str, list[tuple[str, _Annotation]]] = {}
    for where, entry in read_entries(_Annotation, whole["annotations"], f"{path.name}, annotations", log):
        annotations.setdefault(entry.image_id, []).append((where, entry))
    seen = set[int | str]()
    for where, image in read_entries(_Image, whole["images"], f"{path.name}, images", log):
        if image.id in seen:
            log.add("image listed twice", f"{where}: id {image.id}")
            continue
        seen.add(image.id)
        fields: dict[str, Any] = {"key": str(image.id)}
        captions, things, located = list[str](), list[Thing](), False
        for at, entry in annotations.pop(image.id, []):
            caption = (entry.caption or "").strip()
            captions += [caption] if caption else []
            if entry.bbox or entry.segmentation or entry.caption is None:
                located = True
                with log.counting(at, "bad object"):
                    things.append(_thing(entry, names, at, log))
            elif not caption:
                log.add("empty caption", at)
        if captions:
            fields["caption"] = captions
        size = Size(image.height, image.width) if image.height and image.width else None
        yield Entry(where, image.file_name, folders, fields, things if located or not captions else None, size)
    for left in annotations.values():
        for where, entry in left:
            log.add("annotation of an unlisted image", f"{where}: image_id {entry.image_id}")


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{path} is a folder: give the JSON file of COCO to import (in it: {names})")
    return found[0]


def _thing(entry: _Annotation, names: Mapping[int | str | None, str], where: str, log: Imported) -> Thing:
    if entry.iscrowd:
        raise Unusable("crowd region", "it stands for several objects")
    if entry.category_id not in names:
        raise Unusable("unknown category", f"category_id {entry.category_id} is not in categories")
    box = shape = None
    if entry.bbox and len(entry.bbox) != 4:
        raise ValueError(f"bbox is {entry.bbox}, not [x, y, width, height]")
    if entry.bbox and (
        any(entry.bbox[2:]) or not entry.segmentation
    ):  # some tools write an empty box beside a polygon
        x, y, width, height = entry.bbox
        box = Box(y, x, y + height, x + width)
    try:
        shape = _shape(entry.segmentation)
    except ValueError as error:
        if box is None:
            raise
        log.add("damaged mask, box kept", f"{where}: segmentation: {error}")
    if box is None and shape is None:
        raise ValueError("it has no bbox and no segmentation")
    return Thing(names[entry.category_id], box, shape, where)


def _shape(value: Any) -> Shape | None:
    if isinstance(value, dict):
        return read_run_lengths(value)
    return read_polygons(value) if isinstance(value, list) and value else None
