"""Similarity of two documents in Markdown by their outlines: headings, and the lines below each.

As ``doc_parsing_evaluation`` in ``OCRBench_v2/eval_scripts/TEDS_metric.py`` of Yuliang-Liu/MultimodalOCR computes
it, quirks included. The official code takes the tree edit distance from the package zss.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, field

from openpali_lab.benchmarks.metrics.trees import Place, tree_distance

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


def outline_similarity(answer: str, document: str) -> float:
    """1 less the edit distance of the outlines by the size of the larger, at most 1 (``STEDS``).

    What lines and headings say does not matter: a node costs 1 where it is inserted, removed, or changed from or to
    one without words.
    """
    one: list[Place] = []
    other: list[Place] = []
    for text, places in ((answer, one), (document, other)):
        _list_places(outline(text), places)
    return 1 - tree_distance(one, other, operator.or_) / max(len(one), len(other))


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


def _list_places(node: Node, places: list[Place]) -> None:
    """Append a node after those below it; its label is whether it has no words."""
    first = len(places)
    for child in node.children:
        _list_places(child, places)
    places.append(Place(not node.label.strip(), first))
