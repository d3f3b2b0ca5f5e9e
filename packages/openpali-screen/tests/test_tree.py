"""A screen as a tree: what is in what, in reading order, and each word once."""

from __future__ import annotations

import numpy as np

from openpali_screen.elements.predict import Element
from openpali_screen.geometry import Box, around
from openpali_screen.pointing import ReadScreen
from openpali_screen.screen import Screen
from openpali_screen.text import ReadLine, ReadWord
from openpali_screen.tree import as_json, as_text, changes, draw_marks


def line(top: float, left: float, *words: str) -> ReadLine:
    starts = np.cumsum([left, *(8 * (len(word) + 1) for word in words)])
    boxes = [Box(top, x, top + 14, x + 8 * len(word)) for x, word in zip(starts.tolist(), words, strict=False)]
    read = [ReadWord(word, box, 0.9) for word, box in zip(words, boxes, strict=True)]
    return ReadLine(read, around(boxes))


MENU = [Element("link", Box(top, 10, top + 24, 150), 0.9, "link") for top in (100, 130, 160)]
BAR = [Element("button", Box(8, left, 32, left + 60), 0.9, "button") for left in (10, 80, 150)]
FIELD = Element("textbox", Box(300, 120, 324, 300), 0.8, "textbox")
ICON = Element("icon", Box(104, 14, 120, 30), 0.7, "house")
SCREEN = ReadScreen(
    [*MENU, *BAR, FIELD, ICON],
    [
        line(13, 14, "File"),
        line(13, 84, "Edit"),
        line(13, 154, "View"),
        line(105, 40, "Home"),
        line(135, 40, "Mail"),
        line(165, 40, "Log", "out"),
        line(305, 40, "Name"),
        line(305, 124, "Ada"),
    ],
)
ROOT = SCREEN.root


def test_containers_hold_what_belongs_together() -> None:
    bar, menu, form = ROOT.children
    assert [(node.role, len(node.children)) for node in (bar, menu, form)] == [
        ("toolbar", 3),
        ("list", 3),
        ("group", 2),
    ]
    assert [node.name for node in (*bar.children, *menu.children)] == [
        "File",
        "Edit",
        "View",
        "Home",
        "Mail",
        "Log out",
    ]


def test_an_icon_is_a_child_and_a_field_has_a_value() -> None:
    nodes = [node for node, _, _ in ROOT.walk()]
    [home] = [node for node in nodes if node.name == "Home"]
    assert [(child.role, child.name) for child in home.children] == [("icon", "house")]
    [field] = [node for node in nodes if node.role == "textbox"]
    assert (field.name, field.value) == ("Name", "Ada")


def test_each_word_is_there_once_as_a_name_or_a_text() -> None:
    texts = [node.name for node, _, _ in ROOT.walk() if node.role == "text"]
    assert texts == ["Name"]  # the label, which is written beside the field


def test_rows_with_the_same_columns_are_a_table() -> None:
    cells = [line(top, left, word) for top in (10, 30, 50) for left, word in ((10, "one"), (90, "two"))]
    [table] = ReadScreen([], cells).root.children
    assert table.role == "table"
    assert [[cell.name for cell in row.children] for row in table.children] == [["one", "two"]] * 3


def test_indices_count_the_nodes_and_name_parents() -> None:
    nodes = as_json(ROOT)
    assert [node["index"] for node in nodes] == [*range(len(nodes))]
    assert nodes[0]["parent"] is None
    assert all(node["parent"] < node["index"] for node in nodes[1:])
    rows = as_text(ROOT).splitlines()
    assert len(rows) == len(nodes)
    assert all(row.endswith(f"#{i}") for i, row in enumerate(rows))


def test_marks_are_on_elements() -> None:
    image = np.full((340, 320, 3), 255, np.uint8)
    drawn = np.array(draw_marks(image, ROOT))
    assert (drawn[323, 130:290] != 255).any()  # the lower edge of the field
    assert (drawn[200:280] == 255).all()


def test_changes_between_two_screens_are_named() -> None:
    assert not any(changes(ROOT, ROOT).values())
    renamed = [each if each.text != "Ada" else line(305, 124, "Grace") for each in SCREEN.lines]
    dialog = Element("button", Box(250, 200, 280, 300), 0.9, "button")
    after = ReadScreen([*MENU[:2], *BAR, FIELD, ICON, dialog], [*renamed[:5], *renamed[6:], line(258, 220, "OK")])
    found = Screen(SCREEN).diff(Screen(after))
    assert [row.split(" [")[0] for row in found["appeared"]] == ['button "OK"']
    assert [row.split(" [")[0] for row in found["went"]] == ['link "Log out"']
    [changed] = found["changed"]
    assert '"Ada"' in changed.split(" -> ")[0]
    assert '"Grace"' in changed.split(" -> ")[1]


def test_an_empty_screen_is_a_root() -> None:
    empty = Screen(ReadScreen([], []))
    assert str(empty.tree()) == "screen [0, 0, 0, 0] #0\n"
    assert empty.find("the Save button") is None
    assert [node.role for node in empty.at(5, 5)] == ["screen"]


def test_a_node_is_found_by_an_expression_and_by_a_place() -> None:
    screen = Screen(SCREEN)
    home = screen.find("the Home link")
    assert home is not None
    assert (home.role, home.centre) == ("link", (112, 80))
    assert [node.role for node in screen.at(80, 112)] == ["screen", "list", "link"]
    assert screen.at(80, 112)[-1] is home
    plain = Screen(ReadScreen([], SCREEN.lines))
    out = plain.find("out")
    assert out is not None
    assert (out.role, out.box) == ("text", SCREEN.lines[5].words[1].box)
    assert plain.at(*out.centre[::-1])[-1].name == "Log out"
    assert screen.find("xylophone") is None
