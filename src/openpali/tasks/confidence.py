"""Confidence of boxes that a model wrote as text, so that average precision can rank them.

A box written as text has no score, only the log-probabilities of its tokens. A policy combines these into one
number. AP differs between policies, so it is always reported with the name of its policy, beside F1, which needs no
scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

from openpali.metrics.boxes import Detection
from openpali.text.locations import LocationCodec
from openpali.text.tokenizer import Tokenizer

Policy = Literal["mean", "coordinates", "name", "product", "constant"]
"""How a box's score follows from the probabilities of its tokens: their geometric mean over the whole box
("mean"), over its four coordinates, or over its name; their product; or 1 for every box, so that AP ranks by order
alone ("constant")."""

POLICIES: tuple[Policy, ...] = get_args(Policy)
DEFAULT_POLICY: Policy = "mean"


class Generated(Protocol):
    """The tokens of an answer, as :class:`openpali.infer.generate.Generation` has them."""

    @property
    def ids(self) -> Sequence[int]:
        """Tokens, without EOS."""
        ...

    @property
    def log_probs(self) -> Sequence[float]:
        """The model's log-probability of each token, and of EOS if the answer ended."""
        ...


def scored_boxes(
    generated: Generated,
    tokenizer: Tokenizer,
    codec: LocationCodec,
    size: tuple[int, int],
    policy: Policy = DEFAULT_POLICY,
) -> list[Detection]:
    """The boxes of a detection answer, each with a score in 0..1.

    Args:
        generated: the tokens with their log-probabilities under the model, also after beam search.
        tokenizer: the tokenizer of these tokens.
        codec: reads the boxes.
        size: height and width of the image in pixels.
        policy: see :data:`Policy`.

    Raises:
        ValueError: an unknown policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"unknown score policy {policy!r}: choose one of {', '.join(POLICIES)}")
    text = tokenizer.decode(generated.ids)
    owners = _word_of_token(generated.ids, tokenizer, codec.words(text), text)
    log_probs = generated.log_probs[: len(owners)]
    found = []
    for box, name, words in codec.find_named(text, size):
        scored = {"coordinates": words[:4], "name": words[4:]}.get(policy, words)
        logs = [log for owner, log in zip(owners, log_probs, strict=True) if owner in scored]
        total = math.fsum(logs)
        score = {"constant": 0.0, "product": total}.get(policy, total / max(1, len(logs)))
        found.append(Detection(name, box, math.exp(score)))
    return found


def _word_of_token(ids: Sequence[int], tokenizer: Tokenizer, words: Sequence[str], text: str) -> list[int]:
    """Index of the word that contains each token; -1 before the first word."""
    ends, at = [], 0
    for word in words:
        at = text.index(word, at) + len(word)
        ends.append(at)
    owners = []
    for count in range(1, len(ids) + 1):
        written = len(tokenizer.decode(ids[:count]))
        owners.append(next((n for n, end in enumerate(ends) if written <= end), len(words) - 1) if written else -1)
    return owners
