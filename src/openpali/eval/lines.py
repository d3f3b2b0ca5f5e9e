"""Benchmarks of printed lines: rendered ones in unseen fonts, and real ones, cut out of screenshots and prints."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from openpali.data.sources.registry import open_source
from openpali.eval.datasets.base import AnswerBenchmark, EncoderBenchmark
from openpali.eval.nano import Composed, places, reading
from openpali.eval.places import TEST, by_script, names
from openpali.infer.generate import Decoding

REAL = Path(__file__).parent / "datasets" / "real_line.tar"
"""200 lines that ``tests/eval/make_real_lines.py`` made, once; only for evaluation."""

_line = partial(
    AnswerBenchmark,
    task="ocr",
    decoding=Decoding(max_tokens=64),  # 24 characters are 72 bytes at most, and hardly ever more than 30 tokens
    scorer=reading,
    metric="cer",
    part="line",
)

LINES = (
    _line(
        name="nano/line",
        title="Printed lines of unseen words, in unseen fonts",
        split="held out, 1,000 pictures",
        open=lambda root: Composed("nano", "line"),
        calibration=lambda root: Composed("nano", "line").for_calibration(),
    ),
    _line(
        name="real/line",
        title="Real lines from screenshots and prints",
        split="all, 200 pictures",
        open=lambda root: open_source(str(REAL), {}),
    ),
    EncoderBenchmark(
        name="nano/characters",
        title="Characters of printed lines from one patch token",
        split=f"held out, {TEST} pictures",
        metric="acc",
        run=partial(places, "nano", "line", names(by_script)),
    ),
)
