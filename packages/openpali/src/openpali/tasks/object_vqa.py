"""Questions about the objects of an image, made from their boxes (PaLI-3 section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openpali.tasks.base import Sample, Task, choose, require
from openpali.tasks.example import Box, Example, Size

KINDS = ("is", "which", "list", "count", "where")
_ROWS = ("top", "", "bottom")
_COLUMNS = ("left", "", "right")
_MARGIN = 0.03  # as a share of the side; a centre closer than this to the border of two regions is ambiguous


@dataclass(frozen=True)
class ObjectVqa(Task):
    """Questions in English: is a name in the image, which names are, list all, how many, and where.

    The first three are the paper's. If the example's ``vocabulary`` has names that are not in the image, they are
    half of the names in "is" and "which" questions.

    Attributes:
        kinds: kinds of question to ask.
        choices: most names that a "which" question offers.
    """

    name: ClassVar[str] = "object_vqa"
    form: ClassVar[str] = "vqa"
    takes: ClassVar[str] = "question"

    kinds: Sequence[str] = KINDS
    choices: int = 3

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds are {list(self.kinds)}; they must be some of {', '.join(KINDS)}")
        if self.choices < 2:
            raise ValueError(f"choices is {self.choices}; it must be at least 2")

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        require(example.objects, example, "objects")
        present = sorted({thing.name for thing in example.objects})
        absent = sorted(set(example.vocabulary) - set(present))
        placed = _places(example) if "where" in self.kinds else {}
        possible = [
            kind
            for kind in self.kinds
            if (kind != "where" or placed) and (kind != "which" or len(present) + len(absent) > 1)
        ]
        if not possible:
            raise ValueError(f"sample {example.key} has no objects that suit the kinds {', '.join(self.kinds)}")
        kind = choose(possible, rng)
        if kind == "is":
            name = choose(absent if absent and rng.random() < 0.5 else present, rng)
            question, answer = f"is {name} in the image?", "yes" if name in present else "no"
        elif kind == "which":
            offered = self._offer(present, absent, rng)
            question = f"which of {_join(offered)} are in the image?"
            answer = _join([name for name in offered if name in present]) or "none"
        elif kind == "list":
            question, answer = "list the objects present", ", ".join(present)
        elif kind == "count":
            name = choose(present, rng)
            question = f"how many {name} are in the image?"
            answer = str(sum(thing.name == name for thing in example.objects))
        else:
            name = choose(sorted(placed), rng)
            question, answer = f"where is the {name}?", placed[name]
        return Sample(self.ask(question), answer, (answer,), kind=kind)

    def _offer(self, present: list[str], absent: list[str], rng: np.random.Generator) -> list[str]:
        count = int(rng.integers(2, self.choices + 1))
        shuffled = [[names[i] for i in rng.permutation(len(names))] for names in (present, absent)]
        offered: list[str] = []
        while len(offered) < count and any(shuffled):
            names = shuffled[int(rng.integers(2))] or shuffled[0] or shuffled[1]
            offered.append(names.pop())
        return offered


def place(box: Box, size: Size) -> str | None:
    """The one of the image's nine regions that contains the centre of a box ("top left", "right", "center", ...).

    Returns:
        ``None`` if the centre is too near to the border of two regions.
    """
    row = _third((box.ymin + box.ymax) / 2 / size.height)
    column = _third((box.xmin + box.xmax) / 2 / size.width)
    if row is None or column is None:
        return None
    return f"{_ROWS[row]} {_COLUMNS[column]}".strip() or "center"


def _third(share: float) -> int | None:
    if any(abs(share - border) < _MARGIN for border in (1 / 3, 2 / 3)):
        return None
    return int(share > 1 / 3) + int(share > 2 / 3)


def _places(example: Example) -> dict[str, str]:
    """The region of each name that only one object has, unless the region is ambiguous."""
    names = [thing.name for thing in example.objects]
    places = {
        thing.name: place(thing.box, example.size) for thing in example.objects if names.count(thing.name) == 1
    }
    return {name: where for name, where in places.items() if where is not None}


def _join(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
