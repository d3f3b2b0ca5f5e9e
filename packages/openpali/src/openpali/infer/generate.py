"""Text out of a model: greedy, beam search and sampling, over one cache.

The encoder runs once, and the keys and values of cross-attention are computed once. Rows leave the batch when they
finish, so that a step costs no more than the unfinished rows; others may join at any step, each with its own way of
decoding. A row's text does not depend on its neighbours.

Shapes: B rows, L live hypotheses (of all rows together), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from openpali.infer.batches import group
from openpali.model.patches import Images
from openpali.model.vision_language import VisualTokens

FinishReason = Literal["eos", "length", "repetition", "stop"]

Allowed = Callable[[list[int]], Sequence[int]]
"""The tokens that may come next in a row, of its ids so far; with EOS if the text may end there."""

MAX_TOKENS = 64  # of a text, where nothing says how long it may be
_LEAST = {
    **dict.fromkeys(("max_tokens", "beams", "samples"), 1),
    **dict.fromkeys(("temperature", "seed", "no_repeat_ngram_size"), 0),
    "max_repeats": 2,
}
"""The least of each number of :class:`Decoding`."""
_LONGEST_LOOP = 8  # most tokens of an n-gram whose repetition counts as a loop
_COLDEST = 1e-30  # temperature; below, float32 overflows, and the most probable token is certain before
_SHORTEST_REPETITION = 24  # fewest tokens of a loop; valid runs, such as 16 equal mask tokens, are shorter


class Model(Protocol):
    """A :class:`openpali.model.vision_language.VisionLanguageModel`, or what an engine makes of it.

    A memory has ``outputs`` ``[B, N, D]`` and ``mask`` ``[B, N]``, which of them are real, from the first position
    on; a cache can ``reorder(rows)`` and ``append(cache)``.
    """

    @property
    def first(self) -> int:
        """The token that starts a text."""
        ...

    @property
    def precision(self) -> str:
        """What it computes in: "fp32", "bf16" or "fp16"."""
        ...

    def encode_images(self, images: Images, frames: Tensor | None = None) -> VisualTokens:
        """Images of rows, and how many of each row's are real, through the image encoder."""
        ...

    def encode_tokens(self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None) -> Any:
        """Visual tokens and prompts through the encoder: a memory."""
        ...

    def start(self, memory: Any, max_length: int) -> Any:
        """A cache for up to ``max_length`` tokens."""
        ...

    def step(self, ids: Tensor, cache: Any) -> Tensor:
        """Feed the next token of each row ``[B, 1]``; logits of the one after it, ``[B, 1, V]``."""
        ...


Candidates = Sequence[tuple[int, float]]
"""Tokens that may follow a text, with their log-probabilities."""


@dataclass(frozen=True)
class Decoding:
    """How to choose the tokens. The default is greedy.

    Attributes:
        max_tokens: most tokens to generate, EOS included; None: as many as the task's answers may have
            (:meth:`openpali.infer.pipeline.Pipeline.decoding_for`), or else 64.
        beams: live hypotheses of beam search; 1: no beam search.
        temperature: 0: always the most probable token; above, sample from ``softmax(logits / temperature)``.
        top_p: sample among the fewest tokens that hold this much probability (nucleus).
        samples: generations to return per row: that many samples, or the best of the beams.
        seed: of the samples. A row's samples depend on it and on the row's inputs, not on the rest of the batch.
        max_repeats: stop a text that ends in the same 1 to 8 tokens so many times in a row, over at least 24
            tokens; None: never.
        no_repeat_ngram_size: no n-gram of so many tokens comes twice in a text, as in transformers; 0: any may;
            None: as the model says (:meth:`openpali.infer.pipeline.Pipeline.decoding_for`), or else 0.
    """

    max_tokens: int | None = None
    beams: int = 1
    temperature: float = 0.0
    top_p: float | None = None
    samples: int = 1
    seed: int = 0
    max_repeats: int | None = 8
    no_repeat_ngram_size: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise ValueError(f"{name} must be at least {least} and finite, not {value}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.temperature:
            if self.beams > 1:
                raise ValueError("beams search and temperature samples: set beams to 1 or temperature to 0")
        elif self.top_p is not None:
            raise ValueError("top_p limits sampling: set temperature above 0 too")
        elif self.samples > self.beams:
            raise ValueError(
                f"samples={self.samples} needs temperature above 0, or as many beams (now {self.beams})"
            )

    @property
    def most_tokens(self) -> int:
        """``max_tokens``, or what it stands for."""
        return MAX_TOKENS if self.max_tokens is None else self.max_tokens

    @cached_property
    def choice(self) -> Decoding:
        """The settings that rows must share to be decoded together: fields that concern a row alone are reset."""
        return replace(self, max_tokens=1, samples=1, seed=0, max_repeats=None, no_repeat_ngram_size=None)


@dataclass(frozen=True)
class Generation:
    """One text of one row.

    Attributes:
        ids: tokens, without EOS.
        log_probs: the model's log-probability of each (of its softmax at temperature 1 over the whole vocabulary,
            whatever was allowed), then that of EOS where ``finish_reason`` is "eos".
        score: their sum.
        finish_reason: "eos": the model ended the text; "length": it was cut at ``max_tokens``; "repetition": it
            was cut since it ran in a loop; "stop": it was cut since :attr:`Ask.stop` says that it is complete.
        alternatives: the most probable tokens at the place of each, if :class:`Ask` wants them; else empty.
    """

    ids: list[int]
    log_probs: list[float]
    score: float
    finish_reason: FinishReason
    alternatives: Sequence[Candidates] = ()

    @property
    def complete(self) -> bool:
        """Whether the model ended the text itself."""
        return self.finish_reason == "eos"


class Written(NamedTuple):
    """The tokens of a text so far, the log-probability of each, and its alternatives (see :class:`Generation`)."""

    ids: Sequence[int] = ()
    log_probs: Sequence[float] = ()
    alternatives: Sequence[Candidates] = ()


@torch.inference_mode()
def generate(
    model: Model,
    images: Images | None,
    prompt: Tensor,
    frames: Tensor | None = None,
    decoding: Decoding | None = None,
    eos_id: int = 1,
    allowed: Allowed | None = None,
) -> list[list[Generation]]:
    """Generate texts for a batch.

    Args:
        model: on the device of its inputs. It generates in eval mode; its own mode is restored afterwards.
        images, prompt, frames: as :class:`openpali.architectures.pali.PaliModel` takes them.
        decoding: None: greedy, up to 64 tokens.
        eos_id: the token that ends a text.
        allowed: which tokens may come next in each row; None: all.

    Returns:
        For each row its ``decoding.samples`` generations, best score first.

    Beam search is that of big_vision's ``predict_fns.py``: each live hypothesis may end at every
    step, whatever the rank of EOS, and goes on with other tokens as well. A row is done when its finished
    hypotheses beat the best score that the live ones can still reach. Its texts end in EOS unless ``allowed``
    forbids that.
    """
    if prompt.shape[0] == 0:
        return []
    decoding = decoding or Decoding()
    with evaluating(model):
        memory = encode(model, images, prompt, frames)
        return write(model, memory, [Ask(decoding, allowed)] * len(prompt), eos_id)


def encode(model: Model, images: Images | None, prompt: Tensor, frames: Tensor | None = None) -> Any:
    """Images and prompts through the encoder: a memory."""
    if images is None:
        return model.encode_tokens(None, prompt)
    _, tokens, counts = model.encode_images(images, frames)
    return model.encode_tokens(tokens, prompt, counts)


def write(model: Model, memory: Any, asks: Sequence[Ask], eos_id: int) -> list[list[Generation]]:
    """The texts of a batch, from its memory: see :func:`generate`."""
    rows = Rows(model, eos_id)
    texts = rows.add(rows.begin(memory, asks))
    while len(rows):
        rows.step()
    return [text.generations for text in texts]


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
class Ask:
    """What to generate for one row.

    Attributes:
        decoding: how.
        allowed: which tokens may come next; None: all.
        stop: whether a text of these tokens is complete; None: never.
        alternatives: how many of the most probable tokens to note at each place.
    """

    decoding: Decoding = Decoding()
    allowed: Allowed | None = None
    stop: Callable[[list[int]], bool] | None = None
    alternatives: int = 0


class Rows:
    """Rows that are generated together, a token at a time. They may join at any step, and leave when they finish.

    Args:
        model: in evaluation mode.
        eos_id: the token that ends a text.
    """

    def __init__(self, model: Model, eos_id: int) -> None:
        self._model = model
        self._eos_id = eos_id
        self._live: list[Text] = []  # in the order of the cache, each with its hypotheses after one another
        self._cache: Any = None
        self._joined = 0
        self._device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self._live)

    @torch.inference_mode()
    def begin(self, memory: Any, asks: Sequence[Ask]) -> tuple[list[Text], Any]:
        """New rows and their cache, for :meth:`add`. An error here harms no other row.

        Args:
            memory: of the model's encoder, ``[B, N, D]``.
            asks: what to generate for each row.
        """
        texts = [(_Beams if ask.decoding.beams > 1 else Text)(ask, i) for i, ask in enumerate(asks, self._joined)]
        self._joined += len(texts)
        self._device = memory.outputs.device
        cache = self._model.start(memory, max(ask.decoding.most_tokens for ask in asks))
        owners = [row for row, text in enumerate(texts) for _ in text.live]
        if len(owners) > len(texts):
            cache.reorder(torch.tensor(owners, device=self._device))
        return texts, cache

    @torch.inference_mode()
    def add(self, begun: tuple[list[Text], Any]) -> list[Text]:
        """Let new rows take part from the next step on."""
        texts, cache = begun
        if self._live:
            self._cache.append(cache)
        else:
            self._cache = cache
        self._live += texts
        return texts

    @torch.inference_mode()
    def step(self) -> None:
        """Generate the next token of each row."""
        live = [(text, h) for text in self._live for h in text.live]
        ids = torch.tensor([h.ids[-1] if h.ids else self._model.first for _, h in live], device=self._device)
        log_probs = self._model.step(ids[:, None], self._cache)[:, -1].float().log_softmax(-1)
        found = _candidates(_restrict(log_probs, live, self._model.first), live, self._eos_id)
        if most := max(text.ask.alternatives for text in self._live):
            self._note(log_probs.topk(min(most, log_probs.shape[1])))
        kept, first = [], 0
        for text in self._live:
            end = first + len(text.live)
            kept.append([first + i for i in text.advance(found[first:end], self._eos_id)])
            first = end
        self._keep(kept, len(live))

    @torch.inference_mode()
    def drop(self, texts: Collection[Text]) -> None:
        """Let unfinished rows leave."""
        kept, first = [], 0
        for text in self._live:
            end = first + len(text.live)
            kept.append([] if text in texts else list(range(first, end)))
            first = end
        self._keep(kept, first)

    def _note(self, best: torch.return_types.topk) -> None:
        """Note the most probable tokens of each hypothesis whose text asks for them."""
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        for text in self._live:
            noted = [list(zip(*next(rows), strict=True))[: text.ask.alternatives] for _ in text.live]
            if text.ask.alternatives:
                text.live = [h.noting(pairs) for h, pairs in zip(text.live, noted, strict=True)]

    def _keep(self, kept: Sequence[Sequence[int]], count: int) -> None:
        """Keep these of ``count`` rows of the cache for each text, and no text without any.

        The last texts take the places of those that leave, so that all others stay where they are.
        """
        staying = [i for i, rows in enumerate(kept) if rows]
        gaps = [i for i in range(len(staying)) if not kept[i]]
        moves = dict(zip(gaps, staying[len(staying) - len(gaps) :], strict=True))
        order = [moves.get(i, i) for i in range(len(staying))]
        self._live = [self._live[i] for i in order]
        rows = [row for i in order for row in kept[i]]
        if not rows:
            self._cache = None
        elif rows != list(range(count)):
            self._cache.reorder(torch.tensor(rows, device=self._device))


@dataclass(frozen=True)
class _Hypothesis:
    """An unfinished text."""

    sample: int = 0
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    total: float = 0.0
    alternatives: Sequence[Candidates] = ()

    def noting(self, pairs: Candidates) -> _Hypothesis:
        return replace(self, alternatives=[*self.alternatives, pairs])

    def then(self, token: int, log_prob: float) -> _Hypothesis:
        ids, log_probs = [*self.ids, token], [*self.log_probs, log_prob]
        return _Hypothesis(self.sample, ids, log_probs, self.total + log_prob, self.alternatives)

    def finish(self, reason: FinishReason) -> Generation:
        ids = self.ids[:-1] if reason == "eos" else self.ids
        return Generation(ids, self.log_probs, self.total, reason, self.alternatives)


class Text:
    """What is generated for a row, greedily or by sampling: hypotheses do not compete.

    Attributes:
        index: how many rows joined before.
        live: unfinished hypotheses.
    """

    def __init__(self, ask: Ask, index: int) -> None:
        self.ask, self.index = ask, index
        self._done: list[Generation] = []
        decoding = ask.decoding
        self.live: Sequence[_Hypothesis] = [_Hypothesis(sample) for sample in range(decoding.samples)]
        self._noise = [
            np.random.default_rng([decoding.seed, sample]).random(decoding.most_tokens)
            for sample in range(decoding.samples if decoding.temperature else 0)
        ]

    @property
    def generations(self) -> list[Generation]:
        """The ``decoding.samples`` texts, best score first, once none is unfinished."""
        return sorted(self._done, key=_by_score)

    @property
    def written(self) -> Written:
        """What is written so far, if there is one text and it does not change any more."""
        if self.ask.decoding.samples > 1 or self.ask.decoding.beams > 1:
            return Written()
        [text] = self.live or self._done
        return Written(text.ids, text.log_probs, text.alternatives)

    @staticmethod
    def candidates(choices_LV: Tensor, live: Sequence[tuple[Text, _Hypothesis]], eos_id: int) -> list[Candidates]:
        """What may follow hypotheses of texts that are decoded alike, given log-probabilities."""
        decoding = live[0][0].ask.decoding
        if decoding.temperature == 0:
            tokens = choices_LV.argmax(-1)
        else:
            noise = [text._noise[h.sample][len(h.ids)] for text, h in live]
            uniform = torch.tensor(noise, dtype=torch.float64, device=choices_LV.device)
            tokens = _sample(choices_LV, uniform, decoding)
        log_probs = choices_LV.gather(-1, tokens[:, None])[:, 0]
        pairs: list[tuple[int, float]] = list(zip(tokens.tolist(), log_probs.tolist(), strict=True))
        return [[pair] for pair in pairs]

    def advance(self, found: Sequence[Candidates], eos_id: int) -> list[int]:
        """Extend the live hypotheses by their candidates; returns the parent of each new one, by index."""
        after = [(h.then(*pair), i) for i, (h, [pair]) in enumerate(zip(self.live, found, strict=True))]
        return self._go_on(after, eos_id, lambda _: self._done)

    def _go_on(
        self,
        after: Sequence[tuple[_Hypothesis, int]],
        eos_id: int,
        ended: Callable[[FinishReason], list[Generation]],
    ) -> list[int]:
        """Keep hypotheses that go on, and put each other where ``ended`` says; returns the parents of the kept."""
        going, kept = [], []
        for h, parent in after:
            if reason := self._reason(h.ids, eos_id):
                ended(reason).append(h.finish(reason))
            else:
                going.append(h)
                kept.append(parent)
        self.live = going
        return kept

    def _reason(self, ids: list[int], eos_id: int) -> FinishReason | None:
        """Why the text ends with its last token; None if it goes on."""
        decoding = self.ask.decoding
        if ids[-1] == eos_id:
            return "eos"
        if self.ask.stop is not None and self.ask.stop(ids):
            return "stop"
        if decoding.max_repeats is not None and loops(ids, decoding.max_repeats):
            return "repetition"
        return "length" if len(ids) == decoding.most_tokens else None


class _Beams(Text):
    """Beam search, as :func:`generate` describes it."""

    def __init__(self, ask: Ask, index: int) -> None:
        super().__init__(ask, index)
        # as many rows as later from the start, so that rows that join each other share memories alike
        self.live = [_Hypothesis()] * ask.decoding.beams
        self._cut: list[Generation] = []  # without EOS; returned only if too few finish

    @property
    def generations(self) -> list[Generation]:
        texts = sorted(self._done, key=_by_score) + sorted(self._cut, key=_by_score)
        return texts[: self.ask.decoding.samples]

    @staticmethod
    def candidates(choices_LV: Tensor, live: Sequence[tuple[Text, _Hypothesis]], eos_id: int) -> list[Candidates]:
        ends = choices_LV[:, eos_id].tolist()
        others = choices_LV.index_fill(1, torch.tensor([eos_id], device=choices_LV.device), -math.inf)
        best = others.topk(min(live[0][0].ask.decoding.beams, choices_LV.shape[1]))
        found: list[Candidates] = []
        for end, tokens, values in zip(ends, best.indices.tolist(), best.values.tolist(), strict=True):
            pairs = [(eos_id, end), *zip(tokens, values, strict=True)]
            found.append([(token, value) for token, value in pairs if value > -math.inf])
        return found

    def advance(self, found: Sequence[Candidates], eos_id: int) -> list[int]:
        decoding = self.ask.decoding
        if not self.live[0].ids:
            found = found[:1]  # all are the same
        unfinished = []
        for i, some in enumerate(found):
            for token, value in some:
                after = self.live[i].then(token, value)
                if token == eos_id:
                    self._done.append(after.finish("eos"))
                else:
                    unfinished.append((after, i))
        self._done = sorted(self._done, key=_by_score)[: decoding.samples]
        best = sorted(unfinished, key=lambda each: -each[0].total)[: decoding.beams]
        if best and len(self._done) == decoding.samples and best[0][0].total < self._done[-1].score:
            best = []  # none can reach the score of the finished texts: sums only fall
        return self._go_on(best, eos_id, lambda reason: self._done if reason == "stop" else self._cut)


def _by_score(generation: Generation) -> float:
    return -generation.score


def _candidates(choices_LV: Tensor, live: Sequence[tuple[Text, _Hypothesis]], eos_id: int) -> list[Candidates]:
    """What may follow each hypothesis; those that are decoded alike are looked at together."""
    groups = group([text.ask.decoding.choice for text, _ in live])
    found: dict[int, Candidates] = {}
    for places in groups.values():
        some = choices_LV if len(groups) == 1 else choices_LV[places]
        of = [live[i] for i in places]
        found |= zip(places, of[0][0].candidates(some, of, eos_id), strict=True)
    return [found[i] for i in range(len(live))]


def _restrict(log_probs_LV: Tensor, live: Sequence[tuple[Text, _Hypothesis]], first: int) -> Tensor:
    """Minus infinity at tokens that may not come next, in texts that ``first`` starts.

    Where all that is allowed would repeat an n-gram, it may.
    """
    if all(text.ask.allowed is None and not text.ask.decoding.no_repeat_ngram_size for text, _ in live):
        return log_probs_LV
    mask = torch.ones(log_probs_LV.shape, dtype=torch.bool)
    for row, (text, h) in zip(mask, live, strict=True):
        allowed = text.ask.allowed
        if allowed is not None:
            tokens = list(allowed(h.ids))
            if not tokens:
                raise ValueError(
                    f"allowed leaves row {text.index} no token after {h.ids}: list EOS where a text may end"
                )
            row.fill_(False)[tokens] = True
        if size := text.ask.decoding.no_repeat_ngram_size:
            new = row.index_fill(0, torch.tensor(repeating([first, *h.ids], size), dtype=torch.long), False)
            row.copy_(new if new.any() else row)
    return log_probs_LV.masked_fill(~mask.to(log_probs_LV.device), -math.inf)


def _sample(choices_LV: Tensor, uniform_L: Tensor, decoding: Decoding) -> Tensor:
    """Tokens ``[L]`` by inverting the cumulative distribution at ``uniform_L``."""
    scaled = choices_LV / max(decoding.temperature, _COLDEST)
    if decoding.top_p is not None:
        probs, order = scaled.softmax(-1).sort(descending=True, stable=True)
        beyond = probs.cumsum(-1) - probs >= decoding.top_p  # the nucleus is full before this token
        scaled = scaled.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -math.inf)
    cumulated = scaled.double().softmax(-1).cumsum(-1)
    return (cumulated > uniform_L[:, None] * cumulated[:, -1:]).int().argmax(-1)


def repeating(ids: Sequence[int], size: int) -> list[int]:
    """The tokens after which ``ids`` would end in an n-gram of ``size`` tokens that they hold already."""
    end = list(ids[len(ids) + 1 - size :])
    return [ids[i + size - 1] for i in range(len(ids) + 1 - size) if ids[i : i + size - 1] == end]


def loops(ids: Sequence[int], repeats: int) -> bool:
    """Whether ``ids`` end in the same 1 to 8 tokens, ``repeats`` times or more in a row, over 24 tokens or more."""
    for n in range(1, _LONGEST_LOOP + 1):
        length = n * max(repeats, math.ceil(_SHORTEST_REPETITION / n))
        if len(ids) >= length and ids[-1] == ids[-1 - n]:
            tail = ids[-length:]
            if tail[n:] == tail[:-n]:
                return True
    return False
