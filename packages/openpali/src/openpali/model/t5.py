"""T5-style encoder-decoder: the language half of PaLI-3 (UL2 3B has the T5-XL shape with gated SiLU).

Shapes: B batch, L queries, N keys, D model width, h heads, d head width. No biases, RMSNorm, attention scores
not scaled by sqrt(d), relative position bias with logarithmic buckets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model import attention
from openpali.model.attention import AttentionLayer, attend_with_bias, merge_heads, split_heads
from openpali.model.cache import Cache, Extend
from openpali.model.init import init_children, init_normal, init_weights
from openpali.model.int8 import QuantizedLinear
from openpali.model.layers import Embedding, Linear

Activation = Literal["silu", "gelu"]


@dataclass(frozen=True)
class T5Config:
    """Shape of the encoder-decoder.

    ``bias_per_layer`` is umT5's: a relative bias of its own in each layer instead of one per stack.
    ``tied_head`` is T5 1.0's: the output head is the embedding, and its input is scaled by ``D^-0.5``.
    """

    vocab_size: int
    d_model: int
    d_head: int
    heads: int
    d_ff: int
    encoder_layers: int
    decoder_layers: int
    activation: Activation = "silu"
    bias_per_layer: bool = False
    tied_head: bool = False
    buckets: int = 32
    max_distance: int = 128
    dropout: float = 0.0
    norm_eps: float = 1e-6


class RMSNorm(nn.Module):
    """Scale by the root mean square, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.empty(width))

    def init_weights(self) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        rms = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return (x * rms).to(x.dtype) * self.scale.to(x.dtype)


class RelativeBias(nn.Module):
    """Bias of a query at position i for a key at j, from the bucket of ``j - i``."""

    def __init__(self, config: T5Config, bidirectional: bool) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.config = config
        self.table = Embedding(config.buckets, config.heads)

    def init_weights(self) -> None:
        init_normal(self.table, self.config.d_model**-0.5)

    def forward(self, first: int, last: int) -> Tensor:
        """Bias of each distance ``first..last`` (inclusive), ``[h, last - first + 1]``."""
        distance = torch.arange(first, last + 1, device=self.table.weight.device)
        return cast(Tensor, self.table(self.bucket(distance))).T

    def bucket(self, distance: Tensor) -> Tensor:
        """Bucket of each ``key - query`` distance: exact when near, logarithmic up to ``max_distance``."""
        buckets = self.table.num_embeddings
        offset = torch.zeros_like(distance)
        if self.bidirectional:
            buckets //= 2
            offset = (distance > 0).long() * buckets
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = buckets // 2
        scale = (buckets - exact) / math.log(self.config.max_distance / exact)
        far = exact + (torch.log(distance.float().clamp(min=1) / exact) * scale).long()
        return offset + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


class SelfAttention(AttentionLayer):
    """Self-attention with relative bias; query, key and value in one projection."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.d_head
        self.qkv = Linear(config.d_model, 3 * inner, bias=False)
        self.out = Linear(inner, config.d_model, bias=False)

    def init_weights(self) -> None:
        init_children(self)
        _init_attention(self.qkv.weight.chunk(3), self.out, self.heads)

    def forward(
        self, x_BLD: Tensor, bias: Tensor, mask: Tensor | None, causal: bool = False, extend: Extend | None = None
    ) -> Tensor:
        """Attend to ``x_BLD`` itself, and to what ``extend`` adds.

        ``bias``, ``mask`` and ``causal``: see :func:`openpali.model.attention.attend_with_bias`.
        """
        q, k, v = (split_heads(t, self.heads) for t in self.qkv(x_BLD).chunk(3, dim=-1))
        if extend is not None:
            k, v = extend(k, v)
        return cast(Tensor, self.out(merge_heads(attend_with_bias(self.attend, q, k, v, bias, mask, causal))))


class CrossAttention(attention.CrossAttention):
    """Attention of the decoder to the encoder's outputs; no bias, no positions, no scale."""

    def __init__(self, config: T5Config) -> None:
        super().__init__(config.d_model, config.heads * config.d_head, config.heads, bias=False, scale=1.0)

    def init_weights(self) -> None:
        init_children(self)
        _init_attention((self.query.weight, *self.key_value.weight.chunk(2)), self.out, self.heads)


def _init_attention(qkv: tuple[Tensor, ...], out: nn.Linear, heads: int) -> None:
    """T5's scales: queries are drawn smaller, since scores are not divided by ``sqrt(d)``."""
    query, key, value = qkv
    d_model, d_head = out.out_features, out.in_features // heads
    nn.init.normal_(query, std=(d_model * d_head) ** -0.5)
    nn.init.normal_(key, std=d_model**-0.5)
    nn.init.normal_(value, std=d_model**-0.5)
    nn.init.normal_(out.weight, std=out.in_features**-0.5)


class FeedForward(nn.Module):
    """Gated: ``down(act(gate(x)) * up(x))``."""

    def __init__(self, d_model: int, d_ff: int, activation: Activation, dropout: float = 0.0) -> None:
        super().__init__()
        self.activation = activation
        self.gate = Linear(d_model, d_ff, bias=False)
        self.up = Linear(d_model, d_ff, bias=False)
        self.down = Linear(d_ff, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def init_weights(self) -> None:
        init_children(self)
        for layer in (self.gate, self.up, self.down):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x)
        gate = F.silu(gate) if self.activation == "silu" else F.gelu(gate, approximate="tanh")
        return cast(Tensor, self.down(self.dropout(gate * self.up(x))))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each behind its norm."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.norm_attention = RMSNorm(config.d_model, config.norm_eps)
        self.attention = SelfAttention(config)
        self.norm_ff = RMSNorm(config.d_model, config.norm_eps)
        self.ff = FeedForward(config.d_model, config.d_ff, config.activation, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BLD: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        x_BLD = x_BLD + self.dropout(self.attention(self.norm_attention(x_BLD), bias, mask))
        return cast(Tensor, x_BLD + self.dropout(self.ff(self.norm_ff(x_BLD))))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention and feed-forward, each behind its norm."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.norm_attention = RMSNorm(config.d_model, config.norm_eps)
        self.attention = SelfAttention(config)
        self.norm_cross = RMSNorm(config.d_model, config.norm_eps)
        self.cross = CrossAttention(config)
        self.norm_ff = RMSNorm(config.d_model, config.norm_eps)
        self.ff = FeedForward(config.d_model, config.d_ff, config.activation, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x_BLD: Tensor,
        bias: Tensor,
        memory: tuple[Tensor, Tensor],
        memory_mask: Tensor | None,
        mask: Tensor | None = None,
        extend: Extend | None = None,
    ) -> Tensor:
        """The next L positions, after those that ``extend`` adds; without it, all of them.

        Args:
            bias: relative bias, see :func:`openpali.model.attention.attend_with_bias`.
            memory, memory_mask: keys and values of the encoder's outputs, see :meth:`CrossAttention.memory`, and
                which of them may be seen, bool ``[M, 1, 1, N]`` (None: all).
            mask: the decoder's own positions that may be seen, bool ``[B, 1, 1, N]`` (None: all).
        """
        x = x_BLD + self.dropout(self.attention(self.norm_attention(x_BLD), bias, mask, True, extend))
        x = x + self.dropout(self.cross(self.norm_cross(x), *memory, memory_mask))
        return cast(Tensor, x + self.dropout(self.ff(self.norm_ff(x))))


class EncoderDecoder(nn.Module):
    """The T5 / UL2 encoder-decoder over embedded inputs.

    The encoder takes embeddings rather than ids, since PaLI puts visual tokens before the embedded prompt.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.embed: nn.Embedding = Embedding(config.vocab_size, config.d_model)
        biases = (config.encoder_layers, config.decoder_layers) if config.bias_per_layer else (1, 1)
        self.encoder_bias = nn.ModuleList(RelativeBias(config, bidirectional=True) for _ in range(biases[0]))
        self.decoder_bias = nn.ModuleList(RelativeBias(config, bidirectional=False) for _ in range(biases[1]))
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.encoder_norm = RMSNorm(config.d_model, config.norm_eps)
        self.decoder_norm = RMSNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        if not config.tied_head:
            self.head: nn.Linear = Linear(config.d_model, config.vocab_size, bias=False)

    def init_weights(self) -> None:
        init_normal(self.embed, 1.0)
        for stack in (self.encoder_bias, self.decoder_bias, self.encoder, self.decoder):
            init_weights(stack)
        init_weights(self.encoder_norm)
        init_weights(self.decoder_norm)
        if not self.config.tied_head:
            init_normal(self.head, self.config.d_model**-0.5)

    @property
    def head_weight(self) -> Tensor:
        """Output embedding ``[V, D]``."""
        if self.config.tied_head:
            return self.embed.weight
        head: nn.Module = self.head  # may have been quantized
        return head.matrix if isinstance(head, QuantizedLinear) else self.head.weight

    def encode(self, x_BND: Tensor, mask_BN: Tensor | None) -> Tensor:
        """Embedded inputs ``[B, N, D]`` and which of them are real (bool, or None for all) -> outputs."""
        n = x_BND.shape[1]
        biases = [bias(1 - n, n - 1) for bias in self.encoder_bias]
        return self.run_encoder(x_BND, biases, None if mask_BN is None else mask_BN[:, None, None, :])

    def run_encoder(self, x_BND: Tensor, biases: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        """The encoder's layers and norm.

        ``biases`` (one, or one per layer) and ``mask``: see :func:`openpali.model.attention.attend_with_bias`.
        """
        x_BND = self.dropout(x_BND)
        for i, layer in enumerate(self.encoder):
            x_BND = layer(x_BND, biases[i % len(biases)], mask)
        return cast(Tensor, self.dropout(self.encoder_norm(x_BND)))

    def decode(self, ids_BL: Tensor, memory_BND: Tensor, memory_mask_BN: Tensor | None) -> Tensor:
        """Decoder inputs ``[B, L]`` (targets shifted right) -> hidden states ``[B, L, D]``, ready for the head."""
        length = ids_BL.shape[1]
        mask = None if memory_mask_BN is None else memory_mask_BN[:, None, None, :]
        biases = [bias(1 - length, length - 1) for bias in self.decoder_bias]
        memories = (layer.cross.memory(memory_BND) for layer in self._decoder_layers())  # each before its layer
        return self.run_decoder(self.embed(ids_BL), biases, memories, mask)

    def start(self, memory_BND: Tensor, memory_mask_BN: Tensor | None, max_length: int) -> Cache:
        """An empty cache for ``max_length`` steps over these encoder outputs."""
        memories = (layer.cross.memory(memory_BND) for layer in self._decoder_layers())
        return Cache(memories, memory_mask_BN, max_length)

    def step(self, ids_BL: Tensor, cache: Cache) -> Tensor:
        """Feed the next L tokens of each row; hidden states ``[B, L, D]``. Equals :meth:`decode` on the whole."""
        places, memory = cache.reserve(ids_BL.shape[1]), cache.memory
        biases = [places.bias(bias) for bias in self.decoder_bias]
        return self.run_decoder(
            self.embed(ids_BL), biases, memory.layers(), memory.mask(), extends=cache.extends(places)
        )

    def run_decoder(
        self,
        x_BLD: Tensor,
        biases: Sequence[Tensor],
        memories: Iterable[Any],
        memory_mask: Tensor | None,
        mask: Tensor | None = None,
        extends: Sequence[Extend | None] = (None,),
    ) -> Tensor:
        """The decoder's layers and norm over embedded inputs: ready for the head.

        ``biases`` and ``extends`` (one, or one per layer), ``memories`` (one per layer) and masks: see
        :class:`DecoderLayer`.
        """
        x_BLD = self.dropout(x_BLD)
        for i, (layer, memory) in enumerate(zip(self.decoder, memories, strict=True)):
            bias, extend = biases[i % len(biases)], extends[i % len(extends)]
            x_BLD = layer(x_BLD, bias, memory, memory_mask, mask, extend=extend)
        x_BLD = self.dropout(self.decoder_norm(x_BLD))
        return x_BLD * self.config.d_model**-0.5 if self.config.tied_head else x_BLD

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` -> ``[..., V]``."""
        if self.config.tied_head:
            return hidden @ self.embed.weight.to(hidden.dtype).T
        return cast(Tensor, self.head(hidden))

    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.decoder))
