"""Finds where a step went wrong: the first module with a value that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from openpali.distributed import Ranks
from openpali.train.objectives.base import Losses

NAMED = 8  # most samples listed in a message


def explain_not_finite(
    model: nn.Module,
    again: Callable[[], Sequence[Losses]],
    keys: Sequence[Sequence[str]],
    samples: int,
    ranks: Ranks,
) -> str:
    """Repeat a step whose gradients are not finite, and name the module and the samples at fault. Collective.

    The module is the first with such an output in the forward pass; otherwise the first in the backward pass whose
    output receives such a gradient; otherwise that of the first weight with such a gradient. It leaves gradients.

    Args:
        model: has no gradients.
        again: forward and backward of this rank's micro-batches; returns their losses.
        keys: the sample keys of each micro-batch.
        samples: trained on before this step.
    """
    with torch.compiler.set_stance("force_eager"), _watch(model) as (forward, backward):
        losses = again()
    # parameters are, nearly, in the order of the forward pass
    weights = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    if forward:
        finding = 0, f"the output of {forward[0]}"
    elif backward:
        finding = 1, f"the gradient that reaches the output of {backward[0]}"
    elif weights:
        finding = 2, f"the gradient of {weights[-1]}"
    else:
        finding = 3, "a gradient, but not when repeated,"
    rows = [
        row
        for each, names in zip(losses, keys, strict=True)
        for row in zip(each.per_row.tolist(), names, strict=True)
    ]
    suspects = [key for loss, key in rows if not math.isfinite(loss)] or [key for _, key in rows]
    (_, where), named = min(ranks.gather((finding, suspects)))  # the nearest to the cause of all ranks
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{where} is not finite at sample {samples}, with {', '.join(named[:NAMED])}{more}"


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
