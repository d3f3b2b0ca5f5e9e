"""The run's folder and the message between ranks, without a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from openpali.distributed import Ranks
from openpali.train.run_folder import rewind
from openpali.train.trainer import StepMessage

CPU = torch.device("cpu")


class _ThreeRanks(Ranks):
    """Three ranks that all say the same."""

    def sums(self, values: Sequence[float]) -> list[float]:
        return [3 * value for value in values]


def test_a_message_is_summed_field_by_field() -> None:
    message = StepMessage(weight=2.5, images=[True, False], stop=False, due=True, failed=False, bad=2)
    assert Ranks(0, 1, CPU).sum_message(message) == message
    summed = _ThreeRanks(0, 3, CPU).sum_message(message)
    assert summed == StepMessage(weight=7.5, images=[3, 0], stop=0, due=3, failed=0, bad=6)


def test_rewind_drops_later_and_truncated_lines(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    rewind(log, 8)
    assert not log.exists()
    kept = '{"samples": 4, "problem": "a\u2028b\x85c"}\n{"samples": 8}\n'
    log.write_bytes((kept + '{"samples": 12}\n{"samples": 8, "problem": "é').encode()[:-1])
    rewind(log, 8)
    assert log.read_text("utf-8") == kept
