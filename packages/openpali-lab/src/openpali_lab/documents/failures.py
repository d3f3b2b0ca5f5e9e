"""The worst answers of benchmarks, drawn on one sheet.

    openpali eval --suite nano --out RESULTS
    python -m openpali_lab.documents.failures RESULTS SHEET.png nano/vqa nano/detect

The answers are those in the folder of the suite; a benchmark that has none there is run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PilImage
from PIL import ImageOps

from openpali.eval.benchmark import SEED
from openpali.eval.breakdown import worst_of
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import Run, run
from openpali.eval.suites import file_stem
from openpali.home import home
from openpali.infer.pali import Pali
from openpali.reports.drawing import count_mask_tokens, draw_answer, sheet
from openpali.rng import generator
from openpali.tasks.example import Size

EACH = 4  # answers of a benchmark, in a row
CELL = 280  # pixels of an image's longer side


def draw_failures(runs: Iterable[Run], each: int = EACH) -> PilImage.Image:
    """The worst answers of some runs: objects found in colours, true boxes in white, and the texts below."""
    rows = []
    for done in runs:
        worst = worst_of(done.rows, done.scores, done.card.metric, each)
        rows += [sheet([_tile(done, place) for place in worst])] if worst else []
    if not rows:
        raise ValueError("there is no wrong answer to draw")
    return _stack(rows)


def _stack(images: Sequence[PilImage.Image]) -> PilImage.Image:
    """Images below each other on white, flush left."""
    page = PilImage.new("RGB", (max(each.width for each in images), sum(each.height for each in images)), "white")
    top = 0
    for each in images:
        page.paste(each, (0, top))
        top += each.height
    return page


def _tile(done: Run, place: int) -> PilImage.Image:
    assert done.source is not None
    assert done.task is not None
    row = done.rows[place]
    example = done.source[row.index]
    image = PilImage.fromarray(example.images[len(example.images) // 2])
    scale = CELL / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), PilImage.Resampling.LANCZOS)
    target = done.task.write(example, generator(SEED, row.index)).target
    found, right = (done.task.parse(text, Size(image.height, image.width)) for text in (row.text, target))
    words = f"{row.prompt} => {row.text or '(nothing)'}; right: {(list(row.references) or [target])[0]}"
    image = ImageOps.pad(image, (CELL, image.height), color="white", centering=(0, 0))  # room for the words
    return draw_answer(np.asarray(image), found.objects, count_mask_tokens(words), truth=right.objects)


if __name__ == "__main__":
    results, drawn, *names = sys.argv[1:]
    pali = Pali.from_pretrained("nano")
    draw_failures(
        run(find_benchmark(name), pali, home() / "data", predictions=Path(results) / f"{file_stem(name)}.jsonl")
        for name in names
    ).save(drawn)
