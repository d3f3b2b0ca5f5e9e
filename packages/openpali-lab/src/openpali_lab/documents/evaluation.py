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
from openpali.tasks.detect import Detect
from openpali.tasks.registry import find_family, get_task
from openpali_lab.benchmarks import paper, screens
from openpali_lab.documents.tables import table, write_between
from openpali_lab.worlds.benchmarks.pages import page_suite


def render(benchmarks: Sequence[Benchmark]) -> str:
    """Markdown: how each benchmark is scored, which files it reads and where to get them, and remarks."""
    scoring = [
        (
            f"`{b.name}`",
            b.split,
            prompt_of(b),
            f"{b.resolution} px" if b.resolution else "",
            b.frames,
            decoding_of(b),
            f"`{b.metric}`",
            *(", ".join(_number(b, name, value) for name, value in p.items()) for p in (b.paper, b.paper_ocr)),
        )
        for b in benchmarks
    ]
    files = [
        (
            f"`{b.name}`",
            "<br>".join(f"`{name}`" for name in b.layout),
            b.home or ("" if b.layout else "in the package"),
        )
        for b in benchmarks
    ]
    named: dict[str, list[str]] = {}
    for b in benchmarks:
        if b.note:
            named.setdefault(b.note, []).append(f"`{b.name}`")
    heads = ("benchmark", "split", "prompt", "size", "frames", "decoding", "score", "paper", "paper, with OCR")
    return "\n".join(
        [
            "### How they are scored",
            "",
            *table(heads, scoring),
            "",
            "### What they read",
            "",
            *table(("benchmark", "files under the data root", "where to get them"), files),
            "",
            "### Remarks",
            "",
            *(f"- {', '.join(names)}: {note}" for note, names in named.items()),
            "",
        ]
    )


def prompt_of(benchmark: Benchmark) -> str:
    """The prompt with its variable parts in braces; empty for benchmarks of embeddings."""
    if not isinstance(benchmark, AnswerBenchmark):
        return ""
    task = get_task(benchmark.task, **benchmark.options)
    slot = task.of if isinstance(task, Detect) else task.takes
    lang = "{lang}" if "languages" in benchmark.split else "en"
    return f"`{task.ask(f'{{{slot}}}' if slot else '', lang=lang)}`"


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
