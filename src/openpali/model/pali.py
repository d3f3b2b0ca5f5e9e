"""PaLI: all patch tokens -> one linear projection -> before the embedded prompt -> encoder-decoder -> text
(PaLI-3 paper, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.layers import Dense
from openpali.model.t5 import Cache, EncoderDecoder, T5Config
from openpali.model.vit import ViT, ViTConfig


@dataclass(frozen=True)
class PaliModelConfig:
    """Shapes of the two halves."""

    vision: ViTConfig
    text: T5Config


class Memory(NamedTuple):
    """Encoder outputs ``[B, N, D]`` and which positions are real (bool ``[B, N]``; None: all)."""

    outputs: Tensor
    mask: Tensor | None


class PaliModel(nn.Module):
    """Images and prompts in, hidden states or text out.

    Inputs throughout:
        images: ``[B, F, H, W, 3]`` uint8 or float in -1..1; F frames, each encoded alone and their tokens
            concatenated; None: text alone.
        frames: number of real frames per row, ``[B]``; None: all.
        prompt: ids ``[B, P]``; padded on the right with ``pad``.
    """

    pad = 0  # also the decoder's start token, as in T5

    def __init__(self, config: PaliModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.vision)
        self.project = Dense(config.vision.width, config.text.d_model)
        self.text = EncoderDecoder(config.text)

    def forward(
        self, images: Tensor | None, prompt: Tensor, targets: Tensor, frames: Tensor | None = None
    ) -> Tensor:
        """Hidden states ``[B, T, D]`` that predict ``targets`` ``[B, T]`` (not yet shifted right)."""
        memory = self.encode(images, prompt, frames)
        return self.text.decode(F.pad(targets[:, :-1], (1, 0), value=self.pad), *memory)

    def encode(self, images: Tensor | None, prompt: Tensor, frames: Tensor | None = None) -> Memory:
        """Visual tokens, then the prompt, through the encoder."""
        return self.encode_tokens(None if images is None else self.embed_images(images), prompt, frames)

    def encode_tokens(self, visual_BND: Tensor | None, prompt: Tensor, frames: Tensor | None = None) -> Memory:
        """:meth:`encode` for images that :meth:`embed_images` has embedded."""
        x, mask = self.assemble(visual_BND, prompt, frames)
        return Memory(self.text.encode(x, mask), mask)

    def assemble(
        self, visual_BND: Tensor | None, prompt: Tensor, frames: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The encoder's inputs, ``[B, N, D]``: visual tokens before the embedded prompt, and which are real."""
        x_BPD, mask_BP = self.text.embed(prompt), prompt != self.pad
        if visual_BND is None:
            return x_BPD, mask_BP
        rows, columns = self.vit.config.grid
        return join(visual_BND, x_BPD, mask_BP, None if frames is None else frames * rows * columns)

    def embed_images(self, images: Tensor) -> Tensor:
        """``[B, F, H, W, 3] -> [B, F * N, D]``: the visual tokens as the encoder sees them."""
        tokens: Tensor = self.project(self.vit(images.flatten(0, 1)))
        return tokens.reshape(*images.shape[:2], *tokens.shape[1:]).flatten(1, 2)

    def start(self, memory: Memory, max_length: int) -> Cache:
        """A cache to generate up to ``max_length`` tokens."""
        return self.text.start(*memory, max_length)

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        """Feed the next tokens ``[B, L]``; logits of the one after each, ``[B, L, V]``."""
        return self.text.logits(self.text.step(ids, cache))


def join(
    visual_BND: Tensor, x_BPD: Tensor, mask_BP: Tensor, tokens: Tensor | None = None, *, gaps: bool = False
) -> tuple[Tensor, Tensor]:
    """Visual tokens before the embedded prompt, ``[B, N + P, D]``, and which of them are real, bool ``[B, N + P]``.

    Args:
        visual_BND, x_BPD, mask_BP: visual tokens, embedded prompt, and which of its positions are real.
        tokens: how many of each row's visual tokens are real, ``[B]``; None: all.
        gaps: padding may stand before real positions. It is moved to the end, so that neither missing frames nor
            padding on the left move the prompt away; always so where ``tokens`` is given.
    """
    x = torch.cat([visual_BND.to(x_BPD.dtype), x_BPD], dim=1)
    if tokens is None:
        real = mask_BP.new_ones(visual_BND.shape[:2])
    else:
        real = torch.arange(visual_BND.shape[1], device=x.device) < tokens[:, None]
    mask = torch.cat([real, mask_BP], dim=1)
    if gaps or tokens is not None:
        order = torch.argsort(~mask, dim=1, stable=True)
        x = x.gather(1, order[..., None].expand_as(x))
        mask = mask.gather(1, order)
    return x, mask
