"""Gemma and Gemma 2 (arXiv 2403.08295 and 2408.00118): the decoder that PaliGemma puts text into.

Here it is a prefix-LM: the prefix sees all of itself, what follows it is causal. Positions count from 1, as in
transformers' PaliGemma; 0 is padding.

Shapes: B batch, L queries, N keys, D model width, h heads, g heads that share keys and values, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from openpali.model.attention import AttentionLayer, attend_grouped, merge_heads, split_heads
from openpali.model.init import init_children, init_normal, init_weights
from openpali.model.layers import Embedding, Linear
from openpali.model.t5 import FeedForward, KVCache
from openpali.model.vit import LayerCall


@dataclass(frozen=True)
class GemmaConfig:
    """Shape of the decoder; the last five fields are what Gemma 2 adds.

    Attributes:
        vocab_size: rows of the embedding, which is the output head, too.
        d_model, d_head, d_ff: widths of the model, of a head and of the feed-forward.
        heads, kv_heads: heads of queries, and of keys and values; as many of the former share each of the latter.
        layers: number of layers.
        query_scalar: scores are divided by its root; ``d_head`` in most sizes ("query_pre_attn_scalar").
        post_norms: also normalise what attention and feed-forward add.
        score_cap, logit_cap: bounds of attention scores and logits, ``cap * tanh(x / cap)``; None: no bound.
        window: in every other layer, from the first, a position after the prefix sees so many, itself included.
    """

    vocab_size: int
    d_model: int
    d_head: int
    heads: int
    kv_heads: int
    d_ff: int
    layers: int
    query_scalar: float
    rope_base: float = 10_000.0
    norm_eps: float = 1e-6
    post_norms: bool = False
    score_cap: float | None = None
    logit_cap: float | None = None
    window: int | None = None


class RMSNorm(nn.Module):
    """Divide by the root mean square and multiply by ``1 + weight``, all in float32."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.weight = nn.Parameter(torch.empty(config.d_model))

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
    def of(cls, positions_BL: Tensor, config: GemmaConfig, dtype: torch.dtype) -> Rotation:
        exponents = torch.arange(0, config.d_head, 2, device=positions_BL.device).float() / config.d_head
        angles = positions_BL[:, None, :, None].float() * (1 / config.rope_base**exponents)
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def __call__(self, x_BhLd: Tensor) -> Tensor:
        """Rotate each pair of the first and the second half of a head."""
        first, second = x_BhLd.chunk(2, dim=-1)
        return torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1)


class Masks(NamedTuple):
    """Which keys each query may see, bool, broadcasting to ``[B, 1, L, N]``: in all, and within the window."""

    full: Tensor
    near: Tensor


def prefix_masks(queries_BL: Tensor, keys_BN: Tensor, prefix_B: Tensor, window: int | None) -> Masks:
    """The masks of a prefix-LM, from positions (0 is padding); ``prefix_B`` is the last position of each prefix."""
    query, key, end = queries_BL[:, None, :, None], keys_BN[:, None, None, :], prefix_B[:, None, None, None]
    full = (key > 0) & (key <= torch.maximum(query, end))
    if window is None:
        return Masks(full, full)
    return Masks(full, full & ((query - key < window) | (query <= end)))


class Attention(AttentionLayer):
    """Self-attention with rotated queries and keys."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.scale, self.cap = config.query_scalar**-0.5, config.score_cap
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.query = Linear(config.d_model, config.heads * config.d_head, bias=False)
        self.key_value = Linear(config.d_model, 2 * config.kv_heads * config.d_head, bias=False)
        self.out = Linear(config.heads * config.d_head, config.d_model, bias=False)

    def init_weights(self) -> None:
        for layer in (self.query, self.key_value, self.out):
            init_normal(layer, layer.in_features**-0.5)

    def forward(self, x_BLD: Tensor, rotate: Rotation, mask: Tensor, cache: KVCache | None) -> Tensor:
        k, v = (split_heads(t, self.kv_heads) for t in self.key_value(x_BLD).chunk(2, dim=-1))
        q, k = rotate(split_heads(self.query(x_BLD), self.heads)), rotate(k)
        if cache is not None:
            k, v = cache.update(k, v)
        return cast(Tensor, self.out(merge_heads(attend_grouped(self.attend, q, k, v, mask, self.scale, self.cap))))


class Layer(nn.Module):
    """Attention and gated feed-forward, each behind its norm; in Gemma 2 also before one."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.norm_attention = RMSNorm(config)
        self.attention = Attention(config)
        self.post_attention = RMSNorm(config) if config.post_norms else nn.Identity()
        self.norm_ff = RMSNorm(config)
        self.ff = FeedForward(config.d_model, config.d_ff, "gelu")
        self.post_ff = RMSNorm(config) if config.post_norms else nn.Identity()

    def forward(self, x_BLD: Tensor, rotate: Rotation, mask: Tensor, cache: KVCache | None = None) -> Tensor:
        """The next L positions, after those that ``cache`` holds; ``mask`` as in :class:`Masks`."""
        x = x_BLD + self.post_attention(self.attention(self.norm_attention(x_BLD), rotate, mask, cache))
        return cast(Tensor, x + self.post_ff(self.ff(self.norm_ff(x))))


class Gemma(nn.Module):
    """The decoder over embedded inputs: PaliGemma puts visual tokens among them."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config)

    def init_weights(self) -> None:
        init_normal(self.embed, self.config.d_model**-0.5)
        init_children(self.layers)
        init_weights(self.norm)

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Token ids ``[..., L]`` -> ``[..., L, D]``, scaled by the root of D, which is rounded to their dtype."""
        x = cast(Tensor, self.embed(ids))
        return x * torch.tensor(self.config.d_model**0.5, dtype=x.dtype)

    def forward(
        self,
        x_BLD: Tensor,
        positions_BL: Tensor,
        masks: Masks,
        caches: Sequence[KVCache | None] = (None,),
        call: LayerCall = nn.Module.__call__,
    ) -> Tensor:
        """Embedded inputs -> hidden states ``[B, L, D]``, ready for :meth:`logits`; each layer called by ``call``.

        ``caches``: one per layer, or one None.
        """
        rotate = Rotation.of(positions_BL, self.config, x_BLD.dtype)
        for i, layer in enumerate(self.layers):
            mask = masks.full if i % 2 else masks.near
            x_BLD = call(layer, x_BLD, rotate, mask, cache=caches[i % len(caches)])
        return cast(Tensor, self.norm(x_BLD))

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` -> ``[..., V]``."""
        logits, cap = hidden @ self.embed.weight.to(hidden.dtype).T, self.config.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)
