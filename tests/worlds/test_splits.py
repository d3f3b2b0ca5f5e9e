"""What the sets of the worlds hold out, said by slice, and the development sets that no card is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openpali.cli.main import app
from openpali.eval.benchmark import DEV, DEV_SEED, SEED, AnswerBenchmark, EncoderBenchmark
from openpali.eval.registry import benchmarks, on_split
from openpali.eval.suites import find_suite
from openpali.tasks.example import Box, Example, Object
from openpali.tasks.scoring import Answered
from openpali_lab.worlds.benchmarks.samples import CALIBRATION_SEED
from openpali_lab.worlds.benchmarks.scorers import NOVEL, answers, by_novelty, reading, shows_novel_pair
from openpali_lab.worlds.line_texts import has_novel_word, is_novel
from openpali_lab.worlds.splits import is_heldout


def answered(index: int, text: str, truth: str, novel: bool | None) -> Answered:
    values = {} if novel is None else {NOVEL: novel}
    return Answered(index, str(index), "", text, (truth,), "is", values)


def test_samples_that_show_what_is_held_out_are_scored_apart() -> None:
    rows = [answered(0, "yes", "yes", True), answered(1, "no", "yes", True), answered(2, "two", "two", False)]
    found = by_novelty(answers, "unseen pair", "no unseen pair")(rows)
    assert found.summary["acc"] == pytest.approx(2 / 3)
    assert (found.summary["acc/unseen pair"], found.summary["acc/no unseen pair"]) == (0.5, 1.0)
    assert found.per_sample["acc/unseen pair"] == [1, 0]
    lines = by_novelty(reading, "unseen word", "known words")([answered(0, "abcd", "abce", True)])
    assert (lines.summary["cer"], lines.summary["cer/unseen word"]) == (0.25, 0.25)
    assert "cer/known words" not in lines.summary
    assert by_novelty(answers, "a", "b")([answered(0, "x", "x", None)]).summary == answers(rows[:1]).summary


def test_a_pair_and_a_word_are_novel_by_the_rule_of_the_worlds() -> None:
    names = [f"name {i}" for i in range(40)]
    apart, together = (
        next((a, b) for a in names for b in names if a < b and is_heldout("pair", a, b) is side)
        for side in (True, False)
    )

    def scene(*shown: str) -> Example:
        things = [Object(name, Box(0, 0, 1, 1)) for name in shown]
        return Example("key", images=[np.zeros((2, 2, 3), np.uint8)], objects=things)

    assert shows_novel_pair(scene(*apart[::-1])) == {NOVEL: True}
    assert shows_novel_pair(scene(*together)) == shows_novel_pair(scene(apart[0], apart[0])) == {NOVEL: False}
    unseen = next(word for i in range(99) if is_heldout("word", word := "ab" + "c" * i))
    assert has_novel_word(f"the {unseen.title()}") and is_novel(f"the {unseen}")  # noqa: PT018
    whole = next(line for i in range(99) if is_heldout("line", line := f"{i}"))
    assert is_novel(whole)
    assert not has_novel_word(whole)


def test_a_development_set_is_of_samples_that_no_card_is_of() -> None:
    held = {each.name: each for each in find_suite("nano")}
    dev = {each.name: each for each in find_suite("nano", "dev")}
    assert {f"{name}{DEV}" for name in held} >= set(dev)
    assert len({SEED, DEV_SEED, CALIBRATION_SEED}) == 3
    for name, benchmark in dev.items():
        own = held[name.removesuffix(DEV)]
        assert on_split(own, "dev") is benchmark
        assert on_split(benchmark, "heldout") is own
        assert (own.seed, benchmark.seed) == (SEED, DEV_SEED)
        assert own.split != benchmark.split
        if isinstance(benchmark, AnswerBenchmark):
            assert isinstance(own, AnswerBenchmark)
            assert own.open(Path()).seed == SEED
            assert benchmark.open(Path()).seed == DEV_SEED
            assert own.task == benchmark.task
        else:
            assert isinstance(benchmark, EncoderBenchmark)
    assert {"nano/caption", "nano/ood", "nano/line", "nano/places"} <= {name.removesuffix(DEV) for name in dev}
    for name in ("easy-vqa", "real/line", "docvqa"):
        with pytest.raises(ValueError):
            on_split(benchmarks()[name], "dev")
    with pytest.raises(ValueError):
        find_suite("paper", "dev")


def test_the_command_scores_a_development_set(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("dev", "heldout"):
        card = tmp_path / f"{split}.json"
        app(
            ["eval", "nano/ocr", "--model", str(bundle), "--limit", "2", "--split", split, "--json", str(card)],
            standalone_mode=False,
        )
    dev, held = ((tmp_path / f"{split}.json").read_text() for split in ("dev", "heldout"))
    assert f'"seed": {DEV_SEED}' in dev
    assert '"benchmark": "nano/ocr@dev"' in dev
    assert f'"seed": {SEED}' in held
