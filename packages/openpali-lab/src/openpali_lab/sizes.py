"""Parameters, bytes and FLOPs of a model of some shape; nothing is allocated."""

from __future__ import annotations

from typing import Any, cast

import torch

from openpali.architectures.pali import PaliModel
from openpali.architectures.registry import architecture_of, build
from openpali.model.int4 import GROUPS, storage_of
from openpali.model.vision_language import VisionLanguageModel

PARTS = ("vision", "project", "encoder", "decoder", "embedding", "head")


def count_parameters(config: Any) -> dict[str, int]:
    """Parameters of each of :data:`PARTS` of a model of this size; nothing is allocated.

    ``encoder`` and ``decoder`` belong to the language model and include norms and position biases. ``encoder`` is 0
    if there is none, and ``head`` if it is tied to the embedding. ``project`` is all between the two.
    """
    return _count(_hollow(config))


def _count(model: VisionLanguageModel) -> dict[str, int]:
    prefixes = {
        "vision": ("vit.",),
        "encoder": ("text.encoder",),
        "decoder": ("text.decoder", "text.layers.", "text.norm."),
        "embedding": ("text.embed",),
        "head": ("text.head.",),
    }
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part = next((part for part, begins in prefixes.items() if name.startswith(begins)), "project")
        counts[part] += parameter.numel()
    return counts


def _hollow(config: Any) -> VisionLanguageModel:
    with torch.device("meta"):
        return cast(VisionLanguageModel, build(config))


def _quantized_bytes(model: VisionLanguageModel, group: int = 0) -> int:
    """Bytes of the tensors of a model as ``openpali quantize`` writes it, in int4 with a ``group``. It changes."""
    stored = storage_of(model, group)
    return sum(tensor.numel() * stored[name].itemsize for name, tensor in model.state_dict().items())


def parameters_per_token(model: PaliModel) -> int:
    """Parameters read per generated token: the head, and the decoder without the projections of cross-attention's
    keys and values, which are computed once."""
    decoder = sum(
        p.numel()
        for name, p in model.text.named_parameters()
        if name.startswith("decoder") and ".cross.key_value." not in name
    )
    return decoder + model.text.head_weight.numel()


def flops_per_image(config: Any, size: tuple[int, int] | None = None, *, frames: int = 1, prompt: int = 0) -> int:
    """Floating-point operations before the first token, the sum of :func:`flops_of_stages`."""
    return sum(flops_of_stages(config, size, frames=frames, prompt=prompt).values())


def flops_of_stages(
    config: Any, size: tuple[int, int] | None = None, *, frames: int = 1, prompt: int = 0
) -> dict[str, int]:
    """Floating-point operations before the first token: "vision" (ViT and projection), "encoder" (what
    reads images and prompt), and "memory" (the decoder's keys and values of the encoder's outputs).

    Counts matmuls only, two operations per multiply-add.

    Args:
        config: of a model that takes prompts.
        size: as for :meth:`openpali.architectures.base.Architecture.visual_tokens`.
        frames: images per prompt.
        prompt: its length in tokens.
    """
    known = architecture_of(config)
    tokens, vision = known.visual_tokens(config, size), known.image_flops(config, size)
    text = known.flops(config, known.memory(config, frames * tokens, frames, prompt))
    return {"vision": 2 * frames * vision, "encoder": 2 * text.prefix, "memory": 2 * text.memory}


def flops_per_token(
    config: Any, size: tuple[int, int] | None = None, *, frames: int = 1, prompt: int = 0, position: int = 0
) -> int:
    """Floating-point operations of generating the token at ``position`` (from 0) with a cache.

    Counts and takes what :func:`flops_of_stages` does.
    """
    known = architecture_of(config)
    visual = frames * known.visual_tokens(config, size)
    return 2 * known.token_flops(config, known.memory(config, visual, frames, prompt), position)


def describe(config: Any) -> dict[str, Any]:
    """What ``openpali sizes`` prints: ``parameters`` of each part and in total, ``bytes`` per dtype, and ``flops``.

    The latter at the preset's own resolution and at those of its kind of model (rounded to whole patches), with 16
    prompt tokens.
    """
    model, known = _hollow(config), architecture_of(config)
    parts = _count(model)
    total = sum(parts.values())
    patch = config.vision.patch_size
    resolutions = (round(side / patch) * patch for side in known.sides)
    sides = dict.fromkeys([config.vision.image_size[0], *resolutions])
    return {
        "parameters": {**parts, "all": total},
        "bytes": {
            "fp32": 4 * total,
            "bf16": 2 * total,
            "int8": _quantized_bytes(model),
            "int4": _quantized_bytes(_hollow(config), max(GROUPS)),
        },
        "flops": {
            str(side): {
                "visual_tokens": known.visual_tokens(config, (side, side)),
                "per_image": flops_per_image(config, (side, side), prompt=16),
                "per_token": flops_per_token(config, (side, side), prompt=16),
            }
            for side in sides
        },
    }
