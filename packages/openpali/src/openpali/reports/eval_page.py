"""An HTML report of an evaluation run: the score card, and the worst and some random samples, drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from openpali.eval.benchmark import SEED
from openpali.eval.breakdown import worst_of
from openpali.eval.cards import FEWEST, Card
from openpali.eval.runner import Run
from openpali.eval.scales import is_good, show, show_interval
from openpali.reports.drawing import draw_prediction, enlarge, film_strip, sure
from openpali.reports.html import data_uri, write_page
from openpali.rng import generator
from openpali.tasks.base import Answer, Task
from openpali.tasks.example import Example
from openpali.tasks.scoring import CONFIDENCES, Answered

WORST, RANDOM = 12, 12  # number of samples shown
SIDE = 448  # pixels of the longer side of an image
SMALL = 160  # images with a shorter longer side are enlarged
BARS = 10  # of the histogram
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
        subtitle=escape(f"{card.benchmark} · {card.data.get('split', '')} · {card.model.get('name', '')}"),
        panels="".join(_panels(card, values if len(values) == len(run.rows) else [])),
        how="".join(
            f"<tr><th>{name}</th><td class=how>{escape(value.replace('`', ''))}</td></tr>"
            for name, value in card.facts()
        ),
        sections="\n".join(sections),
        width="30rem" if wide else "17rem",
        footer=escape(
            f"OpenPaLI {card.versions.get('openpali', '')} · model {str(card.model.get('hash', ''))[:16]} · "
            f"data {str(card.data.get('hash', ''))[:16]} · {card.seconds:,.0f} s"
        ),
    )


def _panels(card: Card, values: Sequence[float]) -> Iterable[str]:
    interval = show_interval(card.metric, card.intervals.get(card.metric))
    shown_interval = f", 95 % interval {interval}" if interval else ""
    paper = ""
    for label, numbers in (("PaLI-3 5B", card.paper), ("PaLI-3 5B with OCR", card.paper_ocr)):
        if card.metric in numbers:
            paper += f'<div class="paper">{label}, from its paper: {show(card.metric, numbers[card.metric])}</div>'
    score = show(card.metric, card.scores[card.metric]) if card.metric in card.scores else "-"
    told = f'<div class="big">{score}</div><small>{card.n:,} samples{shown_interval}</small>'
    if card.n < FEWEST:
        told = f"<p>{card.n:,} samples are too few for a score: {FEWEST} or more are needed.</p>"
        told += f"<small>{score} of these{shown_interval}</small>"
    yield _panel(
        escape(card.metric),
        f"{told}{paper}" + (f'<p class="note">{escape(card.note)}</p>' if card.note else ""),
    )
    if card.slices:
        yield _panel(f"{escape(card.metric)} by slice", _slices(card))
    if values and len(set(values)) > 2:
        yield _panel(f"{escape(card.metric)} per sample", _histogram(card.metric, values))
    if rows := _scores(card):
        yield _panel("All scores", f"<table>{rows}</table>")


def _panel(title: str, inside: str) -> str:
    return f'<section class="panel"><h3>{title}</h3>{inside}</section>'


def _scores(card: Card) -> str:
    """Table rows of all scores except those of slices, which have their own panel; "" for a single score."""
    rows: list[str] = []
    sliced = {f"{card.metric}/{kind}" for kind in card.slices}
    for name, value in card.scores.items():
        if name in sliced:
            continue
        paper = show(name, card.paper[name]) if name in card.paper else ""
        cells = f'<td>{escape(name)}</td><td class="n">{show(name, value)}</td>'
        cells += f'<td class="n"><small>{show_interval(name, card.intervals.get(name))}</small></td>'
        cells += f'<td class="n paper">{paper}</td>' if card.paper else ""
        rows.append(f"<tr{' class=main' if name == card.metric else ''}>{cells}</tr>")
    return "".join(rows) if len(rows) > 1 else ""


def _slices(card: Card) -> str:
    most = max(1.0, *(each["value"] for each in card.slices.values()))
    rows = [
        f'<tr><td>{escape(kind)}</td><td class="n">{show(card.metric, each["value"])}</td>'
        f'<td><div class="bar"><i style="width:{100 * each["value"] / most:.1f}%"></i></div></td>'
        f'<td class="n"><small>{each["n"]:,}</small></td></tr>'
        for kind, each in card.slices.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _histogram(metric: str, values: Sequence[float]) -> str:
    counts, edges = np.histogram(values, bins=BARS, range=(min(0.0, *values), max(1.0, *values)))
    bars = "".join(
        f'<i style="height:{100 * count / counts.max():.1f}%" title="{count}"></i>' for count in counts.tolist()
    )
    ends = f"<span>{show(metric, edges[0])}</span><span>{show(metric, edges[-1])}</span>"
    return f'<div class="spread">{bars}</div><div class="ends">{ends}</div>'


def _figure(row: Answered, value: float | None, run: Run, example: Example, task: Task) -> str:
    card = run.card
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
    verdict = ""
    if value is not None:
        good = "good" if is_good(card.metric, value) else "bad"
        verdict = f'<span class="value {good}">{show(card.metric, value)}</span>'
    confidence = row.values.get(CONFIDENCES, ())
    facts = [*map(sure, confidence), row.kind, row.key]
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
