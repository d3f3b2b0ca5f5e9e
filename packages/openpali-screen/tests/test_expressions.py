"""What expressions mean: ordinals, containers, relations, paths, and other words for roles."""

from __future__ import annotations

import pytest

from openpali_screen.elements.predict import Element
from openpali_screen.expressions import Container, ElementQuery, containment
from openpali_screen.geometry import Box, around
from openpali_screen.pointing import ReadScreen
from openpali_screen.screen import Screen
from openpali_screen.text import ReadLine, ReadWord


def line(top: float, left: float, text: str) -> ReadLine:
    """Words of 8 pixels a character."""
    words, at = [], left
    for word in text.split():
        words.append(ReadWord(word, Box(top, at, top + 14, at + 8 * len(word)), 0.9))
        at += 8 * (len(word) + 1)
    return ReadLine(words, around(word.box for word in words))


def button(top: float, left: float) -> Element:
    return Element("button", Box(top - 4, left - 6, top + 18, left + 54), 0.9, "button")


PEOPLE = ("Ada", "Grace", "Alan", "Edsger")
TOPS = (100, 130, 160, 190)
TABLE = ReadScreen(
    [
        *[Element("columnheader", Box(66, left, 84, left + 90), 0.9, "columnheader") for left in (10, 120)],
        *[button(top, 240) for top in TOPS],
        *[button(top, 320) for top in TOPS],
        button(300, 20),
    ],
    [
        line(68, 14, "Person"),
        line(68, 124, "City"),
        *[line(top, 14, name) for top, name in zip(TOPS, PEOPLE, strict=True)],
        *[line(top, 124, city) for top, city in zip(TOPS, ("Oslo", "Rome", "Bern", "Kyiv"), strict=True)],
        *[line(top, 240, "Edit") for top in TOPS],
        *[line(top, 320, "Delete") for top in TOPS],
        line(300, 20, "Save"),
    ],
)


@pytest.mark.parametrize(
    ("expression", "row"),
    [
        ("the second Delete button", 1),
        ("the third Delete button", 2),
        ("the last Delete button", 3),
        ("the last but one Delete button", 2),
        ("the next to last Delete button", 2),
        ("the penultimate Delete button", 2),
        ("the last but two Delete button", 1),
        ("the 4th Delete button", 3),
        ("the Delete button in the second row", 1),
        ("the Delete button of the last but one row", 2),
        ("Delete in row 3", 2),
        ("the Delete button in the bottom row", 3),
        ("Delete in the row of Grace", 1),
        ("the Delete button in Alan's row", 2),
        ("the Delete button in the same row as Kyiv", 3),
        ("the Delete button in the row with Oslo", 0),
        ("the second button in the third row", 2),
        ("the button right of Edit in the row of Ada", 0),
        ("the button to the right of the Edit button in the second row", 1),
        ("the second button to the right of Alan", 2),
    ],
)
def test_one_of_several_is_meant(expression: str, row: int) -> None:
    found = Screen(TABLE).find(expression)
    assert found is not None
    assert (found.name, found.box) == ("Delete", TABLE.elements[6 + row].box)


def test_a_row_or_a_cell_that_is_not_there_is_not_found() -> None:
    screen = Screen(TABLE)
    for expression in ("the Delete button in the ninth row", "the Delete button in the row of Linus"):
        assert screen.find(expression) is None, expression


def test_rows_are_those_of_the_things_where_there_is_no_table() -> None:
    cards = [button(top, left) for top in (20, 200) for left in (20, 220)]
    screen = ReadScreen(cards, [line(top, left, "Buy") for top in (20, 200) for left in (20, 220)])
    for expression, which in (("the last Buy button in the first row", 1), ("the first Buy in the second row", 2)):
        found = screen.point(expression)
        assert found is not None
        assert found.box == cards[which].box


def test_a_column_is_named_by_its_header() -> None:
    header = TABLE.point("the City column")
    assert header is not None
    assert header.box == TABLE.elements[1].box
    for expression, text in (
        ("the third word in the City column", None),
        ("Rome in the City column", "Rome"),
        ("Rome in the second column", "Rome"),
        ("Rome in the Person column", None),
    ):
        found = TABLE.point(expression)
        assert (found and found.name) == text, expression


BAR = ReadScreen(
    [button(20, left) for left in (20, 100, 180)] + [button(200, 20), button(230, 20)],
    [line(20, left, text) for left, text in ((20, "File"), (100, "Edit"), (180, "Save"))]
    + [line(200, 20, "Save"), line(230, 20, "Quit"), line(260, 20, "Sort in the list")],
)


def test_a_text_that_names_a_container_is_found_where_it_stands() -> None:
    found = Screen(BAR).find("Sort in the list")
    assert found is not None
    assert (found.name, found.box.ymin) == ("Sort in the list", 260)


def test_a_thing_is_in_a_container() -> None:
    assert [node.role for node, _, _ in BAR.root.walk()][1] == "toolbar"
    bar = Screen(BAR).find("the tool bar")
    assert bar is not None
    assert bar.role == "toolbar"
    assert len(bar.children) == 3
    for expression, which in (
        ("the Save button in the toolbar", 2),
        ("Save on the tool bar", 2),
        ("the last but one button of the toolbar", 1),
        ("the last Save button on the screen", 3),
        ("the Quit button in the dialog", 4),  # there is none: anywhere
    ):
        found = BAR.point(expression)
        assert found is not None, expression
        assert found.box == BAR.elements[which].box, expression
    assert BAR.point("the Quit button in the toolbar") is None


def test_the_trail_of_a_site_names_no_field() -> None:
    """ "Home > Products" stands left of a field for searches."""
    field = Element("textbox", Box(10, 300, 40, 500), 0.9, "textbox")
    screen = Screen(ReadScreen([field], [line(18, 20, "Home > Products"), line(18, 310, "Search pages")]))
    trail = screen.find("Home > Products")
    assert trail is not None
    assert trail.centre == (25, 80)
    for text, left in (("Home", 20), ("Products", 76)):
        found = screen.find(text)
        assert found is not None
        assert (found.role, found.name, found.box.xmin) == ("text", text, left)
    found = screen.find("the search field")
    assert found is not None
    assert (found.box, found.name) == (field.box, "")
    assert "".join(str(screen.tree()).split()).count("Home") == 1


def test_the_last_step_of_a_path_is_meant() -> None:
    found = BAR.point("File > Quit")
    assert found is not None
    assert found.box == BAR.elements[4].box


@pytest.mark.parametrize(
    ("expression", "role"),
    [
        ("the text box", "textbox"),
        ("the input field", "textbox"),
        ("the text area", "textbox"),
        ("the check box", "checkbox"),
        ("the option button", "radio"),
        ("the hyperlink", "link"),
        ("the menu item", "tab"),
        ("the drop-down list", "combobox"),
        ("the push button", "button"),
    ],
)
def test_roles_have_other_names(expression: str, role: str) -> None:
    assert role in ElementQuery.of(expression).roles
    assert not ElementQuery.of(expression).words


def test_containers_are_taken_apart() -> None:
    assert containment("Save in the row of Ada in the second table") == (
        "Save in the row of Ada",
        Container("table", ElementQuery([], [], [], 1)),
    )
    assert containment("Save in the row of Ada") == ("Save", Container("row", ElementQuery(["ada"], [], [], None)))
    for text in ("Log in", "Save in folder", "Sign in with rows", "in the row"):
        assert containment(text) is None
    assert containment("Save" + " in the row" * 1000) is not None  # in no time
