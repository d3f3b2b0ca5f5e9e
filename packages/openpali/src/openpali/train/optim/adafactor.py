"""Adafactor as T5 and PaLI used it (Shazeer and Stern 2018, arXiv 1804.04235), also for sharded parameters.

The same update as `torch.optim.Adafactor`, which takes unsharded parameters only; here norms and column means are
reduced over ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor import zeros as zeros_in_shards

from openpali.model.collectives import sum_over_ranks

DECAY = -0.8  # the second moments are averaged with a weight of step ** DECAY for the new value
LEAST_SCALE = 1e-3  # least root mean square of a parameter, to which updates are relative
LARGEST = 1.0  # largest root mean square of an update, before it is scaled


class Adafactor(torch.optim.Optimizer):
    """Updates relative to the size of each parameter; second moments of matrices are kept as a row and a column.

    Args:
        params: groups with ``lr`` (the step size is ``min(lr, 1 / sqrt(step))``) and ``weight_decay`` (times lr).
        lr: default of groups without one.
    """

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, lr: float, decay: float) -> None:
        weight, gradient = _local(parameter), _local(parameter.grad)
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            if parameter.ndim > 1:
                state["row"] = _zeros_beside(parameter, (*parameter.shape[:-1], 1))
                if parameter.ndim == 2:  # its rows are sharded, so that this is equal on all ranks
                    state["column"] = weight.new_zeros(1, weight.shape[-1])
                else:
                    shape = (*parameter.shape[:-2], 1, parameter.shape[-1])
                    state["column"] = _zeros_beside(parameter, shape)
            else:
                state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        new = state["step"] ** DECAY  # weight of the new value in the moving averages
        scale = _rms(parameter, weight).clamp(min=LEAST_SCALE) * (state["step"] ** -0.5).clamp(max=lr)
        weight.mul_(1 - lr * decay)
        tiny, square = torch.finfo(weight.dtype).eps, gradient.square()
        if parameter.ndim > 1:
            rows = parameter.shape[-2]
            row = _local(state["row"]).mul_(1 - new).add_(square.mean(-1, keepdim=True) * new)
            total, mean = square.sum(-2, keepdim=True), row.sum(-2, keepdim=True)
            if parameter.ndim == 2:  # dimension 0 is sharded, and these sums run over it
                total, mean = _over_ranks(parameter, total), _over_ranks(parameter, mean)
            column = _local(state["column"]).mul_(1 - new).add_(total / rows * new)
            variance = row * column / (mean / rows).clamp(min=tiny)
        else:
            variance = _local(state["square"]).mul_(1 - new).add_(square * new)
        update = variance.clamp(min=tiny**2).rsqrt() * gradient
        weight.sub_(update * (scale / (_rms(parameter, update) / LARGEST).clamp(min=1.0)))


def _local(tensor: Tensor | None) -> Tensor:
    """This rank's shard."""
    assert tensor is not None
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _zeros_beside(parameter: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros of ``shape``, sharded as the parameter is."""
    if not isinstance(parameter, DTensor):
        return parameter.new_zeros(shape)
    mesh, placements = parameter.device_mesh, parameter.placements
    return zeros_in_shards(*shape, dtype=parameter.dtype, device_mesh=mesh, placements=placements)


def _over_ranks(parameter: Tensor, value: Tensor) -> Tensor:
    """The sum of ``value`` over the ranks that hold shards of ``parameter``, in place."""
    if isinstance(parameter, DTensor):
        for dimension, placement in enumerate(parameter.placements):
            if placement.is_shard():
                sum_over_ranks(value, group=parameter.device_mesh.get_group(dimension))
    return value


def _rms(parameter: Tensor, local: Tensor) -> Tensor:
    """Root mean square, a scalar, of a tensor sharded as ``parameter``, of which this rank has ``local``."""
    return (_over_ranks(parameter, local.square().sum()) / parameter.numel()).sqrt()
