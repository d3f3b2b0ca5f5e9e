"""How long ranks wait for each other, whatever command they run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import torch.distributed as dist

from openpali.distributed import join_ranks


def test_ranks_wait_for_days_for_the_own_work_of_one_but_not_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: dict[Any, timedelta | None] = {}
    used: list[Any] = []

    def init(backend: str, timeout: timedelta | None = None, **_: Any) -> None:
        timeouts[None] = timeout

    def new_group(backend: str, timeout: timedelta | None = None) -> str:
        group = f"group {len(timeouts)}"
        timeouts[group] = timeout
        return group

    def all_gather_object(values: list[Any], value: Any, group: Any = None) -> None:
        used.append(group)
        values[:] = [value] * len(values)

    def all_reduce(tensor: Any, group: Any = None) -> None:
        used.append(group)

    for function in (new_group, all_gather_object, all_reduce):
        monkeypatch.setattr(dist, function.__name__, function)
    monkeypatch.setattr(dist, "init_process_group", init)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with join_ranks() as ranks:
        ranks.gather("embedded by rank 0")
        ranks.sum(1.0)
    gathering, step = used
    assert timeouts[gathering] is not None
    assert timeouts[gathering] > timedelta(days=1)
    assert timeouts[step] is None, "torch's default: a rank that hangs ends the run"
    assert ranks.background not in used, "checkpoints are written in other threads"
