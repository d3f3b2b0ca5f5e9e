"""How pages are read that are turned, skewed, noisy, or in another script: derived from development windows.

    openpali data build pages
    OMP_NUM_THREADS=1 python benchmarks/turned.py --json turned.json

The peer is nano that neither turns nor doubts what it is given. For each kind of page there are F1 of words, the
expected calibration error of their confidence, and CPU seconds. No word of a page in another script can be right.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from _report import Result, cost, machine, rate, report
from openpali import Pali
from openpali.data.sources.registry import open_source
from openpali.home import FONTS
from openpali.metrics.boxes import f1
from openpali.metrics.calibration import expected_calibration_error
from openpali.metrics.words import right_words
from openpali.tasks.example import Box, Example, Size
from openpali_screen import page as pages
from openpali_screen import text
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.evaluate import counted_words
from openpali_screen.views import Turn

PEER = "as it is given"
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
    return replace(example, images=[np.array(page)], lines=[])  # what is ignored keeps its script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report(measure(Pali.from_pretrained("nano"), options.windows), machine("openpali"), options.file)


def measure(pali: Pali, windows: int) -> Iterator[Result]:
    """Both on each kind of page."""
    source = open_source("pages/dev-themes@2", {})
    examples = [source[int((i + 0.5) * len(source) / windows)] for i in range(windows)]
    reader_of_bundle(pali).page(examples[0].images[0])  # loads the model
    every: list[list[Read]] = [[], []]
    for kind in (*ANGLES, "foreign"):
        rng = np.random.default_rng(0)
        made = [foreign(each, rng) if kind == "foreign" else turned(each, float(kind), rng) for each in examples]
        ours = Read.of(pali, made)
        with as_given():
            plain = Read.of(pali, made)
        label = f"{kind} degrees" if kind != "foreign" else "another script"
        yield rate(f"{label}: word F1", ours.f1, plain.f1, PEER, "F1")
        yield cost(f"{label}: calibration error", ours.error, plain.error, PEER, "share")
        yield cost(f"{label}: time", ours.seconds, plain.seconds, PEER, "CPU s a page")
        for all_of, one in zip(every, (ours, plain), strict=True):
            all_of += [one] if kind else []
    errors = [calibration([word for one in some for word in one.words]) for some in every]
    yield cost("all but the upright: calibration error", *errors, PEER, "share")


@dataclass(frozen=True)
class Read:
    """What was read on pages: confidence of each word and whether it is right, F1, CPU seconds a page."""

    words: list[tuple[float, bool]]
    f1: float
    seconds: float

    @classmethod
    def of(cls, pali: Pali, pages: Sequence[Example]) -> Read:
        found: list[tuple[float, bool]] = []
        written, began = 0, time.process_time()
        for page in pages:
            lines = reader_of_bundle(pali).page(page.images[0]).lines
            words, true = counted_words(page, [word for line in lines for word in line.words])
            found += zip((word.score for word in words), right_words(words, true), strict=True)
            written += len(true)
        seconds = (time.process_time() - began) / len(pages)
        return cls(found, f1(sum(right for _, right in found), len(found), written), seconds)

    @property
    def error(self) -> float:
        return calibration(self.words)


def calibration(words: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error; 0 without words."""
    return expected_calibration_error([sure for sure, _ in words], [right for _, right in words]) if words else 0.0


@contextmanager
def as_given() -> Iterator[None]:
    """Pages are neither turned nor doubted."""
    kept = pages._WHOLLY, text._LEGIBLE
    pages._WHOLLY = text._LEGIBLE = 0.0
    try:
        yield
    finally:
        pages._WHOLLY, text._LEGIBLE = kept


if __name__ == "__main__":
    main()
