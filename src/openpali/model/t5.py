"""T5-style encoder-decoder: the language half of PaLI-3 (UL2 3B has the T5-XL shape with gated SiLU).

Shapes: B batch, L queries, N keys, D model width, h heads, d head width. No biases, RMSNorm, attention scores
not scaled by sqrt(d), relative position bias with logarithmic buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openpali.model.attention import attention
from openpali.model.init import init_children, init_normal, init_weights
from openpali.model.layers import Embedding, Linear
from openpali.model.vit import LayerCall

QUERY_BLOCK = 1024  # most rows of bias materialised at a time: heads x block x keys, never heads x N x N
SCORES = 2**25  # without gradients, so many elements of bias at most: as many rows as fit, whatever the keys


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
    activation: Literal["silu", "gelu"] = "silu"
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


@dataclass
class LayerCache:
    """Keys and values of one decoder layer: the past ``[B, h, max_length, d]``, and the memory's ``[M, h, N, d]``,
    computed once."""

    keys: Tensor
    values: Tensor
    memory_keys: Tensor
    memory_values: Tensor


@dataclass
class Cache:
    """What the decoder keeps between steps. ``length`` positions of each layer's past are filled."""

    layers: list[LayerCache]
    memory_mask: Tensor | None
    length: int = 0

    @property
    def max_length(self) -> int:
        """Positions that there is room for."""
        return self.layers[0].keys.shape[2]

    def reorder(self, rows: Tensor) -> None:
        """Make row ``i`` continue what row ``rows[i]`` was (beam search, or dropping finished rows).

        Rows that follow one another from the same memory go on sharing it, B // M of them each.
        """
        past, memory = self.layers[0].keys, self.layers[0].memory_keys
        owners = shared_memory(rows // (past.shape[0] // memory.shape[0]))
        moved = owners.tolist() != list(range(memory.shape[0]))
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
            if moved:
                layer.memory_keys, layer.memory_values = layer.memory_keys[owners], layer.memory_values[owners]
        if moved and self.memory_mask is not None:
            self.memory_mask = self.memory_mask[owners]


def shared_memory(owners: Tensor) -> Tensor:
    """Which memories to keep, ``[M]``, for rows that came from memories ``owners`` ``[B]``.

    One for each run of B // M equal owners where the runs are of one length, else one for each row.
    """
    kept, counts = torch.unique_consecutive(owners, return_counts=True)
    return kept if len(set(counts.tolist())) == 1 else owners


class SelfAttention(nn.Module):
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

    def project(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (_split_heads(t, self.heads) for t in self.qkv(x_BLD).chunk(3, dim=-1))
        return q, k, v


class CrossAttention(nn.Module):
    """Attention of the decoder to the encoder's outputs; no bias, no positions."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.d_head
        self.query = Linear(config.d_model, inner, bias=False)
        self.key_value = Linear(config.d_model, 2 * inner, bias=False)
        self.out = Linear(inner, config.d_model, bias=False)

    def init_weights(self) -> None:
        init_children(self)
        _init_attention((self.query.weight, *self.key_value.weight.chunk(2)), self.out, self.heads)

    def memory(self, memory_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's outputs, each ``[B, h, N, d]``: once per picture, not per token."""
        k, v = self.key_value(memory_BND).chunk(2, dim=-1)
        return _split_heads(k, self.heads), _split_heads(v, self.heads)

    def forward(self, x_BLD: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend to keys and values ``[M, h, N, d]``; B // M rows after one another share each."""
        shared = x_BLD.reshape(keys.shape[0], -1, x_BLD.shape[-1])
        q = _split_heads(self.query(shared), self.heads)
        x = attention(q, keys, values, attn_mask=mask, scale=1.0)
        return cast(Tensor, self.out(merge_heads(x)).reshape(x_BLD.shape))


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

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.activation = config.activation
        self.gate = Linear(config.d_model, config.d_ff, bias=False)
        self.up = Linear(config.d_model, config.d_ff, bias=False)
        self.down = Linear(config.d_ff, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)

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
        self.ff = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BLD: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.attention.project(self.norm_attention(x_BLD))
        return self.rest(x_BLD, attend(q, k, v, bias, mask))

    def rest(self, x: Tensor, attended_BhLd: Tensor) -> Tensor:
        """What follows attention."""
        x = x + self.dropout(self.attention.out(merge_heads(attended_BhLd)))
        return cast(Tensor, x + self.dropout(self.ff(self.norm_ff(x))))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention and feed-forward, each behind its norm."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.norm_attention = RMSNorm(config.d_model, config.norm_eps)
        self.attention = SelfAttention(config)
        self.norm_cross = RMSNorm(config.d_model, config.norm_eps)
        self.cross = CrossAttention(config)
        self.norm_ff = RMSNorm(config.d_model, config.norm_eps)
        self.ff = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x_BLD: Tensor, bias: Tensor, memory: tuple[Tensor, Tensor], memory_mask: Tensor | None
    ) -> Tensor:
        """All positions at once, as in training."""
        q, k, v = self.attention.project(self.norm_attention(x_BLD))
        return self.rest(x_BLD, attend(q, k, v, bias, None, causal=True), *memory, memory_mask)

    def step(self, x_BLD: Tensor, bias: Tensor, cache: LayerCache, start: int, mask: Tensor | None) -> Tensor:
        """The next L positions, from ``start``, given the past in ``cache``, which they extend."""
        q, k, v = self.attention.project(self.norm_attention(x_BLD))
        end = start + x_BLD.shape[1]
        cache.keys[:, :, start:end] = k
        cache.values[:, :, start:end] = v
        past_k, past_v = cache.keys[:, :, :end], cache.values[:, :, :end]
        attended = attend(q, past_k, past_v, bias, None, causal=True)
        return self.rest(x_BLD, attended, cache.memory_keys, cache.memory_values, mask)

    def rest(self, x: Tensor, attended: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """What follows self-attention."""
        x = x + self.dropout(self.attention.out(merge_heads(attended)))
        x = x + self.dropout(self.cross(self.norm_cross(x), keys, values, mask))
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
        return self.embed.weight if self.config.tied_head else self.head.weight

    def encode(self, x_BND: Tensor, mask_BN: Tensor | None, call: LayerCall = nn.Module.__call__) -> Tensor:
        """Embedded inputs ``[B, N, D]`` and which of them are real (bool, or None for all) -> outputs.

        ``call`` calls each layer: checkpointing and recording go in there.
        """
        n = x_BND.shape[1]
        mask = None if mask_BN is None else mask_BN[:, None, None, :]
        x_BND = self.dropout(x_BND)
        biases = [bias(1 - n, n - 1) for bias in self.encoder_bias]
        for i, layer in enumerate(self.encoder):
            x_BND = call(layer, x_BND, biases[i % len(biases)], mask)
        return cast(Tensor, self.dropout(self.encoder_norm(x_BND)))

    def decode(self, ids_BL: Tensor, memory_BND: Tensor, memory_mask_BN: Tensor | None) -> Tensor:
        """Decoder inputs ``[B, L]`` (targets shifted right) -> hidden states ``[B, L, D]``, ready for the head."""
        length = ids_BL.shape[1]
        mask = None if memory_mask_BN is None else memory_mask_BN[:, None, None, :]
        x_BLD = self.dropout(self.embed(ids_BL))
        biases = [bias(1 - length, length - 1) for bias in self.decoder_bias]
        for i, layer in enumerate(self._decoder_layers()):
            x_BLD = layer(x_BLD, biases[i % len(biases)], layer.cross.memory(memory_BND), mask)
        return self.to_head(x_BLD)

    def start(self, memory_BND: Tensor, memory_mask_BN: Tensor | None, max_length: int) -> Cache:
        """An empty cache for ``max_length`` steps over these encoder outputs."""
        layers = []
        for layer in self._decoder_layers():
            # each head's in one piece, as every step reads them: at 3,380 tokens that halves its attention
            keys, values = (each.contiguous() for each in layer.cross.memory(memory_BND))
            past = keys.new_zeros(keys.shape[0], keys.shape[1], max_length, keys.shape[3])
            layers.append(LayerCache(past, past.clone(), keys, values))
        return Cache(layers, None if memory_mask_BN is None else memory_mask_BN[:, None, None, :])

    def step(self, ids_BL: Tensor, cache: Cache) -> Tensor:
        """Feed the next L tokens of each row; hidden states ``[B, L, D]``. Equals :meth:`decode` on the whole.

        Raises:
            ValueError: the cache has no room for them.
        """
        start, end = cache.length, cache.length + ids_BL.shape[1]
        if end > cache.max_length:
            raise ValueError(
                f"a cache for {cache.max_length} tokens was given {end}: start it with a larger max_length"
            )
        x_BLD = self.embed(ids_BL)
        biases = [bias(1 - end, end - 1 - start) for bias in self.decoder_bias]
        for i, layer in enumerate(self._decoder_layers()):
            x_BLD = layer.step(x_BLD, biases[i % len(biases)], cache.layers[i], start, cache.memory_mask)
        cache.length = end
        return self.to_head(x_BLD)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` -> ``[..., V]``."""
        if self.config.tied_head:
            return hidden @ self.embed.weight.to(hidden.dtype).T
        return cast(Tensor, self.head(hidden))

    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.decoder))

    def to_head(self, x: Tensor) -> Tensor:
        """The last layer's outputs, ready for the head."""
        x = self.dropout(self.decoder_norm(x))
        return x * self.config.d_model**-0.5 if self.config.tied_head else x


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
    """Attention with relative bias, a block of queries at a time.

    Args:
        q: the last L positions, ``[B, h, L, d]``.
        k, v: all N positions, ``[B, h, N, d]``.
        bias: bias per distance ``key - query``, from ``-(N - 1)`` up to ``L - 1``: ``[h, N + L - 1]``.
        mask: keys that may be seen, bool ``[B, 1, 1, N]``, or None for all.
        causal: hide keys after the query.
    """
    length, learning = q.shape[2], torch.is_grad_enabled()
    rows = QUERY_BLOCK
    if not learning:
        copies = 1 if mask is None else len(mask)  # a mask makes scores differ from row to row of the batch
        rows = min(rows, max(1, SCORES // (copies * q.shape[1] * k.shape[2])))
    block = partial(_attend_block, causal=causal)
    if length <= rows:
        return block(q, k, v, bias, mask, 0, length)
    if learning:  # else autograd would keep every block's scores, heads x N x N after all
        block = partial(checkpoint, block, use_reentrant=False, preserve_rng_state=False)
    starts = range(0, length, rows)
    return torch.cat([block(q, k, v, bias, mask, start, min(start + rows, length)) for start in starts], dim=2)


def _attend_block(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None, start: int, end: int, *, causal: bool
) -> Tensor:
    length, n = q.shape[2], k.shape[2]
    rows = bias.to(q.dtype).unfold(-1, n, 1)  # [h, L, N] view; row r belongs to the query L - 1 - r
    scores = rows[:, length - end : length - start].flip(1)[None]  # [1, h, end - start, N], a copy
    if causal and length > 1:
        query = torch.arange(start, end, device=q.device) + (n - length)
        future = torch.arange(n, device=q.device)[None] > query[:, None]
        scores = scores.masked_fill_(future, float("-inf"))
    if mask is not None and len(mask) == 1:
        scores = scores.masked_fill_(~mask, float("-inf"))
    elif mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return attention(q[:, :, start:end], k, v, attn_mask=scores, scale=1.0)


def unfold_bias(bias: Tensor, keys: int) -> Tensor:
    """Bias per distance ``[h, N + L - 1]`` -> per query and key ``[h, L, N]``, of the last L of N positions."""
    return bias.unfold(-1, keys, 1).flip(1)


def _split_heads(x_BLD: Tensor, heads: int) -> Tensor:
    return x_BLD.view(*x_BLD.shape[:2], heads, -1).transpose(1, 2)  # [B, h, L, d]


def merge_heads(x_BhLd: Tensor) -> Tensor:
    """``[B, h, L, d] -> [B, L, h * d]``."""
    return x_BhLd.transpose(1, 2).flatten(2)
