"""How pages are read that are turned, skewed, noisy, or in another script: derived from development windows.

    openpali data build pages
    OMP_NUM_THREADS=1 python benchmarks/turned.py            # 3 windows of each package
    OMP_NUM_THREADS=1 python benchmarks/turned.py --plain    # as they are given: neither turned nor doubted

Printed are, for each kind of page, F1 of words, how many were read, mean confidence and calibration error, the
largest error of the angle, how many pages are said to be out of distribution for their text, and CPU seconds.
No word of a page in another script (Japanese or Korean letters in the places of all its lines) is right.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from openpali import Pali
from openpali.data.sources.registry import open_source
from openpali.eval.pages import counted_words
from openpali.home import FONTS
from openpali.infer import pages
from openpali.infer.upright import Turn
from openpali.metrics.boxes import f1
from openpali.metrics.calibration import expected_calibration_error
from openpali.metrics.words import right_words
from openpali.tasks.example import Box, Example, Size

SITES = ("black", "bsb", "creative", "material", "notus", "now", "star")
ANGLES = (0, 90, 180, -90, 1, 2, 4, -7, 10, 94, -176)
NOISE = 12  # standard deviation; of pages at angles that are no quarters
SCRIPTS = (
    "あいうえおかきくけこさしすせそなにのはまみもやらりるれろをん",
    "アイカキコサスタトナハマリルン",
    "광구귀그기나노다달대도라로마모바사소",
)


def turned(example: Example, angle: float, rng: np.random.Generator) -> Example:
    """A page, turned counter-clockwise with all of its boxes; noisy, if it is skewed."""
    [image] = example.images
    pixels = Turn(Size(*image.shape[:2]), -angle).upright(image)
    turn, size = Turn(Size(*pixels.shape[:2]), angle), Size(*image.shape[:2])
    if angle % 90:
        pixels = (pixels + rng.normal(0, NOISE, pixels.shape)).clip(0, 255).astype(np.uint8)

    def given(box: Box) -> Box:
        return turn.given(box, size)

    lines = [replace(line, words=[w._replace(box=given(w.box)) for w in line.words]) for line in example.lines]
    return replace(example, images=[pixels], lines=lines, ignored=[*map(given, example.ignored)])


def foreign(example: Example, rng: np.random.Generator) -> Example:
    """A page whose lines are written in another script."""
    page = PilImage.fromarray(example.images[0])
    draw, letters = ImageDraw.Draw(page), [*rng.choice(SCRIPTS)]
    for line in example.lines:
        ymin, xmin, ymax, xmax = map(round, line.box)
        part = np.asarray(page)[max(0, ymin) : ymax, max(0, xmin) : xmax].reshape(-1, 3)
        if not len(part):
            continue
        ground = np.median(part, 0)
        ink = part[np.abs(part - ground).sum(1).argmax()]
        draw.rectangle((xmin, ymin, xmax, ymax), tuple(ground.astype(int).tolist()))
        size = max(6, round(0.72 * (ymax - ymin)))
        text = "".join(rng.choice(letters, max(1, round((xmax - xmin) / size))))
        font = ImageFont.truetype(FONTS / "NotoSansCJK-Subset.otf", size)
        draw.text((xmin, (ymin + ymax) / 2), text, tuple(ink.tolist()), font, anchor="lm")
    return replace(example, images=[np.array(page)], lines=[], ignored=[])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--per-site", type=int, default=3)
    parser.add_argument("--plain", action="store_true")
    asked = parser.parse_args()
    if asked.plain:
        pages._WHOLLY = pages._LEGIBLE = 0.0
    torch.set_num_threads(1)
    pali, rng = Pali.from_pretrained("nano"), np.random.default_rng(0)
    examples = []
    for site in SITES:
        source = open_source(f"pages/dev-{site}", {})
        examples += [source[int((i + 0.5) * len(source) / asked.per_site)] for i in range(asked.per_site)]
    every: list[tuple[float, bool]] = []
    for kind in (*ANGLES, "foreign"):
        found: list[tuple[float, bool]] = []
        hits, said, angles, unread, start = 0, 0, [], 0, time.process_time()
        for example in examples:
            page = foreign(example, rng) if kind == "foreign" else turned(example, kind, rng)
            reading = pali.page(page.images[0])
            words, true = counted_words(page, [word for line in reading.lines for word in line.words])
            right = right_words(words, true)
            found += zip((word.score for word in words), right, strict=True)
            hits, said = hits + sum(right), said + len(true)
            unread += reading.reason == "text"
            if kind != "foreign" and reading.reason is None:
                angles.append(abs(180 - (180 - reading.angle + kind) % 360))
        seconds = (time.process_time() - start) / len(examples)
        confidence = [sure for sure, _ in found]
        error = expected_calibration_error(confidence, [hit for _, hit in found])
        print(
            f"{kind:>8} F1 {f1(hits, len(found), said):.3f}, {len(found):5} words, confidence "
            f"{np.mean(confidence):.3f}, error of it {error:.3f}, of the angle {max(angles, default=0):.2f}, "
            f"{unread} of {len(examples)} cannot be read, {seconds:.2f} s",
            flush=True,
        )
        every += found if kind else []
    error = expected_calibration_error([sure for sure, _ in every], [hit for _, hit in every])
    print(f"calibration error of all but the upright: {error:.3f}")


if __name__ == "__main__":
    main()
