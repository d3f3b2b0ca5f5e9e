"""Text out of a model: greedy, beam search and sampling, over one cache.

The encoder runs once, and the keys and values of cross-attention are computed once. Rows leave the batch when they
finish, so that a step costs no more than the unfinished rows. A row's text does not depend on its neighbours.

Shapes: B rows, L live hypotheses (of all rows together), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

FinishReason = Literal["eos", "length", "repetition"]

Allowed = Tensor | Callable[[int, list[int]], Sequence[int]]
"""Which tokens may come next: a bool mask ``[V]``, or a function of the row and its ids so far that lists them
(with EOS if the text may end there)."""

_LONGEST_LOOP = 8  # most tokens of an n-gram whose repetition counts as a loop
_SHORTEST_REPETITION = 24  # fewest tokens of a loop; valid runs, such as 16 equal mask tokens, are shorter


class Model(Protocol):
    """What generation needs from a model: :class:`openpali.model.pali.PaliModel`, or the compiled one.

    A memory has ``outputs`` ``[B, N, D]``; a cache can ``reorder(rows)``.
    """

    @property
    def first(self) -> int:
        """The token that starts a text."""
        ...

    def encode(self, images: Tensor | None, prompt: Tensor, frames: Tensor | None = None) -> Any:
        """Images and prompts through the encoder: a memory."""
        ...

    def start(self, memory: Any, max_length: int) -> Any:
        """A cache for up to ``max_length`` tokens."""
        ...

    def step(self, ids: Tensor, cache: Any) -> Tensor:
        """Feed the next token of each row ``[B, 1]``; logits of the one after it, ``[B, 1, V]``."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How to choose the tokens. The default is greedy.

    Attributes:
        max_tokens: most tokens to generate, EOS included.
        beams: live hypotheses of beam search; 1: no beam search.
        temperature: 0: always the likeliest token; above, sample from ``softmax(logits / temperature)``.
        top_k: sample among the k likeliest tokens only.
        top_p: sample among the fewest tokens that hold this much probability (nucleus), after ``top_k``.
        samples: generations to return per row: that many samples, or the best of the beams.
        seed: of the samples. A row's samples depend on it and on the row's inputs, not on the rest of the batch.
        length_penalty: scores are divided by ``length ** length_penalty``, EOS counted. 0: the plain sum.
        max_repeats: stop a text that ends in the same 1 to 8 tokens so many times in a row, over at least 24
            tokens; None: never.

    Raises:
        ValueError: for a value out of range, or a combination without meaning.
    """

    max_tokens: int = 64
    beams: int = 1
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    samples: int = 1
    seed: int = 0
    length_penalty: float = 0.0
    max_repeats: int | None = 8

    def __post_init__(self) -> None:
        for name in ("max_tokens", "beams", "samples", "top_k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name in ("temperature", "length_penalty"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, not {value}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, not {self.seed}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.max_repeats is not None and self.max_repeats < 2:
            raise ValueError(f"max_repeats must be at least 2 (or None), not {self.max_repeats}")
        if self.temperature == 0:
            for name in ("top_k", "top_p"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} limits sampling: set temperature above 0 too")
            if self.samples > self.beams:
                raise ValueError(
                    f"samples={self.samples} needs temperature above 0, or as many beams (now {self.beams})"
                )
        elif self.beams > 1:
            raise ValueError("beams search and temperature samples: set beams to 1 or temperature to 0")


@dataclass(frozen=True)
class Generation:
    """One text of one row.

    Attributes:
        ids: tokens, without EOS.
        log_probs: the model's log-probability of each (of its softmax at temperature 1 over the whole vocabulary,
            whatever was allowed), then that of EOS where ``finish_reason`` is "eos".
        score: their sum, over ``len(log_probs) ** length_penalty``.
        finish_reason: "eos": the model ended the text; "length": it was cut at ``max_tokens``; "repetition": it
            was cut since it ran in a loop.
    """

    ids: list[int]
    log_probs: list[float]
    score: float
    finish_reason: FinishReason


@torch.inference_mode()
def generate(
    model: Model,
    images: Tensor | None,
    prompt: Tensor,
    frames: Tensor | None = None,
    decoding: Decoding | None = None,
    eos_id: int = 1,
    allowed: Allowed | None = None,
) -> list[list[Generation]]:
    """Generate texts for a batch.

    Args:
        model: on the device of its inputs. It generates in eval mode; its own mode is restored afterwards.
        images, prompt, frames: as :class:`openpali.model.pali.PaliModel` takes them.
        decoding: None: greedy, up to 64 tokens.
        eos_id: the token that ends a text.
        allowed: which tokens may come next; None: all.

    Returns:
        For each row its ``decoding.samples`` generations, best score first.

    Beam search is big_vision's (``trainers/proj/paligemma/predict_fns.py``): each live hypothesis may end at every
    step, whatever the rank of EOS, and goes on with other tokens as well. A row is done when its finished
    hypotheses beat the best score that the live ones can still reach. Its texts end in EOS unless ``allowed``
    forbids that.

    Raises:
        ValueError: ``allowed`` leaves no token.
    """
    if prompt.shape[0] == 0:
        return []
    decoding = decoding or Decoding()
    search = _search_beams if decoding.beams > 1 else _follow
    with evaluating(model):
        return search(model, model.encode(images, prompt, frames), decoding, eos_id, allowed)


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Evaluation mode within the block; then each module gets its own mode back (frozen parts may differ).

    An engine that is not a torch module has no modes.
    """
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    if training:
        cast(nn.Module, model).eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@dataclass(frozen=True)
class _Hypothesis:
    """An unfinished text."""

    row: int
    sample: int = 0
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    total: float = 0.0

    def then(self, token: int, log_prob: float) -> _Hypothesis:
        ids, log_probs = [*self.ids, token], [*self.log_probs, log_prob]
        return _Hypothesis(self.row, self.sample, ids, log_probs, self.total + log_prob)

    def finish(self, reason: FinishReason, length_penalty: float) -> Generation:
        score = self.total / len(self.log_probs) ** length_penalty
        return Generation(self.ids[:-1] if reason == "eos" else self.ids, self.log_probs, score, reason)


def _follow(
    model: Model, memory: Any, decoding: Decoding, eos_id: int, allowed: Allowed | None
) -> list[list[Generation]]:
    """Greedy and sampling: hypotheses do not compete."""
    rows, device = memory.outputs.shape[0], memory.outputs.device
    done: list[list[Generation]] = [[] for _ in range(rows)]
    live = [_Hypothesis(row, sample) for row in range(rows) for sample in range(decoding.samples)]
    cache = model.start(memory, decoding.max_tokens)
    if decoding.samples > 1:
        cache.reorder(torch.tensor([h.row for h in live], device=device))
    noise = [
        np.random.default_rng([decoding.seed, sample]).random(decoding.max_tokens)
        for sample in range(decoding.samples)
    ]
    last = [model.first] * len(live)
    for step in range(decoding.max_tokens):
        if not live:
            break
        log_probs = _next_log_probs(model.step(torch.tensor(last, device=device)[:, None], cache))
        choices = _restrict(log_probs, live, allowed)
        if decoding.temperature == 0:
            tokens = choices.argmax(-1)
        else:
            uniform = torch.tensor([noise[h.sample][step] for h in live], dtype=torch.float64, device=device)
            tokens = _sample(choices, uniform, decoding)
        chosen = log_probs.gather(-1, tokens[:, None])[:, 0]
        going, kept = [], []
        for i, (h, token, log_prob) in enumerate(zip(live, tokens.tolist(), chosen.tolist(), strict=True)):
            after = h.then(token, log_prob)
            reason = _reason(after.ids, decoding, eos_id)
            if reason is None:
                going.append(after)
                kept.append(i)
            else:
                done[h.row].append(after.finish(reason, decoding.length_penalty))
        if len(going) < len(live):
            cache.reorder(torch.tensor(kept, dtype=torch.long, device=device))
        live, last = going, [h.ids[-1] for h in going]
    return [sorted(row, key=_by_score) for row in done]


def _search_beams(
    model: Model, memory: Any, decoding: Decoding, eos_id: int, allowed: Allowed | None
) -> list[list[Generation]]:
    """Beam search, as :func:`generate` describes it."""
    rows, device, penalty = memory.outputs.shape[0], memory.outputs.device, decoding.length_penalty
    finished: list[list[Generation]] = [[] for _ in range(rows)]
    cut: list[list[Generation]] = [[] for _ in range(rows)]  # without EOS; returned only if too few finish
    live = [_Hypothesis(row) for row in range(rows)]
    cache = model.start(memory, decoding.max_tokens)
    last = [model.first] * len(live)
    for _ in range(decoding.max_tokens):
        if not live:
            break
        log_probs = _next_log_probs(model.step(torch.tensor(last, device=device)[:, None], cache))
        choices = _restrict(log_probs, live, allowed)
        eos = choices[:, eos_id].tolist()
        choices[:, eos_id] = -math.inf
        values, tokens = (t.tolist() for t in choices.topk(min(decoding.beams, choices.shape[1])))

        candidates: list[list[tuple[_Hypothesis, int]]] = [[] for _ in range(rows)]
        for i, h in enumerate(live):
            if eos[i] > -math.inf:
                finished[h.row].append(h.then(eos_id, eos[i]).finish("eos", penalty))
            for token, value in zip(tokens[i], values[i], strict=True):
                if value > -math.inf:
                    candidates[h.row].append((h.then(token, value), i))
        going, kept = [], []
        for row in range(rows):
            finished[row] = sorted(finished[row], key=_by_score)[: decoding.samples]
            best = sorted(candidates[row], key=lambda c: -c[0].total)[: decoding.beams]
            if len(finished[row]) == decoding.samples and best:
                # sums only fall: a live hypothesis can reach at most its sum over the longest length
                reachable = best[0][0].total / decoding.max_tokens**penalty
                if reachable < finished[row][-1].score:
                    continue
            for h, i in best:
                reason = _reason(h.ids, decoding, eos_id)
                if reason is None:
                    going.append(h)
                    kept.append(i)
                else:
                    cut[row].append(h.finish(reason, penalty))
        if kept != list(range(len(live))):
            cache.reorder(torch.tensor(kept, dtype=torch.long, device=device))
        live, last = going, [h.ids[-1] for h in going]
    return [(f + sorted(c, key=_by_score))[: decoding.samples] for f, c in zip(finished, cut, strict=True)]


def _by_score(generation: Generation) -> float:
    return -generation.score


def _next_log_probs(logits_L1V: Tensor) -> Tensor:
    return logits_L1V[:, -1].float().log_softmax(-1)


def _restrict(log_probs_LV: Tensor, live: list[_Hypothesis], allowed: Allowed | None) -> Tensor:
    """Minus infinity at tokens that may not come next."""
    if allowed is None:
        return log_probs_LV
    if isinstance(allowed, Tensor):
        mask = allowed.to(log_probs_LV.device)
        if mask.shape != log_probs_LV.shape[1:] or not mask.any():
            raise ValueError(
                f"allowed must be a mask of the {log_probs_LV.shape[1]} tokens, at least one of them true"
            )
    else:
        mask = torch.zeros(log_probs_LV.shape, dtype=torch.bool)
        for i, h in enumerate(live):
            tokens = list(allowed(h.row, h.ids))
            if not tokens:
                raise ValueError(
                    f"allowed leaves row {h.row} no token after {h.ids}: list EOS where a text may end"
                )
            mask[i, tokens] = True
        mask = mask.to(log_probs_LV.device)
    return log_probs_LV.masked_fill(~mask, -math.inf)


def _sample(choices_LV: Tensor, uniform_L: Tensor, decoding: Decoding) -> Tensor:
    """Tokens ``[L]`` by inverting the cumulative distribution at ``uniform_L``."""
    scaled = choices_LV / decoding.temperature
    if decoding.top_k is not None and decoding.top_k < scaled.shape[1]:
        least = scaled.topk(decoding.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -math.inf)
    if decoding.top_p is not None:
        probs, order = scaled.softmax(-1).sort(descending=True, stable=True)
        beyond = probs.cumsum(-1) - probs >= decoding.top_p  # the nucleus is full before this token
        scaled = scaled.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -math.inf)
    cumulated = scaled.double().softmax(-1).cumsum(-1)
    return (cumulated > uniform_L[:, None] * cumulated[:, -1:]).int().argmax(-1)


def _reason(ids: list[int], decoding: Decoding, eos_id: int) -> FinishReason | None:
    """Why the text ends with its last token; None if it goes on."""
    if ids[-1] == eos_id:
        return "eos"
    if decoding.max_repeats is not None and loops(ids, decoding.max_repeats):
        return "repetition"
    return "length" if len(ids) == decoding.max_tokens else None


def loops(ids: Sequence[int], repeats: int) -> bool:
    """Whether ``ids`` end in the same 1 to 8 tokens, ``repeats`` times or more in a row, over 24 tokens or more."""
    for n in range(1, _LONGEST_LOOP + 1):
        length = n * max(repeats, math.ceil(_SHORTEST_REPETITION / n))
        if len(ids) >= length and ids[-1] == ids[-1 - n]:
            tail = ids[-length:]
            if tail[n:] == tail[:-n]:
                return True
    return False
