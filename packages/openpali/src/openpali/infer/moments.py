"""Second moments of the inputs of linear layers, while a model answers: int4 weights are rounded for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from openpali.data.sources.base import Source
from openpali.infer.bulk import Reply, Request, replies
from openpali.infer.pali import Pali
from openpali.weights.files import MAIN


class Unanswered(UserWarning):
    """Some samples cannot be answered, and were left out."""


def input_moments(
    pali: Pali,
    source: Source,
    layers: Sequence[str],
    task: str = "",
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Tensor]:
    """The sum of ``x x'`` over all inputs ``x`` of each layer, float32 ``[I, I]``, while samples are answered.

    Args:
        pali: with the engine "torch". Its main part is asked about each sample alone, so that little is padded.
        layers: names of linear layers in the main part.
        task: what to ask about each sample; by default what it is evidently for.
        advance: called with the number of samples that are answered.

    Raises:
        ValueError: no sample can be answered.
    """
    _, model = pali.load(MAIN)
    moments: dict[str, Tensor] = {}

    def add(name: str, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float()
        if name not in moments:
            moments[name] = rows.new_zeros(rows.shape[1], rows.shape[1])
        moments[name].addmm_(rows.T, rows)

    hooks = [model.get_submodule(name).register_forward_pre_hook(partial(add, name)) for name in layers]
    try:
        with torch.inference_mode():
            asked: list[Reply] = []
            for some in replies(pali, source, Request(task), batch=1):
                asked += some
                advance(len(asked))
    finally:
        for hook in hooks:
            hook.remove()
    errors = [
        reply.error if reply.key in reply.error else f"{reply.key}: {reply.error}" for reply in asked if reply.error
    ]
    if len(errors) == len(asked):
        reason = f": {errors[0]}" if errors else ""
        raise ValueError(f"no sample can be answered, so that there is nothing to calibrate with{reason}")
    if errors:
        message = f"{len(errors)} of {len(asked)} samples cannot be answered, as {errors[0]}"
        warnings.warn(message, Unanswered, stacklevel=2)
    return moments
