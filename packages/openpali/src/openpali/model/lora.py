"""LoRA (arXiv 2106.09685): frozen linear layers with changes of low rank that learn.

    y = W x + b + alpha / rank * up(down(dropout(x)))

A layer holds its change as ``lora``, so its own parameters keep their names, and quantized layers take one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.int8 import QuantizedLinear
from openpali.model.layers import Linear, in_part

HEAD = "head"  # training computes its loss from the head's matrix, without calling the layer


@dataclass(frozen=True)
class LoraConfig:
    """Shape of an adapter."""

    rank: int  # of each change
    alpha: float  # the change is multiplied by ``alpha / rank``
    targets: Sequence[str]  # names of the layers that change
    dropout: float = 0.0  # of what enters the change, in training

    @property
    def scale(self) -> float:
        """The factor on a change."""
        return self.alpha / self.rank


class Lora(nn.Module):
    """``[..., I] -> [..., O]``: what is added to a layer's output; 0 at first."""

    def __init__(self, inputs: int, outputs: int, config: LoraConfig) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(config.rank, inputs))
        self.up = nn.Parameter(torch.empty(outputs, config.rank))
        self.scale = config.scale
        self.dropout = nn.Dropout(config.dropout)

    def init_weights(self) -> None:
        nn.init.kaiming_uniform_(self.down, a=5**0.5)  # as PEFT does
        nn.init.zeros_(self.up)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(self.dropout(x), self.down), self.up) * self.scale


def find_targets(model: nn.Module, targets: Sequence[str], frozen: Sequence[str] = ()) -> list[str]:
    """Names of the linear layers in parts, or with last names ("query"), given by ``targets``; no output heads, and
    none in the parts ``frozen``."""
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, Linear | QuantizedLinear)
        and name.rpartition(".")[2] != HEAD
        and not any(in_part(name, part) for part in frozen)
    ]
    found: dict[str, None] = {}
    for target in targets:
        named = [n for n in linear if n == target or n.startswith(f"{target}.") or n.endswith(f".{target}")]
        if not named:
            last = sorted({name.rpartition(".")[2] for name in linear})
            outside = " outside model.frozen" if frozen else ""
            raise ValueError(
                f"model.lora.targets names {target!r}, which is no linear layer{outside}: name parts of the model "
                f"or layers ({', '.join(last)})"
            )
        found |= dict.fromkeys(named)
    return [name for name in linear if name in found]


def add_lora(model: nn.Module, config: LoraConfig) -> None:
    """Give the layers ``config.targets`` a change without values, on their device."""
    for name in config.targets:
        layer = cast(Linear | QuantizedLinear, model.get_submodule(name))
        with torch.device(layer.weight.device):
            layer.lora = Lora(layer.in_features, layer.out_features, config)


def init_lora(model: nn.Module) -> None:
    """Draw the changes anew, so that the model computes what it does without them."""
    for module in model.modules():
        if isinstance(module, Lora):
            module.init_weights()


def lora_names(model: nn.Module) -> set[str]:
    """Names of the parameters that belong to changes; empty for a model without."""
    return {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if isinstance(module, Lora)
        for own, _ in module.named_parameters()
    }
