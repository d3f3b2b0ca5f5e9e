"""Starting a part of a model from another checkpoint: PaLI-3's ViT from SigLIP, a stage from the one before it."""

from __future__ import annotations

import torch
from torch import nn

from openpali.architectures.base import vision_of
from openpali.model.vit import ViT, resample_positions
from openpali.tensors import load_exactly
from openpali.text.tokenizer import Tokenizer
from openpali.weights.bundle import main_part
from openpali.weights.find import find_model
from openpali.weights.format import ModelFolder, open_model


def transplant(model: nn.Module, part: str, origin: str, tokenizer: Tokenizer | None = None) -> None:
    """Load ``part`` of a model from another model. Position embeddings are resampled to this model's grid.

    Args:
        model: the model to change.
        part: name of a submodule or a scalar; "" for the whole model. A whole SigLIP without sides leaves those
            of this model as they are.
        origin: what :func:`find_model` takes, of a bundle its main part; optionally with ``#part`` if the part has
            another name there.
        tokenizer: the one whose ids ``model`` takes; None if it takes no text.
    """
    name, _, there = origin.partition("#")
    source = open_model(main_part(find_model(name)))
    there = there or part
    if part in dict(model.named_parameters()):
        _copy_parameter(model, part, source, there)
        return
    weights = {
        key.removeprefix(there + ".") if there else key: value.float()
        for key, value in source.weights().items()
        if not there or key.startswith(there + ".")
    }
    try:
        target = model.get_submodule(part)
    except AttributeError as error:
        parts = ", ".join(child for child, _ in model.named_children())
        raise ValueError(f"model.init names {part!r}, and the parts of the model are {parts}") from error
    positions = {"": "vit.positions", "vit": "positions"}.get(part)
    if positions in weights and (origin_vision := vision_of(source.config)):
        vit = model.get_submodule("vit")
        assert isinstance(vit, ViT)
        weights[positions] = resample_positions(weights[positions], origin_vision.grid, vit.config.grid)
    if tokenizer is not None and any(_depends_on_vocabulary(f"{there}.{key}") for key in weights):
        _require_same_vocabulary(source, tokenizer, origin)
    if not part:
        own = target.state_dict()
        weights |= {key: v for key, v in own.items() if key.startswith("sides.") and key not in weights}
    load_exactly(target, weights, origin)


@torch.no_grad()
def _copy_parameter(model: nn.Module, part: str, source: ModelFolder, there: str) -> None:
    weights, target = source.weights(), model.get_parameter(part)
    if target.numel() > 1:  # rows of a vocabulary, positions of a grid: their module knows what they are
        module = part.rpartition(".")[0]
        raise ValueError(f"model.init names the parameter {part!r}, and single ones are scalars: name {module!r}")
    if there not in weights or weights[there].shape != target.shape:
        raise ValueError(f"model.init names {part!r}, and {source.folder} has no such scalar {there!r}")
    target.copy_(weights[there].float())


def _depends_on_vocabulary(name: str) -> bool:
    """Whether a tensor has one row per token of a vocabulary."""
    modules = name.split(".")
    return "embed" in modules or {"text", "head"} <= set(modules)


def _require_same_vocabulary(source: ModelFolder, tokenizer: Tokenizer, origin: str) -> None:
    if not source.has_tokenizer:
        return
    theirs = source.tokenizer
    ids = range(min(theirs.vocab_size, tokenizer.vocab_size))
    pairs = zip(ids, theirs.pieces(ids), tokenizer.pieces(ids), strict=True)
    if different := [(number, a, b) for number, a, b in pairs if a != b]:
        number, a, b = different[0]
        raise ValueError(
            f"{origin} was trained with another vocabulary ({len(different)} of {len(ids)} ids differ; {number} is "
            f"{a!r} there and {b!r} here): set model.tokenizer to {str(source.folder)!r}"
        )
