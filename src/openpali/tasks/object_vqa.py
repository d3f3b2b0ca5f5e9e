"""Questions about the objects of an image, made from their boxes (PaLI-3 section 3.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

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
        together: most questions that a prompt asks, each about other names, to learn from more of an image; the
            answers are separated by "; ".
    """

    name: ClassVar[str] = "object_vqa"
    form: ClassVar[str] = "vqa"
    takes: ClassVar[str] = "question"

    kinds: Sequence[str] = KINDS
    choices: int = 3
    together: int = 1

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds are {list(self.kinds)}; they must be some of {', '.join(KINDS)}")
        if self.choices < 2:
            raise ValueError(f"choices is {self.choices}; it must be at least 2")
        if self.together < 1:
            raise ValueError(f"together is {self.together}; it must be at least 1")

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        require(example.objects, example, "objects")
        present = sorted({thing.name for thing in example.objects})
        absent = sorted(set(example.vocabulary) - set(present))
        placed = _places(example) if "where" in self.kinds else {}
        counts = Counter(thing.name for thing in example.objects)
        asked: list[_Question] = []
        for _ in range(1 if self.together == 1 else int(rng.integers(1, self.together + 1))):
            possible = [
                kind
                for kind in self.kinds
                if (present or (kind == "is" and absent))
                and (kind != "where" or placed)
                and (kind != "which" or len(present) + len(absent) > 1)
            ]
            if not possible:
                break
            asked.append(self._question(choose(possible, rng), present, absent, placed, counts, rng))
            for names in (present, absent):
                names[:] = [name for name in names if name not in asked[-1].names]
            placed = {name: where for name, where in placed.items() if name in present}
        if not asked:
            raise ValueError(f"sample {example.key} has no objects that suit the kinds {', '.join(self.kinds)}")
        question, answer = " ".join(each.text for each in asked), "; ".join(each.answer for each in asked)
        return Sample(self.ask(question), answer, (answer,), kind="+".join(each.kind for each in asked))

    def _question(
        self,
        kind: str,
        present: list[str],
        absent: list[str],
        placed: Mapping[str, str],
        counts: Mapping[str, int],
        rng: np.random.Generator,
    ) -> _Question:
        if kind == "is":
            some = absent if absent and (not present or rng.random() < 0.5) else present
            name = choose(some, rng)
            return _Question(kind, f"is {name} in the image?", "yes" if name in present else "no", (name,))
        if kind == "which":
            offered = self._offer(present, absent, rng)
            answer = _join([name for name in offered if name in present]) or "none"
            return _Question(kind, f"which of {_join(offered)} are in the image?", answer, offered)
        if kind == "list":
            return _Question(kind, "list the objects present", ", ".join(present), present)
        if kind == "count":
            name = choose(present, rng)
            return _Question(kind, f"how many {name} are in the image?", str(counts[name]), (name,))
        name = choose(sorted(placed), rng)
        return _Question(kind, f"where is the {name}?", placed[name], (name,))

    def _offer(self, present: list[str], absent: list[str], rng: np.random.Generator) -> list[str]:
        count = int(rng.integers(2, self.choices + 1))
        shuffled = [[names[i] for i in rng.permutation(len(names))] for names in (present, absent)]
        offered: list[str] = []
        while len(offered) < count and any(shuffled):
            names = shuffled[int(rng.integers(2))] or shuffled[0] or shuffled[1]
            offered.append(names.pop())
        return offered


class _Question(NamedTuple):
    """A question, its answer, and the names that both are about."""

    kind: str
    text: str
    answer: str
    names: Sequence[str]


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
