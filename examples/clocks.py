"""Draw analogue clocks as samples, for docs/add-an-ability.md: ``python examples/clocks.py FOLDER [COUNT]``."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 96
FINE = 3  # drawn larger, then reduced, so that edges are smooth
STEP = 15  # minutes between two times

Colour = tuple[int, int, int]


def clock(hour: int, minute: int, rng: random.Random) -> Image.Image:
    """A face in colours, size and place by chance, which shows a time."""
    side = SIZE * FINE
    canvas = Image.new("RGB", (side, side), colour(rng, 0, 256))
    draw = ImageDraw.Draw(canvas)
    radius = side * rng.uniform(0.38, 0.47)
    x, y = (side / 2 + rng.uniform(-1, 1) * (side / 2 - radius) for _ in "xy")
    dark = rng.random() < 0.3
    face, ink = (colour(rng, 0, 70), colour(rng, 180, 256)) if dark else (colour(rng, 190, 256), colour(rng, 0, 90))
    rim = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(rim, face, ink, round(side * rng.uniform(0.01, 0.03)))

    def hand(turn: float, start: float, end: float, width: float) -> None:
        """A line from one radius to another; ``turn`` is clockwise from the top, 1 is all around."""
        dx, dy = radius * math.sin(2 * math.pi * turn), -radius * math.cos(2 * math.pi * turn)
        draw.line((x + start * dx, y + start * dy, x + end * dx, y + end * dy), ink, round(width * side))

    for mark in range(12):
        hand(mark / 12, 0.82 if mark % 3 == 0 else 0.88, 0.95, 0.02 if mark == 0 else 0.01)
    hand((hour + minute / 60) / 12, -0.1, rng.uniform(0.42, 0.52), rng.uniform(0.035, 0.05))
    hand(minute / 60, -0.1, rng.uniform(0.7, 0.8), rng.uniform(0.015, 0.025))
    return canvas.resize((SIZE, SIZE), Image.Resampling.BOX)


def colour(rng: random.Random, least: int, most: int) -> Colour:
    """Red, green and blue in least..most - 1."""
    return rng.randrange(least, most), rng.randrange(least, most), rng.randrange(least, most)


def write(folder: Path, count: int, seed: int = 0) -> None:
    """Write ``mine.jsonl`` and its images."""
    rng = random.Random(seed)
    (folder / "images").mkdir(parents=True)
    with (folder / "mine.jsonl").open("w") as lines:
        for number in range(count):
            hour, minute = rng.randrange(12), rng.randrange(0, 60, STEP)
            name = f"images/{number:05}.png"
            clock(hour, minute, rng).save(folder / name)
            time = f"{hour or 12}:{minute:02}"
            lines.write(json.dumps({"images": name, "question": "what time is it?", "answers": time}) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2000)
