"""Small data sets of drawn shapes, words and movements, one per task, in the layouts that their owners would have.

docs/finetune.md fine-tunes on them, and its test on a few samples: ``python tests/drawn_data.py FOLDER`` draws them
all.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SHAPES = ("disc", "square", "triangle", "star", "cross")
COLOURS = {
    "red": (200, 30, 40),
    "green": (30, 140, 60),
    "blue": (40, 70, 200),
    "yellow": (235, 190, 20),
    "black": (25, 25, 30),
}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SEGMENTS = {  # of a display: which are lit in each digit, from a at the top to g in the middle
    "0": "abcdef",
    "1": "bc",
    "2": "abged",
    "3": "abgcd",
    "4": "fgbc",
    "5": "afgcd",
    "6": "afgedc",
    "7": "abc",
    "8": "abcdefg",
    "9": "abcdfg",
}
_ENDS = {  # of each segment, (x, y) in digits
    "a": ((0.1, 0), (0.9, 0)),
    "b": ((1, 0.05), (1, 0.45)),
    "c": ((1, 0.55), (1, 0.95)),
    "d": ((0.1, 1), (0.9, 1)),
    "e": ((0, 0.55), (0, 0.95)),
    "f": ((0, 0.05), (0, 0.45)),
    "g": ((0.1, 0.5), (0.9, 0.5)),
}
FRAMES = 4
WIDTH, HEIGHT = 128, 112
FINE = 3  # images are drawn larger, then reduced, so that edges are smooth

Corners = list[tuple[float, float]]


class Drawn(NamedTuple):
    """A shape: its name, its colour, centre and half its size in pixels."""

    shape: str
    colour: str
    x: float
    y: float
    size: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def corners(self, dx: float = 0.0, dy: float = 0.0) -> Corners:
        """Its outline, (x, y) in pixels."""
        turned = [(math.cos(angle) * radius, math.sin(angle) * radius) for angle, radius in _outline(self.shape)]
        return [(self.x + dx + self.size * x, self.y + dy + self.size * y) for x, y in turned]

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height, as COCO has them."""
        xs, ys = zip(*self.corners(), strict=True)
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def detect(folder: Path, count: int, rng: np.random.Generator) -> None:
    """COCO: ``annotations/instances_all.json``, and ``images``."""
    images, annotations = [], []
    for number in range(count):
        shapes = _scene(rng, int(rng.integers(1, 4)))
        name = _save(folder / "images" / f"{number:05}.png", shapes, rng)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for each in shapes:
            outline = [value for corner in each.corners() for value in corner]
            entry = {"image_id": number, "category_id": SHAPES.index(each.shape) + 1, "iscrowd": 0}
            annotations.append({**entry, "id": len(annotations) + 1, "bbox": each.box(), "segmentation": [outline]})
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(SHAPES)]
    (folder / "annotations").mkdir()
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_all.json").write_text(json.dumps(whole))


def refseg(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Our own format: an expression for one of two to four shapes, with polygons."""
    lines = []
    for number in range(count):
        shapes = _scene(rng, int(rng.integers(2, 5)))
        chosen = int(rng.integers(len(shapes)))
        objects = [
            {"name": each.shape, "mask": [[value for xy in each.corners() for value in xy]]} for each in shapes
        ]
        name = _save(folder / "images" / f"{number:05}.png", shapes, rng)
        expression = f"the {shapes[chosen].name}"
        lines.append(
            {"images": f"images/{name}", "expression": expression, "referred": [chosen], "objects": objects}
        )
    _write_lines(folder / "mine.jsonl", lines)


def caption(folder: Path, count: int, rng: np.random.Generator) -> None:
    """CSV: two shapes, and where they are."""
    rows = []
    for number in range(count):
        one, other = _scene(rng, 2)
        sideways = abs(one.x - other.x) > abs(one.y - other.y)
        if sideways:
            place = "left of" if one.x < other.x else "right of"
        else:
            place = "above" if one.y < other.y else "below"
        name = _save(folder / "images" / f"{number:05}.png", [one, other], rng)
        rows.append((name, f"a {one.name} {place} a {other.name}"))
    _write_table(folder / "captions.csv", ("image", "caption"), rows)


def vqa(folder: Path, count: int, rng: np.random.Generator) -> None:
    """CSV: questions about number, colour and shape."""
    rows = []
    for number in range(count):
        shapes = _scene(rng, int(rng.integers(1, 4)))
        one = shapes[0]
        asked = {
            "count": ("how many shapes are there?", str(len(shapes))),
            "colour": (f"what colour is the {one.shape}?", one.colour),
            "shape": (f"which shape is {one.colour}?", one.shape),
        }
        kind = str(rng.choice([*asked]))
        name = _save(folder / "images" / f"{number:05}.png", shapes, rng)
        rows.append((name, *asked[kind], kind))
    _write_table(folder / "questions.csv", ("image", "question", "answer", "question_kind"), rows)


def ocr(folder: Path, count: int, rng: np.random.Generator) -> None:
    """CSV: number plates, two letters and two digits."""
    rows = []
    for number in range(count):
        letters = "".join(rng.choice([*"ABCDEFGHKLMNPRSTUVWXYZ"], 2))
        text = f"{letters} {int(rng.integers(10, 100))}"
        canvas = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), _pale(rng))
        font = ImageFont.load_default(size=float(rng.integers(125, 140)))
        left, top, right, bottom = font.getbbox(text)
        place = (WIDTH * FINE - right - left) // 2, int(rng.integers(20, HEIGHT * FINE - bottom + top - 60)) - top
        ImageDraw.Draw(canvas).text(place, text, (20, 20, 25), font)
        path = folder / "images" / f"{number:05}.png"
        turned = canvas.rotate(rng.uniform(-4, 4), Image.Resampling.BILINEAR, fillcolor=canvas.getpixel((0, 0)))
        _reduce(turned).save(path)
        rows.append((path.name, text))
    _write_table(folder / "plates.csv", ("image", "text"), rows)


def video(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Our own format: frames of two shapes of which one moves, and what is asked about it."""
    lines = []
    for number in range(count):
        mover, other = _scene(rng, 2)
        direction = str(rng.choice([*DIRECTIONS]))
        dx, dy = DIRECTIONS[direction]
        names = []
        ground = _pale(rng)
        for frame in range(FRAMES):
            far = 13.0 * (frame - (FRAMES - 1) / 2)
            canvas = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), ground)
            _draw(canvas, other.corners(), other.colour)
            _draw(canvas, mover.corners(dx * far, dy * far), mover.colour)
            names.append(f"images/{number:05}-{frame}.png")
            _reduce(canvas).save(folder / names[-1])
        asked = {
            "what": ("what moves?", mover.shape),
            "where": (f"where does the {mover.shape} move?", direction),
        }
        kind = str(rng.choice([*asked]))
        question, answer = asked[kind]
        lines.append({"images": names, "question": question, "answers": answer, "question_kind": kind})
    _write_lines(folder / "mine.jsonl", lines)


def line(folder: Path, count: int, rng: np.random.Generator) -> None:
    """CSV: numbers of a seven-segment display, cut out, three to six digits and perhaps a point."""
    rows = []
    for number in range(count):
        digits = "".join(rng.choice([*SEGMENTS], int(rng.integers(3, 7))))
        point = int(rng.integers(1, len(digits))) if rng.random() < 0.4 else 0
        height = float(rng.uniform(60, 110))
        width, stroke, slant = (
            height * rng.uniform(0.45, 0.6),
            height * rng.uniform(0.09, 0.16),
            rng.uniform(0, 0.15),
        )
        pitch, margin = width * rng.uniform(1.35, 1.6), height * rng.uniform(0.15, 0.35)
        size = round(2 * margin + pitch * len(digits)), round(2 * margin + height)
        dark = rng.random() < 0.6
        ground, lit = (rng.integers(0, 60, 3), rng.integers(120, 256, 3)) if dark else (_pale(rng), (40, 40, 35))
        canvas = Image.new("RGB", size, tuple(map(int, ground)))
        draw = ImageDraw.Draw(canvas)
        for place, digit in enumerate(digits):
            left = margin + place * pitch
            for segment in SEGMENTS[digit]:
                corners = [
                    (left + x * width + slant * height * (1 - y), margin + y * height) for x, y in _ENDS[segment]
                ]
                draw.line(corners, tuple(map(int, lit)), round(stroke))
            if point and place == point:
                x, y = left - (pitch - width) / 2, margin + height
                draw.ellipse((x - stroke, y - stroke, x + stroke / 2, y + stroke / 2), tuple(map(int, lit)))
        blurred = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 2))))
        name = f"{number:05}.png"
        blurred.save(folder / "images" / name)
        rows.append((name, f"{digits[:point]}.{digits[point:]}" if point else digits))
    _write_table(folder / "numbers.csv", ("image", "text"), rows)


def classify(folder: Path, count: int, rng: np.random.Generator) -> None:
    """CSV: one shape, and its name."""
    rows = []
    for number in range(count):
        [shape] = _scene(rng, 1)
        rows.append((_save(folder / "images" / f"{number:05}.png", [shape], rng), shape.shape))
    _write_table(folder / "shapes.csv", ("image", "label"), rows)


DATA: dict[str, Callable[[Path, int, np.random.Generator], None]] = {
    "detect": detect,
    "refseg": refseg,
    "caption": caption,
    "vqa": vqa,
    "ocr": ocr,
    "video": video,
    "line": line,
    "classify": classify,
}


def draw(task: str, folder: Path, count: int, seed: int = 0) -> Path:
    """Draw ``count`` samples for a task into a new folder."""
    (folder / "images").mkdir(parents=True)
    DATA[task](folder, count, np.random.default_rng([seed, [*DATA].index(task)]))
    return folder


def _outline(shape: str) -> list[tuple[float, float]]:
    """Angle and radius of each corner."""
    turn = 2 * math.pi
    match shape:
        case "disc":
            return [(turn * i / 24, 0.9) for i in range(24)]
        case "square":
            return [(turn * (i + 0.5) / 4, 1.15) for i in range(4)]
        case "triangle":
            return [(turn * (i / 3 - 0.25), 1.1) for i in range(3)]
        case "star":
            return [(turn * (i / 10 - 0.25), 0.45 if i % 2 else 1.1) for i in range(10)]
    arm, far = math.atan2(0.3, 1.0), math.hypot(0.3, 1.0)
    return [
        (turn * i / 4 + angle, radius)
        for i in range(4)
        for angle, radius in ((-arm, far), (arm, far), (turn / 8, 0.3 * math.sqrt(2)))
    ]


def _scene(rng: np.random.Generator, count: int) -> list[Drawn]:
    """Shapes that do not touch, no two of the same shape or colour."""
    shapes, colours = rng.permutation(SHAPES)[:count], rng.permutation([*COLOURS])[:count]
    while True:
        found = [
            Drawn(
                str(shape),
                str(colour),
                float(rng.uniform(24, WIDTH - 24)),
                float(rng.uniform(24, HEIGHT - 24)),
                float(rng.uniform(12, 20)),
            )
            for shape, colour in zip(shapes, colours, strict=True)
        ]
        pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
        if all(math.hypot(a.x - b.x, a.y - b.y) > 1.15 * (a.size + b.size) for a, b in pairs):
            return found


def _pale(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(190, 250, 3))
    return red, green, blue


def _draw(canvas: Image.Image, corners: Corners, colour: str) -> None:
    ImageDraw.Draw(canvas).polygon([(x * FINE, y * FINE) for x, y in corners], COLOURS[colour])


def _reduce(canvas: Image.Image) -> Image.Image:
    return canvas.resize((WIDTH, HEIGHT), Image.Resampling.BOX)


def _save(path: Path, shapes: Sequence[Drawn], rng: np.random.Generator) -> str:
    canvas = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), _pale(rng))
    for each in shapes:
        _draw(canvas, each.corners(), each.colour)
    _reduce(canvas).save(path)
    return path.name


def _write_lines(path: Path, lines: Sequence[object]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _write_table(path: Path, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([heads, *rows])


if __name__ == "__main__":
    for task in DATA:
        print(draw(task, Path(sys.argv[1]) / task, int(sys.argv[2]) if len(sys.argv) > 2 else 1000))
