"""Adafactor equals torch's on unsharded parameters; for sharded ones see `test_parallel.py`."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

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


def test_columns_of_convolutions_are_sharded_as_their_rows() -> None:
    """Each rank has moments of its own channels: a plain tensor would be saved by one rank and read by all."""
    torch.manual_seed(0)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        whole, gradient = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
        mesh, seen = init_device_mesh("cpu", (1,)), []
        for place in (lambda tensor: tensor.clone(), lambda tensor: distribute_tensor(tensor, mesh, [Shard(0)])):
            parameter = nn.Parameter(place(whole))
            parameter.grad = place(gradient)
            optimizer = Adafactor([parameter], lr=0.1)
            optimizer.step()
            seen.append((parameter, optimizer.state[parameter]["column"]))
        (plain, column), (sharded, columns) = seen
        assert isinstance(columns, DTensor)
        assert columns.shape == column.shape == (4, 3, 1, 2)
        assert torch.equal(sharded.full_tensor(), plain)
        assert torch.equal(columns.full_tensor(), column)
    finally:
        dist.destroy_process_group()
