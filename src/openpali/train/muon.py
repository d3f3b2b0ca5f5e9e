"""Muon: momentum, orthogonalised, for the matrices inside of a network; AdamW for everything else.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the update scaled to AdamW's size as in Moonlight
(arXiv 2502.16982), so that one learning rate serves both. `torch.optim.Muon` iterates in bfloat16, which a CPU
without it emulates a hundred times slower, and takes matrices only; hence this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz polynomial
ITERATIONS = 5
MOMENTUM = 0.95
SIZE = 0.2  # root mean square of an update at rate 1, about AdamW's


class Muon(torch.optim.Optimizer):
    """Groups with ``orthogonal`` True hold matrices ``[rows, columns]``; the others are updated by AdamW.

    Args:
        params: groups with ``lr``, ``weight_decay`` (decoupled, times lr) and ``orthogonal``.
        betas: of AdamW.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            update = self._orthogonal if group["orthogonal"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update(parameter, self.state[parameter], group), alpha=group["lr"])

    def _orthogonal(self, parameter: Tensor, state: Any, group: dict[str, Any]) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        nesterov = gradient.lerp(momentum, MOMENTUM)
        scale: float = SIZE * max(parameter.shape) ** 0.5
        return orthogonalize(nesterov) * scale

    def _adam(self, parameter: Tensor, state: Any, group: dict[str, Any]) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        first, second = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        step = float(state["step"])
        mean, square = state["mean"] / (1 - first**step), state["square"] / (1 - second**step)
        return cast(Tensor, mean / (square.sqrt() + group["eps"]))


def orthogonalize(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1 (0.7 to 1.2), by Newton-Schulz; same shape and dtype."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (torch.linalg.matrix_norm(x) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return cast(Tensor, x.T if tall else x)
