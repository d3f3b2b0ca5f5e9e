"""Similarity of two documents in Markdown by their outlines: headings, and the lines below each.

As ``doc_parsing_evaluation`` in ``OCRBench_v2/eval_scripts/TEDS_metric.py`` of Yuliang-Liu/MultimodalOCR computes
it, quirks included. The official code takes the tree edit distance from the package zss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

_REPLACED = tuple(  # by ``pre_clean``, in this order
    (re.compile(pattern), new)
    for pattern, new in (
        (r"<bos>|<eos>|<pad>|<unk>", ""),
        (r"\s##(\S)", r"\1"),
        (r"\\\s", r"\\"),
        (r"\s\*\s\*\s", "**"),
        (r"{\s", "{"),
        (r"\s}", "}"),
        (r"\s}", "}"),
        (r"\\begin\s", r"\\begin"),
        (r"\\end\s", r"\\end"),
        (r"\\end{table}", r"\\end{table}   "),
        (r"[*_]", " "),
    )
)


@dataclass
class Node:
    """A heading or a line, with what is below it."""

    label: str
    children: list[Node] = field(default_factory=list)

    def find(self, label: str) -> Node | None:
        """The first node with a label, itself or below it."""
        if self.label == label:
            return self
        return next(filter(None, (child.find(label) for child in self.children)), None)


class _Place(NamedTuple):
    """A node of a tree that is listed children first."""

    blank: bool
    first: int  # place of the first node below it, or of itself


def outline_similarity(answer: str, document: str) -> float:
    """1 less the edit distance of the outlines by the size of the larger, at most 1 (``STEDS``).

    What lines and headings say does not matter: a node costs 1 where it is inserted, removed, or changed from or to
    one without words.
    """
    trees: list[list[_Place]] = [[], []]
    for text, places in zip((answer, document), trees, strict=True):
        _list_places(outline(text), places)
    return 1 - _distance(*trees) / max(map(len, trees))


def outline(document: str) -> Node:
    """A tree: lines that begin with # lie below the root, other lines below the last of these (``get_tree``).

    Lines before the first heading lie below a node "TITLE". Lines below a heading that is spelled like an earlier
    heading or line lie below that one, and those below a heading without a text below "TITLE".
    """
    root = Node("ROOT", [Node("TITLE")])
    heading = ""
    for line in document.split("\n"):
        for pattern, new in _REPLACED:
            line = pattern.sub(new, line)
        if line.startswith("#"):
            heading = line.replace("#", "")
            root.children.append(Node(heading))
        else:
            parent = root.find(heading or "TITLE")
            assert parent
            parent.children.append(Node(line))
    return root


def _list_places(node: Node, places: list[_Place]) -> None:
    first = len(places)
    for child in node.children:
        _list_places(child, places)
    places.append(_Place(not node.label.strip(), first))


def _distance(one: Sequence[_Place], other: Sequence[_Place]) -> int:
    """Edit distance of trees (Zhang and Shasha, SIAM Journal on Computing 18, 1989)."""
    trees = [[0] * len(other) for _ in one]
    for i, j in product(_key_roots(one), _key_roots(other)):
        top, left = one[i].first, other[j].first
        # To begin with, each is compared with nothing; only the first row and column count.
        forests = [[*range(x, x + j - left + 2)] for x in range(i - top + 2)]
        for x in range(top, i + 1):
            for y in range(left, j + 1):
                above, before = one[x].first - top, other[y].first - left
                whole = not above and not before
                if whole:
                    changed = forests[x - top][y - left] + (one[x].blank or other[y].blank)
                else:
                    changed = forests[above][before] + trees[x][y]
                removed, inserted = forests[x - top][y - left + 1] + 1, forests[x - top + 1][y - left] + 1
                forests[x - top + 1][y - left + 1] = least = min(changed, removed, inserted)
                if whole:
                    trees[x][y] = least
    return trees[-1][-1]


def _key_roots(places: Sequence[_Place]) -> list[int]:
    """The last of the nodes with the same first one below."""
    return sorted({place.first: i for i, place in enumerate(places)}.values())
