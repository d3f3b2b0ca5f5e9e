"""Scaled dot-product attention: the backends that compute it, and T5's relative bias, a block of queries at a time.

A backend is a function of query, key, value and :class:`Scoring`. Each module with attention holds one:
:func:`auto`, until the owner of the model gives it another with :func:`set_attention`.

Shapes: B batch, h heads, L queries, N keys, d head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import ClassVar, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openpali.model.cache import Pair
from openpali.model.layers import Linear

QUERY_BLOCK = 1024  # most queries whose bias is materialised at a time: heads x block x keys, never heads x N x N
SCORES = 2**25  # without gradients, most elements of bias at a time: the number of queries follows from the keys
FEW_SCORES = 256**2  # per head; up to here holding the scores costs less than a fused kernel saves
CACHED = 2**19  # scores per thread that stay in its cache until the values are weighted
FEWEST_ROWS = 64  # queries of a block; a matmul of fewer is slower
MOST_ROWS = 512  # with more, a block has one head, which many threads cannot share


class Scoring(NamedTuple):
    """How scores become weights, beside the queries and keys."""

    mask: Tensor | None = None  # which keys may be seen, bool; broadcasts to [..., L, N]
    scale: float | None = None  # of the scores; None: d ** -0.5
    # added to the scores, float of the queries' dtype; broadcasts to [..., L, N]. It may hide keys with -inf, but
    # not all keys of a query
    bias: Tensor | None = None
    # bounds the scores before the bias, cap * tanh(scores / cap), which no fused kernel does
    cap: float | None = None

    def block(self, at: tuple[slice, slice, slice]) -> Scoring:
        """This scoring, of a block of rows of the batch, heads and queries."""
        mask, bias = (None if t is None else _block_of(t, at) for t in (self.mask, self.bias))
        return self._replace(mask=mask, bias=bias)

    @property
    def fused(self) -> Tensor | None:
        """Mask and bias as fused kernels take them, in one: bool, or added to the scores."""
        if self.mask is None or self.bias is None:
            return self.mask if self.bias is None else self.bias
        return self.bias.masked_fill(~self.mask, -math.inf)


PLAIN = Scoring()


class Backend(Protocol):
    """Computes attention."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
        """Attend to the keys.

        Args:
            q, k, v: ``[..., L, d]``, ``[..., N, d]``, ``[..., N, d]``.
            how: mask, scale, bias and bound of the scores.

        Returns:
            ``[..., L, d]``; zeros for a query whose keys the mask hides all.
        """
        ...


def sdpa(q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
    """torch's fused kernels; :func:`eager` for scores with a bound."""
    if how.cap is not None:
        return eager(q, k, v, how)
    added = how.fused
    if added is not None and q.device.type != "cpu":
        added = added.contiguous()  # kernels of GPUs take rows that are aligned
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=how.scale)


def eager(q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
    """Two matmuls and a softmax."""
    return _zero_unseeing(_weights(q, k, how) @ v, how.mask)


def blockwise(q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
    """:func:`eager` of so few ``[B, h, L, d]`` queries at a time that their scores stay in the cache."""
    if how.mask is not None and bool(how.mask.all()):
        how = how._replace(mask=None)  # gives the same bits in less time
    batch, heads, length, _ = q.shape
    n, most = k.shape[2], CACHED * torch.get_num_threads()
    # the most queries, then heads, then rows of the batch
    rows = min(length, MOST_ROWS, max(FEWEST_ROWS, most // n))
    group = min(heads, max(1, most // (rows * n)))
    some = min(batch, max(1, most // (group * rows * n)))
    if (some, group, rows) == (batch, heads, length):
        return eager(q, k, v, how)
    q, k, v = (t.contiguous() for t in (scaled(q, how.scale), k, v))
    out = q.new_empty(*q.shape[:3], v.shape[3])
    # the memory of all blocks: new memory for each would take longer than its softmax
    scores, weights = (q.new_empty(some * group * rows * n) for _ in range(2))
    for at in product(_slices(batch, some), _slices(heads, group), _slices(length, rows)):
        queries = q[at]
        size = queries.shape[:3].numel() * n
        raw, soft = (t[:size].view(-1, queries.shape[2], n) for t in (scores, weights))
        torch.bmm(queries.flatten(0, 1), k[at[:2]].flatten(0, 1).transpose(1, 2), out=raw)
        final = _shift(raw.view(*queries.shape[:3], n), how.block(at))
        torch.softmax(final.flatten(0, 1), -1, out=soft)
        out[at] = (soft @ v[at[:2]].flatten(0, 1)).view(*queries.shape[:3], -1)
    return _zero_unseeing(out, how.mask)


def _weights(q: Tensor, k: Tensor, how: Scoring) -> Tensor:
    """Attention weights ``[..., L, N]``; finite and without meaning for a query that may see no key."""
    return _shift(scaled(q, how.scale) @ k.transpose(-2, -1), how).softmax(-1)


def _zero_unseeing(rows: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the rows ``[..., L, *]`` of queries that may see no key."""
    return rows if mask is None else rows * mask.any(-1, keepdim=True)


def scaled(q: Tensor, scale: float | None) -> Tensor:
    """Queries times the scale of the scores, see :class:`Scoring`."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return q if scale == 1.0 else q * scale


def _shift(scores: Tensor, how: Scoring) -> Tensor:
    """Bound, bias and mask on scores, in place: on a CPU, new memory for them takes as long as their softmax."""
    if how.cap is not None:
        # the last not in place: the gradient needs the tangents
        scores = scores.div_(how.cap).tanh_().mul(how.cap)
    if how.bias is not None:
        scores.add_(how.bias)
    if how.mask is not None:
        # finite: the softmax of a row of -inf is nan, and so is its gradient
        scores.masked_fill_(~how.mask, torch.finfo(scores.dtype).min)
    return scores


def auto(q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
    """The fastest that memory allows: in bf16 on a CPU :func:`blockwise` without gradients, and with them
    :func:`eager` for few scores or if the bias learns; else :func:`sdpa`.

    There the fused kernel takes 14 times as long for one query over 3,380 keys, 4 times for a training step over
    36 tokens, and 1.6 times for 3,364 over as many; but it holds no scores, and those of many tokens are most of a
    training step's memory. With a bias that learns it holds them too, in float32.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        if not torch.is_grad_enabled():
            return blockwise(q, k, v, how)
        learns = how.bias is not None and how.bias.requires_grad
        if learns or q.shape[-2] * k.shape[-2] <= FEW_SCORES:
            return eager(q, k, v, how)
    return sdpa(q, k, v, how)


def _slices(length: int, most: int) -> list[slice]:
    return [slice(start, start + most) for start in range(0, length, most)]


def _block_of(t: Tensor, at: tuple[slice, slice, slice]) -> Tensor:
    """Of a tensor that broadcasts to ``[B, h, L, N]``, what broadcasts to a block of it."""
    t = t[(None,) * (4 - t.ndim)]
    whole = slice(None)
    return t[tuple(whole if size == 1 else place for size, place in zip(t.shape[:3], at, strict=True))]


class AttentionLayer(nn.Module):
    """Base of the modules that compute attention: with ``attend``.

    Attributes:
        qk_clip: whether QK-clip (:mod:`openpali.train.optim.qk_clip`) may meet it.
    """

    qk_clip: ClassVar[bool] = True
    attend: Backend = staticmethod(auto)


class CrossAttention(AttentionLayer):
    """Attention of a decoder to the encoder's outputs; subclasses draw the weights.

    Args:
        width: D.
        inner: all heads together, h * d.
        scale: as of :class:`Scoring`.
    """

    def __init__(self, width: int, inner: int, heads: int, *, bias: bool, scale: float | None = None) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.query = Linear(width, inner, bias=bias)
        self.key_value = Linear(width, 2 * inner, bias=bias)
        self.out = Linear(inner, width, bias=bias)

    def memory(self, memory_BND: Tensor) -> Pair:
        """Keys and values of the encoder's outputs, each ``[B, h, N, d]``: once per image, not once per token."""
        k, v = self.key_value(memory_BND).chunk(2, dim=-1)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def forward(self, x_BLD: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend to keys and values ``[M, h, N, d]``; B // M rows after one another share each."""
        shared = x_BLD.reshape(keys.shape[0], -1, x_BLD.shape[-1]) if x_BLD.shape[0] else x_BLD
        q = split_heads(self.query(shared), self.heads)
        x = self.attend(q, keys, values, Scoring(mask, self.scale))
        return cast(Tensor, self.out(merge_heads(x)).reshape(x_BLD.shape))


def set_attention(model: nn.Module, backend: Backend) -> None:
    """Let every attention in ``model`` use ``backend``."""
    for layer in _layers(model):
        layer.attend = backend


@contextmanager
def attending(model: nn.Module, backend: Backend) -> Iterator[None]:
    """Use ``backend`` in every attention layer of ``model`` inside the block; afterwards, the previous ones."""
    before = [(layer, layer.attend) for layer in _layers(model)]
    set_attention(model, backend)
    try:
        yield
    finally:
        for layer, own in before:
            layer.attend = own


def _layers(model: nn.Module) -> list[AttentionLayer]:
    return [module for module in model.modules() if isinstance(module, AttentionLayer)]


def attend_with_bias(
    attend: Backend, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None, causal: bool = False
) -> Tensor:
    """Attention with relative bias and unscaled scores, as many queries at a time as memory allows.

    Args:
        attend: computes each block.
        q: the last L positions, ``[B, h, L, d]``.
        k, v: all N positions, ``[B, h, N, d]``.
        bias: per distance ``key - query``, from ``-(N - 1)`` to ``L - 1``: ``[h, N + L - 1]``. Or complete, per
            query and key: ``[B, h, L, N]`` (or 1 for B), -inf for keys that may not be seen; without a mask then.
        mask: keys that may be seen, bool ``[B, 1, 1, N]``, or None for all.
        causal: hide keys after the query, if the bias is per distance.
    """
    if bias.ndim == 4:
        assert mask is None
        return attend(q, k, v, Scoring(None, 1.0, bias.to(q.dtype)))
    block = partial(_attend_block, attend, q, k, v, bias, mask, causal=causal)
    # with a mask, scores differ between the rows of a batch
    copies = 1 if mask is None else len(mask)
    return _in_blocks(block, q.shape[2], copies * q.shape[1] * k.shape[2])


class Band(NamedTuple):
    """A mask of queries that see the keys near their own position, as many as there are queries."""

    real: Tensor  # which keys may be seen at all, bool ``[B, N]``
    before: int  # how many before and after its own a query sees
    after: int

    def block(self, start: int, end: int) -> tuple[slice, Tensor]:
        """The keys that queries ``start..end - 1`` may see, and the mask over these, bool ``[B, 1, L, keys]``."""
        keys = slice(max(0, start - self.before), end + self.after)
        places = torch.arange(self.real.shape[1], device=self.real.device)
        ahead = places[keys] - places[start:end, None]
        return keys, self.real[:, None, None, keys] & (ahead >= -self.before) & (ahead <= self.after)


def attend_grouped(
    attend: Backend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | Band | None,
    scale: float,
    cap: float | None = None,
) -> Tensor:
    """Attention where several heads of queries share one of keys and values, as many queries at a time as memory
    allows.

    Args:
        attend: computes each block.
        q: ``[B, h, L, d]``.
        k, v: ``[B, g, N, d]``; the first ``h / g`` heads of ``q`` see the first head of these, and so on.
        mask, scale, cap: as in :class:`Scoring`; the mask is the same for all heads, ``[B, 1, L, N]`` (or 1 for L).
            Of a :class:`Band`, each block of queries takes the keys that it sees alone.
    """
    shared, length, n = q.shape[1] // k.shape[1], q.shape[2], k.shape[2]
    if length == 1 and not isinstance(mask, Band):
        # the heads that share keys are as many queries of one head: no key is copied
        how = Scoring(mask, scale, None, cap)
        return attend(q.reshape(len(q), k.shape[1], shared, -1), k, v, how).reshape(q.shape)
    k, v = (t.repeat_interleave(shared, 1) for t in (k, v))

    def block(start: int, end: int) -> Tensor:
        if isinstance(mask, Band):
            keys, own = mask.block(start, end)
            return attend(q[:, :, start:end], k[:, :, keys], v[:, :, keys], Scoring(own, scale, None, cap))
        rows = mask if mask is None or mask.shape[2] == 1 else mask[:, :, start:end]
        return attend(q[:, :, start:end], k, v, Scoring(rows, scale, None, cap))

    seen = min(n, QUERY_BLOCK + mask.before + mask.after) if isinstance(mask, Band) else n
    return _in_blocks(block, length, len(q) * q.shape[1] * seen)


def _in_blocks(block: Callable[[int, int], Tensor], length: int, scores: int) -> Tensor:
    """``block(start, end)`` of all ``length`` queries, concatenated; each query has ``scores`` scores to hold."""
    learning = torch.is_grad_enabled()
    rows = QUERY_BLOCK if learning else min(QUERY_BLOCK, max(1, SCORES // max(1, scores)))
    if length <= rows:
        return block(0, length)
    if learning:  # else autograd would keep the scores of every block, heads x N x N in all
        block = partial(checkpoint, block, use_reentrant=False, preserve_rng_state=False)
    starts = range(0, length, rows)
    return torch.cat([block(start, min(start + rows, length)) for start in starts], dim=2)


def _attend_block(
    attend: Backend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    mask: Tensor | None,
    start: int,
    end: int,
    *,
    causal: bool,
) -> Tensor:
    length, n = q.shape[2], k.shape[2]
    # Last query first: its row of biases, moved on by one, is that of the query before, so all rows are one view.
    # A copy takes as long as the scores.
    bias = bias.to(q.dtype).contiguous()
    added = bias.unfold(-1, n, 1)[None, :, length - end : length - start]  # [1, h, end - start, N]
    if causal and length > 1:
        query = torch.arange(end - 1, start - 1, -1, device=q.device) + (n - length)
        future = torch.arange(n, device=q.device)[None] > query[:, None]
        added = added.masked_fill(future, -math.inf)
    how = Scoring(mask, 1.0, added)
    return attend(q[:, :, start:end].flip(2), k, v, how).flip(2)


def unfold_bias(bias: Tensor, keys: int) -> Tensor:
    """Bias per distance ``[h, N + L - 1]`` -> per query and key ``[h, L, N]``, of the last L of N positions."""
    return bias.unfold(-1, keys, 1).flip(1)


def split_heads(x_BLD: Tensor, heads: int) -> Tensor:
    """``[B, L, h * d] -> [B, h, L, d]``."""
    return x_BLD.view(*x_BLD.shape[:2], heads, int(x_BLD.shape[2]) // heads).transpose(1, 2)


def merge_heads(x_BhLd: Tensor) -> Tensor:
    """``[B, h, L, d] -> [B, L, h * d]``."""
    return x_BhLd.transpose(1, 2).flatten(2)
