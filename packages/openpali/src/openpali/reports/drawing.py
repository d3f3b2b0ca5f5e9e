"""Draw answers on images."""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageOps

from openpali.reports.fonts import replace_unwritable, split_runs
from openpali.tasks.base import Answer
from openpali.tasks.example import Box, Image, Object
from openpali.text.masks import ANY_MASK_TOKEN

Color = tuple[int, int, int]
COLORS: tuple[Color, ...] = (
    (230, 25, 75),
    (60, 180, 75),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (0, 160, 160),
    (240, 50, 230),
    (128, 128, 0),
)
_OPACITY = 0.45  # of a mask's tint
_HIDDEN = 0.15  # most of the boxes and labels that a label may hide
_MARGIN = 4  # pixels around the text below an image
_MASK_TOKENS = re.compile(f"{ANY_MASK_TOKEN}(?: ?{ANY_MASK_TOKEN})*")
NO_FONT = "(no font for this script: `openpali data build stamps` brings some)"


def draw_prediction(image: Image, answer: Answer) -> PilImage.Image:
    """Draw an answer on its image ``[H, W, 3]``: its objects, or its text below the image if it has no objects.

    With the confidence of each, where the model is calibrated.
    """
    text = answer.text if answer.confidence is None else f"{answer.text} ({show_confidence(answer.confidence)})"
    return draw_answer(image, answer.objects, "" if answer.objects else text)


def show_confidence(confidence: float) -> str:
    """A confidence for people to read, "87 % sure". Neither 0 nor 100: no fit knows that."""
    return f"{min(max(round(100 * confidence), 1), 99)} % sure"


def draw_answer(
    image: Image, objects: Sequence[Object] = (), text: str = "", *, truth: Sequence[Object] = ()
) -> PilImage.Image:
    """Draw objects on an image, and a text below it.

    Args:
        image: ``[H, W, 3]`` uint8 RGB.
        objects: drawn as tinted masks and outlined, named boxes, with their confidence; see :func:`colors_of`.
        text: written on a white strip below the image. A note replaces words that no font can write.
        truth: objects whose boxes are outlined in white, below the others.
    """
    by_name = colors_of(thing.name for thing in objects)
    colors = [by_name[thing.name] for thing in objects]

    pixels = image.astype(np.float32)
    for thing, color in zip(objects, colors, strict=True):
        if thing.mask is not None:
            pixels[thing.mask] += _OPACITY * (np.asarray(color, np.float32) - pixels[thing.mask])
    drawn = PilImage.fromarray(pixels.round().astype(np.uint8))

    draw = ImageDraw.Draw(drawn)
    width, height = drawn.size
    line = max(1, round(min(width, height) / 150))
    size = max(12, round(min(width, height) / 28))
    for thing in truth:
        draw.rectangle(_edges(thing.box), outline="black", width=line + 2)
        draw.rectangle(_edges(thing.box), outline="white", width=line)
    for thing, color in zip(objects, colors, strict=True):
        draw.rectangle(_edges(thing.box), outline=color, width=_scaled(line, thing.box, least=1))
    taken = [thing.box for thing in objects]
    for thing, color in zip(objects, colors, strict=True):
        em = _scaled(size, thing.box, least=12)
        if words := replace_unwritable(_label(thing), "(no font)"):
            place = _free_place(_width(words, em), 1.25 * em, thing.box, taken, drawn.size)
            taken.append(place)
            draw.rectangle(_edges(place), fill=color)
            _write(draw, words, (place.xmin, place.ymin + em), em, "white")
    return _add_strip(drawn, text, size) if text else drawn


def _scaled(pixels: int, box: Box, *, least: int) -> int:
    """The size of a line or of letters: less on a box that is not much higher than such letters."""
    return min(pixels, max(least, round(pixels * box.height / 120)))


def _free_place(width: float, height: float, box: Box, taken: Sequence[Box], image: tuple[int, int]) -> Box:
    """Where a label of this size hides next to nothing of what is ``taken``: in the corner of its box, else above,
    below or beside it; or where it hides least.
    """
    ymin, xmin, ymax, xmax = box
    corners = [(ymin, xmin), (ymin - height, xmin), (ymax, xmin), (ymin, xmax), (ymin, xmin - width)]
    fitting = [(top, max(0.0, min(left, image[0] - width))) for top, left in corners]
    places = [Box(top, left, top + height, left + width) for top, left in fitting]
    taken_N4, place_P14 = np.asarray(taken), np.asarray(places)[:, None]
    sides_PN2 = np.minimum(place_P14[..., 2:], taken_N4[:, 2:]) - np.maximum(place_P14[..., :2], taken_N4[:, :2])
    shares_PN = sides_PN2.clip(0).prod(-1) / (taken_N4[:, 2:] - taken_N4[:, :2]).prod(-1).clip(1)
    outside_P = [place.ymin < 0 or place.ymax > image[1] for place in places]
    hidden_P = shares_PN.sum(1) + np.asarray(outside_P)
    free = np.flatnonzero(hidden_P < _HIDDEN)
    return places[int(free[0] if len(free) else hidden_P.argmin())]


def colors_of(names: Iterable[str]) -> dict[str, Color]:
    """A colour for each name of an image: the same in other images, unless another name there has it, too."""
    chosen: dict[str, Color] = {}
    for name in sorted(set(names)):
        start = zlib.crc32(name.encode("utf-8", "replace")) % len(COLORS)
        order = COLORS[start:] + COLORS[:start]
        chosen[name] = next((color for color in order if color not in chosen.values()), order[0])
    return chosen


def _label(thing: Object) -> str:
    return thing.name if thing.confidence is None else f"{thing.name} {show_confidence(thing.confidence)}"


def _edges(box: Box) -> tuple[float, float, float, float]:
    """A box as Pillow takes it, whose corners belong to it."""
    ymin, xmin, ymax, xmax = box
    return xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1)


def enlarge(image: Image, factor: int) -> Image:
    """``[H, W, 3] -> [factor H, factor W, 3]``, with each pixel repeated."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def count_mask_tokens(text: str) -> str:
    """The text with "[16 mask tokens]" in place of such a run, since the mask is drawn."""
    return _MASK_TOKENS.sub(lambda run: f"[{run[0].count('<')} mask tokens]", text)


def sheet(tiles: Sequence[PilImage.Image], columns: int = 4) -> PilImage.Image:
    """Images side by side on white, ``columns`` in a row, in cells of the largest width and height."""
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(columns, len(tiles))
    page = PilImage.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for i, tile in enumerate(tiles):
        page.paste(tile, (i % columns * width, i // columns * height))
    return page


def film_strip(frames: Sequence[Image]) -> PilImage.Image:
    """Frames of a video ``[H, W, 3]`` in rows of four, at half their size; a single image as it is.

    The first frame may be higher by a strip of text, which is cut off: it would be too small to read.
    """
    if len(frames) == 1:
        return PilImage.fromarray(frames[0])
    height, width = frames[1].shape[:2]
    small = [PilImage.fromarray(frame[:height]).resize((width // 2, height // 2)) for frame in frames]
    return sheet([ImageOps.expand(frame, 1, "white") for frame in small])


def _add_strip(image: PilImage.Image, text: str, size: int) -> PilImage.Image:
    """The image with a white strip below it that holds the text, at ``size`` pixels per em."""
    room = image.width - 2 * _MARGIN
    lines: list[list[str]] = [[]]
    for word in replace_unwritable(text, NO_FONT):
        for part in _cut(word, room, size):
            if lines[-1] and _width([*lines[-1], part], size) > room:
                lines.append([])
            lines[-1].append(part)
    pitch = round(1.5 * size)  # room for the diacritics of every script
    canvas = PilImage.new("RGB", (image.width, image.height + len(lines) * pitch + _MARGIN), "white")
    canvas.paste(image)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        base = image.height + number * pitch + round(1.2 * size)
        _write(draw, line, (_MARGIN, base), size, "black")
    return canvas


def _write(
    draw: ImageDraw.ImageDraw, words: Sequence[str], start: tuple[float, float], size: int, color: str
) -> None:
    """Write words on one line; ``start`` is the left of its baseline, which all fonts share."""
    left, base = start
    for run, face in split_runs(words, size):
        draw.text((left, base), run, fill=color, font=face, anchor="ls")
        left += face.getlength(f"{run} ")


def _cut(word: str, room: float, size: int) -> Iterator[str]:
    """Cut a word into parts that fit the width, since scripts without spaces write a sentence as one word."""

    def width(length: int) -> float:
        return _width([word[:length]], size)

    while len(word) > 1 and width(len(word)) > room:
        fits = 1 + bisect_right(range(2, len(word)), room, key=width)
        yield word[:fits]
        word = word[fits:]
    yield word


def _width(words: Sequence[str], size: int) -> float:
    """Width in pixels of words on one line."""
    runs = split_runs(words, size)
    return sum(face.getlength(f"{run} ") for run, face in runs) - runs[-1][1].getlength(" ")
