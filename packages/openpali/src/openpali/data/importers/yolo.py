"""YOLO: a text file per image, ``class cx cy width height`` or ``class x y x y x y ...``, in fractions of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from pydantic import BaseModel, ValidationError

from openpali.data.importers.base import (
    Found,
    Imported,
    Request,
    Thing,
    add_objects,
    open_image,
    read_text,
)
from openpali.data.media.images import is_image
from openpali.mistakes import reason
from openpali.tasks.example import Box, Size
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
    kpt_shape: list[int] | str = []  # of keypoints, which follow the box on each line


def read(request: Request, log: Imported) -> Iterator[Found]:
    """One sample per image. The path is ``data.yaml`` or its folder, or a folder with ``classes.txt``."""
    names, images, keypoints = _layout(request, log)
    if not images:
        raise FileNotFoundError(f"no images for {request.path}: give data.yaml, or --images FOLDER")
    taken: dict[Path, Path] = {}  # label file -> the image that it was first found for
    for image in images:
        if (size := open_image(image, request.path.name, log)) is None:
            continue
        if (labels := _labels(request, image)) is None:
            log.add("image without a label file", str(image))
            continue
        if (first := taken.setdefault(labels, image)).parent != image.parent:
            log.add(
                "one label file for two images", f"{labels}: of {first} and {image}: put it into a folder as theirs"
            )
            continue
        try:
            lines = read_text(labels).splitlines()
        except ValueError as error:
            log.add("damaged entry", str(error))
            continue
        things = [
            thing
            for number, line in enumerate(lines, 1)
            if line.strip()
            for thing in _things(line.split(), names, size, f"{labels.name}:{number}", log, keypoints)
        ]
        yield from add_objects(image.stem, image, things, size, size, log)


def _layout(request: Request, log: Imported) -> tuple[Mapping[int, str], list[Path], int]:
    """Class -> name, the images, and how many numbers of keypoints follow a box."""
    path = request.path
    if path.is_dir() and len(found := sorted([*path.glob("*.yaml"), *path.glob("*.yml")])) == 1:
        path = found[0]
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return _described(path, request, log)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}: give the folder of YOLO's labels, or its data.yaml")
    if request.split and not (path / "images" / request.split).is_dir():
        raise ValueError(f"--split {request.split}: there is no folder {path / 'images' / request.split}")
    for folder in (path, path / "labels", path.parent):
        for name in ("classes.txt", "obj.names"):
            if (folder / name).is_file():
                lines = read_text(folder / name).splitlines()
                root = request.images or (path / "images" if (path / "images").is_dir() else path)
                names = {number: line.strip() for number, line in enumerate(lines)}
                return names, _listed(root / request.split), 0
    raise FileNotFoundError(f"no names of the classes in {path}: it needs data.yaml or classes.txt")


def _described(path: Path, request: Request, log: Imported) -> tuple[Mapping[int, str], list[Path], int]:
    """The layout by a ``data.yaml``."""
    try:
        described = _Description.model_validate(yaml.load(read_text(path), yaml.BaseLoader))
    except (ValidationError, yaml.YAMLError, RecursionError) as error:  # the last of lists in lists
        raise ValueError(f"{path}: {' '.join(reason(error).split())}") from error
    names = described.names if isinstance(described.names, dict) else dict(enumerate(described.names))
    places = {name: place for name in SPLITS if (place := getattr(described, name))}
    splits = [*places]
    split = request.split or (splits[0] if splits else "")
    if request.split and split not in splits:
        raise ValueError(f"{path} has no split {split!r}; it has {', '.join(splits) or 'none'}")
    if others := [name for name in splits if name != split and not request.split]:
        log.notes.append(f"only {split} was taken; --split takes {' or '.join(others)}")
    keypoints = math.prod(shape) if (shape := described.kpt_shape) and not isinstance(shape, str) else 0
    if request.images:
        return names, _listed(request.images), keypoints
    given = places.get(split, "images")
    roots = [path.parent / described.path, path.parent, path.parent.parent]
    images: list[Path] = []
    for place in [given] if isinstance(given, str) else given:
        # Roboflow writes ../train/images for train/images, so the leading dots may be in error.
        options = [root / text for root in roots for text in (place, place.removeprefix("../"))]
        found = next((option for option in options if option.exists()), None)
        if found is None:
            raise FileNotFoundError(f"{path}: {split} is {place}, and {options[0]} does not exist")
        images += _listed(found)
    return names, images, keypoints


def _listed(path: Path) -> list[Path]:
    """The images in a folder and the folders in it, or those listed in a text file."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if is_image(each))
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [path.parent / line for line in lines if line]


def _labels(request: Request, image: Path) -> Path | None:
    """The label file of an image: ``labels`` for the last ``images`` in its path, or else beside it."""
    parts = list(image.parts)
    base = request.path if request.path.is_dir() else request.path.parent
    places = [image, *(base / folder / image.name for folder in ("labels", f"labels/{request.split}", ""))]
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        places.insert(0, Path(*parts[:last], "labels", *parts[last + 1 :]))
    return next((file for place in places if (file := place.with_suffix(".txt")).is_file()), None)


def _things(
    words: Sequence[str], names: Mapping[int, str], size: Size, where: str, log: Imported, keypoints: int
) -> Iterator[Thing]:
    try:
        number, values = float(words[0]), np.array(words[1:], np.float64)  # numpy writes classes as 0.0
    except ValueError:
        log.add("bad object", f"{where}: a line is a class and numbers, not {' '.join(words)[:60]!r}")
        return
    if keypoints and len(values) == 4 + keypoints:
        values = values[:4]
        log.change("keypoints left out")
    if number not in names:
        log.add("unknown category", f"{where}: class {number:g}, and there are names for {len(names)}")
    elif len(values) != 4 and (len(values) < 6 or len(values) % 2):
        log.add("bad object", f"{where}: {len(values)} numbers: a box has 4, a polygon 6 or more, x and y in turn")
    elif not (np.isfinite(values).all() and values.min() >= -SLACK and values.max() <= 1 + SLACK):
        log.add("bad object", f"{where}: the numbers must be fractions of the image, 0 to 1")
    elif len(values) == 4:
        x, y, width, height = (values * (size.width, size.height, size.width, size.height)).tolist()
        yield Thing(
            names[int(number)], Box(y - height / 2, x - width / 2, y + height / 2, x + width / 2), None, where
        )
    else:
        corners = values.reshape(-1, 2) * (size.width, size.height)
        (xmin, ymin), (xmax, ymax) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        yield Thing(names[int(number)], Box(ymin, xmin, ymax, xmax), Polygons((corners,)), where)
