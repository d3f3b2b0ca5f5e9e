"""A screen as a tree, as accessibility has it: containers, and in them elements and text.

Containers come from the layout: blocks of the reading order, which are lists, tool bars, tables or other groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

from PIL import Image as PilImage
from PIL import ImageDraw

from openpali_screen.geometry import Box, Image, around, box_iou
from openpali_screen.order import reading_order

_TOOLS = ("button", "icon", "link", "image", "tab")
_CONTAINERS = ("screen", "group", "list", "toolbar", "table", "row", "breadcrumbs")
_ALIGNED = 6.0  # pixels between the left edges of cells of a column
_MOST = 0.6  # least share of the nodes of a list that are entries: others are titles and counts
_SAME = 0.5  # least IoU of the boxes of one element on two screens
_FEW = 3  # least entries of a list, and tools of a tool bar


@dataclass
class Node:
    """A node of the tree.

    Attributes:
        role: of an element as ARIA names it, or "text", "list", "toolbar", "table", "row", "group", "screen".
        name: what it is called: what is written on it or beside it, or what its icon shows.
        value: what a field holds.
        confidence: that it is there, in 0..1; 1 of containers.
        index: its number in the tree, from the root on in reading order.
    """

    role: str
    box: Box
    name: str = ""
    value: str = ""
    confidence: float = 1.0
    children: list[Node] = field(default_factory=list)
    index: int = 0

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) in pixels, where one would click."""
        return self.box.centre

    def __str__(self) -> str:
        return as_text(self)

    def walk(self, depth: int = 0, parent: int | None = None) -> Iterator[tuple[Node, int, int | None]]:
        """This node and those below it, in reading order, with their depth and the index of their parent."""
        yield self, depth, parent
        for child in self.children:
            yield from child.walk(depth + 1, self.index)


_TAKEN = Node("", Box(0, 0, 0, 0))  # of a screen before, found again


def tree_of(leaves: Sequence[Node]) -> Node:
    """The tree of the elements and texts of a screen, with containers around them, in reading order."""
    blocks = reading_order([node.box for node in leaves])
    children = [_container([[leaves[i] for i in row] for row in block]) for block in blocks]
    root = Node("screen", around([(0, 0, 0, 0), *(node.box for node in leaves)]), children=children)
    numbers = count()
    for node, _, _ in root.walk():
        node.index = next(numbers)
    return root


def _container(rows: Sequence[Sequence[Node]]) -> Node:
    """What a block of rows is."""
    nodes = [node for row in rows for node in row]
    if len(nodes) == 1:
        return nodes[0]
    box, roles = around(node.box for node in nodes), {node.role for node in nodes}
    if len(rows) == 1 and len(nodes) >= _FEW and roles <= {*_TOOLS}:
        return Node("toolbar", box, children=nodes)
    if len(rows) > 1 and len(rows[0]) > 1 and all(_same_columns(*pair) for pair in pairwise(rows)):
        cells = [Node("row", around(node.box for node in row), children=[*row]) for row in rows]
        return Node("table", box, children=cells)
    entries = sum(node.role in ("link", "button", "tab") for node in nodes)
    if len(rows) >= _FEW <= entries >= _MOST * len(nodes):
        return Node("list", box, children=nodes)
    return Node("group", box, children=nodes)


def _same_columns(one: Sequence[Node], other: Sequence[Node]) -> bool:
    """Whether two rows have as many cells, which begin, or end, below each other."""
    return len(one) == len(other) and all(
        min(abs(a.box.xmin - b.box.xmin), abs(a.box.xmax - b.box.xmax)) <= _ALIGNED
        for a, b in zip(one, other, strict=True)
    )


def as_text(root: Node) -> str:
    """A row for each node: its depth, role, name, value, box [ymin, xmin, ymax, xmax] in pixels, and index."""
    return "".join(f"{'  ' * depth}{_row(node)} #{node.index}\n" for node, depth, _ in root.walk())


def _row(node: Node) -> str:
    named = f" {json.dumps(node.name, ensure_ascii=False)}" if node.name else ""
    value = f" = {json.dumps(node.value, ensure_ascii=False)}" if node.value else ""
    return f"{node.role}{named}{value} [{', '.join(f'{edge:.0f}' for edge in node.box)}]"


def as_json(root: Node) -> list[dict[str, Any]]:
    """The nodes as plain values, each with the index of its parent."""
    return [
        {
            "index": node.index,
            "parent": parent,
            "role": node.role,
            "name": node.name,
            "value": node.value,
            "box": [round(edge, 1) for edge in node.box],
            "confidence": round(node.confidence, 4),
        }
        for node, _, parent in root.walk()
    ]


def changes(before: Node, after: Node) -> dict[str, list[str]]:
    """What "appeared", "went" and "changed" between two screens, each as a row of text.

    Nodes of one role are the same where their boxes overlap (IoU of .5), or their names are equal.
    """
    old, new = ([n for n, _, _ in root.walk() if n.role not in _CONTAINERS] for root in (before, after))
    found: dict[str, list[str]] = {"appeared": [], "went": [], "changed": []}
    ious = box_iou([node.box for node in old], [node.box for node in new])
    for j, node in enumerate(new):
        alike = [i for i, other in enumerate(old) if other.role == node.role]
        same = max(alike, key=lambda i: (ious[i, j] >= _SAME) + (old[i].name == node.name) / 2, default=None)
        if same is None or (ious[same, j] < _SAME and old[same].name != node.name):
            found["appeared"].append(_row(node))
            continue
        if (old[same].name, old[same].value) != (node.name, node.value):
            found["changed"].append(f"{_row(old[same])} -> {_row(node)}")
        old[same] = _TAKEN
    found["went"] = [_row(node) for node in old if node is not _TAKEN]
    return found


def draw_marks(image: Image, root: Node) -> PilImage.Image:
    """The elements of a screen ``[H, W, 3]`` uint8 in boxes with their index (set of marks, arXiv 2310.11441), but
    for those in others."""
    drawn = PilImage.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    marked = [node for node, _, _ in root.walk() if node.role not in (*_CONTAINERS, "text")]
    inner = {id(child) for node in marked for child in node.children}
    for node in (node for node in marked if id(node) not in inner):
        top, left, bottom, right = map(round, node.box)
        colour = _COLOURS[node.index % len(_COLOURS)]
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
        wide, tall = draw.textbbox((0, 0), str(node.index))[2:]
        above = max(0, top - tall - 2)  # beside what is written on it
        draw.rectangle((left, above, left + wide + 3, above + tall + 2), fill=colour)
        draw.text((left + 2, above), str(node.index), "white")
    return drawn


_COLOURS = ("#c2185b", "#1565c0", "#2e7d32", "#e65100", "#6a1b9a", "#00838f", "#4e342e")
