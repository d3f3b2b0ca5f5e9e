"""torch's layers without values: constructors allocate and ``init_weights`` draws, see :mod:`openpali.model.init`.

torch's own constructors draw too. On the meta device, where models are built, that imports torch's compiler, which
takes longer than an answer of a small model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of a model are."""
    return next(model.parameters()).device


def matmul_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a matmul of ``x`` computes: autocast's, if it is on."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


class _Uninitialised:
    def reset_parameters(self) -> None:
        """Do nothing: torch's constructors call this, and values come from :meth:`init_weights`."""

    def init_weights(self) -> None:
        """Draw the values that torch's layer starts from."""
        super().reset_parameters()  # type: ignore[misc]


class Linear(_Uninitialised, nn.Linear):
    """``nn.Linear``, and the change to it if it has one (:mod:`openpali.model.lora`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lora: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.lora is None else y + self.lora(x)


class Embedding(_Uninitialised, nn.Embedding):
    """``nn.Embedding``."""


class Conv2d(_Uninitialised, nn.Conv2d):
    """``nn.Conv2d``."""


class ConvTranspose2d(_Uninitialised, nn.ConvTranspose2d):
    """``nn.ConvTranspose2d``."""


class Dense(Linear):
    """A linear layer that starts as flax's: Xavier-uniform weights, biases of zero."""

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


def in_part(name: str, part: str) -> bool:
    """Whether a parameter or module ``name`` is in ``part`` of the model ("": the whole model)."""
    return not part or name == part or name.startswith(part + ".")
