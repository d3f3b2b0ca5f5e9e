"""The graphs that a model becomes, each a module with examples of its inputs.

Shapes: B rows, N visual tokens, P prompt tokens, M memory positions (N + P), T tokens so far, D width, h heads,
d head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from openpali.architectures.mask_vqvae import GRID, MaskVQVAE
from openpali.architectures.pali import PaliModel
from openpali.architectures.siglip.network import SigLIP
from openpali.extensions import loaded
from openpali.model.cache import Extending, split_pairs
from openpali.model.t5 import DecoderLayer, EncoderDecoder, RelativeBias
from openpali.model.vit import ViT, ViTConfig

Dims = Mapping[int, str]
"""The dimensions of a tensor that vary, by name; ``16 * name`` is a multiple of 16."""

Inputs = Mapping[str, tuple[Tensor, Dims]]
"""Name -> an example, and the dimensions that vary."""


class Graph(nn.Module):
    """What is traced: a function of a model.

    Args:
        outputs: their names.
    """

    def __init__(
        self, model: nn.Module, function: Callable[..., Any], inputs: Inputs, outputs: Sequence[str]
    ) -> None:
        super().__init__()
        self.model, self.function, self.inputs, self.outputs = model, function, inputs, outputs

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def encode_image(model: PaliModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels ``[B, H, W, 3]`` -> visual tokens ``[B, N, D]``, and patch tokens, the input of the
    out-of-distribution detector.
    """
    patches = model.vit(pixels)
    return cast(Tensor, model.project(patches)), patches


def encode_prompt(model: PaliModel, visual: Tensor, prompt: Tensor) -> tuple[Tensor, ...]:
    """Visual tokens ``[B, N, D]`` and a prompt ``[B, P]`` -> which positions of the memory are real, bool
    ``[B, M]``, and its keys and values of each decoder layer, ``[B, h, M, d]``.
    """
    text = model.text
    x, real = model.assemble(visual, prompt)
    places = torch.arange(x.shape[1])
    hidden = torch.zeros(real.shape).masked_fill(~real, torch.finfo(torch.float32).min)[:, None, None]
    biases = [_bias(bias, places - places[:, None]) + hidden for bias in text.encoder_bias]
    x = text.run_encoder(x, biases, None)
    return (real, *(each for layer in text.decoder for each in cast(DecoderLayer, layer).cross.memory(x)))


def decode_step(text: EncoderDecoder, ids: Tensor, real: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The next token ``[B, 1]``, the memory, and keys and values of the T tokens before, ``[B, h, T, d]`` of each
    layer -> logits of the one after it ``[B, V]``, and keys and values of T + 1 tokens.
    """
    memories, pasts = split_pairs(tensors)
    extend = Extending(pasts)
    before = pasts[0][0].shape[2]
    biases = [_bias(bias, torch.arange(before + 1)[None] - before) for bias in text.decoder_bias]
    x = text.run_decoder(text.embed(ids), biases, memories, real[:, None, None], extends=[extend])
    return (text.logits(x)[:, -1], *extend.extended)


def _bias(bias: nn.Module, distances: Tensor) -> Tensor:
    """Bias of each distance ``[L, N]`` -> ``[1, h, L, N]``."""
    relative = cast(RelativeBias, bias)
    return cast(Tensor, relative.table(relative.bucket(distances))).permute(2, 0, 1)[None]


def graphs_of(kind: str, model: nn.Module) -> Mapping[str, Graph]:
    """The graphs of a model, by file name without suffix.

    Args:
        kind: of its architecture.

    Raises:
        ValueError: it has none.
    """
    makers = {**_MAKERS, **loaded("graphs", lambda _, each: each)}
    if kind not in makers:
        known = ", ".join(makers)
        raise ValueError(f"a {kind} has no ONNX graphs, only {known}: export it with --format transformers")
    graphs: Mapping[str, Graph] = makers[kind](model)
    return graphs


def pixels_of(vit: ViT) -> tuple[Tensor, Dims]:
    return torch.rand(2, *vit.config.image_size, 3) * 2 - 1, {0: "batch"}


def _require_one_size(vision: ViTConfig, kind: str) -> None:
    if vision.tokens:
        raise ValueError(
            f"a {kind} whose images keep their proportions has no ONNX graphs: export it with --format transformers"
        )


def _pali(model: PaliModel) -> Mapping[str, Graph]:
    _require_one_size(model.config.vision, "PaLI")
    config = model.config.text
    names = [f"{name}.{i}" for i in range(config.decoder_layers) for name in ("key", "value")]

    def each(kind: str, positions: int, dim: str) -> Inputs:
        example = torch.rand(2, config.heads, positions, config.d_head)
        return {f"{kind}_{name}": (example.clone(), {0: "batch", 2: dim}) for name in names}

    prompt = torch.tensor([[5, 6, 7, 1], [5, 1, 0, 0]])
    visual = torch.rand(2, 9, config.d_model)
    return {
        "image": Graph(
            model, partial(encode_image, model), {"pixels": pixels_of(model.vit)}, ["visual", "patches"]
        ),
        "prompt": Graph(
            model,
            partial(encode_prompt, model),
            {"visual": (visual, {0: "batch", 1: "visual"}), "prompt": (prompt, {0: "batch", 1: "prompt"})},
            ["real", *(f"memory_{name}" for name in names)],
        ),
        "decoder": Graph(
            model,
            partial(decode_step, model.text),
            {
                "ids": (torch.tensor([[5], [6]]), {0: "batch"}),
                "real": (torch.tensor([[True] * 5, [True] * 3 + [False] * 2]), {0: "batch", 1: "memory"}),
                **each("memory", 5, "memory"),
                **each("past", 3, "past"),
            },
            ["logits", *(f"next_{name}" for name in names)],
        ),
    }


def _siglip(model: SigLIP) -> Mapping[str, Graph]:
    _require_one_size(model.config.vision, "SigLIP")
    ids = torch.ones(2, model.config.text.length, dtype=torch.long)
    return {
        "image": Graph(model, model.embed_image, {"pixels": pixels_of(model.vit)}, ["embeddings"]),
        "text": Graph(model, model.embed_text, {"ids": (ids, {0: "batch"})}, ["embeddings"]),
    }


def _masks(model: MaskVQVAE) -> Mapping[str, Graph]:
    codes = torch.zeros(2, GRID**2, dtype=torch.long)
    return {"masks": Graph(model, model.decode, {"codes": (codes, {0: "batch"})}, ["mask"])}


_MAKERS: Mapping[str, Callable[[Any], Mapping[str, Graph]]] = {
    "pali": _pali,
    "siglip": _siglip,
    "mask_vqvae": _masks,
}
