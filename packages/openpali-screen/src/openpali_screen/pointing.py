"""What is on a screen: its elements with what is written on them, found by role, by name or by place.

An expression is what people say of an element: its text, its role, its icon, where it is, or what it is beside:
"the search field", "Save", "the icon right of Save", "the last button".

    screen = ReadScreen(elements, lines)
    screen.detect("button")             # all of a role
    screen.point("the search field")    # the one that is meant
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from math import prod

import numpy as np

from openpali_screen.elements.predict import Element, confidence_of
from openpali_screen.expressions import Container, ElementQuery, Relation, containment, roles_of, telling, words_of
from openpali_screen.geometry import Box, around, box_iou, holds_centre
from openpali_screen.text import ReadLine, ReadPage, ReadWord
from openpali_screen.tree import Node, tree_of

_LABELS = {
    **dict.fromkeys(("textbox", "combobox", "listbox", "slider", "progressbar"), ("left of", "above")),
    **dict.fromkeys(("checkbox", "radio", "switch"), ("right of",)),
}
"""On which sides of an element its label stands, by role."""
_KINDS = {"group": ("group", "list", "toolbar", "table", "form"), "window": ("window", "dialog")}
"""Containers that words of a kind may mean."""
_LINES = ("row", "column")  # containers of tables
_SIGNS = (">", "›", "»")  # between the steps of a path, as in "File > Save"
_STEP = re.compile(rf"\s+[{''.join(_SIGNS)}]\s+")
_FIELDS = ("textbox", "combobox", "listbox")  # whose text is their value, and whose name stands beside them
_OTHER_ROLE = 0.75  # factor of the score if the name fits and the role does not
_PART = 0.8  # factor of the score if only a part of what is written fits
_ALIKE = 0.75  # least similarity of two words that may be one, read wrongly
_WHOLE = 0.95  # least similarity of a path that is written somewhere as a whole
_NEAR = 2.5  # heights of an element within which its label stands
_FAR = 20.0  # heights of a label within which it stands in the row of an element
_IN_ROW = 0.1  # factor of that distance; chosen on development themes


@dataclass(frozen=True)
class ReadScreen:
    """A screen whose elements are found and whose lines are read.

    Attributes:
        elements: with their roles; the name of an icon is what it shows.
        lines: in reading order.
        ood_score: as of :class:`~openpali_screen.text.ReadPage`.
        doubtful: what may be an element, but is less probable: for the confidence in how many there are.
        page: of which the lines are; None: not known.
    """

    elements: Sequence[Element]
    lines: Sequence[ReadLine]
    ood_score: float | None = None
    doubtful: Sequence[Element] = ()
    page: ReadPage | None = None

    @cached_property
    def named(self) -> Sequence[Element]:
        """The elements, each with its ``label``: what is written on it or beside it, or else what its icons show.

        Its ``name`` is all of these.
        """
        found = []
        for thing in self.elements:
            words, icons = self._words(thing), self._icons(thing)
            found.append(replace(thing, name=" ".join([*words, *icons]), label=" ".join(words or icons)))
        return found

    def detect(self, text: str) -> list[Element]:
        """All elements of a role, or, if there are none, the one that is meant.

        Their ``name`` is ``text``, their own name the ``label``.
        """
        wanted = ElementQuery.of(text)
        more = wanted.words or wanted.places or wanted.order is not None or Relation.of(text)
        found: list[Element] = []
        if wanted.roles and not more and not self._named(text):
            found = [thing for thing in self.named if thing.role in wanted.roles]
        if not found and (one := self.point(text)):
            found = [one]
        return [replace(thing, name=text, label=thing.label or thing.name) for thing in found]

    @cached_property
    def root(self) -> Node:
        """The tree of what is on the screen: containers, and in them elements, and words that are on no element."""
        nodes, icons, free = list[Node](), list[Node](), list[Node]()
        for thing in self.named:
            name, value = thing.label or thing.name, ""
            if thing.role in _FIELDS:
                name, value = text_of(self.label(thing)), text_of(self.inside(thing))
            node = Node(thing.role, thing.box, name, value, thing.confidence or 0.0)
            (icons if thing.is_icon else nodes).append(node)
        for icon in icons:
            holders = [node for node in nodes if holds_centre(node.box, icon.box)]
            smallest = min(holders, key=lambda node: node.box.height * node.box.width, default=None)
            (smallest.children if smallest else free).append(icon)
        for line in self.lines:
            words = [word for word in line.words if not any(holds_centre(node.box, word.box) for node in nodes)]
            steps = [_text(step) for step in _steps(words)]
            free += (
                [Node("breadcrumbs", around(step.box for step in steps), children=steps)] if steps[1:] else steps
            )
        return tree_of([*nodes, *free])

    def element_in(self, box: Box) -> Element | None:
        """The element in a box, with its label: the one that overlaps it most (IoU); None: no IoU is .5."""
        ious = box_iou([box], [thing.box for thing in self.named])[0]
        return self.named[int(ious.argmax())] if ious.max(initial=0.0) >= 0.5 else None

    def point(self, expression: str) -> Element | None:
        """The element that an expression means, with its name; words if no element has them; None: nothing fits.

        A container has its role in the tree, and no name.
        """
        if exact := self._exactly(expression):
            return exact
        if place := containment(expression):
            whole = (line for line in self.lines if words_of(line.text) == words_of(expression))
            return next((_written(line.words) for line in whole), None) or self._inside(*place)
        container = Container.of(expression)
        is_column = container and container.kind == "column"  # its header is an element
        if container and not is_column and (box := next(self._containers(container), None)):
            return Element(container.kind, box, 1.0)
        relation = Relation.of(expression)
        begins_name = relation and not relation.thing.strip() and self._begins_name(expression, relation)
        if relation and not begins_name and (anchors := self._anchors(relation.anchor)):
            return self._beside(anchors, relation.side, ElementQuery.of(relation.thing))
        steps = [step.strip() for step in _STEP.split(expression)]
        if len(steps) > 1 and all(steps):
            share, written = self._written(ElementQuery.of(expression))
            return written if share > _WHOLE else self.point(steps[-1])
        return self._best(expression)

    def within(self, box: Box) -> ReadScreen:
        """The elements and the words whose centres are in a box."""
        elements = [thing for thing in self.elements if holds_centre(box, thing.box)]
        lines = [replace(line, words=[w for w in line.words if holds_centre(box, w.box)]) for line in self.lines]
        return ReadScreen(elements, [line for line in lines if line.words])

    def _inside(self, thing: str, container: Container) -> Element | None:
        """The thing in a container; anywhere if there is none of its kind, but for rows and columns."""
        known = False
        for box in self._containers(container, ElementQuery.of(thing)):
            known = True
            if found := self.within(box).point(thing):
                return found
        return None if known or container.kind in _LINES else self.point(thing)

    def _containers(self, wanted: Container, thing: ElementQuery | None = None) -> Iterator[Box]:
        """The boxes that a container may have, the most probable first: one of each table, if it is a row of one.

        Args:
            thing: what is in it; where there is no table, the things that fit are in rows.
        """
        nodes = [node for node, _, _ in self.root.walk()]
        sets = [[node.box for node in nodes if node.role in _KINDS.get(wanted.kind, (wanted.kind,))]]
        if wanted.kind in _LINES:
            sets = [_lines_of(node, wanted.kind) for node in nodes if node.role == "table"]
            if wanted.which.words:
                _, words = self._written(wanted.which)
                sets.append([_band(words.box, wanted.kind)] if words else [])
            elif wanted.kind == "column":
                sets.append([_band(each.box, "column") for each in self.elements if each.role == "columnheader"])
            elif thing:
                rows = _rows([each for each in self.named if self._fit(thing, each) > _OTHER_ROLE * _PART])
                sets.append([_band(around(each.box for each in row), "row") for row in rows])
        elif wanted.kind in ("screen", "window") and not sets[0]:
            sets = [[self.root.box]]
        for boxes in sets:
            if wanted.which.words:
                shares = [self.within(box)._written(wanted.which)[0] for box in boxes]
                most = max(shares, default=0.0)
                boxes = [box for box, share in zip(boxes, shares, strict=True) if share == most > _ALIKE]
                boxes.sort(key=lambda box: box.height * box.width)
            things = [Element(wanted.kind, box, 1.0) for box in boxes]
            if things and (found := _chosen(things, wanted.which)):
                yield found.box

    def _begins_name(self, expression: str, relation: Relation) -> bool:
        """Whether a relation with the next word stands on the screen, as in "Over 18"."""
        words = words_of(expression)
        begins = words[: len(words) - len(words_of(relation.anchor)) + 1]
        texts = [words_of(text) for text in (*(t.name for t in self.named), *(line.text for line in self.lines))]
        return any(begins == words[i : i + len(begins)] for words in texts for i in range(len(words)))

    def _anchors(self, text: str) -> list[Box]:
        """Where what a text means is: the element, and the label that names it, unless the text says its role."""
        if not (anchor := self.point(text)):
            return []
        words, label = telling(text), self.label(anchor)
        beside, within = (likeness(words, telling(text_of(each))) for each in (label, self.inside(anchor)))
        if beside <= within or anchor.role in ElementQuery.of(text).roles:
            return [anchor.box]
        return [anchor.box, around(word.box for word in label)]

    def _beside(self, anchors: Sequence[Box], relation: str, wanted: ElementQuery) -> Element | None:
        """The nearest that fits, in a direction from one of the anchors; or the second nearest, and so on."""
        fitting = [(self._fit(wanted, thing), thing) for thing in self.named if [thing.box] != anchors]
        most = max((fit for fit, _ in fitting), default=0.0)
        near = [
            (away(anchor, thing.box, relation), thing)
            for fit, thing in fitting
            if fit >= 0.8 * most > 0
            for anchor in anchors
            if thing.box != anchor
        ]
        if wanted.order is not None:  # they are counted in the row, or the column, of an anchor
            axis = relation in ("above", "below")
            near = [(gap, thing) for gap, thing in near if any(_overlap(thing.box, a, axis) for a in anchors)]
        found = list[Element]()
        for distance, thing in sorted(near, key=lambda pair: pair[0]):
            if distance < np.inf and thing not in found:
                found.append(thing)
        order = wanted.order or 0
        return found[order] if -len(found) <= order < len(found) else None

    def _best(self, text: str) -> Element | None:
        if exact := self._exactly(text):
            return exact
        wanted = ElementQuery.of(text)
        if wanted == ElementQuery.of(""):  # signs alone, such as "+"
            return next((thing for thing in self.named if thing.label and thing.label == text.strip()), None)
        return self._named(text) or self._meant(wanted)

    def _exactly(self, text: str) -> Element | None:
        """The element whose label is an expression, with or without its role: "Log in", "Near you button"."""
        words = _name(text)
        for count in range(len(words), 0, -1)[:3]:  # names of roles have one word, or two
            roles = roles_of(" ".join(words[count:]))
            own = [thing for thing in self.named if count == len(words) or thing.role in roles]
            if fitting := [thing for thing in own if _name(thing.label) == words[:count]]:
                return max(fitting, key=confidence_of)
        return None

    def _named(self, text: str) -> Element | None:
        """The element whose name has words of roles or places, such as "Last Name field"."""
        named = ElementQuery.named(text)
        if not named.is_name:
            return None
        least = _PART if named.names_more else 1.0
        fits = [(self._fit(named, thing), confidence_of(thing), i) for i, thing in enumerate(self.named)]
        fit, _, which = max(fits, default=(0.0, 0.0, 0))
        return self.named[which] if fit >= least else None

    def _meant(self, wanted: ElementQuery) -> Element | None:
        fits = [self._fit(wanted, thing) for thing in self.named]
        most = max(fits, default=0.0)
        if wanted.words:
            share, written = self._written(wanted)
            if most < 0.5 or _OTHER_ROLE * share > most:
                return written
        some = [thing for fit, thing in zip(fits, self.named, strict=True) if fit >= 0.95 * most and fit > 0]
        return _chosen(some, wanted) if some else None

    def _written(self, wanted: ElementQuery) -> tuple[float, Element | None]:
        """Similarity of the most similar run of words on the screen, 0..1, and these words; or (0, None)."""
        best: tuple[float, Sequence[ReadWord]] = (0.5, ())
        for line in self.lines:
            words = [i for i, word in enumerate(line.words) if words_of(word.text)]  # signs are between them
            for share, at in _parts(wanted.words, [line.words[i].text for i in words]):
                if share > best[0]:
                    best = share, line.words[words[at][0] : words[at][-1] + 1]
        share, found = best
        if not found:
            return 0.0, None
        return share, _written(found)

    def _fit(self, wanted: ElementQuery, thing: Element) -> float:
        """How well an element fits, 0..1."""
        role = 1.0 if not wanted.roles or thing.role in wanted.roles else 0.0
        if not wanted.words:
            return role
        words = telling(thing.name)  # else "Log in" and "Log out" fit "Log in" alike
        part, _ = max(_parts(wanted.words, words), default=(0.0, slice(0)), key=lambda pair: pair[0])
        return (role or _OTHER_ROLE) * max(likeness(wanted.words, words), _PART * part)

    def _words(self, thing: Element) -> list[str]:
        """On an element, and of its label beside it."""
        return [word.text for word in (*self.inside(thing), *self.label(thing))]

    def _icons(self, thing: Element) -> list[str]:
        """What an element's icons show, or it itself."""
        icons = (each for each in self.elements if each.is_icon)
        return [*dict.fromkeys(i.name for i in icons if i is thing or holds_centre(thing.box, i.box))]

    def inside(self, thing: Element) -> list[ReadWord]:
        """The words that are written on an element."""
        return [word for line in self.lines for word in line.words if holds_centre(thing.box, word.box)]

    def label(self, thing: Element) -> Sequence[ReadWord]:
        """The words of the nearest line on the side where labels of its role stand; one in its row comes first."""
        sides = _LABELS.get(thing.role, ())
        reach = _NEAR * thing.box.height
        beside = self._in_row(thing) if "left of" in sides else []
        near = [
            (distance, line)
            for line in (self._free if beside else self.lines)
            if line.words and not holds_centre(thing.box, line.box)
            for distance in [min((away(thing.box, line.box, side) for side in sides), default=np.inf)]
            if distance <= reach and len(_steps(line.words)) == 1
        ]
        return min([*near, *beside], key=lambda pair: pair[0])[1].words if near or beside else ()

    def _in_row(self, thing: Element) -> list[tuple[float, ReadLine]]:
        """The lines at the left of an element that may be its label: not those that are nearer to another one."""
        return [
            (_IN_ROW * distance, line)
            for line in self._free
            if thing.box.ymin <= line.box.centre[0] <= thing.box.ymax
            for distance in [away(thing.box, line.box, "left of")]
            if distance <= _FAR * line.box.height
            if not any(away(other.box, line.box, "") < distance for other in self._labelled)
        ]

    @cached_property
    def _labelled(self) -> Sequence[Element]:
        """Elements whose labels stand beside them."""
        return [thing for thing in self.elements if thing.role in _LABELS]

    @cached_property
    def _free(self) -> Sequence[ReadLine]:
        """Lines with words that are written on no element of these roles: the others may have labels in them."""
        taken = [thing.box for thing in self.elements if thing.role in (*_LABELS, "button", "tab", "heading")]
        lines = (line for line in self.lines if words_of(line.text) and len(_steps(line.words)) == 1)
        return [line for line in lines if not any(holds_centre(box, line.box) for box in taken)]


def _steps(words: Sequence[ReadWord]) -> list[Sequence[ReadWord]]:
    """Words between signs such as ">", as of breadcrumbs: one step if there are none of these."""
    steps: list[list[ReadWord]] = [[]]
    for word in words:
        if word.text in _SIGNS and steps[-1]:
            steps.append([])
        else:
            steps[-1].append(word)
    return [step for step in steps if step]


def _written(words: Sequence[ReadWord]) -> Element:
    """Words as they are found: without a role."""
    return Element("", around(word.box for word in words), prod(word.confidence for word in words), text_of(words))


def _text(words: Sequence[ReadWord]) -> Node:
    box, confidence = around(word.box for word in words), min(word.confidence for word in words)
    return Node("text", box, text_of(words), confidence=confidence)


def _chosen(things: Sequence[Element], wanted: ElementQuery) -> Element | None:
    """That of several things, by its number, its place or its confidence."""
    if wanted.order is not None:
        fitting = _in_half(things, wanted.places)
        ordered = (
            _counted(fitting, *wanted.along) if wanted.along else [each for row in _rows(fitting) for each in row]
        )
        return ordered[wanted.order] if -len(ordered) <= wanted.order < len(ordered) else None
    if wanted.places:
        return max(things, key=lambda t: sum(sign * t.box.centre[axis] for axis, sign in wanted.places))
    return max(things, key=confidence_of)


def _lines_of(table: Node, kind: str) -> list[Box]:
    """The rows below the headers of a table, or its columns."""
    rows = [row.children for row in table.children]
    if kind == "column":
        return [around(cell.box for cell in cells) for cells in zip(*rows, strict=False)]
    bodies = [row for row in rows if all(cell.role != "columnheader" for cell in row)]
    return [
        _band(around(cell.box for cell in row), "row")._replace(xmin=table.box.xmin, xmax=table.box.xmax)
        for row in bodies
    ]


def _overlap(one: Box, other: Box, axis: int) -> bool:
    return one[axis] < other[axis + 2] and other[axis] < one[axis + 2]


def _band(box: Box, kind: str) -> Box:
    """The whole row, or column, of the screen that a box is in."""
    return box._replace(xmin=-np.inf, xmax=np.inf) if kind == "row" else box._replace(ymin=-np.inf, ymax=np.inf)


def _rows(things: Sequence[Element]) -> list[list[Element]]:
    """Rows from the top, each from left to right; of a row are those whose middle its highest holds."""
    rows: list[list[Element]] = []
    for thing in sorted(things, key=lambda thing: thing.box.ymin):
        if rows and thing.box.centre[0] < rows[-1][0].box.ymax:
            rows[-1].append(thing)
        else:
            rows.append([thing])
    return [sorted(row, key=lambda thing: thing.box.xmin) for row in rows]


def _counted(things: Sequence[Element], axis: int, sign: int) -> list[Element]:
    """Things along an axis, or against it."""
    return sorted(things, key=lambda thing: sign * thing.box.centre[axis])


def _in_half(things: Sequence[Element], places: Sequence[tuple[int, int]]) -> Sequence[Element]:
    """Those in each half, such as the left one, that places name (:class:`ElementQuery`)."""
    for axis, sign in places:
        centres = [thing.box.centre[axis] for thing in things]
        middle = (min(centres) + max(centres)) / 2
        things = [thing for thing, at in zip(things, centres, strict=True) if sign * (at - middle) > 0] or things
    return things


def _name(text: str) -> list[str]:
    """Words without an article before them."""
    return words_of(text.casefold().strip().removeprefix("the "))


def text_of(words: Sequence[ReadWord]) -> str:
    return " ".join(word.text for word in words)


def _parts(wanted: Sequence[str], texts: Sequence[str]) -> Iterator[tuple[float, slice]]:
    """Similarity and place of each run of at most ``len(wanted)`` texts that follow each other."""
    for first in range(len(texts)):
        for last in range(first + 1, min(first + len(wanted), len(texts)) + 1):
            yield likeness(wanted, words_of(" ".join(texts[first:last]))), slice(first, last)


def likeness(wanted: Sequence[str], written: Sequence[str]) -> float:
    """How alike two texts are, 0..1: the share of words that both have, words that are alike in part."""
    if not wanted or not written:
        return 0.0
    alike = sum(max(_alike(word, other) for other in written) for word in wanted)
    return 2 * alike / (len(wanted) + max(len(written), alike))


@lru_cache(2**16)
def _alike(word: str, other: str) -> float:
    if word == other:
        return 1.0
    ratio = SequenceMatcher(None, word, other, autojunk=False).ratio()
    return ratio if ratio >= _ALIKE else 0.0


def away(anchor: Box, box: Box, relation: str) -> float:
    """Pixels from an anchor to a box in a direction; infinite if it is elsewhere."""
    down = max(box.ymin - anchor.ymax, anchor.ymin - box.ymax, 0.0)
    across = max(box.xmin - anchor.xmax, anchor.xmin - box.xmax, 0.0)
    (y, x), (at_y, at_x) = box.centre, anchor.centre
    there = {
        "right of": x > at_x and across >= down,
        "left of": x < at_x and across >= down,
        "above": y < at_y and down >= across,
        "over": y < at_y and down >= across,
        "below": y > at_y and down >= across,
        "under": y > at_y and down >= across,
    }.get(relation, True)
    return down + across if there else np.inf
