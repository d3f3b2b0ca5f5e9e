"""Model folders with int8 and int4 weights."""

from __future__ import annotations

from pathlib import Path

import torch

from openpali.architectures.registry import build
from openpali.model import int4, int8
from openpali.weights.format import ModelFolder, write_again


def write_int8(source: ModelFolder, out: Path) -> None:
    """Write a model again with int8 weights of linear layers and tied embeddings, all else in bf16
    (:func:`~openpali.model.int4.storage_of`).
    """
    _write(source, out, 0)


def write_int4(source: ModelFolder, out: Path, group: int = 128) -> None:
    """Write a model as :func:`write_int8`, but linear layers of its language model in int4, in groups of so many
    inputs.
    """
    if group not in int4.GROUPS:
        raise ValueError(f"no groups of {group} inputs: there are {', '.join(map(str, sorted(int4.GROUPS)))}")
    if not source.answers:
        raise ValueError(
            f"{source.folder} is a {source.kind}, which has no language model to write in int4: take --bits 8"
        )
    _write(source, out, group)


def _write(source: ModelFolder, out: Path, group: int) -> None:
    if source.int8 and not source.adapter:
        raise ValueError(
            f"{source.folder} has {'int4' if source.int4 else 'int8'} weights already: quantize the model that it "
            "was made of"
        )
    with torch.device("meta"):
        model = build(source.config)
        stored = int4.storage_of(model, group)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    weights = {}
    for key, value in source.weights().items():
        scale = key.removesuffix("weight") + "scale"
        if stored[key] == torch.int8:
            weights[key], weights[scale] = int8.quantize(value)
        elif stored[key] == torch.uint8:
            weights[key], scales = int4.quantize(value, value.shape[1] // shapes[scale][1])
            weights[scale] = scales.to(stored[scale])
        else:
            weights[key] = value.to(stored[key])
    write_again(source, out, weights, source.lasting_facts.but(int8=True, int4=group))
