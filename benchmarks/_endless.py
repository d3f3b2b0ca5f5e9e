"""Texts of a fixed length, so that models with random weights can be timed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from openpali.infer.generate import Model


class Endless:
    """A model that never predicts the end of a text, at no cost per vocabulary entry.

    Args:
        model: any model, in evaluation mode.
        end: its token for the end.
    """

    def __init__(self, model: Model, end: int) -> None:
        self._model = model
        self._end = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def step(self, ids: Tensor, cache: Any) -> Tensor:
        """Logits of the next token ``[B, 1, V]``; that of the end is minus infinity."""
        logits_B1V = self._model.step(ids, cache)
        logits_B1V[..., self._end] = -float("inf")
        return logits_B1V
