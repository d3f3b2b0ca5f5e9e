"""Parameters, bytes and FLOPs of a model of some shape; nothing is allocated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from openpali.architectures.pali import PaliModel
from openpali.architectures.paligemma import PaliGemmaConfig
from openpali.architectures.registry import architecture_of, build
from openpali.architectures.t5gemma2.network import T5Gemma2Config
from openpali.model.gemma import GemmaConfig
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


def flops_per_image(config: Any, size: tuple[int, int] | None = None, *, prompt: int = 0) -> int:
    """Floating-point operations before the first token, the sum of :func:`flops_of_stages`."""
    return sum(flops_of_stages(config, size, prompt=prompt).values())


def flops_of_stages(config: Any, size: tuple[int, int] | None = None, *, prompt: int = 0) -> dict[str, int]:
    """Floating-point operations before the first token: "vision" (ViT and projection), "encoder" (what
    reads images and prompt), and "memory" (the decoder's keys and values of the encoder's outputs).

    Counts matmuls only, two operations per multiply-add.

    Args:
        config: of a model that takes prompts.
        size: as for :meth:`openpali.architectures.base.Architecture.visual_tokens`.
        prompt: its length in tokens.
    """
    v, visual = config.vision, architecture_of(config).visual_tokens(config, size)
    encoder, decoder = _stacks(config)
    patches = visual * getattr(config, "pool", 1) ** 2
    block = 4 * v.width**2 + 2 * v.width * v.mlp_dim + 2 * patches * v.width
    image = patches * (3 * v.patch_size**2 * v.width + v.depth * block)
    vision = 2 * (image + visual * v.width * decoder.width)
    memory = _memory(config, visual, prompt)
    if encoder is None:  # a prefix-LM, whose separator is read with the prefix
        return {"vision": vision, "encoder": 2 * decoder.prefill(memory + 1), "memory": 0}
    projected = memory * decoder.layers * 2 * decoder.width * decoder.keys
    return {"vision": vision, "encoder": 2 * encoder.prefill(memory), "memory": 2 * projected}


def flops_per_token(config: Any, size: tuple[int, int] | None = None, *, prompt: int = 0, position: int = 0) -> int:
    """Floating-point operations of generating the token at ``position`` (from 0) with a cache.

    Counts and takes what :func:`flops_of_stages` does.
    """
    visual = architecture_of(config).visual_tokens(config, size)
    _, decoder = _stacks(config)
    seen = _memory(config, visual, prompt) + position + 1  # the token that starts a text
    layer = decoder.weights + decoder.crossing + 2 * seen * decoder.inner
    return 2 * (decoder.layers * layer + decoder.width * decoder.vocabulary)


@dataclass(frozen=True)
class _Stack:
    """Layers of a language model: width, all heads of queries and of keys together, weights of the feed-forward,
    and those with which a decoder's query reads the memory, if not in the same attention."""

    layers: int
    width: int
    inner: int
    keys: int
    ff: int
    vocabulary: int
    crossing: int = 0

    @property
    def weights(self) -> int:
        return 2 * self.width * (self.inner + self.keys) + self.ff

    def prefill(self, tokens: int) -> int:
        """Multiply-adds of reading so many tokens at once."""
        return tokens * self.layers * (self.weights + 2 * tokens * self.inner)


def _stacks(config: Any) -> tuple[_Stack | None, _Stack]:
    """Encoder, if there is one, and decoder."""
    if isinstance(config, T5Gemma2Config):
        return _gemma(config.encoder), _gemma(config.decoder)
    if isinstance(config.text, GemmaConfig):
        return None, _gemma(config.text)
    t, inner = config.text, config.text.heads * config.text.d_head
    ff = 3 * t.d_model * t.d_ff
    crossing = 2 * t.d_model * inner
    encoder = _Stack(t.encoder_layers, t.d_model, inner, inner, ff, t.vocab_size)
    return encoder, replace(encoder, layers=t.decoder_layers, crossing=crossing)


def _gemma(t: GemmaConfig) -> _Stack:
    ff = 3 * t.d_model * t.d_ff
    return _Stack(t.layers, t.d_model, t.heads * t.d_head, t.kv_heads * t.d_head, ff, t.vocab_size)


def _memory(config: Any, visual: int, prompt: int) -> int:
    """Tokens of the memory: those of the image, the prompt, and what the model adds."""
    if isinstance(config, T5Gemma2Config):
        return visual + prompt + 1 + len(config.before) + len(config.after)
    return visual + prompt + isinstance(config, PaliGemmaConfig)  # BOS


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
