"""YOLO: a text file per image, ``class cx cy width height`` or ``class x y x y x y ...``, in fractions of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from pydantic import BaseModel, ValidationError

from openpali.data.importers.base import FRACTIONS, Entry, Imported, Request, Thing, Unusable, read_text
from openpali.data.media.images import is_image
from openpali.mistakes import reason
from openpali.tasks.example import Box
from openpali.tasks.polygons import Polygons

SPLITS = ("train", "val", "test")
SLACK = 0.01  # by which a fraction may exceed 0..1; the box is then clipped


class _Description(BaseModel):
    """A ``data.yaml``, of which every scalar is a text; other keys are ignored."""

    path: str = ""
    names: list[str] | dict[int, str]
    train: str | list[str] = ""
    val: str | list[str] = ""
    test: str | list[str] = ""
    kpt_shape: list[str] | str = ""  # of keypoints, which follow the box on each line


class _Layout(NamedTuple):
    """Class -> name, where images are, and whether keypoints, which are left out, follow each box."""

    names: Mapping[int, str]
    places: Sequence[Path]
    keypoints: bool = False


def read(request: Request, log: Imported) -> Iterator[Entry]:
    """One sample per image. The path is ``data.yaml`` or its folder, or a folder with ``classes.txt``."""
    layout = _layout(request, log)
    images = [
        image for place in ([request.images] if request.images else layout.places) for image in _listed(place)
    ]
    if not images:
        raise FileNotFoundError(f"no images for {request.path}: give data.yaml, or --images FOLDER")
    taken: dict[Path, Path] = {}  # label file -> the image that it was first found for
    for image in images:
        with log.counting(str(image)):
            labels = _labels(request, image)
            if (first := taken.setdefault(labels, image)).parent != image.parent:
                raise Unusable(
                    "one label file for two images", f"{labels} is that of {first}: give it one beside it"
                )
            things = list[Thing]()
            for number, line in enumerate(read_text(labels).splitlines(), 1):
                where = f"{labels.name}:{number}"
                if line.strip():
                    with log.counting(where, "bad object"):
                        things.append(_thing(line.split(), layout, where))
            yield Entry(str(image), [image.name], [image.parent], {"key": image.stem}, things, FRACTIONS)


def _layout(request: Request, log: Imported) -> _Layout:
    path = request.path
    if path.is_dir() and len(found := sorted([*path.glob("*.yaml"), *path.glob("*.yml")])) == 1:
        path = found[0]
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return _described(path, request, log)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}: give the folder of YOLO's labels, or its data.yaml")
    root = path / "images" if (path / "images").is_dir() else path
    if request.split and not (root / request.split).is_dir():
        raise ValueError(f"--split {request.split}: there is no folder {root / request.split}")
    for folder in (path, path / "labels", path.parent):
        for name in ("classes.txt", "obj.names"):
            if (folder / name).is_file():
                lines = read_text(folder / name).splitlines()
                return _Layout({number: line.strip() for number, line in enumerate(lines)}, [root / request.split])
    raise FileNotFoundError(f"no names of the classes in {path}: it needs data.yaml or classes.txt")


def _described(path: Path, request: Request, log: Imported) -> _Layout:
    """The layout by a ``data.yaml``."""
    try:
        described = _Description.model_validate(yaml.load(read_text(path), yaml.BaseLoader))
    except (ValidationError, yaml.YAMLError, RecursionError) as error:  # the last of lists in lists
        raise ValueError(f"{path}: {' '.join(reason(error).split())}") from error
    names = described.names if isinstance(described.names, dict) else dict(enumerate(described.names))
    splits = {name: place for name in SPLITS if (place := getattr(described, name))}
    if request.split and request.split not in splits:
        raise ValueError(f"{path} has no split {request.split!r}; it has {', '.join(splits) or 'none'}")
    split = request.split or next(iter(splits), "")
    if others := [name for name in splits if name != split and not request.split]:
        log.notes.append(f"only {split} was taken; --split takes {' or '.join(others)}")
    given = splits.get(split, "images")
    roots = [path.parent / described.path, path.parent, path.parent.parent]
    places = []
    for place in [given] if isinstance(given, str) else given:
        # Roboflow writes ../train/images for train/images, so the leading dots may be in error.
        options = [root / text for root in roots for text in (place, place.removeprefix("../"))]
        found = next((option for option in options if option.exists()), None)
        if found is None and not request.images:
            raise FileNotFoundError(f"{path}: {split} is {place}, and {options[0]} does not exist")
        places += [found] if found else []
    return _Layout(names, places, bool(described.kpt_shape))


def _listed(path: Path) -> list[Path]:
    """The images in a folder and the folders in it, or those listed in a text file."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if is_image(each))
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [path.parent / line for line in lines if line]


def _labels(request: Request, image: Path) -> Path:
    """The label file of an image: ``labels`` for the last ``images`` in its path, or else beside it."""
    parts = list(image.parts)
    base = request.path if request.path.is_dir() else request.path.parent
    places = [image, *(base / folder / image.name for folder in ("labels", f"labels/{request.split}", ""))]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        places.insert(0, Path(*parts[:last], "labels", *parts[last + 1 :]))
    found = next((file for place in places if (file := place.with_suffix(".txt")).is_file()), None)
    if found is None:
        raise Unusable("image without a label file", "there is none beside it, nor in labels")
    return found


def _thing(words: Sequence[str], layout: _Layout, where: str) -> Thing:
    """The object on a line, in fractions of its image."""
    try:
        values = np.array(words[1 : 5 if layout.keypoints else None], np.float64)
        number = float(words[0])  # numpy writes classes as 0.0
    except ValueError as error:
        raise ValueError(f"a line is a class and numbers, not {' '.join(words)[:60]!r}") from error
    if number not in layout.names:
        raise Unusable("unknown category", f"class {number:g}, and there are names for {len(layout.names)}")
    name = layout.names[int(number)]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"{len(values)} numbers: a box has 4, a polygon 6 or more, x and y in turn")
    if not (np.isfinite(values).all() and values.min() >= -SLACK and values.max() <= 1 + SLACK):
        raise ValueError("the numbers must be fractions of the image, 0 to 1")
    if len(values) == 4:
        x, y, width, height = values.tolist()
        return Thing(name, Box(y - height / 2, x - width / 2, y + height / 2, x + width / 2), None, where)
    corners = values.reshape(-1, 2)
    (xmin, ymin), (xmax, ymax) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return Thing(name, Box(ymin, xmin, ymax, xmax), Polygons((corners,)), where)
