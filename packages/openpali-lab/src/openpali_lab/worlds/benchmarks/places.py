"""What a frozen image encoder knows at a place: linear probes on the patch tokens of one or two objects.

An encoder-decoder sees patch tokens. What they do not tell, no later stage can answer, so these probes are the gate
that SigLIP must pass before stage 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch

from openpali.data.pipeline.encode import as_shares
from openpali.data.sources.base import Source
from openpali.eval.benchmark import Advance, Embedded, Encoders, SeenSamples
from openpali.infer.generate import evaluating
from openpali.metrics.scores import Scores, mean
from openpali.tasks.example import Example
from openpali_lab.benchmarks.features import BATCH, FeatureEncoder, Floats
from openpali_lab.benchmarks.probes import logistic

TRAIN = 2_500  # images that a probe is trained on, without a limit
TEST = 800
STRENGTH = 1e-3  # of l2
SIZES = (20, 28, 36, 50)  # edges of the slices by size, in percent of the image's side

APART = 1 / 8  # least distance of two centres whose relation is asked, as a share of the image's side


class Asked(NamedTuple):
    """One row of a probe: the objects whose tokens it sees, by index, its label and its slice."""

    objects: tuple[int, ...]
    label: str
    slice: str


Ask = Callable[[Example], Sequence[Asked]]


class _Tokens(NamedTuple):
    """Patch tokens, side by side, a label and a slice of each row."""

    features: Floats
    labels: Sequence[str]
    slices: Sequence[str]


def place_probe(
    train: Source, test: Source, ask: Ask, model: Encoders, limit: int | None, advance: Advance
) -> Embedded:
    """Accuracy of a linear probe that answers questions about objects from the patch tokens at their centres.

    Multinomial logistic regression on the tokens of the first images of ``train``, scored on those of ``test``.

    Returns:
        ``acc``, over all rows, and ``acc/SLICE``; 0..1.
    """
    if limit is not None and limit < (least := max(_needed(train, ask, 2), _needed(test, ask, 1))):
        raise ValueError(
            f"limit must be at least {least}, not {limit}: fewer images have too few labels to learn or to score"
        )
    many, few = (count if limit is None else min(limit, count) for count in (TRAIN, TEST))
    encoder, seen = FeatureEncoder(model, crop=False), SeenSamples()

    def gather(source: Source, count: int, before: int) -> _Tokens:
        features: list[Floats] = []
        labels: list[str] = []
        slices: list[str] = []
        for done, example, tokens_ND in _tokens(encoder, source, count):
            seen.image(example.images[0])
            boxes_R4 = as_shares([thing.box for thing in example.objects], example.size, encoder.preprocess)
            points_R2 = torch.from_numpy(boxes_R4).view(-1, 2, 2).mean(1)
            at_RD = tokens_ND[encoder.vit.patches_at(points_R2).numpy()]
            for objects, label, own in ask(example):
                features.append(at_RD[list(objects)].reshape(-1))
                labels.append(label)
                slices.append(own)
            advance(before + done, many + few)
        seen.texts(*labels)
        return _Tokens(np.stack(features), labels, slices)

    known, asked = gather(train, many, 0), gather(test, few, many)
    classes = sorted({*known.labels, *asked.labels})
    learned, right = (np.array([classes.index(label) for label in rows.labels]) for rows in (known, asked))
    hits = logistic(known.features, learned, strengths=(STRENGTH,))(asked.features) == right
    scores = {"acc": mean(hits.astype(float).tolist())}
    for name in sorted(set(asked.slices)):
        inside = hits[[each == name for each in asked.slices]]
        scores[f"acc/{name}"] = mean(inside.astype(float).tolist())
    facts = {
        part: {**fact, "pooling": "the patch at each object's centre"} for part, fact in encoder.facts().items()
    }
    per_row = {"acc": hits.astype(float).tolist()}
    return Embedded(
        scores=Scores(scores, per_row), n=few, of=TEST, train=(many, TRAIN), data=seen.hash, preprocessing=facts
    )


def _needed(source: Source, ask: Ask, labels: int) -> int:
    """How many images it takes until so many different labels are asked for."""
    found: set[str] = set()
    for index in range(len(source)):
        found.update(asked.label for asked in ask(source[index]))
        if len(found) >= labels:
            return index + 1
    return len(source)


def _tokens(encoder: FeatureEncoder, source: Source, count: int) -> Iterator[tuple[int, Example, Floats]]:
    """The first examples of a source, with their number so far and their patch tokens ``[N, D]``."""
    device = encoder.vit.positions.device
    for start in range(0, count, BATCH):
        examples = [source[index] for index in range(start, min(start + BATCH, count))]
        pixels = np.stack([encoder.preprocess(example.images[0]) for example in examples])
        with torch.inference_mode(), evaluating(encoder.vit):
            tokens_BND = encoder.vit(torch.from_numpy(pixels).to(device)).double().cpu().numpy()
        for index, (example, tokens_ND) in enumerate(zip(examples, tokens_BND, strict=True)):
            yield start + index + 1, example, tokens_ND


def names(slice_of: Callable[[Example, int], str]) -> Ask:
    """Ask for the name of each object; ``slice_of`` takes an example and the index of an object."""
    return lambda example: [
        Asked((index,), thing.name, slice_of(example, index)) for index, thing in enumerate(example.objects)
    ]


def relations(example: Example) -> list[Asked]:
    """Ask where the second of two objects is from the first, for each pair; slices say how far it is.

    Left out are pairs whose centres are as far apart in one direction as in the other, to within a half, or less
    than an eighth of the image.
    """
    sides = np.array(example.images[0].shape[:2])
    corners = np.array([thing.box for thing in example.objects]).reshape(-1, 2, 2)
    middles = corners.mean(axis=1) / sides  # [R, 2]
    found = []
    for first, second in permutations(range(len(middles)), 2):
        down, right = middles[second] - middles[first]
        along, aside = sorted((abs(down), abs(right)), reverse=True)
        if along >= max(APART, 1.5 * aside):
            vertical = abs(down) > abs(right)
            label = ("below" if down > 0 else "above") if vertical else ("right" if right > 0 else "left")
            found.append(Asked((first, second), label, "near" if along < 3 * APART else "far"))
    return found


def by_size(example: Example, index: int) -> str:
    """The side of a square as large as the object's box, in percent of the image's side, as a range."""
    ymin, xmin, ymax, xmax = example.objects[index].box
    height, width = example.images[0].shape[:2]
    size = 100 * ((ymax - ymin) * (xmax - xmin) / (height * width)) ** 0.5
    above = [edge for edge in SIZES if edge > size]
    below = [edge for edge in SIZES if edge <= size]
    if not above:
        return f"{SIZES[-1]}%+"
    return f"{below[-1] if below else 0}-{above[0]}%"


def by_position(example: Example, index: int) -> str:
    """The position of a letter in its word, from 1."""
    return f"letter-{index + 1}"
