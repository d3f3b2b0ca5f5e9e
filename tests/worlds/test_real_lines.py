"""The benchmarks of printed lines: the committed set is whole, and the rendered one is held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import benchmarks
from openpali_lab.worlds.benchmarks import lines, samples
from openpali_lab.worlds.compose import WorldSource
from openpali_lab.worlds.line_texts import is_novel
from openpali_lab.worlds.world import World


def test_the_real_lines_are_whole() -> None:
    benchmark = benchmarks()["real/line"]
    assert isinstance(benchmark, AnswerBenchmark)
    source = benchmark.open(Path())
    examples = [source[i] for i in range(len(source))]
    assert len({example.text for example in examples}) == len(examples) == 200
    assert all(1 <= len(example.text) <= 24 and example.text.isprintable() for example in examples)
    assert sum(example.images[0].mean() < 128 for example in examples) == 50  # light on dark
    assert all(8 <= example.images[0].shape[0] <= 70 for example in examples)
    assert lines.REAL.stat().st_size < 600_000


def test_rendered_lines_of_the_benchmark_are_held_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "open_source", lambda name, options: WorldSource(world, "line", **options))
    benchmark = benchmarks()["nano/line"]
    assert isinstance(benchmark, AnswerBenchmark)
    source = benchmark.open(Path())
    assert len(source) == 1000
    assert all(is_novel(source[i].text) for i in range(20))
