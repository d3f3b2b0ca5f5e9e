"""The order of lines on pages that are laid out as pages are."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpali.tasks.example import Box
from openpali_screen.order import reading_order


def lines(left: float, top: float, widths: Sequence[float], pitch: float = 20, height: float = 14) -> list[Box]:
    """Lines below one another."""
    return [Box(top + i * pitch, left, top + i * pitch + height, left + wide) for i, wide in enumerate(widths)]


PROSE = [390, 400, 395, 400, 180]
TABLE = [
    row for i in range(6) for row in (*lines(0, 30 * i, [60]), *lines(200, 30 * i, [80]), *lines(420, 30 * i, [30]))
]
CARDS = [
    line
    for left in (300, 520, 740)
    for line in (*lines(left, 80, [120]), *lines(left, 104, [70], height=34), *lines(left, 150, [150]))
]
MENU = lines(20, 20, [70] * 9, pitch=37)
LAYOUTS = {
    "prose": lines(0, 0, PROSE),
    "two columns": [*lines(0, 0, [*PROSE, 400, 390]), *lines(440, 3, PROSE)],
    "two columns on the same lines": [*lines(0, 0, PROSE), *lines(440, 0, [*PROSE, 400, 390])],
    "header, columns, footer": [
        *lines(100, 0, [500], height=24),
        *lines(0, 60, PROSE),
        *lines(440, 60, PROSE),
        *lines(300, 200, [20]),
    ],
    "table": TABLE,
    "sidebar, cards": [*MENU, *lines(300, 20, [300], height=22), *CARDS],
    "menu with badges": [
        line for i, one in enumerate(MENU) for line in (one, *lines(160, one.ymin, [20])[: i % 2])
    ],
    "labels and wrapped texts": [
        line for i in range(4) for line in (*lines(0, 60 * i, [80]), *lines(140, 60 * i, [400, 300]))
    ],
    "one line": lines(5, 5, [100]),
    "none": [],
}


def order_of(boxes: Sequence[Box]) -> list[int]:
    return [i for block in reading_order(boxes) for row in block for i in row]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read_as_people_read_them(layout: str) -> None:
    assert order_of(LAYOUTS[layout]) == list(range(len(LAYOUTS[layout])))


def test_paragraphs_and_columns_are_blocks() -> None:
    page = [*lines(0, 0, PROSE), *lines(0, 125, PROSE), *lines(440, 0, PROSE)]
    assert [sum(map(len, block)) for block in reading_order(page)] == [5, 5, 5]
    assert [sum(map(len, block)) for block in reading_order(TABLE)] == [len(TABLE)]
    assert [sum(map(len, block)) for block in reading_order(MENU)] == [len(MENU)]


def test_cells_of_a_row_are_together_and_columns_of_prose_are_not() -> None:
    def rows_of(boxes: Sequence[Box]) -> list[int]:
        return [len(row) for block in reading_order(boxes) for row in block]

    assert rows_of(TABLE) == [3] * 6
    assert rows_of(LAYOUTS["menu with badges"]) == [1 + i % 2 for i in range(len(MENU))]
    assert rows_of(LAYOUTS["labels and wrapped texts"]) == [2, 1] * 4
    justified = [
        box for i in range(6) for box in (*lines(0, 20 * i, [190 + 9 * i]), *lines(205 + 9 * i, 20 * i, [180]))
    ]
    assert rows_of(justified) == [2] * 6
    form = [
        box
        for i in range(3)
        for left in (0, 300)
        for box in (*lines(left, 40 * i, [60]), *lines(left + 80, 40 * i, [90]))
    ]
    assert rows_of(form) == [4] * 3
    columns = LAYOUTS["two columns on the same lines"]
    assert rows_of(columns) == [1] * len(columns)
    beside = [*MENU, *lines(300, 20, [400, 390, 395, 400, 180])]
    assert rows_of(beside) == [1] * len(beside)


def test_a_long_page_of_equal_gaps_is_read() -> None:
    rows = [
        [Box(y, 0, y + 12, 800)] if y % 72 else [Box(y, 0, y + 12, 100), Box(y, 500, y + 12, 600)]
        for y in range(0, 36 * 1000, 36)
    ]
    assert order_of([box for row in rows for box in row]) == list(range(1500))


edges = st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(4, 40), st.floats(4, 300))
boxes = st.lists(edges.map(lambda e: Box(e[0], e[1], e[0] + e[2], e[1] + e[3])), max_size=25, unique=True)


@settings(deadline=None)
@given(boxes, st.randoms(use_true_random=False))
def test_every_line_is_read_once_in_an_order_of_its_own(page: list[Box], random: Random) -> None:
    order = order_of(page)
    assert sorted(order) == list(range(len(page)))
    mixed = list(page)
    random.shuffle(mixed)
    assert [mixed[i] for i in order_of(mixed)] == [page[i] for i in order]
