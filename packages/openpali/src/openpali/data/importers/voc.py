"""Pascal VOC: an XML file per image, with boxes in pixels that count from 1 and include both ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from openpali.data.importers.base import Entry, Imported, Request, Thing, read_text
from openpali.data.media.images import image_endings
from openpali.tasks.example import Box, Size


def read(request: Request, log: Imported) -> Iterator[Entry]:
    """One sample per image. The path is a folder with ``Annotations`` (VOC2012), or one of XML files (LabelImg)."""
    root = request.path
    annotations = root / "Annotations" if (root / "Annotations").is_dir() else root
    files = sorted(annotations.glob("*.xml"))
    if not files:
        raise FileNotFoundError(f"no XML files in {annotations}: give the folder that holds Annotations")
    lists = {
        path.stem: path for path in sorted((root / "ImageSets" / "Main").glob("*.txt")) if "_" not in path.stem
    }
    if request.split:
        if request.split not in lists:
            raise FileNotFoundError(f"no split {request.split!r} in {root}: there are {', '.join(lists) or 'none'}")
        names = [line.split()[0] for line in read_text(lists[request.split]).splitlines() if line.strip()]
        files = [annotations / f"{name}.xml" for name in names]
    elif lists:
        log.notes.append(f"all images were taken; --split takes one of {', '.join(lists)}")
    folders = [root / "JPEGImages", annotations, root, root.parent / "JPEGImages"]
    endings = [form for ending in image_endings() for form in (ending, ending.upper())]
    for path in files:
        if not path.is_file():
            log.add("no annotation file", f"{path} is listed in split {request.split}")
            continue
        with log.counting(path.name):
            found = _parse(path)
            name = (found.findtext("filename") or f"{path.stem}.jpg").strip()
            beside = [f"{path.stem}{ending}" for ending in endings]  # both were renamed, and the entry was not
            things = list[Thing]()
            for number, element in enumerate(found.iter("object"), 1):
                where = f"{path.name}, object {number}"
                with log.counting(where, "bad object"):
                    things.append(Thing((element.findtext("name") or "").strip(), _box(element), None, where))
            yield Entry(path.name, [name, *beside], folders, {"key": path.stem}, things, _size(found))


def _parse(path: Path) -> ElementTree.Element:
    data = path.read_bytes()
    if b"<!ENTITY" in data:  # they could expand without end
        raise ValueError("it declares XML entities, which VOC does not have")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError) as error:  # the last of an unknown encoding
        raise ValueError(str(error)) from error


def _size(root: ElementTree.Element) -> Size | None:
    """The size by the annotation; tools that do not know it write none, or 0."""
    try:
        height, width = (int(float(root.findtext(f"size/{side}", "0"))) for side in ("height", "width"))
    except (ValueError, OverflowError):  # no number, or an infinite one
        return None
    return Size(height, width) if height > 0 and width > 0 else None


def _box(element: ElementTree.Element) -> Box:
    texts = [element.findtext(f"bndbox/{edge}") for edge in ("ymin", "xmin", "ymax", "xmax")]
    try:
        ymin, xmin, ymax, xmax = (float(text or "") for text in texts)
    except ValueError as error:
        raise ValueError("bndbox needs the numbers xmin, ymin, xmax, ymax") from error
    return Box(ymin - 1, xmin - 1, ymax, xmax)
