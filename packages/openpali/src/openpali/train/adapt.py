"""LoRA training: add adapters to a model, load the weights of its base, and freeze them.

The base is read as it is stored: int8 and int4 stay so, and linear layers in bf16 stay mapped. Linear layers are
held in the computing dtype, to which autocast would round them anyway, so nothing is computed differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from openpali.architectures.registry import build
from openpali.model.int4 import use_quantized
from openpali.model.layers import Linear
from openpali.model.lora import LoraConfig, add_lora, find_targets, init_lora, lora_names
from openpali.tensors import fingerprint, load_exactly
from openpali.train.recipe import Recipe
from openpali.weights.adapters import Adapter
from openpali.weights.bundle import main_part
from openpali.weights.find import find_model, name_of
from openpali.weights.format import ModelFolder, open_model
from openpali.weights.hub import SCHEME, pinned


def build_adaptable(config: Any, recipe: Recipe) -> nn.Module:
    """The model of a configuration as :func:`build`; of a recipe with an adapter, with room for its changes."""
    model = build(config)
    lora = recipe.model.lora
    if not lora.rank:
        return model
    base = _base(recipe)
    if base is not None and base.int8:
        use_quantized(model, base.int4)
    targets = find_targets(model, lora.targets, recipe.model.frozen)
    add_lora(model, LoraConfig(lora.rank, lora.alpha, targets, lora.dropout))
    return model


def load_base(model: nn.Module, recipe: Recipe) -> str:
    """Fill a model of :func:`build_adaptable`, on the meta device: the base's weights, and new changes.

    Returns:
        The base's :func:`~openpali.tensors.fingerprint`.
    """
    base = _base(recipe)
    if base is None:
        raise FileNotFoundError(f"model.init: no model {recipe.model.start!r}")
    changes = lora_names(model)
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear)}
    stored = base.stored()
    tensors = {k: v if k in linear or not v.is_floating_point() else v.float() for k, v in stored.items()}
    empty = {name: torch.empty(p.shape) for name, p in model.state_dict().items() if name in changes}
    load_exactly(model, {**tensors, **empty}, recipe.model.start)
    init_lora(model)
    return fingerprint(stored)


def freeze_base(model: nn.Module, dtype: torch.dtype) -> None:
    """Let only the changes learn, and hold other linear layers in ``dtype``; in place."""
    learning = lora_names(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name in learning)
    for module in model.modules():
        if isinstance(module, Linear):
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter.dtype != dtype:
                    with _disable_current_modes():  # a plan moves meta tensors to its fake device later
                        setattr(module, name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))


def adapter_of(model: nn.Module, recipe: Recipe, tensors: Mapping[str, Tensor]) -> Adapter:
    """The adapter of a run; ``tensors``: its changes by name."""
    lora = recipe.model.lora
    targets = [name for name, module in model.named_modules() if getattr(module, "lora", None) is not None]
    start = recipe.model.start
    folder = find_model(start)
    part = main_part(folder)
    base = pinned(start) if start.startswith(SCHEME) and part == folder else name_of(part.resolve())
    return Adapter(base, LoraConfig(lora.rank, lora.alpha, targets, lora.dropout), tensors)


def _base(recipe: Recipe) -> ModelFolder | None:
    """The model beneath the adapter; None if it is not here, as when a recipe is planned before it is trained."""
    try:
        base = open_model(main_part(find_model(recipe.model.start)))
    except FileNotFoundError:
        return None
    if base.adapter:
        raise ValueError(
            f"model.init: {recipe.model.start} is an adapter itself: make a whole model of it with "
            "`openpali export --format openpali`, and start from that"
        )
    return base
