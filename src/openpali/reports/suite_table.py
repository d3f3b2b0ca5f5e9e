"""The table of a suite, with the paper's numbers in separate columns, and the files of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from openpali.eval.cards import show, show_interval
from openpali.eval.runner import Run
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


def render(outcomes: Sequence[Outcome]) -> Table:
    """The table of a suite, to print with rich."""
    table = Table(caption=CAPTION, caption_justify="left", pad_edge=False)
    for name in COLUMNS:
        right = name in ("samples", "ours", "95 % interval") or name in PAPER
        style = "bold" if name == "ours" else "italic cyan" if name in PAPER else ""
        table.add_column(name, justify="right" if right else "left", style=style, overflow="fold")
    for row in rows_of(outcomes):
        table.add_row(*row)
    return table


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The table of a suite in Markdown, and why benchmarks were not run."""
    lines = ["| " + " | ".join(row) + " |" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows_of(outcomes))]
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
