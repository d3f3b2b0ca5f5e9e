"""The table of a suite, with the paper's numbers in separate columns, and the files of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from openpali.eval.markdown import table_row
from openpali.eval.runner import Run
from openpali.eval.scales import show, show_interval
from openpali.eval.suites import Outcome, file_stem
from openpali.reports.eval_page import write_report

PAPER = ("paper (5B)", "paper, with OCR")
CAPTION = "Ours: measured here. Paper: PaLI-3's own numbers, from memory of its v2, for a model of 5B parameters."
COLUMNS = ("benchmark", "samples", "score", "ours", "95 % interval", *PAPER, "split, remark")


def rows_of(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """The cells of a suite's table (:data:`COLUMNS`): each benchmark's metric, then the paper's other scores."""
    rows: list[tuple[str, ...]] = []
    for outcome in outcomes:
        card = outcome.card
        if card is None:
            continue
        names = dict.fromkeys([card.metric, *card.paper, *card.paper_ocr])
        for number, name in enumerate(name for name in names if name in card.scores):
            rows.append(
                (
                    "" if number else card.benchmark,
                    "" if number else f"{card.n:,}",
                    name,
                    show(name, card.scores[name]),
                    show_interval(name, card.intervals.get(name)),
                    show(name, card.paper[name]) if name in card.paper else "",
                    show(name, card.paper_ocr[name]) if name in card.paper_ocr else "",
                    "" if number else ". ".join(filter(None, (outcome.benchmark.split, card.note))),
                )
            )
    return rows


def render(outcomes: Sequence[Outcome]) -> Group:
    """The table of a suite, to print with rich, in 80 columns: without empty columns, and with remarks below."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    *columns, remarks = zip(COLUMNS, *rows_of(outcomes), strict=True)
    shown = [(name, cells) for name, *cells in columns if any(cells)]
    for name, _ in shown:
        right = name in ("samples", "ours", "95 % interval") or name in PAPER
        style = "bold" if name == "ours" else "italic cyan" if name in PAPER else ""
        whole = name == "benchmark"
        table.add_column(name, justify="right" if right else "left", style=style, overflow="fold", no_wrap=whole)
    for row in zip(*(cells for _, cells in shown), strict=True):
        table.add_row(*row)
    names = columns[0]
    notes = [f"{name}: {remark}" for name, remark in zip(names[1:], remarks[1:], strict=True) if remark]
    if any(name in PAPER for name, _ in shown):
        notes.append(CAPTION)
    notes.append(f"in {', '.join(sorted({each.card.model['dtype'] for each in outcomes if each.card}))}")
    return Group(table, *(Text(note) for note in notes))


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The table of a suite in Markdown, and why benchmarks were not run."""
    lines = [table_row(row) for row in (COLUMNS, ["---"] * len(COLUMNS), *rows_of(outcomes))]
    lines += ["", CAPTION]
    if missing := [outcome for outcome in outcomes if outcome.card is None]:
        lines += ["", "Not run:", "", *(f"- {each.benchmark.name}: {each.problem}" for each in missing)]
    return "\n".join(lines) + "\n"


def write_run(run: Run, folder: Path) -> None:
    """Write a run's score card (JSON and Markdown) and its HTML report to a suite's folder."""
    stem = file_stem(run.card.benchmark)
    run.card.write(folder / f"{stem}.json")
    run.card.write(folder / f"{stem}.md")
    write_report(run, folder / f"{stem}.html")
