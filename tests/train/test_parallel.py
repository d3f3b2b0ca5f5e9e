"""Micro-batches and ranks change nothing: the same losses and the same weights (promise 1)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import OBJECTIVES, losses_of, parallel_recipe, plain_sgd, tensors_of

import openpali.train.trainer as trainer_module

CLOSE = 1e-6


@pytest.fixture(autouse=True)
def _sgd(monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "build_optimizer", plain_sgd)


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key in ours:
        distance = torch.linalg.vector_norm(ours[key] - theirs[key])
        # the bias of a zero gradient stays at zero: measured against a step's size then
        assert distance <= CLOSE * max(torch.linalg.vector_norm(theirs[key]), torch.tensor(1e-2)), key


@pytest.mark.parametrize(
    ("objective", "mean"), [("classify", "token"), ("sequence", "token"), ("sequence", "example")]
)
def test_micro_batches_change_nothing(objective, mean, make_trainer, tmp_path) -> None:
    per_step = {}
    for micro in (1, 2, 4):
        trainer = make_trainer(parallel_recipe(objective, mean, micro=micro), f"micro-{micro}")
        losses = losses_of(trainer)
        trainer.train()
        per_step[micro] = [sum(losses[i : i + micro]) for i in range(0, len(losses), micro)]
    lengths = {len(losses) for losses in per_step.values()}
    assert lengths == {6}
    for micro in (2, 4):
        assert per_step[micro] == pytest.approx(per_step[1], rel=CLOSE)
        assert_close(tensors_of(tmp_path / f"micro-{micro}"), tensors_of(tmp_path / "micro-1"))


def test_the_two_means_differ(make_trainer) -> None:
    """Else the tests above would say little about either."""
    seen = []
    for mean in ("token", "example"):
        trainer = make_trainer(parallel_recipe("sequence", mean), mean)
        losses = losses_of(trainer)
        trainer.train()
        seen.append(losses[0])
    assert abs(seen[0] - seen[1]) > 1e-4 * seen[0]


def test_two_ranks_are_one(make_trainer, tmp_path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("two_ranks.py")
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env={**shared, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    for objective in OBJECTIVES:
        for mean in ("token", "example") if objective == "sequence" else ("token",):
            name = f"{objective}-{mean}"
            trainer = make_trainer(parallel_recipe(objective, mean), f"{name}-alone")
            losses = losses_of(trainer)
            trainer.train()
            shares = [json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in range(2)]
            together = [sum(pair) for pair in zip(*shares, strict=True)]
            assert together == pytest.approx(losses, rel=CLOSE), name
            assert_close(tensors_of(tmp_path / name), tensors_of(tmp_path / f"{name}-alone"))
