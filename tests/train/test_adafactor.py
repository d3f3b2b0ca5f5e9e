"""Adafactor equals torch's on unsharded parameters; for sharded ones see `test_parallel.py`."""

from __future__ import annotations

import torch

from openpali.train.optim.adafactor import Adafactor


def test_updates_are_those_of_torch() -> None:
    torch.manual_seed(0)
    shapes = [(), (7,), (5, 3), (4, 3, 2, 2)]
    ours, theirs = (
        [torch.nn.Parameter(torch.linspace(-2, 3, max(1, torch.Size(s).numel())).view(s)) for s in shapes]
        for _ in range(2)
    )
    optimizers = [
        cls([{"params": parameters, "lr": 0.2, "weight_decay": 0.1}], lr=0.2)
        for cls, parameters in ((Adafactor, ours), (torch.optim.Adafactor, theirs))
    ]
    for step in range(8):
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine) * 10.0 ** (step - 4)
            its.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_parameters_without_gradient_stay() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    Adafactor([{"params": [weight], "weight_decay": 0.1}], lr=1.0).step()
    assert (weight == 1).all()
