"""Make ``real_icons.tar``: icons of families that nothing learns from, as they look in windows, each with its name.

    python tests/eval/make_real_icons.py packages/openpali-lab/src/openpali_lab/worlds/benchmarks

after `openpali data build icons`. It was run once: sets of icons change, and so would this one. No decision is made
by it.

1,500 of the icons that ``icons`` keeps for tests, at most two of a name, on 15 sheets in colours of light and dark
pages. Each has 16 to 48 pixels, and the box of an `<svg>`, which is seldom tight. They come from Tabler, Phosphor,
Fluent (MIT), Carbon (Apache 2.0), Font Awesome (OFL, CC BY 4.0), Line Awesome (Apache 2.0 in its package) and Game
Icons (CC BY 3.0); the record of a sheet names set, author and licence of each.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from openpali.home import data_folder
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.icons import PACKAGE, Grey
from openpali_lab.worlds.builders.output import add_sample, json_bytes

COUNT, MOST = 1500, 2
ROW, CELL = 10, 60  # icons in a row of a sheet, and pixels from one to the next
GROUNDS = ((255, 255, 255), (33, 37, 41), (248, 249, 250), (13, 17, 23), (222, 226, 230))
INKS = (
    ((33, 37, 41), (73, 80, 87), (13, 110, 253), (25, 135, 84), (190, 40, 55), (111, 66, 193)),  # on light pages
    ((255, 255, 255), (206, 212, 218), (110, 168, 254), (117, 183, 152), (234, 134, 143), (255, 193, 7)),
)


def sheet(icons: Grey, ground: tuple[int, ...], rng: np.random.Generator) -> tuple[Image.Image, list[list[int]]]:
    """Icons in rows, in random colours, sizes and places, and the box of each."""
    page = np.full((ROW * CELL, ROW * CELL, 3), ground, np.uint8)
    inks, boxes = INKS[int(np.mean(ground) < 128)], []
    for number, icon in enumerate(icons):
        size = int(rng.integers(16, 49))
        top, left = (CELL * at + int(rng.integers(CELL - size + 1)) for at in divmod(number, ROW))
        cover = np.asarray(Image.fromarray(icon).resize((size, size), Image.Resampling.BOX))[..., None] / 255
        place = page[top : top + size, left : left + size]
        place[:] = np.rint(place + cover * (np.array(inks[rng.integers(len(inks))]) - place))
        boxes.append([top, left, top + size, left + size])
    return Image.fromarray(page), boxes


if __name__ == "__main__":
    rng = np.random.default_rng(4801)
    folder = data_folder("icons")
    about = json.loads((packages.fetch(PACKAGE) / "collections.json").read_text("utf-8"))
    images = np.load(folder / "test.npy", mmap_mode="r")
    icons = [json.loads(line) for line in (folder / "test.jsonl").read_text("utf-8").splitlines()]
    chosen: list[int] = []
    names: Counter[str] = Counter()
    for i in rng.permutation(len(icons)).tolist():
        if len(chosen) < COUNT and names[icons[i]["label"]] < MOST:
            names[icons[i]["label"]] += 1
            chosen.append(i)
    with tarfile.open(Path(sys.argv[1]) / "real_icons.tar", "w") as shard:
        for number in range(COUNT // ROW**2):
            own = chosen[number * ROW**2 : (number + 1) * ROW**2]
            page, boxes = sheet(images[own], GROUNDS[number % len(GROUNDS)], rng)
            png = io.BytesIO()
            page.quantize(128).save(png, "png", optimize=True)
            objects, credits = [], []
            for i, box in zip(own, boxes, strict=True):
                known = about[icons[i]["set"]]
                objects.append({"name": icons[i]["label"], "role": "icon", "box": box})
                by, licence = known["author"]["name"], known["license"]["title"]
                credits.append(f"{icons[i]['set']}:{icons[i]['name']}, {by}, {licence}")
            record = {"objects": objects, "about": {"icons": credits}}
            add_sample(shard, f"icons-{number:02d}", {"json": json_bytes(record), "png": png.getvalue()})
