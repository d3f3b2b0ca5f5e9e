"""Finds where a step went wrong: the first module with a value that is not finite, or the largest gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from openpali.distributed import Ranks
from openpali.train.objectives.base import Losses
from openpali.train.parallel import whole

NAMED = 8  # most samples listed in a message


class Finding(NamedTuple):
    """Where a value is not finite; the lower the ``order``, the nearer to the cause."""

    order: int
    where: str


def explain_not_finite(
    model: nn.Module,
    again: Callable[[], Sequence[Losses]],
    keys: Sequence[Sequence[str]],
    samples: int,
    ranks: Ranks,
) -> str:
    """Repeat a step whose gradients are not finite, and name the module and the samples at fault. Collective.

    Gradients are left over.

    Args:
        model: has no gradients.
        again: forward and backward of this rank's micro-batches; returns their losses.
        keys: the sample keys of each micro-batch.
        samples: trained on before this step.
    """
    losses: list[Losses] = []
    with torch.compiler.set_stance("force_eager"):
        finding = find_not_finite(model, lambda: losses.extend(again()))
    rows = _rows(keys, losses)
    suspects = [key for loss, key in rows if not math.isfinite(loss)] or [key for _, key in rows]
    everywhere = ranks.gather((finding, suspects))
    (_, where), named = min(everywhere)
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{where} is not finite at sample {samples}, with {', '.join(named[:NAMED])}{more}"


def explain_high_loss(
    gradients: Mapping[str, Tensor], losses: Sequence[Losses], keys: Sequence[Sequence[str]], ranks: Ranks
) -> str:
    """Say which module has the largest gradient, and which samples of all ranks the highest losses. Collective."""
    module, share = worst_module(gradients)
    everywhere = [row for rows in ranks.gather(_rows(keys, losses)) for row in rows]
    named = [key for _, key in sorted(everywhere, reverse=True)[:NAMED]]
    counts = {loss for loss, _ in everywhere} <= {0.0, 1.0}  # misses, as SigLIP's: none is the highest
    highest = "" if counts else f"; the highest losses are those of {', '.join(named)}"
    return (
        f"{module} has {share:.0%} of the gradient's norm{highest}. "
        "If it does not come down again, stop, delete the checkpoints since, and go on with a lower lr"
    )


def find_not_finite(model: nn.Module, step: Callable[[], None]) -> Finding:
    """Repeat ``step()``, forward and backward, and find where NaN or infinity first occurs on this rank.

    In the forward pass, that is the first module with such an output; otherwise the first module in the backward
    pass whose output receives such a gradient; otherwise the first weight with such a gradient.
    """
    with _watch(model) as (forward, backward):
        step()
    if forward:
        return Finding(0, f"the output of {forward[0]}")
    if backward:
        return Finding(1, f"the gradient that reaches the output of {backward[0]}")
    # parameters are, nearly, in the order of the forward pass
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    return Finding(2, f"the gradient of {bad[-1]}") if bad else Finding(3, "a gradient, but not when repeated,")


def worst_module(gradients: Mapping[str, Tensor]) -> tuple[str, float]:
    """The module whose parameters have the gradient of largest norm, and its share of the global norm.

    Args:
        gradients: by parameter name. If they are sharded, this is collective.
    """
    squares: dict[str, float] = {}
    for name, gradient in gradients.items():
        module = name.rpartition(".")[0] or name
        squares[module] = squares.get(module, 0.0) + float(whole(torch.linalg.vector_norm(gradient))) ** 2
    worst = max(squares, key=lambda module: squares[module])
    return worst, math.sqrt(squares[worst] / (sum(squares.values()) or 1.0))


def _rows(keys: Sequence[Sequence[str]], losses: Sequence[Losses]) -> list[tuple[float, str]]:
    """Loss and key of each row of all micro-batches."""
    values = (each.per_row.tolist() for each in losses)
    return [row for rows, names in zip(values, keys, strict=True) for row in zip(rows, names, strict=True)]


@contextmanager
def _watch(model: nn.Module) -> Iterator[tuple[list[str], list[str]]]:
    """Names of modules with outputs that are not finite, and with gradients of outputs that are not, in order."""
    forward: list[str] = []
    backward: list[str] = []

    def check_gradient(name: str, gradient: Tensor) -> None:
        if not _finite(gradient):
            backward.append(name)

    def check_output(name: str, _: nn.Module, __: object, output: object) -> None:
        for tensor in output if isinstance(output, tuple) else (output,):
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                continue
            if not _finite(tensor):
                forward.append(name)
            elif tensor.requires_grad and tensor.grad_fn is not None:
                tensor.register_hook(partial(check_gradient, name))  # type: ignore[no-untyped-call]

    handles = [
        module.register_forward_hook(partial(check_output, name or "the model"))
        for name, module in model.named_modules()
    ]
    try:
        yield forward, backward
    finally:
        for handle in handles:
            handle.remove()


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite; of a sharded tensor, this rank's values."""
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return bool(torch.isfinite(local.detach()).all())
