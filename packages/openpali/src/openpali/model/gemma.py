"""Gemma, Gemma 2 and the layers of Gemma 3 (arXiv 2403.08295, 2408.00118 and 2503.19786).

:class:`Gemma` is a prefix-LM: the prefix sees all of itself, what follows it is causal. There positions count from
1, as in transformers; 0 is padding. An encoder-decoder has two stacks of layers.

Shapes: B batch, L queries, N keys, D model width, h heads, g heads that share keys and values, d head width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from openpali.model.attention import AttentionLayer, Band, attend_grouped, merge_heads, split_heads
from openpali.model.cache import Extend
from openpali.model.init import init_children, init_normal, init_weights
from openpali.model.int8 import TiedEmbedding
from openpali.model.layers import Linear
from openpali.model.t5 import FeedForward


@dataclass(frozen=True)
class GemmaConfig:
    """Shape of a stack of layers: fields from ``post_norms`` on are of Gemma 2, from ``qk_norms`` on of Gemma 3."""

    vocab_size: int  # rows of the embedding, which is the output head, too
    d_model: int
    d_head: int
    heads: int  # of queries
    kv_heads: int  # of keys and values, each shared by as many heads of queries
    d_ff: int  # width of the feed-forward
    layers: int
    query_scalar: float  # scores are divided by its root; ``d_head`` in most sizes ("query_pre_attn_scalar")
    rope_base: float = 10_000.0
    norm_eps: float = 1e-6
    post_norms: bool = False  # also normalise what attention and feed-forward add
    score_cap: float | None = None  # bounds of attention scores and logits, ``cap * tanh(x / cap)``; None: no bound
    logit_cap: float | None = None
    window: int | None = None  # positions that a query of a local layer sees, its own included, after any prefix
    period: int = 2  # of so many layers, the last is global, and the others are local
    qk_norms: bool = False  # normalise queries and keys, before they are rotated
    near_base: float | None = None  # ``rope_base`` of local layers; None: the same
    rope_factor: float = 1.0  # positions are divided by it in global layers

    def is_near(self, layer: int) -> bool:
        """Whether a layer, counted from 0, sees no more than the window."""
        return (layer + 1) % self.period != 0


class RMSNorm(nn.Module):
    """Divide by the root mean square and multiply by ``1 + weight``, all in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))

    def init_weights(self) -> None:
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        rms = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * rms * (1 + self.weight.float())).to(x.dtype)


class Rotation(NamedTuple):
    """RoPE: cosines and sines of each position, ``[B, 1, L, d / 2]``."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, positions_BL: Tensor, config: GemmaConfig, dtype: torch.dtype, *, near: bool) -> Rotation:
        """The rotation in near layers, or in those that see all."""
        base = config.near_base if near and config.near_base else config.rope_base
        exponents = torch.arange(0, config.d_head, 2, device=positions_BL.device).float() / config.d_head
        frequencies = 1 / base**exponents / (1.0 if near else config.rope_factor)
        angles = positions_BL[:, None, :, None].float() * frequencies
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def __call__(self, x_BhLd: Tensor) -> Tensor:
        """Rotate each pair of the first and the second half of a head."""
        first, second = x_BhLd.chunk(2, dim=-1)
        return torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)


class Masks(NamedTuple):
    """Which keys each query may see, bool, broadcasting to ``[B, 1, L, N]``: in all, and within the window."""

    full: Tensor
    near: Tensor | Band


def prefix_masks(queries_BL: Tensor, keys_BN: Tensor, prefix_B: Tensor, window: int | None) -> Masks:
    """The masks of a prefix-LM, from positions (0 is padding); ``prefix_B`` is the last position of each prefix."""
    query, key, end = queries_BL[:, None, :, None], keys_BN[:, None, None, :], prefix_B[:, None, None, None]
    full = (key > 0) & (key <= torch.maximum(query, end))
    if window is None:
        return Masks(full, full)
    return Masks(full, full & ((query - key < window) | (query <= end)))


class Attention(AttentionLayer):
    """Self-attention with rotated queries and keys."""

    qk_clip = False

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.scale, self.cap = config.query_scalar**-0.5, config.score_cap
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.query = Linear(config.d_model, config.heads * config.d_head, bias=False)
        self.key_value = Linear(config.d_model, 2 * config.kv_heads * config.d_head, bias=False)
        self.out = Linear(config.heads * config.d_head, config.d_model, bias=False)

        self.norm_query, self.norm_key = (
            RMSNorm(config.d_head, config.norm_eps) if config.qk_norms else nn.Identity() for _ in range(2)
        )

    def init_weights(self) -> None:
        for layer in (self.query, self.key_value, self.out):
            init_normal(layer, layer.in_features**-0.5)
        init_weights(self.norm_query)
        init_weights(self.norm_key)

    def memory(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, not rotated, and values, each ``[B, g, N, d]``."""
        k, v = self.key_value(x_BND).chunk(2, dim=-1)
        return self.norm_key(split_heads(k, self.kv_heads)), split_heads(v, self.kv_heads)

    def forward(self, x_BLD: Tensor, rotate: Rotation, mask: Tensor | Band, extend: Extend | None) -> Tensor:
        k, v = self.memory(x_BLD)
        q, k = rotate(self.norm_query(split_heads(self.query(x_BLD), self.heads))), rotate(k)
        if extend is not None:
            k, v = extend(k, v)
        return cast(Tensor, self.out(merge_heads(attend_grouped(self.attend, q, k, v, mask, self.scale, self.cap))))


class Layer(nn.Module):
    """Attention and gated feed-forward, each behind its norm; in Gemma 2 also before one."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        norm = partial(RMSNorm, config.d_model, config.norm_eps)
        self.norm_attention = norm()
        self.attention = Attention(config)
        self.post_attention = norm() if config.post_norms else nn.Identity()
        self.norm_ff = norm()
        self.ff = FeedForward(config.d_model, config.d_ff, "gelu")
        self.post_ff = norm() if config.post_norms else nn.Identity()

    def forward(self, x_BLD: Tensor, rotate: Rotation, mask: Tensor | Band, extend: Extend | None = None) -> Tensor:
        """The next L positions, after those that ``extend`` adds; ``mask`` as in :class:`Masks`."""
        x = x_BLD + self.post_attention(self.attention(self.norm_attention(x_BLD), rotate, mask, extend))
        return cast(Tensor, x + self.post_ff(self.ff(self.norm_ff(x))))


class ScaledEmbedding(TiedEmbedding):
    """Token ids ``[..., L]`` -> ``[..., L, D]``, scaled by the root of D, which is rounded to their dtype."""

    def forward(self, ids: Tensor) -> Tensor:
        x = super().forward(ids)
        return x * torch.tensor(self.embedding_dim**0.5, dtype=x.dtype)


class Stack(nn.Module):
    """Layers and a norm, over embedded inputs."""

    def __init__(self, config: GemmaConfig, layer: type[Layer] = Layer) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)

    def forward(
        self,
        x_BLD: Tensor,
        positions_BL: Tensor,
        masks: Masks,
        extends: Iterable[Extend | None] = repeat(None),
    ) -> Tensor:
        """Embedded inputs -> hidden states ``[B, L, D]``.

        ``extends``: one per layer, each taken just before its layer is called.
        """
        near, far = (Rotation.of(positions_BL, self.config, x_BLD.dtype, near=near) for near in (True, False))
        for i, (layer, extend) in enumerate(zip(self.layers, extends, strict=False)):
            rotate, mask = (near, masks.near) if self.config.is_near(i) else (far, masks.full)
            x_BLD = layer(x_BLD, rotate, mask, extend=extend)
        return cast(Tensor, self.norm(x_BLD))


class Gemma(Stack):
    """The decoder, with its embedding, which is the head. Visual tokens stand among what it embeds."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__(config)
        self.embed = ScaledEmbedding(config.vocab_size, config.d_model)

    def init_weights(self) -> None:
        init_normal(self.embed, self.config.d_model**-0.5)
        init_children(self.layers)
        init_weights(self.norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` -> ``[..., V]``."""
        return tied_logits(hidden, self.embed, self.config.logit_cap)


def tied_logits(hidden: Tensor, embed: TiedEmbedding, cap: float | None) -> Tensor:
    """Hidden states ``[..., D]`` -> ``[..., V]``, by an embedding; ``cap`` bounds them, ``cap * tanh(x / cap)``."""
    logits = embed.logits(hidden)
    return logits if cap is None else cap * torch.tanh(logits / cap)
