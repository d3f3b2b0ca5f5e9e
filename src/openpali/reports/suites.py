"""Many benchmarks in one go, and their table with the paper's numbers beside ours, clearly apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from openpali.distributed import Ranks
from openpali.eval.cards import Card, show, show_interval
from openpali.eval.datasets.base import AnswerBenchmark, Benchmark
from openpali.eval.evaluators import ALONE, Watch
from openpali.eval.ocr import OcrEngine
from openpali.eval.registry import BENCHMARKS
from openpali.eval.runner import Run, run
from openpali.infer.pali import Pali
from openpali.infer.pipeline import BATCH
from openpali.reports.eval_page import write_report
from openpali.tasks.registry import TASKS

SUITES: dict[str, Callable[[Benchmark], bool]] = {
    "nano": lambda each: not each.layout and not each.name.startswith("mini/"),
    "mini": lambda each: each.name.startswith("mini/"),
    "paper": lambda each: bool(each.layout),
}
"""Which benchmarks belong together: those of a world and its neighbours, and those that read official files."""


@dataclass(frozen=True)
class Outcome:
    """What became of one benchmark of a suite: a card, or the sentence that says why there is none."""

    benchmark: Benchmark
    card: Card | None = None
    problem: str = ""


def suite(name: str) -> list[Benchmark]:
    """The benchmarks of a suite.

    Raises:
        ValueError: there is no such suite.
    """
    if name not in SUITES:
        raise ValueError(f"no suite is called {name!r}; there are {', '.join(SUITES)}")
    return [benchmark for benchmark in BENCHMARKS.values() if SUITES[name](benchmark)]


def nothing_ran(name: str, data: Path) -> str:
    """What to do where nothing of a suite can run."""
    if name == "paper":
        return (
            f"nothing of the suite paper can run with this model on {data}: docs/evaluation.md says what it reads"
        )
    return f"nothing of the suite {name} can run with this model; `openpali data build all` makes its data"


def run_suite(
    benchmarks: Sequence[Benchmark],
    pali: Pali,
    data: Path,
    *,
    out: Path | None = None,
    limit: int | None = None,
    batch: int = BATCH,
    ocr: OcrEngine | None = None,
    ranks: Ranks = ALONE,
    watch: Callable[[Benchmark], Watch] = lambda benchmark: lambda done, total, scores: None,
) -> Iterator[Outcome]:
    """Run all that the data and the model allow; what is not there is an outcome, too.

    Args:
        out: folder for cards, predictions and reports of each; a killed suite goes on from there.
        ocr: reads the pictures for those benchmarks whose prompt has a place for text.
        others: see :func:`~openpali.eval.runner.run`.
    """
    for benchmark in benchmarks:
        stem = None if out is None else out / benchmark.name.replace("/", "-")
        reads = isinstance(benchmark, AnswerBenchmark) and "ocr" in TASKS[benchmark.task].__dataclass_fields__
        answers = stem.with_suffix(".jsonl") if stem and isinstance(benchmark, AnswerBenchmark) else None
        try:
            done = run(
                benchmark,
                pali,
                data,
                limit=limit,
                batch=batch,
                ocr=ocr if reads else None,
                predictions=answers,
                ranks=ranks,
                watch=watch(benchmark),
            )
        except (ValueError, OSError) as error:
            yield Outcome(benchmark, problem=str(error))
            continue
        if stem and ranks.rank == 0:
            write_run(done, stem)
        yield Outcome(benchmark, done.card)


def write_run(done: Run, stem: Path) -> None:
    """Card (JSON and Markdown) and report of a run, as STEM.json, STEM.md and STEM.html."""
    done.card.write(stem.with_suffix(".json"))
    done.card.write(stem.with_suffix(".md"))
    write_report(done, stem.with_suffix(".html"))


PAPER = ("paper (5B)", "paper, with OCR")
COLUMNS = ("benchmark", "samples", "score", "ours", "95 % interval", *PAPER, "split, remark")


def rows_of(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """The cells of a suite's table (:data:`COLUMNS`): the score that counts, and each that the paper has."""
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


CAPTION = "Ours: measured here. Paper: PaLI-3's own numbers, from memory of its v2, for a model of 5B parameters."


def render(outcomes: Sequence[Outcome]) -> Table:
    """The table of a suite, for a terminal."""
    table = Table(caption=CAPTION, caption_justify="left", pad_edge=False)
    for name in COLUMNS:
        right = name in ("samples", "ours", "95 % interval") or name in PAPER
        style = "bold" if name == "ours" else "italic cyan" if name in PAPER else ""
        table.add_column(name, justify="right" if right else "left", style=style, overflow="fold")
    for row in rows_of(outcomes):
        table.add_row(*row)
    return table


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The same for a file, with what was left out and why."""
    lines = ["| " + " | ".join(row) + " |" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows_of(outcomes))]
    lines += ["", CAPTION]
    if missing := [outcome for outcome in outcomes if outcome.card is None]:
        lines += ["", "Not run:", "", *(f"- {each.benchmark.name}: {each.problem}" for each in missing)]
    return "\n".join(lines) + "\n"
