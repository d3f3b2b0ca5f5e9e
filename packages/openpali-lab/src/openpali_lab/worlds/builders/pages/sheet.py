"""A sheet of windows with all that is known of them drawn in, to look at."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as PilImage
from PIL import ImageDraw

from openpali.data.media.loader import MediaLoader
from openpali.data.sources.base import spread
from openpali.data.sources.shards import ShardSource
from openpali.reports.drawing import sheet
from openpali.tasks.example import Example

SHOWN = 24  # windows, evenly spaced
SIDE = 720  # pixels of the longer side of each
LINE, IGNORED, ELEMENT, ICON = "#0a8f2f", "#8a8a8a", "#d3232e", "#2456d6"  # colours of boxes


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
