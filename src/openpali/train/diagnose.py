"""Where a step went wrong: the first module with a value that is not finite; or a loss that will not come down."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from openpali.train.parallel import whole

HIGH = 1.5  # times the median of the reports before
BEFORE = 20  # reports that the median is of, at most; a quarter of them at least
STAYS = 3  # reports in a row


class Finding(NamedTuple):
    """Where; the lower the ``order``, the nearer to the cause."""

    order: int
    where: str


def find_not_finite(model: nn.Module, step: Callable[[], None]) -> Finding:
    """Repeat ``step()``, forward and backward, and say where NaN or infinity first turned up on this rank.

    In the forward pass it is the first module with such an output; if there is none, the first in the backward
    pass whose output receives such a gradient; if there is none either, the first weight with such a gradient.
    """
    with _watch(model) as (forward, backward):
        step()
    if forward:
        return Finding(0, f"the output of {forward[0]}")
    if backward:
        return Finding(1, f"the gradient that reaches the output of {backward[0]}")
    # weights stand in the order of the forward pass, or nearly
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    return Finding(2, f"the gradient of {bad[-1]}") if bad else Finding(3, "a gradient, but not when repeated,")


class LossWatch:
    """Notices a loss that stays high: :data:`STAYS` reports in a row above :data:`HIGH` times the median of those
    before them that were not."""

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=BEFORE)
        self._high = 0

    def notice(self, loss: float) -> float | None:
        """Take a report's loss; the median that it stays above, once, or None."""
        if len(self._before) < BEFORE // 4 or loss <= HIGH * statistics.median(self._before):
            self._before.append(loss)
            self._high = 0
            return None
        self._high += 1
        return statistics.median(self._before) if self._high == STAYS else None


def worst_module(gradients: Mapping[str, Tensor]) -> tuple[str, float]:
    """The module whose parameters' gradients, by name, have the largest norm, and its share of the global norm.

    All ranks must ask, where gradients are in shards.
    """
    squares: dict[str, float] = {}
    for name, gradient in gradients.items():
        module = name.rpartition(".")[0] or name
        squares[module] = squares.get(module, 0.0) + float(whole(torch.linalg.vector_norm(gradient))) ** 2
    worst = max(squares, key=lambda module: squares[module])
    return worst, math.sqrt(squares[worst] / (sum(squares.values()) or 1.0))


@contextmanager
def _watch(model: nn.Module) -> Iterator[tuple[list[str], list[str]]]:
    forward: list[str] = []
    backward: list[str] = []

    def check(name: str, gradient: Tensor) -> None:
        if not _finite(gradient):
            backward.append(name)

    def look(name: str, _: nn.Module, __: object, output: object) -> None:
        for tensor in output if isinstance(output, tuple) else (output,):
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                continue
            if not _finite(tensor):
                forward.append(name)
            elif tensor.requires_grad and tensor.grad_fn is not None:
                tensor.register_hook(partial(check, name))  # type: ignore[no-untyped-call]

    handles = [m.register_forward_hook(partial(look, name or "the model")) for name, m in model.named_modules()]
    try:
        yield forward, backward
    finally:
        for handle in handles:
            handle.remove()


def _finite(tensor: Tensor) -> bool:
    """Of this rank's share, where a tensor is in shards."""
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return bool(torch.isfinite(local.detach()).all())
