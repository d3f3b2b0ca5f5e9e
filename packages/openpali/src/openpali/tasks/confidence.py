"""Log-probabilities of the parts of an answer, and scores of boxes that a model wrote as text.

A box written as text has no score, only the log-probabilities of its tokens. For average precision, their mean
ranks boxes. Other scores give another AP, so its name says which (``ap/mean``); F1, beside it, needs none. How
likely a box is right is another number, :class:`openpali.metrics.calibration.Calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Protocol

from openpali.metrics.boxes import Detection
from openpali.text.locations import Coordinates, LocationCodec
from openpali.text.tokenizer import Tokenizer


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


NameFilter = Callable[[str], bool]
"""Whether objects of a name are of interest."""


def scored_boxes(
    generated: Generated,
    tokenizer: Tokenizer,
    codec: LocationCodec,
    size: tuple[int, int],
    wanted: NameFilter = lambda name: True,
) -> list[Detection]:
    """The boxes of a detection answer, each with a score in 0..1: the geometric mean of its tokens' probabilities.

    Args:
        generated: the tokens with their log-probabilities under the model, also after beam search.
        tokenizer: the tokenizer of these tokens.
        codec: reads the boxes.
        size: height and width of the image in pixels.
        wanted: leaves out the boxes of other names.
    """
    found = []
    for box, name, words in _boxes(generated, tokenizer, codec, size, wanted):
        logs = [*chain(*words)]
        found.append(Detection(name, box, math.exp(math.fsum(logs) / max(1, len(logs)))))
    return found


def box_log_probs(
    generated: Generated, tokenizer: Tokenizer, codec: LocationCodec, wanted: NameFilter = lambda name: True
) -> list[float]:
    """The log-probability of each box of a detection answer that is ``wanted``, with its name."""
    return [math.fsum(chain(*words)) for _, _, words in _boxes(generated, tokenizer, codec, (1, 1), wanted)]


def part_log_probs(
    generated: Generated, tokenizer: Tokenizer, parts: Sequence[tuple[int, int]]
) -> list[list[float]]:
    """The log-probabilities of the tokens that end in each part of an answer.

    Args:
        parts: where each starts and ends, in characters of the decoded text.
    """
    lengths = [len(tokenizer.decode(generated.ids[:count])) for count in range(1, len(generated.ids) + 1)]
    ends = [*accumulate(reversed(lengths), min)][::-1]  # a part of a character may decode to more than the whole
    written = [*zip(ends, generated.log_probs, strict=False)]  # EOS, which has a log-probability, writes nothing
    return [[log for end, log in written if start < end <= stop] for start, stop in parts]


def _boxes(
    generated: Generated, tokenizer: Tokenizer, codec: LocationCodec, size: tuple[int, int], wanted: NameFilter
) -> Iterator[tuple[Coordinates, str, list[list[float]]]]:
    """Each box whose name is wanted, its name, and the log-probabilities of each of its words."""
    text = tokenizer.decode(generated.ids)
    parts, at = [], 0
    for word in codec.words(text):
        start, at = at, text.index(word, at) + len(word)
        parts.append((start, at))
    logs = part_log_probs(generated, tokenizer, parts)
    for box, name, words in codec.find_named(text, size):
        if wanted(name):
            yield box, name, logs[words.start : words.stop]
