"""T5Gemma 2 (arXiv 2512.14856): SigLIP into an encoder-decoder of Gemma 3's layers, PaLI-3's form.

    BOS, prompt with images in it -> encoder | BOS, text

Four by four patch tokens are averaged into one visual token. The encoder sees in both directions. A layer of the
decoder has one attention: its keys are those of the text so far, rotated, and those of the encoder's outputs, which
are not; all under one softmax. Encoder, decoder and head share one embedding.

Shapes: B batch, L text tokens, N tokens of the memory, D model width, g heads of keys and values, d head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.attention import Band
from openpali.model.cache import Cache, Extend, Pair, concatenate
from openpali.model.gemma import (
    GemmaConfig,
    Layer,
    Masks,
    RMSNorm,
    ScaledEmbedding,
    Stack,
    tied_logits,
)
from openpali.model.init import init_normal, init_weights
from openpali.model.layers import Linear
from openpali.model.vision_language import Head, Memory, VisionLanguageModel
from openpali.model.vit import LAYER_NORM_EPS, ViTConfig, check_pool


@dataclass(frozen=True)
class T5Gemma2Config:
    """Shapes of the parts, and ids of the tokenizer."""

    vision: ViTConfig  # shape of the ViT
    # encoder, decoder: of the language model, of one width and vocabulary
    encoder: GemmaConfig
    decoder: GemmaConfig
    pool: int = 4  # side of the square of patches whose tokens are averaged
    bos: int = 2  # token at the beginning of prompts and texts
    # before, after: tokens around the visual tokens of an image. The last of before marks its place in a prompt.
    # The first of after has an embedding of its own
    before: tuple[int, ...] = (108, 255_999)
    after: tuple[int, ...] = (256_000, 108)
    image_token: int = 262_144  # what transformers puts into a prompt for each visual token; nothing here reads it
    longest: int = 131_072  # most positions that it was made for; nothing here depends on it


class T5Gemma2Model(VisionLanguageModel):
    """Images and prompts in, hidden states or text out; inputs as for :class:`VisionLanguageModel`.

    Images without a place in the prompt stand before it. A mark for which there is no image is a token like others.
    """

    def __init__(self, config: T5Gemma2Config) -> None:
        super().__init__(config.vision, Projector(config.vision.width, config.encoder.d_model))
        self.config = config
        self.first, self.image_place = config.bos, config.before[-1]
        self.text = T5Gemma2Text(config)

    def visual(self, patches_BND: Tensor) -> Tensor:
        pool, (rows, columns) = self.config.pool, self.vit.config.grid
        check_pool((rows, columns), pool, self.vit.config.patch_size)
        squares = patches_BND.reshape(len(patches_BND), rows // pool, pool, columns // pool, pool, -1)
        return cast(Tensor, self.project(squares.mean((2, 4)).flatten(1, 2)))

    def embed_prompt(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        prompt = F.pad(prompt, (1, 0), value=self.config.bos)
        return self.text.embed(prompt), prompt != self.pad

    def assemble(
        self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The embedded prompt, with visual tokens in their places, ``[B, N, D]``, and which are real."""
        if visual_BND is None:
            return self.embed_prompt(prompt)
        config, device = self.config, prompt.device
        rows, columns = self.vit.config.grid
        tokens = rows * columns // config.pool**2
        most = visual_BND.shape[1] // tokens
        count_B = torch.full_like(prompt[:, 0], most) if counts is None else counts // tokens  # images

        # a prompt with a mark for each image, BOS before it
        marks_BF = torch.full((len(prompt), most), config.before[-1], device=device)
        given_B = (prompt == config.before[-1]).sum(1)
        unplaced = torch.arange(most, device=device) < (count_B - given_B)[:, None]
        marks_BF = marks_BF.masked_fill(~unplaced, self.pad)
        short = torch.cat([F.pad(marks_BF, (1, 0), value=config.bos), prompt], dim=1)
        mark = short == config.before[-1]
        number = mark.cumsum(1) - 1
        image = mark & (number < count_B[:, None])

        # an image takes the place of its mark: each position of the short prompt has a width in the long one
        around = torch.tensor([*config.before, *[self.pad] * tokens, *config.after], device=device)
        widths = torch.where(image, len(around), (short != self.pad).long())
        ends = widths.cumsum(1)
        length = 1 + prompt.shape[1] + most * len(around)  # of the longest possible, whatever stands in the prompts
        places = torch.arange(length, device=device).repeat(len(prompt), 1)
        origin = torch.searchsorted(ends, places, right=True).clamp(max=short.shape[1] - 1)
        inside = (places - (ends - widths).gather(1, origin)).clamp(max=len(around) - 1)
        real, image = places < ends[:, -1:], image.gather(1, origin)
        ids = torch.where(image, around[inside], short.gather(1, origin)).masked_fill(~real, self.pad)
        x_BND = cast(Tensor, self.text.embed(ids))
        visual = real & image & (ids == self.pad)
        which = (number.gather(1, origin) * tokens + inside - len(config.before)) * visual
        seen = visual_BND.to(x_BND.dtype).gather(1, which[..., None].expand_as(x_BND))
        return torch.where(visual[..., None], seen, x_BND), real

    def decode(self, targets: Tensor, memory: Memory) -> Tensor:
        assert memory.mask is not None
        return self.text.decode(self.shift(targets), memory.outputs, memory.mask)

    @property
    def head(self) -> Head:
        return Head(self.text.embed.matrix, self.config.decoder.logit_cap)

    def start(self, memory: Memory, max_length: int) -> Cache:
        return Cache(self.text.memories(memory.outputs), memory.mask, max_length)


class Projector(nn.Module):
    """Visual tokens of the ViT -> of the language model: a norm and a matrix."""

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width, LAYER_NORM_EPS)
        self.linear = Linear(width, d_model, bias=False)

    def init_weights(self) -> None:
        init_weights(self.norm)
        init_normal(self.linear, self.linear.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.linear(self.norm(x)))


class TokenEmbedding(ScaledEmbedding):
    """Token ids ``[..., L]`` -> ``[..., L, D]``; the token after an image has a vector of its own, not scaled."""

    def __init__(self, config: T5Gemma2Config) -> None:
        super().__init__(config.encoder.vocab_size, config.encoder.d_model)
        self.image_end = config.after[0]
        self.after_image = nn.Parameter(torch.empty(config.encoder.d_model))

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)
        nn.init.normal_(self.after_image)

    def forward(self, ids: Tensor) -> Tensor:
        x = super().forward(ids)
        return torch.where((ids == self.image_end)[..., None], self.after_image.to(x.dtype), x)


class DecoderLayer(Layer):
    """A layer whose keys and values of the memory are computed before it is called."""


class T5Gemma2Text(nn.Module):
    """The language model: an encoder over embedded inputs, a decoder, and the embedding that they share."""

    def __init__(self, config: T5Gemma2Config) -> None:
        super().__init__()
        self.embed = TokenEmbedding(config)
        self.encoder = Stack(config.encoder)
        self.decoder = Stack(config.decoder, DecoderLayer)

    def encode(self, x_BND: Tensor, real_BN: Tensor) -> Tensor:
        """Embedded inputs and which of them are real -> outputs ``[B, N, D]``."""
        positions = torch.arange(x_BND.shape[1], device=x_BND.device)[None]
        return cast(Tensor, self.encoder(x_BND, positions, both_ways(real_BN, self.encoder.config.window)))

    def decode(self, ids_BL: Tensor, memory_BND: Tensor, real_BN: Tensor) -> Tensor:
        """Decoder inputs (targets shifted right) -> hidden states ``[B, L, D]``."""
        positions = torch.arange(ids_BL.shape[1], device=ids_BL.device)[None]
        masks = merged_masks(positions, ids_BL.shape[1], real_BN, self.decoder.config.window)
        extends = (_extend(memory) for memory in self.memories(memory_BND))
        return cast(Tensor, self.decoder(self.embed(ids_BL), positions, masks, extends))

    def memories(self, memory_BND: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of the encoder's outputs, each ``[B, g, N, d]``, for one layer after another."""
        return (cast(Layer, layer).attention.memory(memory_BND) for layer in self.decoder.layers)

    def step(self, ids_BL: Tensor, cache: Cache) -> Tensor:
        """Feed the next L tokens of each row; hidden states ``[B, L, D]``. Equals :meth:`decode` on the whole."""
        places = cache.reserve(ids_BL.shape[1])
        positions = places.positions(ids_BL.device)
        real_BN = cache.memory.expand_to_rows(cache.memory.real())
        masks = merged_masks(positions, places.end, real_BN, self.decoder.config.window)
        return cast(Tensor, self.decoder(self.embed(ids_BL), positions, masks, cache.extends(places, merged=True)))

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` -> ``[..., V]``."""
        return tied_logits(hidden, self.embed, self.decoder.config.logit_cap)


def _extend(memory: Pair) -> Extend:
    """Puts what one call computes behind the memory."""
    return lambda keys, values: concatenate(memory, (keys, values))


def both_ways(real_BN: Tensor, window: int | None) -> Masks:
    """The encoder's masks: near layers see ``window`` positions around each one, itself included; if that is even,
    one more after it than before."""
    full = real_BN[:, None, None, :]
    if window is None:
        return Masks(full, full)
    return Masks(full, Band(real_BN, (window - 1) // 2, window // 2))


def merged_masks(queries_BL: Tensor, length: int, real_BN: Tensor, window: int | None) -> Masks:
    """The decoder's masks: over the memory, of which ``real_BN`` is seen by all, and ``length`` positions of text.

    ``queries_BL``: positions of the queries (or 1 for B).
    """
    behind = queries_BL[:, None, :, None] - torch.arange(length, device=real_BN.device)
    memory = real_BN[:, None, None, :].expand(-1, 1, behind.shape[2], -1)
    full, near = behind >= 0, (behind >= 0) & (behind < (window or length))
    return Masks(*(torch.cat([memory, past.expand(len(memory), -1, -1, -1)], dim=3) for past in (full, near)))
