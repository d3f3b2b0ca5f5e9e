"""Data sets of rendered windows and pages: shards, each a function of its set and number, and a sheet of some."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from openpali.data.media.loader import MediaLoader
from openpali.data.sources.base import spread
from openpali.data.sources.shards import ShardSource
from openpali.reports.drawing import sheet
from openpali.rng import named_generator
from openpali.tasks.example import Example
from openpali_lab.worlds.builders.layout import Shot
from openpali_lab.worlds.builders.manifest import code_hash
from openpali_lab.worlds.builders.output import add_sample, json_bytes, make_parts

CHUNK = 48  # windows of a shard
SHOWN = 24  # windows of a sheet, evenly spaced
SIDE = 720  # pixels of the longer side of each
LINE, IGNORED, ELEMENT, ICON = "#0a8f2f", "#8a8a8a", "#d3232e", "#2456d6"  # colours of boxes

Windows = Generator[tuple[Shot, dict[str, Any]], None, None]
"""Windows with what their samples say about them; to be closed, which closes the browser."""
Draw = Callable[[str, int, np.random.Generator], Windows]
"""Set, number of the shard and its generator -> its windows and more."""


def shards(windows: Mapping[str, int]) -> list[tuple[str, int]]:
    """Set and number of each shard, for so many windows of each set; sets take turns."""
    counts = {name: -(-count // CHUNK) for name, count in windows.items()}
    places = [((k + 0.5) / count, (name, k)) for name, count in counts.items() for k in range(count)]
    return [shard for _, shard in sorted(places)]


def build(name: str, code: Path, windows: Mapping[str, int], draw: Draw, folder: Path) -> None:
    """Write the shards ``SET-00000.tar`` of a data set into ``folder``, and ``sheet.png`` with some of their
    windows. Goes on where it was stopped.

    Args:
        code: ``__init__.py`` of the package that draws.
        draw: a function of a module: other processes call it.
    """
    todo = {f"{each}-{number:05d}.tar": (name, each, number, draw) for each, number in shards(windows)}
    with make_parts(name, code_hash(code), todo, write_shard) as made:
        write_sheet(made)
        for path in [*made.iterdir()]:
            path.rename(folder / path.name)


def write_shard(path: Path, data: str, name: str, number: int, draw: Draw) -> None:
    """Write shard ``number`` of the set ``name`` of a data set; it depends on nothing else."""
    with (
        closing(draw(name, number, named_generator(data, name, number))) as shots,
        tarfile.open(path, "w") as shard,
    ):
        readable = ((shot, about) for shot, about in shots if shot.lines)  # some are covered while a page loads
        for index, (shot, about) in enumerate(itertools.islice(readable, CHUNK)):
            content = {"json": json_bytes(shot.record({"source": name, **about})), "png": shot.png}
            add_sample(shard, f"{name}-{number:05d}-{index:02d}", content)


def write_sheet(folder: Path) -> None:
    """Write ``sheet.png`` beside the shards of a folder: lines in green, what nobody can read in grey, elements in
    red, icons in blue."""
    source = ShardSource(folder / "*.tar", MediaLoader())
    sheet([draw_truth(source[index]) for index in spread(len(source), SHOWN)]).save(folder / "sheet.png")


def draw_truth(example: Example) -> PilImage.Image:
    """A window with the boxes that are known of it, shrunk to :data:`SIDE`."""
    image = PilImage.fromarray(example.images[0])
    draw, width = ImageDraw.Draw(image), max(1, round(max(image.size) / SIDE))
    boxes = [(box, IGNORED) for box in example.ignored]
    boxes += [(thing.box, ICON if thing.is_icon else ELEMENT) for thing in example.objects]
    boxes += [(line.box, LINE) for line in example.lines]
    for box, colour in boxes:
        draw.rectangle((box.xmin, box.ymin, box.xmax, box.ymax), outline=colour, width=width)
    image.thumbnail((SIDE, SIDE))
    return image
