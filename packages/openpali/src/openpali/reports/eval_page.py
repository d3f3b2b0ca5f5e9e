"""An HTML report of an evaluation run: the score card, and the worst and some random samples, drawn."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from openpali.eval.benchmark import SEED
from openpali.eval.breakdown import worst_of
from openpali.eval.runner import Run
from openpali.eval.scales import show
from openpali.reports.drawing import draw_prediction, enlarge, film_strip, show_confidence
from openpali.reports.html import data_uri, write_page
from openpali.rng import generator
from openpali.tasks.base import Answer, Task
from openpali.tasks.example import Example
from openpali.tasks.scoring import CONFIDENCES, Answered

WORST, RANDOM = 12, 12  # number of samples shown
SIDE = 448  # pixels of the longer side of an image
SMALL = 160  # images with a shorter longer side are enlarged
TEMPLATE = Path(__file__).with_suffix(".html")


def write_report(run: Run, path: Path, *, worst: int = WORST, random: int = RANDOM) -> None:
    """Write one self-contained HTML file that works offline.

    Args:
        run: a finished run; its samples are read from its source again.
        path: the file to write.
        worst, random: number of samples to show of each kind.
    """
    card, values = run.card, run.scores.per_sample.get(run.card.metric, [])
    sections, wide = [], False
    if run.source is not None and run.task is not None:
        worst_places = worst_of(run.rows, run.scores, card.metric, worst)
        rest = sorted(set(range(len(run.rows))) - set(worst_places))
        order = generator(SEED, 2).permutation(len(rest))[:random]
        for title, places in (
            ("Worst samples", worst_places),
            ("Random samples", sorted(rest[i] for i in order)),
        ):
            shown = [(run.rows[i], values[i] if len(values) == len(run.rows) else None) for i in places]
            figures = [_figure(row, value, run, run.source[row.index], run.task) for row, value in shown]
            wide = wide or any(figure.startswith('<figure class="wide') for figure in figures)
            if figures:
                sections.append(f'<h2>{title}</h2><div class="samples">{"".join(figures)}</div>')
    write_page(
        path,
        TEMPLATE,
        title=escape(card.title or card.benchmark),
        card=escape(card.as_markdown()),
        sections="\n".join(sections),
        width="30rem" if wide else "17rem",
    )


def _figure(row: Answered, value: float | None, run: Run, example: Example, task: Task) -> str:
    sample = task.write(example, generator(SEED, row.index))
    images, kinds = [], ["wide"] if len(example.images) > 1 else []
    if example.images:
        given, right = (task.parse(text, example.size) for text in (row.text, sample.target))
        drawn = [("answer", given), ("target", right)] if right.objects or given.objects else [("", Answer(""))]
        kinds += ["wide", "located"] if len(drawn) > 1 else []
        for label, answer in drawn:
            tag = f"<b>{label}</b>" if label else ""
            uri = data_uri(draw_sample(example, answer))
            images.append(f'<div><img alt="{escape(row.key)}" src="{uri}">{tag}</div>')
    verdict = "" if value is None else f'<span class="value">{show(run.card.metric, value)}</span>'
    confidence = row.values.get(CONFIDENCES, ())
    facts = [*map(show_confidence, confidence), row.kind, row.key]
    references = list(dict.fromkeys(row.references)) or [sample.target]
    more = f" <small>and {len(references) - 3} more</small>" if len(references) > 3 else ""
    truth = " · ".join(map(escape, references[:3])) + more
    return (
        f'<figure class="{" ".join(kinds)}"><div class="images">{"".join(images)}</div><figcaption>{verdict}'
        f"<code>{escape(row.prompt)}</code>"
        f'<p class="answer" dir="auto">{escape(row.text) or "<i>nothing</i>"}</p>'
        f'<p class="truth" dir="auto"><span>right:</span> {truth}</p>'
        f"<small>{escape(' · '.join(filter(None, facts)))}</small></figcaption></figure>"
    )


def draw_sample(example: Example, answer: Answer) -> PilImage.Image:
    """The answer on the image (or first frame), at a size that is easy to see; further frames follow in rows."""
    first, video = example.images[0], len(example.images) > 1
    factor = max(1, SIDE // max(first.shape[:2])) if max(first.shape[:2]) < SMALL else 1
    large = enlarge(first, factor)
    drawn = draw_prediction(large, answer.scaled(factor)) if answer.objects else PilImage.fromarray(large)
    if video:
        drawn = film_strip([np.asarray(drawn), *(enlarge(frame, factor) for frame in example.images[1:])])
    drawn.thumbnail((2 * SIDE, 2 * SIDE) if video else (SIDE, SIDE))
    return drawn
