"""BART (arXiv 1910.13461): an encoder-decoder whose norms stand behind the layers, with learned positions.

Embedding, head, and decoder share one matrix. Linear layers have biases, the activation is GELU.

Shapes: B batch, L text tokens, N tokens of the memory, D model width, h heads, d head width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import cast

import torch
from torch import Tensor, nn

from openpali.model import attention
from openpali.model.cache import Cache, Extend, Pair
from openpali.model.init import init_children, init_normal
from openpali.model.int8 import TiedEmbedding
from openpali.model.vit import MLP, Attention, init_projections

UNUSED = 2  # first rows of a table of positions, which nothing reads
_STD = 0.02  # of embeddings at the start


@dataclass(frozen=True)
class BartConfig:
    """Shape of the encoder-decoder; ``positions`` is the most that a sequence may have."""

    vocab_size: int
    d_model: int
    heads: int
    d_ff: int
    encoder_layers: int
    decoder_layers: int
    positions: int = 1024

    @property
    def d_head(self) -> int:
        return self.d_model // self.heads


class CrossAttention(attention.CrossAttention):
    """Attention of the decoder to the encoder's outputs."""

    qk_clip = False

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, width, heads, bias=True)

    def init_weights(self) -> None:
        init_children(self)
        init_projections(self.query, self.key_value, self.out)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each before its norm."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.attention = Attention(config.d_model, config.heads)
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.ff = MLP(config.d_model, config.d_ff, exact=True)
        self.norm_ff = nn.LayerNorm(config.d_model)

    def forward(self, x_BND: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm_attention(x_BND + self.attention(x_BND, mask))
        return cast(Tensor, self.norm_ff(x + self.ff(x)))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention and feed-forward, each before its norm."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.attention = Attention(config.d_model, config.heads)
        self.norm_attention = nn.LayerNorm(config.d_model)
        self.cross = CrossAttention(config.d_model, config.heads)
        self.norm_cross = nn.LayerNorm(config.d_model)
        self.ff = MLP(config.d_model, config.d_ff, exact=True)
        self.norm_ff = nn.LayerNorm(config.d_model)

    def forward(
        self,
        x_BLD: Tensor,
        mask: Tensor | None,
        memory: Pair,
        memory_mask: Tensor | None,
        extend: Extend | None = None,
    ) -> Tensor:
        """The next L positions, after those that ``extend`` adds; without it, all of them.

        Args:
            mask: the decoder's own positions that may be seen, bool ``[B, 1, L, N]``, or 1 for B; None: all.
            memory, memory_mask: keys and values of the encoder's outputs (:meth:`CrossAttention.memory`), and which
                of them may be seen, bool ``[M, 1, 1, N]``; None: all.
        """
        x = self.norm_attention(x_BLD + self.attention(x_BLD, mask, extend))
        x = self.norm_cross(x + self.cross(x, *memory, memory_mask))
        return cast(Tensor, self.norm_ff(x + self.ff(x)))


class Stack(nn.Module):
    """Positions, a norm of what enters, and layers."""

    def __init__(self, config: BartConfig, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(UNUSED + config.positions, config.d_model))
        self.norm = nn.LayerNorm(config.d_model)
        self.layers = nn.ModuleList(layers)

    def init_weights(self) -> None:
        init_children(self)
        nn.init.normal_(self.positions, std=_STD)

    def enter(self, x_BLD: Tensor, positions_BL: Tensor) -> Tensor:
        """Embedded tokens at ``positions_BL`` (or 1 for B) as the first layer takes them; beyond the last position,
        they are at that."""
        rows = (positions_BL + UNUSED).clamp(max=len(self.positions) - 1)
        return cast(Tensor, self.norm(x_BLD + self.positions.to(x_BLD.dtype)[rows]))

    def places(self, length: int) -> Tensor:
        """The positions of a sequence, ``[1, L]``."""
        if length > (most := len(self.positions) - UNUSED):
            raise ValueError(f"{length} tokens are given to a model that has {most} positions: give it fewer")
        return torch.arange(length, device=self.positions.device)[None]


class Bart(nn.Module):
    """The encoder-decoder over embedded inputs, and the embedding that encoder, decoder and head share."""

    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = TiedEmbedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config, (EncoderLayer(config) for _ in range(config.encoder_layers)))
        self.decoder = Stack(config, (DecoderLayer(config) for _ in range(config.decoder_layers)))

    def init_weights(self) -> None:
        init_children(self)
        init_normal(self.embed, _STD)

    def encode(self, x_BND: Tensor, real_BN: Tensor | None) -> Tensor:
        """Embedded inputs and which of them are real (bool; None: all) -> outputs ``[B, N, D]``."""
        x = self.encoder.enter(x_BND, self.encoder.places(x_BND.shape[1]))
        return self.run_encoder(x, None if real_BN is None else real_BN[:, None, None, :])

    def run_encoder(self, x_BND: Tensor, mask: Tensor | None) -> Tensor:
        """The encoder's layers; ``mask``, bool, broadcasts to ``[B, h, N, N]``."""
        for layer in self.encoder.layers:
            x_BND = layer(x_BND, mask)
        return x_BND

    def decode(self, ids_BL: Tensor, memory_BND: Tensor, real_BN: Tensor | None) -> Tensor:
        """Decoder inputs (targets shifted right) -> hidden states ``[B, L, D]``."""
        positions, mask = (
            self.decoder.places(ids_BL.shape[1]),
            None if real_BN is None else real_BN[:, None, None, :],
        )
        return self._decode(ids_BL, positions, ids_BL.shape[1], self._memories(memory_BND), mask, repeat(None))

    def start(self, memory_BND: Tensor, real_BN: Tensor | None, max_length: int) -> Cache:
        """An empty cache for ``max_length`` tokens over these encoder outputs."""
        return Cache(self._memories(memory_BND), real_BN, max_length)

    def step(self, ids_BL: Tensor, cache: Cache) -> Tensor:
        """Feed the next L tokens of each row; hidden states ``[B, L, D]``. Equals :meth:`decode` on the whole.

        A text may be longer than there are positions; that of :meth:`decode` may not.
        """
        places, memory = cache.reserve(ids_BL.shape[1]), cache.memory
        positions = places.positions(ids_BL.device)
        return self._decode(ids_BL, positions, places.end, memory.layers(), memory.mask(), cache.extends(places))

    def _memories(self, memory_BND: Tensor) -> Iterator[Pair]:
        return (cast(DecoderLayer, layer).cross.memory(memory_BND) for layer in self.decoder.layers)

    def _decode(
        self,
        ids_BL: Tensor,
        positions_BL: Tensor,
        end: int,
        memories: Iterable[Pair],
        memory_mask: Tensor | None,
        extends: Iterable[Extend | None],
    ) -> Tensor:
        x = self.decoder.enter(self.embed(ids_BL), positions_BL)
        past = torch.arange(end, device=ids_BL.device) <= positions_BL[:, None, :, None]  # [B, 1, L, end]
        return self.run_decoder(x, past, memories, memory_mask, extends)

    def run_decoder(
        self,
        x_BLD: Tensor,
        mask: Tensor | None,
        memories: Iterable[Pair],
        memory_mask: Tensor | None,
        extends: Iterable[Extend | None],
    ) -> Tensor:
        """The decoder's layers: ``memories`` and ``extends`` are theirs, see :class:`DecoderLayer`."""
        for layer, memory, extend in zip(self.decoder.layers, memories, extends, strict=False):
            x_BLD = layer(x_BLD, mask, memory, memory_mask, extend)
        return x_BLD
