"""Initial weights, apart from construction.

Constructors only allocate parameters. A model is built on the meta device and filled once: from files, or with
:func:`materialise`.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def materialise(model: Model, device: torch.device | str = "cpu") -> Model:
    """Allocate a model that was built on the meta device, and draw its weights; returns it."""
    return init_weights(model.to_empty(device=device))


@torch.no_grad()
def init_weights(model: Model) -> Model:
    """Draw the weights of a module and of all modules within it, from torch's global generator; returns it.

    A module that starts in a way of its own has a method ``init_weights`` that draws everything within it; it is
    called from here, without gradients. Other modules are drawn child by child, in the order of construction.
    """
    draw = getattr(model, "init_weights", None) or getattr(model, "reset_parameters", None)  # torch's norms
    if draw is not None:
        draw()
    else:
        init_children(model)
    return model


def init_children(model: nn.Module) -> None:
    """Draw the weights of a module's children, in the order of construction."""
    for child in model.children():
        init_weights(child)


def init_normal(layer: nn.Linear | nn.Embedding, std: float) -> None:
    """Draw normal weights for a layer without biases."""
    init_weights(layer)
    nn.init.normal_(layer.weight, std=std)
