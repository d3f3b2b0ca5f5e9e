"""Muon: orthogonalised momentum for the hidden matrices of a network; AdamW for all other parameters.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with updates scaled to AdamW's size as in Moonlight
(arXiv 2502.16982), so that one learning rate serves both. `torch.optim.Muon` is not used: it iterates in bfloat16,
which a CPU without it emulates a hundred times slower, one matrix at a time, and takes no other parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from openpali.model.collectives import gather_rows, world_and_rank
from openpali.train.parallel import whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz polynomial
ITERATIONS = 5
MOMENTUM = 0.95
EPSILON = 1e-8  # of AdamW
SIZE = 0.2  # root mean square of an update at rate 1, about AdamW's


class Muon(torch.optim.Optimizer):
    """Muon for groups with ``orthogonal`` True, which hold matrices ``[rows, columns]``; AdamW for the others.

    Args:
        params: groups with ``lr``, ``weight_decay`` (decoupled, times lr) and ``orthogonal``.
        lr: default of groups without one.
        betas: of AdamW.
        dtype: in which matrices are orthogonalised; momentum and weights keep their own.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0, "orthogonal": False})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            updates = self._orthogonal(learning) if group["orthogonal"] else self._adam(learning, group)
            for parameter, update in updates:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update, alpha=group["lr"])

    def _orthogonal(self, parameters: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Updates of matrices. Those of one shape are stacked: there are many, and each is small.

        Sharded matrices are gathered on every rank; their momentum stays sharded.
        """
        alike: dict[torch.Size, list[Tensor]] = {}
        for parameter in parameters:
            alike.setdefault(parameter.shape, []).append(parameter)
        for shape, stack in alike.items():
            updates = _orthogonalize_among_ranks(
                torch.stack([whole(self._nesterov(p)).to(self._dtype) for p in stack])
            )
            scale: float = SIZE * max(shape) ** 0.5
            for parameter, update in zip(stack, updates.float() * scale, strict=True):
                yield parameter, _cut_like(parameter, update)

    def _nesterov(self, parameter: Tensor) -> Tensor:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(state["momentum"], MOMENTUM)

    def _adam(self, parameters: Sequence[Tensor], group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        first, second = group["betas"]
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            state["mean"].lerp_(gradient, 1 - first)
            state["square"].lerp_(gradient.square(), 1 - second)
            step = float(state["step"])
            mean, square = state["mean"] / (1 - first**step), state["square"] / (1 - second**step)
            yield parameter, mean / (square.sqrt() + EPSILON)


def _orthogonalize_among_ranks(matrices: Tensor) -> Tensor:
    """:func:`orthogonalize` of ``[n, rows, columns]``, equal on all ranks; each rank computes a part of them."""
    world, rank = world_and_rank()
    shares = torch.tensor_split(matrices, world)
    own = shares[rank]
    return gather_rows(orthogonalize(own) if len(own) else own, [len(share) for share in shares])


def _cut_like(parameter: Tensor, update: Tensor) -> Tensor:
    """Shard an ``update`` that all ranks have, as ``parameter`` is."""
    if not isinstance(parameter, DTensor):
        return update
    everywhere = [Replicate()] * parameter.device_mesh.ndim
    spread = DTensor.from_local(update, parameter.device_mesh, everywhere, run_check=False)
    return spread.redistribute(placements=parameter.placements)


def orthogonalize(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values near 1 (0.7 to 1.2), by Newton-Schulz.

    ``[..., rows, columns]``, same shape and dtype out.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    wide = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    x = wide.reshape(-1, *wide.shape[-2:]).contiguous()
    # Half precision loses the small singular values in their squares.
    by_squares = x.dtype == torch.float32 and x.shape[2] >= 2 * x.shape[1]
    x = (_iterate_on_squares(x) if by_squares else _iterate(x)).view(wide.shape)
    out: Tensor = x.mT if tall else x
    return out


def _iterate(x: Tensor) -> Tensor:
    """Newton-Schulz of ``[n, rows, columns]``."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_on_squares(x: Tensor) -> Tensor:
    """The same, with ``x`` only in the first and the last product, which is less work for wide matrices: all
    factors are polynomials of ``x x'``, and these commute."""
    square = x @ x.mT
    step = product = _polynomial(square)
    for _ in range(ITERATIONS - 1):
        square = step @ square @ step  # x x' of the next x
        step = _polynomial(square)
        product = step @ product
    return product @ x


def _polynomial(square: Tensor) -> Tensor:
    """What a step multiplies ``x`` with, given ``x x'``."""
    a, b, c = COEFFICIENTS
    out = torch.baddbmm(square, square, square, beta=b, alpha=c)
    out.diagonal(dim1=1, dim2=2).add_(a)
    return out
