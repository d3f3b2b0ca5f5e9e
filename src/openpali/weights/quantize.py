"""Model folders with int8 weights."""

from __future__ import annotations

from pathlib import Path

import torch

from openpali.architectures.registry import build
from openpali.model.int8 import quantize, storage_of
from openpali.weights.format import ModelFolder, write_again


def write_int8(source: ModelFolder, out: Path) -> None:
    """Write a model again with int8 weights of linear layers and tied embeddings, all else in bf16
    (:func:`storage_of`).
    """
    if source.int8 and not source.adapter:
        raise ValueError(f"{source.folder} has int8 weights already")
    with torch.device("meta"):
        stored = storage_of(build(source.config))
    weights = {}
    for key, value in source.weights().items():
        if stored[key] == torch.int8:
            weights[key], weights[key.removesuffix("weight") + "scale"] = quantize(value)
        else:
            weights[key] = value.to(stored[key])
    write_again(source, out, weights, source.lasting_facts.but(int8=True))
