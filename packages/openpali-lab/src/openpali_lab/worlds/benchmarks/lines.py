"""Benchmarks of printed lines: rendered ones in unseen fonts, and real ones, cut out of screenshots and prints."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import SEEDS, AnswerBenchmark, Benchmark
from openpali.eval.splits import EvalSplit
from openpali_lab.worlds.benchmarks.samples import SIZE, Composed, told
from openpali_lab.worlds.benchmarks.scorers import NOVEL, by_novelty, reading
from openpali_lab.worlds.line_texts import has_novel_word

REAL = Path(__file__).with_name("real_line.tar")
"""200 lines, only for evaluation. They were cut out once, before any model was asked about them: words and boxes
are those of the DOM and of ``pdftotext``, and a generator with a fixed seed picked the lines."""

_line = partial(
    AnswerBenchmark,
    task="ocr",
    metric="cer",
)

REAL_LINE = _line(
    name="real/line",
    title="Real lines from screenshots and prints",
    split="all, 200 images",
    test=True,
    scorer=reading,
    open=lambda root: open_source(str(REAL), {}),
)


def line_benchmarks(split: EvalSplit) -> list[Benchmark]:
    """The benchmarks of rendered lines, on the samples that cards are of or on those of development."""
    seed = SEEDS[split]
    return [
        _line(
            name="nano/line",
            title="Printed lines in unseen fonts, most of them with an unseen word",
            split=told(split, SIZE),
            open=lambda root: Composed("nano", "line", seed=seed),
            fits="line",
            calibration=lambda root: Composed("nano", "line").for_calibration(),
            scorer=by_novelty(reading, "unseen word", "known words"),
            measure=lambda example: {NOVEL: has_novel_word(example.text)},
            seed=seed,
            test=split == "heldout",
        ),
    ]
