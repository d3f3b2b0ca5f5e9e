"""Model folders and bundles with int8 and int4 weights."""

from __future__ import annotations

from pathlib import Path

import torch

from openpali.architectures.registry import architectures, build
from openpali.model import int4, int8
from openpali.weights.bundle import open_bundle
from openpali.weights.files import BUNDLE
from openpali.weights.format import ModelFolder, open_model, write_again

GROUP = 128  # inputs that share a scale in int4


def quantize(model: Path, out: Path, group: int = 0) -> dict[str, int]:
    """Write a model, or every part of a bundle, with narrow weights; returns the bytes of each part's weights.

    Of a bundle, a part keeps its dtypes if its architecture says so.

    Args:
        model: a model folder, or a bundle.
        group: as for :func:`write_int4`, of the parts that have a language model; 0: all parts are int8.
    """
    bundle, whole, sizes = open_bundle(model), (model / BUNDLE).is_file(), {}
    for part, folder in bundle.parts.items():
        source, to = open_model(folder), out / part if whole else out
        if whole and not architectures()[source.kind].quantizes:
            write_again(source, to, source.weights(), source.lasting_facts)
        elif group and (source.answers or not whole):
            write_int4(source, to, group)
        else:
            write_int8(source, to)
        sizes[part] = sum(file.stat().st_size for file in to.glob("*.safetensors"))
    if whole:
        bundle.write(out)
    return sizes


def write_int8(source: ModelFolder, out: Path) -> None:
    """Write a model again with int8 weights of linear layers and tied embeddings, all else in bf16
    (:func:`~openpali.model.int4.storage_of`).
    """
    _write(source, out, 0)


def write_int4(source: ModelFolder, out: Path, group: int = GROUP) -> None:
    """Write a model as :func:`write_int8`, but linear layers of its language model, without its head, in int4, in
    groups of so many inputs.
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
