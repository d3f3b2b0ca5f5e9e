"""Probes of single patch tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openpali.eval.places import by_position, by_script, by_size, place_probe
from openpali.infer.pali import Pali
from openpali.rng import generator
from openpali.tasks.example import Box, Example, Object

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
def pali(family: Path) -> Pali:
    return Pali.from_pretrained(family)


def test_the_token_at_the_centre_of_an_object_is_probed(pali: Pali) -> None:
    done: list[tuple[int, int]] = []
    found = place_probe(Squares(1), Squares(2), by_position, pali, 60, lambda *at: done.append(at))
    assert found.scores.summary["acc"] > 0.95
    assert found.scores.summary.keys() == {"acc", "acc/letter-1", "acc/letter-2"}
    assert done[-1] == (120, 120)
    assert (found.n, found.train) == (60, (60, 2500))
    elsewhere = place_probe(Squares(1, moved=True), Squares(2, moved=True), by_position, pali, 60, lambda *at: None)
    assert elsewhere.scores.summary["acc"] < 0.8
    assert elsewhere.data == found.data


def test_slices_by_script_tell_characters_apart() -> None:
    kinds = {"a": "lower", "Q": "upper", "7": "digit", "é": "accented", "Ø": "accented", "-": "sign", "”": "sign"}
    letters = [Object(name, Box(0, 0, 1, 1)) for name in kinds]
    example = Example(key="k", images=[np.zeros((2, 2, 3), np.uint8)], objects=letters)
    assert [by_script(example, index) for index in range(len(kinds))] == list(kinds.values())


def test_slices_by_size_are_percent_of_the_side() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    sides = {"0-20%": 10, "20-28%": 20, "36-50%": 40, "50%+": 50}
    boxes = {name: Box(0, 0, side, 2 * side) for name, side in sides.items()}
    example = Example(key="a", images=[image], objects=[Object("x", box) for box in boxes.values()])
    assert [by_size(example, index) for index in range(4)] == list(boxes)
