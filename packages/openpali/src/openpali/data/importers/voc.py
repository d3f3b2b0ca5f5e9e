"""Pascal VOC: an XML file per image, with boxes in pixels that count from 1 and include both ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from openpali.data.importers.base import (
    Found,
    ImageFinder,
    Imported,
    Request,
    Thing,
    add_objects,
    read_text,
)
from openpali.data.media.images import image_endings
from openpali.tasks.example import Box, Size


def read(request: Request, log: Imported) -> Iterator[Found]:
    """One sample per image. The path is a folder with ``Annotations`` (VOC2012), or one of XML files (LabelImg)."""
    folder = request.path
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    files = sorted(annotations.glob("*.xml"))
    if not files:
        raise FileNotFoundError(f"no XML files in {annotations}: give the folder that holds Annotations")
    if request.split:
        files = _of_split(folder, annotations, request.split)
    elif lists := sorted((folder / "ImageSets" / "Main").glob("*.txt")):
        splits = ", ".join(path.stem for path in lists if "_" not in path.stem)
        log.notes.append(f"all images were taken; --split takes one of {splits}")
    finder = ImageFinder(request, [folder / "JPEGImages", annotations, folder, folder.parent / "JPEGImages"])
    endings = [form for ending in image_endings() for form in (ending, ending.upper())]
    for path in files:
        if not path.is_file():
            log.add("no annotation file", f"{path} is listed in split {request.split}")
            continue
        try:
            root = _parse(path)
            name = root.findtext("filename") or f"{path.stem}.jpg"
        except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last of an unknown encoding
            log.add("damaged entry", f"{path.name}: {error}")
            continue
        beside = [f"{path.stem}{ending}" for ending in endings]  # both were renamed, and the entry was not
        if (opened := finder.find(name.strip(), path.name, log, beside)) is None:
            continue
        image, size = opened
        annotated = _size(root) or size
        things = [
            thing for i, element in enumerate(root.iter("object")) for thing in _things(element, path, i, log)
        ]
        yield from add_objects(path.stem, image, things, annotated, size, log)


def _of_split(folder: Path, annotations: Path, split: str) -> list[Path]:
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.txt") if "_" not in each.stem))
        raise FileNotFoundError(f"no split {split!r}: {path} does not exist; there are {known or 'none'}")
    names = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    return [annotations / f"{name}.xml" for name in names]


def _parse(path: Path) -> ElementTree.Element:
    data = path.read_bytes()
    if b"<!ENTITY" in data:  # they could expand without end
        raise ValueError("it declares XML entities, which VOC does not have")
    return ElementTree.fromstring(data)


def _size(root: ElementTree.Element) -> Size | None:
    """The size by the annotation; tools that do not know it write none, or 0."""
    try:
        height, width = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("height", "width"))
    except (ValueError, OverflowError):  # no number, or an infinite one
        return None
    return Size(height, width) if height > 0 and width > 0 else None


def _things(element: ElementTree.Element, path: Path, index: int, log: Imported) -> Iterator[Thing]:
    where = f"{path.name}, object {index + 1}"
    name = (element.findtext("name") or "").strip()
    texts = [element.findtext(f"bndbox/{edge}") for edge in ("ymin", "xmin", "ymax", "xmax")]
    try:
        ymin, xmin, ymax, xmax = (float(text or "") for text in texts)
    except ValueError:
        log.add("bad object", f"{where}: bndbox needs the numbers xmin, ymin, xmax, ymax")
        return
    yield Thing(name, Box(ymin - 1, xmin - 1, ymax, xmax), None, where)
