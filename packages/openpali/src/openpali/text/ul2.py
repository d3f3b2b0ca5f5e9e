"""UL2's mixture of denoisers (Tay et al. 2205.05131, section 3.1 and table 1): text -> inputs and targets.

R and X denoisers corrupt spans as T5 does: each span becomes one sentinel in the inputs, and the targets are the
sentinels, each followed by the span that it replaces. The S denoiser is a prefix language model: its inputs end in
``<extra_id_0>`` and its targets are the plain continuation, as in PaLI's captioning prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Denoiser:
    """One way to corrupt text."""

    mode: str  # the mode token that the inputs start with
    rate: float  # share of the tokens that are hidden
    mean_span: int  # mean length of a hidden span in tokens; 0 hides one suffix, of rate on average


DENOISERS = (
    Denoiser("[R]", 0.15, 3),
    Denoiser("[R]", 0.15, 8),
    Denoiser("[S]", 0.25, 0),
    Denoiser("[X]", 0.50, 3),
    Denoiser("[X]", 0.50, 8),
    Denoiser("[X]", 0.15, 64),
    Denoiser("[X]", 0.50, 64),
)
"""UL2's seven denoisers, drawn with equal probability."""


def denoise(
    ids: Sequence[int],
    rng: np.random.Generator,
    *,
    sentinels: Sequence[int],
    modes: Mapping[str, int],
    max_inputs: int,
    max_targets: int,
    denoisers: Sequence[Denoiser] = DENOISERS,
) -> tuple[list[int], list[int]]:
    """Corrupt a text with one denoiser, drawn at random.

    A text that exceeds the limits is cut to a random window.

    Args:
        ids: the token ids of the text, at least one, without end token.
        rng: the only source of randomness.
        sentinels: ids of ``<extra_id_0>``, ``<extra_id_1>``, ...
        modes: id of each mode token.
        max_inputs, max_targets: longest inputs (mode token and sentinels included) and targets (without end token).
        denoisers: the mixture.

    Returns:
        inputs and targets, both without end token.
    """
    if not ids:
        raise ValueError("a text without tokens cannot be denoised")
    if max_inputs < 3 or max_targets < 3:
        raise ValueError("max_inputs and max_targets must be at least 3")
    denoiser = denoisers[int(rng.integers(len(denoisers)))]
    suffix = denoiser.mean_span == 0
    rate = rng.uniform(0, 2 * denoiser.rate) if suffix else denoiser.rate

    length = min(len(ids), max_inputs + max_targets)
    while True:
        hidden, spans = _counts(length, rate, denoiser.mean_span, len(sentinels))
        inputs_length = 1 + length - hidden + spans
        targets_length = hidden if suffix else hidden + spans
        if inputs_length <= max_inputs and targets_length <= max_targets:
            break
        length -= 1
    start = int(rng.integers(len(ids) - length + 1))
    window = list(ids[start : start + length])

    mode = modes[denoiser.mode]
    if suffix:
        return [mode, *window[: length - hidden], sentinels[0]], window[length - hidden :]
    inputs, targets, position = [mode], list[int](), 0
    kept = _partition(length - hidden, spans, rng) if length > hidden else [0]
    for sentinel, keep, hide in zip(sentinels, kept, _partition(hidden, spans, rng), strict=False):
        inputs += [*window[position : position + keep], sentinel]
        position += keep
        targets += [sentinel, *window[position : position + hide]]
        position += hide
    return inputs, targets


def _counts(length: int, rate: float, mean_span: int, sentinels: int) -> tuple[int, int]:
    """Number of hidden tokens among ``length``, and of spans; at least one token stays visible if there are two."""
    hidden = min(max(round(length * rate), 1), max(length - 1, 1))
    if mean_span == 0:
        return hidden, 1
    most = max(min(hidden, length - hidden, sentinels), 1)
    return hidden, min(max(round(hidden / mean_span), 1), most)


def _partition(total: int, parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``total`` as a sum of ``parts`` positive integers, uniformly among all such sums."""
    cuts = 1 + np.sort(rng.choice(total - 1, parts - 1, replace=False))
    return np.diff([0, *cuts, total])
