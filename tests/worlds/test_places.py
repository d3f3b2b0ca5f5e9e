"""Probes of single patch tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openpali.infer.pali import Pali
from openpali.rng import generator
from openpali.tasks.example import Box, Example, Object
from openpali_lab.worlds.benchmarks.places import (
    Asked,
    by_position,
    by_size,
    names,
    place_probe,
    relations,
)

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Squares:
    """Images of two coloured squares at random places; with ``moved`` their boxes lie elsewhere."""

    def __init__(self, seed: int, moved: bool = False) -> None:
        self.seed, self.moved = seed, moved

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Example:
        rng = generator(self.seed, index)
        image = np.full((72, 72, 3), 90, np.uint8)
        objects = []
        for place in rng.permutation(18)[:2]:  # of the upper half's patches of 12 pixels
            name = str(rng.choice(list(COLOURS)))
            y, x = 12 * (place // 6), 12 * (place % 6)
            image[y : y + 12, x : x + 12] = COLOURS[name]
            y += 36 * self.moved
            objects.append(Object(name, Box(y, x, y + 12, x + 12)))
        return Example(key=str(index), images=[image], objects=objects)


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


def test_the_token_at_the_centre_of_an_object_is_probed(pali: Pali) -> None:
    done: list[tuple[int, int]] = []
    ask = names(by_position)
    found = place_probe(Squares(1), Squares(2), ask, pali, 60, lambda *at: done.append(at))
    assert found.scores.summary["acc"] > 0.95
    assert np.mean(found.scores.per_sample["acc"]) == pytest.approx(found.scores.summary["acc"])
    assert found.scores.summary.keys() == {"acc", "acc/letter-1", "acc/letter-2"}
    assert done[-1] == (120, 120)
    assert (found.n, found.train) == (60, (60, 2500))
    elsewhere = place_probe(Squares(1, moved=True), Squares(2, moved=True), ask, pali, 60, lambda *at: None)
    assert elsewhere.scores.summary["acc"] < 0.8
    assert elsewhere.data == found.data


def test_relations_are_asked_where_they_are_clear() -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    places = {"a": (10, 10), "right": (14, 70), "below": (70, 40), "near": (10, 19)}
    objects = [Object(name, Box(y - 4, x - 4, y + 4, x + 4)) for name, (y, x) in places.items()]
    asked = {pair: (label, slice) for pair, label, slice in relations(Example("k", [image], objects=objects))}
    assert asked[0, 1] == ("right", "far")
    assert asked[1, 0] == ("left", "far")
    assert asked[0, 2] == ("below", "far")
    assert asked[2, 3] == ("above", "far")
    assert (0, 3) not in asked  # 9 pixels of 80 are too near
    assert (1, 2) in asked
    assert relations(Example("k", [image], objects=[objects[0], Object("aslant", Box(30, 40, 38, 48))])) == []


def test_the_relation_of_two_tokens_is_probed(pali: Pali) -> None:
    found = place_probe(Squares(1), Squares(2), relations, pali, 60, lambda *at: None)
    assert found.scores.summary["acc"] > 0.6
    assert found.scores.summary.keys() <= {"acc", "acc/near", "acc/far"}


def test_a_limit_that_leaves_nothing_to_ask_is_refused_with_the_least(pali: Pali) -> None:
    named = names(lambda *at: "")

    def late(example: Example) -> Sequence[Asked]:
        return named(example) if int(example.key) >= 2 else []

    for train, test, ask, least in ((1, 2, late, 3), (2, 1, named, 2)):  # the second for a second colour
        with pytest.raises(ValueError, match=f"limit must be at least {least}"):
            place_probe(Squares(train), Squares(test), ask, pali, least - 1, lambda *at: None)


def test_slices_by_size_are_percent_of_the_side() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    sides = {"0-20%": 10, "20-28%": 20, "36-50%": 40, "50%+": 50}
    boxes = {name: Box(0, 0, side, 2 * side) for name, side in sides.items()}
    example = Example(key="a", images=[image], objects=[Object("x", box) for box in boxes.values()])
    assert [by_size(example, index) for index in range(4)] == list(boxes)
