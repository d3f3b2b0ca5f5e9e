"""The tables of docs/evaluation.md, from the benchmarks themselves.

``python -m openpali_lab.documents.evaluation``, run in the repository's folder, rewrites them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark, Benchmark
from openpali.eval.registry import find_benchmark
from openpali.eval.scales import show
from openpali.infer.generate import Decoding
from openpali.tasks.registry import find_family
from openpali_lab.benchmarks import paper, screens
from openpali_lab.documents.tables import table, write_between
from openpali_lab.worlds.benchmarks.pages import page_suite

FILES = 2  # of a benchmark that are shown; more are alike


def render(benchmarks: Sequence[Benchmark]) -> str:
    """Markdown: how each benchmark is scored, which files it reads and where to get them, and remarks; folded."""
    scoring = [
        (
            f"`{b.name}`",
            b.split,
            f"`{b.task}`" if isinstance(b, AnswerBenchmark) else "",
            f"{b.resolution} px" if b.resolution else "",
            b.frames,
            decoding_of(b),
            f"`{b.metric}`",
            *(", ".join(_number(b, name, value) for name, value in p.items()) for p in (b.paper, b.paper_ocr)),
        )
        for b in benchmarks
    ]
    files: dict[tuple[str, str], list[str]] = {}
    for b in benchmarks:
        if b.layout or b.home:
            shown = [f"`{name}`" for name in b.layout[:FILES]] + ["..."] * (len(b.layout) > FILES)
            files.setdefault((" ".join(shown), b.home), []).append(f"`{b.name}`")
    named: dict[str, list[str]] = {}
    for b in benchmarks:
        if b.note:
            named.setdefault(b.note, []).append(f"`{b.name}`")
    heads = ("benchmark", "split", "task", "size", "frames", "decoding", "score", "paper", "paper, with OCR")
    return "\n".join(
        [
            '<details markdown="1"><summary>How they are scored, and what they read</summary>',
            "",
            *table(heads, scoring),
            "",
            "Benchmarks without a row are in the package:",
            "",
            *table(
                ("benchmark", "files under the data root", "where to get them"),
                [(", ".join(names), *row) for row, names in files.items()],
            ),
            "",
            *(f"- {', '.join(names)}: {note}" for note, names in named.items()),
            "",
            "</details>",
            "",
        ]
    )


def decoding_of(benchmark: Benchmark) -> str:
    """Greedy or beams, and the maximum number of tokens."""
    if not isinstance(benchmark, AnswerBenchmark):
        return ""
    decoding = benchmark.decoding or Decoding()
    how = "greedy" if decoding.beams == 1 else f"beam {decoding.beams}"
    return f"{how}, {decoding.max_tokens or find_family(benchmark.task).max_target_tokens} tokens"


def write_into(path: Path) -> None:
    """Replace the tables of a document; raises ``ValueError`` if it has no marks."""
    write_between(path, "benchmarks", render(paper.suite()))
    write_between(path, "screens", render([*screens.suite(), *page_suite(), find_benchmark("real/line")]))


def _number(benchmark: Benchmark, name: str, value: float) -> str:
    return show(name, value) if name == benchmark.metric else f"{name.partition('/')[2]} {show(name, value)}"


if __name__ == "__main__":
    write_into(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/evaluation.md"))
