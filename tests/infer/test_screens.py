"""Elements of screens: cells to boxes, and expressions to elements."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import openpali_screen.reader as screen_reader
from openpali import Pali
from openpali.cli.main import app
from openpali.infer.bulk import object_as_json
from openpali.infer.components import Question
from openpali.infer.pipeline import Sized
from openpali.metrics.calibration import Calibration
from openpali.tasks.example import Box, Object, Size, around
from openpali.weights.format import add_facts
from openpali_screen import pointing as screens
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.elements.encode import ROLES, mark_elements
from openpali_screen.elements.network import ElementFinderConfig, Found, elements_of
from openpali_screen.elements.predict import find_elements
from openpali_screen.pointing import ReadScreen
from openpali_screen.reader import LEAST
from openpali_screen.text import ReadLine, ReadPage, ReadWord


def line(top: float, *words: tuple[str, float]) -> ReadLine:
    """Words with where they begin, 8 pixels a character."""
    read = [ReadWord(text, Box(top, left, top + 16, left + 8 * len(text)), 0.9) for text, left in words]
    return ReadLine(read, around(word.box for word in read))


def element(role: str, *box: float, name: str = "") -> Object:
    return Object(name or role, Box(*box), confidence=0.8, role=role)


def meant(screen: ReadScreen, expression: str) -> Object:
    """What an expression means, which is there."""
    found = screen.point(expression)
    assert found is not None, expression
    return found


SCREEN = ReadScreen(
    [
        element("textbox", 10, 100, 40, 400),
        element("button", 10, 420, 40, 500),
        element("icon", 15, 510, 35, 530, name="trash"),
        element("link", 100, 20, 116, 84),
        element("link", 130, 20, 146, 84),
        element("checkbox", 200, 20, 214, 34),
        element("button", 300, 420, 330, 500),
        element("heading", 60, 20, 80, 120),
    ],
    [
        line(17, ("Search...", 110)),
        line(17, ("Save", 440)),
        line(62, ("Account", 20), ("settings", 80)),
        line(100, ("Profile", 20)),
        line(130, ("Privacy", 20)),
        line(199, ("Remember", 40), ("me", 112)),
        line(307, ("Cancel", 436)),
        line(400, ("Imprint", 20)),
    ],
)


NAMED = ReadScreen(
    [
        element("textbox", 10, 100, 40, 400),
        element("textbox", 60, 100, 90, 400),
        element("link", 110, 20, 126, 84),
        element("button", 150, 20, 180, 200),
        element("button", 150, 420, 180, 600),
        element("icon", 200, 20, 220, 40, name="cube"),
    ],
    [
        line(17, ("First", 20), ("name", 60)),
        line(67, ("Last", 20), ("name", 60)),
        line(112, ("Icons", 24)),
        line(157, ("Bottom", 40), ("left", 110)),
        line(157, ("Top", 440), ("left", 500)),
    ],
)


@pytest.mark.parametrize(
    ("screen", "expression", "index"),
    [
        (SCREEN, "the search field", 0),
        (SCREEN, "Save", 1),
        (SCREEN, "save button", 1),
        (SCREEN, "the icon right of Save", 2),
        (SCREEN, "trash icon", 2),
        (SCREEN, "Privcy", 4),  # read wrongly, or typed
        (SCREEN, "the Remember me checkbox", 5),
        (SCREEN, "the last button", 6),
        (SCREEN, "button in the bottom right", 6),
        (SCREEN, "the button below Save", 6),
        (SCREEN, "the link above Privacy", 3),
        (SCREEN, "second link", 4),
        (SCREEN, "Account settings", 7),
        (NAMED, "the first name field", 0),
        (NAMED, "last name field", 1),
        (NAMED, "the last field", 1),
        (NAMED, "Icons link", 2),
        (NAMED, "top left button", 4),
        (NAMED, "the top left field", 0),
        (NAMED, "the field above last name", 0),
        (SCREEN, "right of Save", 2),
        (SCREEN, "next to Save", 2),
    ],
)
def test_an_expression_means_an_element(screen, expression, index) -> None:
    found = screen.point(expression)
    assert found is not None
    assert found.box == screen.elements[index].box
    assert [thing.box for thing in screen.detect(expression)] == [found.box]


def buttons(*names: str) -> ReadScreen:
    """Buttons below each other; the finder is surer of each than of those before."""
    boxes = [Box(40 * i, 0, 40 * i + 30, 300) for i in range(len(names))]
    things = [Object("button", box, confidence=0.5 + 0.1 * i, role="button") for i, box in enumerate(boxes)]
    texts = [[(word, 10 + 60 * n) for n, word in enumerate(name.split())] for name in names]
    return ReadScreen(things, [line(40 * i + 6, *words) for i, words in enumerate(texts)])


@pytest.mark.parametrize(
    "names",
    [
        ("Log in", "Log out"),
        ("Sign in", "Sign up"),
        ("Turn on", "Turn off"),
        ("On", "Off"),
        ("Stores near you", "Stores"),
        ("Change over time", "Time"),
        ("Last", "First"),
        ("Select", "Photo"),
        ("Toggle", "Progress"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "{} button", "the {} button"])
def test_an_element_is_told_by_all_words_of_its_name(names, form) -> None:
    assert meant(buttons(*names), form.format(names[0])).label == names[0]


@pytest.mark.parametrize("expression", ["Log in link", "icon right of Log in", "the second Log in"])
def test_names_are_told_apart_in_longer_expressions(expression) -> None:
    screen = buttons("Log in", "Log out", "Log in")
    icons = [element("icon", 40 * i, 310, 40 * i + 30, 340) for i in range(3)]
    assert meant(ReadScreen([*screen.elements, *icons], screen.lines), expression).box.ymin in (0, 80)


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("radio button", "radio"),
        ("the radio-buttons", "radio"),
        ("check boxes", "checkbox"),
        ("combo box", "combobox"),
        ("drop down", "combobox"),
        ("select box", "combobox"),
        ("column header", "columnheader"),
        ("progress bar", "progressbar"),
        ("toggle button", "switch"),
        ("text box", "textbox"),
        ("inputs", "textbox"),
        ("dropdowns", "combobox"),
    ],
)
def test_roles_of_two_words_are_one(text, role) -> None:
    screen = ReadScreen([element(each, 30 * i, 0, 30 * i + 20, 90) for i, each in enumerate(ROLES)], [])
    assert [thing.role for thing in screen.detect(text) if thing.role != "listbox"] == [role]


def test_the_name_of_a_role_is_a_name_where_nothing_has_the_role() -> None:
    link = element("link", 200, 0, 216, 90)
    screen = buttons("Select", "Link")
    assert [thing.label for thing in screen.detect("Link")] == ["Link"]
    both = ReadScreen([*screen.elements, link], screen.lines)
    assert [thing.box for thing in both.detect("link")] == [link.box]


def test_elements_are_ordered_row_by_row() -> None:
    tops = [10.2, 10.0, 9.9]  # boxes are regressed
    rows = [
        element("button", top + 100 * row, 100 * i, top + 100 * row + 20, 100 * i + 60)
        for row in (0, 1)
        for i, top in enumerate(tops)
    ]
    screen = ReadScreen(rows, [])
    for expression, index in (
        ("the first button", 0),
        ("the third button", 2),
        ("the last button", 5),
        ("the first button at the bottom", 3),
        ("the second button on the left", 3),
    ):
        assert meant(screen, expression).box == rows[index].box, expression


@pytest.mark.parametrize(
    ("expression", "index"),
    [
        ("second last button", 2),
        ("the second to last button", 2),
        ("the last but one button", 2),
        ("the third from the last", 1),
        ("third button from the end", 1),
        ("the third from the right", 1),
        ("2nd button from the left", 1),
        ("the fourth button", 3),
        ("the second from last button", 2),
    ],
)
def test_elements_are_counted_from_either_end(expression, index) -> None:
    row = [element("button", 10, 100 * i, 30, 100 * i + 60) for i in range(4)]
    assert meant(ReadScreen(row, []), expression).box == row[index].box
    assert ReadScreen(row[:1], []).point(expression) is None


STACKED = ReadScreen(
    [
        element("textbox", 40, 20, 70, 300),
        element("textbox", 110, 20, 140, 300),
        element("checkbox", 160, 20, 174, 34),
        element("checkbox", 160, 150, 174, 164),
        element("button", 110, 310, 140, 370),
    ],
    [
        line(20, ("Name", 20)),
        line(90, ("City", 20)),
        line(117, ("Oslo", 30)),
        line(159, ("Remember", 40)),
        line(159, ("News", 170)),
        line(117, ("Find", 320)),
    ],
)


@pytest.mark.parametrize(
    ("expression", "index"),
    [
        ("the field below Name", 0),
        ("textbox below City", 1),
        ("the input under the City", 1),
        ("below Name", 0),
        ("the field below the Name field", 1),
        ("the text box above City", 0),
        ("the field next to Name", 0),
        ("the checkbox left of Remember", 2),
        ("check box left of News", 3),
        ("the checkbox right of Remember", 3),
        ("the button right of City", 4),
        ("the field left of Find", 1),
        ("the button right of Oslo", 4),
    ],
)
def test_a_label_is_a_neighbour_of_what_it_names(expression, index) -> None:
    assert meant(STACKED, expression).box == STACKED.elements[index].box


def test_the_next_field_is_found_where_labels_stand_far_left() -> None:
    fields = [element("textbox", 50 * i, 200, 50 * i + 40, 400) for i in range(6)]
    names = [line(50 * i + 12, (name, 120)) for i, name in enumerate(("Name", "City", "Mail", "Age", "Zip", "Job"))]
    assert meant(ReadScreen(fields, names), "the field below Name").box == fields[1].box


def test_wide_fields_are_ordered_row_by_row() -> None:
    fields = [element("textbox", top, left, top + 30, left + 400) for top in (10, 80) for left in (10, 450)]
    assert meant(ReadScreen(fields, []), "the second field").box == fields[1].box


def test_an_expression_without_words_means_what_has_its_signs() -> None:
    signs = [element("button", 10, 20, 30, 50), element("button", 10, 120, 30, 150)]
    screen = ReadScreen(signs, [line(12, ("-", 30)), line(12, ("+", 130))])
    assert meant(screen, "+").box == signs[1].box
    assert [screen.point(text) for text in ("", "the", "*")] == [None] * 3


def test_a_name_may_begin_like_a_relation() -> None:
    boxes = [element("checkbox", 10, 20, 24, 34), element("checkbox", 40, 20, 54, 34)]
    screen = ReadScreen(boxes, [line(9, ("Over", 40), ("18", 90)), line(39, ("18", 40))])
    for expression in ("Over 18", "Over 18 checkbox"):
        assert meant(screen, expression).box == boxes[0].box
    written = replace(screen, lines=[*screen.lines, line(90, ("Under", 40), ("review", 90))]).point("Under review")
    assert written is not None
    assert written.box.ymin == 90


def test_what_an_element_is_beside_may_have_a_long_name() -> None:
    name = ["Save", "all", "changes", "made", "here", "today", "before", "closing", "everything"]
    label = line(12, *((word, 50 + 40 * i) for i, word in enumerate(name)))
    screen = ReadScreen(
        [element("button", 10, 40, 30, 400), element("icon", 10, 420, 30, 440, name="trash")], [label]
    )
    for find in (screen.point, lambda text: screen.detect(text)[0]):
        assert find(f"icon right of {' '.join(name)}").box == screen.elements[1].box


def test_words_that_are_no_element_are_found_where_they_stand() -> None:
    assert meant(SCREEN, "Imprint").box == SCREEN.lines[-1].words[0].box


def test_neighbouring_words_are_found_together() -> None:
    words = [ReadWord(text, Box(10, x, 22, x + 40), 0.9) for x, text in ((0, "Sign"), (50, "up"), (100, "now"))]
    screen = ReadScreen([], [ReadLine(words[2:], Box(40, 0, 52, 40)), ReadLine(words, Box(10, 0, 22, 140))])
    found = screen.point("the Sign up button")
    assert found is not None
    assert (found.name, found.box, found.confidence) == ("Sign up", Box(10, 0, 22, 90), pytest.approx(0.81))
    assert screen.point("Sign out of this account forever") is None


def test_a_long_text_is_compared_with_each_run_of_words_once(monkeypatch) -> None:
    compared: list[list[str]] = []
    monkeypatch.setattr(screens, "likeness", lambda wanted, written: compared.append(written) or 0.0)
    assert SCREEN.point(" ".join(["word"] * 300)) is None
    runs = sum(len(line.words) * (len(line.words) + 1) // 2 for line in SCREEN.lines)
    assert 0 < len(compared) <= 3 * (runs + len(SCREEN.elements))


def test_nothing_is_found_where_nothing_fits() -> None:
    assert SCREEN.point("xylophone") is None
    assert SCREEN.point("the fourth button") is None or SCREEN.point("fourth") is None
    assert ReadScreen([], []).point("the first button") is None


def test_a_role_finds_all_of_it_and_words_find_the_one() -> None:
    assert [thing.box for thing in SCREEN.detect("button")] == [SCREEN.elements[i].box for i in (1, 6)]
    assert {thing.name for thing in SCREEN.detect("buttons")} == {"buttons"}
    assert [thing.box for thing in SCREEN.detect("Cancel")] == [SCREEN.elements[6].box]
    assert SCREEN.detect("slider") == []


def test_an_element_tells_its_own_name_and_where_to_click() -> None:
    buttons = SCREEN.detect("button")
    assert [thing.label for thing in buttons] == [SCREEN.named[i].label for i in (1, 6)]
    [cancel] = SCREEN.detect("the Cancel button")
    told = object_as_json(cancel)
    assert (told["name"], told["label"], told["role"]) == ("the Cancel button", "Cancel", "button")
    (ymin, xmin, ymax, xmax), (y, x) = told["box"], told["centre"]
    assert (2 * y, 2 * x) == pytest.approx((ymin + ymax, xmin + xmax))
    assert not {"label", "role", "centre"} & object_as_json(Object("apple", Box(0, 0, 1, 1))).keys()


def test_the_element_in_a_box_is_named() -> None:
    for thing in SCREEN.named:
        assert SCREEN.element_in(thing.box) is thing
    assert SCREEN.element_in(Box(2000, 2000, 2010, 2010)) is None
    assert ReadScreen([], []).element_in(Box(0, 0, 1, 1)) is None


class KnowingFinder(nn.Module):
    """Knows which proposals are elements."""

    def __init__(self, elements: list[Object]) -> None:
        super().__init__()
        self.config = ElementFinderConfig(16, 8, 1, 8, 1, ROLES)
        self.elements, self.anywhere = elements, torch.nn.Parameter(torch.zeros(1))

    def forward(self, views: Tensor, kinds: Tensor, boxes: Tensor, counts: Tensor, sizes: Tensor) -> Found:
        assert counts.tolist() == [len(views)] == [len(kinds)]
        which, elements = (torch.from_numpy(each) for each in mark_elements(self.elements, ROLES, boxes.numpy()))
        edges = elements[(which - 1).clamp(min=0)]
        centre = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
        return Found(
            torch.where(which > 0, 5.0, -5.0), torch.cat((centre - edges[..., :2], edges[..., 2:] - centre), -1)
        )


def test_elements_are_found_once_each() -> None:
    elements = [
        element("button", 40, 60, 70, 160),
        element("textbox", 300, 300, 340, 700),
        element("icon", 48, 70, 62, 84),
        element("link", 496, 780, 524, 899),  # larger than its text
    ]
    image = np.full((560, 900, 3), 240, np.uint8)
    for thing, colour in zip(elements[:3], (90, 255, 0), strict=True):
        ymin, xmin, ymax, xmax = map(int, thing.box)
        image[ymin:ymax, xmin:xmax] = colour
    found = find_elements(elements_of(KnowingFinder(elements)), image, [Box(500, 820, 520, 890)])
    assert sorted(thing.role for thing in found) == sorted(each.role for each in elements)
    for thing in found:
        [true] = [each for each in elements if each.role == thing.role]
        assert thing.box == pytest.approx(true.box, abs=0.1)
        assert thing.confidence == pytest.approx(torch.tensor(5.0).sigmoid().item())


def test_one_box_is_one_element_but_an_icon_may_fill_another() -> None:
    elements = [element(role, 40, 60, 70, 90) for role in ("button", "link", "icon")]
    image = np.full((200, 200, 3), 240, np.uint8)
    image[40:70, 60:90] = 90
    found = find_elements(elements_of(KnowingFinder(elements)), image, [])
    assert sorted(thing.role for thing in found) == ["button", "icon"]


def test_a_blank_screen_has_no_elements() -> None:
    assert find_elements(elements_of(KnowingFinder([])), np.full((80, 90, 3), 7, np.uint8), []) == []


@pytest.fixture
def screenshot() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (120, 200, 3), np.uint8)


def test_prompts_for_elements_are_answered_by_their_finder(bundle, screenshot) -> None:
    pali = Pali.from_pretrained(bundle)
    buttons = [thing for thing in reader_of_bundle(pali).screen(screenshot).elements if thing.role == "button"]
    assert buttons
    [prediction] = pali.predict([[screenshot]], ["detect: button"])
    assert prediction.part == "elements"
    assert [thing.box for thing in prediction.answer.objects] == [thing.box for thing in buttons]
    assert all(0 <= (thing.confidence or -1) <= 1 for thing in prediction.answer.objects)
    parsed = pali.task("detect").parse(prediction.answer.text, (120, 200))
    assert [thing.name for thing in parsed.objects] == ["button"] * len(buttons)
    assert [thing.box for thing in pali.detect([screenshot], ["button"])[0]] == [thing.box for thing in buttons]
    [drawn] = pali.predict([[screenshot]], ["detect: red circle"])
    assert drawn.part == "pali"


def test_a_role_beside_the_name_of_a_drawing_means_an_element(bundle, screenshot) -> None:
    pali = Pali.from_pretrained(bundle)
    pali.names = ["heart", "gift box"]
    asked = [
        "the heart icon",
        "icon right of the heart",
        "heart",
        "a picture of a heart",
        "gift box",
        "gift box link",
    ]
    answers = pali.predict([[screenshot]] * 6, [f"detect: {text}" for text in asked])
    assert [answer.part for answer in answers] == ["elements", "elements", "pali", "pali", "pali", "elements"]


@pytest.mark.parametrize("task", ["detect", "refseg"])
def test_an_element_that_is_thinner_than_a_bin_is_written(bundle, screenshot, monkeypatch, task) -> None:
    pali = Pali.from_pretrained(bundle)
    icon = Object("heart", Box(50.1, 50.1, 50.2, 50.2), confidence=0.9, role="icon")
    monkeypatch.setattr(reader_of_bundle(pali), "screen", lambda image: ReadScreen([icon], []))
    opened = pali.task(task)
    prompt = pali.write_prompt(opened, "the heart icon")
    [prediction] = pali.predict([[screenshot]], [prompt], task=opened)
    [found] = prediction.answer.objects
    assert (found.box, found.name, found.role) == (icon.box, "the heart icon", "icon")
    assert prediction.answer.text != "none"


def test_a_referring_expression_with_a_role_means_an_element(bundle, screenshot) -> None:
    pali = Pali.from_pretrained(bundle)
    [[button], others] = pali.segment([screenshot] * 2, ["the button", "the red one"])
    assert button.box == reader_of_bundle(pali).point(screenshot, "the button").box
    assert button.mask is None
    assert not any(thing.role for thing in others)


def test_elements_are_counted_by_the_part_that_finds_them(bundle, screenshot) -> None:
    pali = Pali.from_pretrained(bundle)
    buttons = [thing for thing in reader_of_bundle(pali).screen(screenshot).elements if thing.role == "button"]
    questions = ["How many buttons are there?", "How many sliders are there?", "How many horses are there?"]
    prompts = [pali.write_prompt(pali.task("vqa"), question) for question in questions]
    counted, none, others = pali.predict([[screenshot]] * 3, prompts)
    assert (counted.part, counted.answer.text) == ("elements", str(len(buttons)))
    assert (none.part, none.answer.text, none.confidence) == ("elements", "0", 1.0)
    assert others.part != "elements"
    for frames in ([], [screenshot] * 2):  # no screen
        [answer] = pali.predict([frames], prompts[:1])
        assert answer.part != "elements"


def test_without_that_finder_words_of_the_screen_are_found(bundle, screenshot, monkeypatch) -> None:
    pali = Pali.from_pretrained(bundle)
    pali.names = ["horse"]
    del pali.parts["elements"]
    line = ReadLine([ReadWord("Save", Box(10, 20, 30, 60), 0.9)], Box(10, 20, 30, 60))
    monkeypatch.setattr(reader_of_bundle(pali), "page", lambda image: ReadPage([line], Size(99, 99)))
    assert reader_of_bundle(pali).screen(screenshot).elements == []
    [found] = pali.detect([screenshot], ["Save"])[0]
    assert (found.name, found.confidence) == ("Save", 0.9)
    assert found.box == pytest.approx(Box(10, 20, 30, 60), abs=1)
    answers = pali.predict([[screenshot]] * 3, ["detect: the Save button", "detect: button", "detect: horse"])
    assert [answer.part for answer in answers] == ["reader", "pali", "pali"]


def test_icons_are_named_by_what_they_show(bundle, screenshot) -> None:
    pali = Pali.from_pretrained(bundle)
    icons = [thing for thing in reader_of_bundle(pali).screen(screenshot).elements if thing.role == "icon"]
    assert icons
    named = reader_of_bundle(pali).name_icons(screenshot, [thing.box for thing in icons])
    assert [thing.name for thing in icons] == [name for name, _ in named]
    assert {name for name, _ in named} <= {"cross", "disc"}
    assert all(0.5 <= probability <= 1 for _, probability in named)
    assert reader_of_bundle(pali).name_icons(screenshot, []) == []


def test_the_last_screen_is_kept_until_another_is_asked_about(bundle, screenshot) -> None:
    pali = Pali.from_pretrained(bundle)
    first = reader_of_bundle(pali).screen(screenshot)
    assert reader_of_bundle(pali).screen(screenshot.copy()) is first
    assert reader_of_bundle(pali).screen(255 - screenshot) is not first
    buffer = screenshot.copy()
    first = reader_of_bundle(pali).screen(buffer)
    buffer[:] = 255 - buffer  # the next frame
    assert reader_of_bundle(pali).screen(buffer) is not first
    assert reader_of_bundle(pali).point(screenshot, "the button").role == "button"


def test_files_and_commands_give_the_same_elements(bundle, screenshot, tmp_path) -> None:
    path, answers = tmp_path / "screen.png", tmp_path / "answers.jsonl"
    Image.fromarray(screenshot).save(path)
    (tmp_path / "asked.jsonl").write_text(json.dumps({"key": "a", "images": ["screen.png"]}) + "\n")
    ask = ["predict", "--model", str(bundle)]
    one = CliRunner().invoke(app, [*ask, str(path), "button", "--task", "detect", "--json"])
    several = ["--input", str(tmp_path / "asked.jsonl"), "--output", str(answers), "detect: button"]
    many = CliRunner().invoke(app, [*ask, *several])
    assert (one.exit_code, many.exit_code) == (0, 0), one.output + many.output
    expected = Pali.from_pretrained(bundle).detect([screenshot], ["button"])[0]
    for found in (json.loads(one.stdout), json.loads(answers.read_text())):
        assert [thing["box"] for thing in found["objects"]] == [list(thing.box) for thing in expected]


def test_text_is_read_by_the_reader_where_no_other_part_is_more_confident(bundle, screenshot, tmp_path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    add_facts(copy / "pali", calibration={"ocr": Calibration(1.0)})
    pali = Pali.from_pretrained(copy)
    pali.by_task = {**pali.by_task, "ocr": ("pali", "reader")}
    line = screenshot[:40]
    assert pali.route(Question("ocr", "ocr en", [Sized(line, Size(*line.shape[:2]))])) == ("reader", "pali")
    assert pali.route(Question("ocr", "ocr en", [Sized(screenshot, Size(*screenshot.shape[:2]))])) == (
        "pali",
        "reader",
    )
    [read, page] = pali.predict([[line], [screenshot]], [pali.write_prompt(pali.task("ocr"))] * 2)
    assert read.part == "reader"
    assert 0 < (read.confidence or 0) < 1
    text = "\n".join(line.text for line in reader_of_bundle(pali).read_page(screenshot))
    assert page.answer.text == text or page.part == "pali"
    assert read.answer.text in pali.read([line])
    sure = pali.component("reader").answer(pali.rows([screenshot], page.prompt, part="reader")["reader"])
    assert (sure.answer.text, sure.part) == (text, "reader")


def test_pages_are_one_image(bundle, screenshot) -> None:
    pali = Pali.from_pretrained(bundle)
    pali.by_task = {**pali.by_task, "ocr": ("pali", "reader")}
    both = [Sized(screenshot, Size(*screenshot.shape[:2]))] * 2
    assert pali.route(Question("ocr", "ocr en", both)) == ("pali",)
    for frames in ([screenshot] * 2, []):
        with pytest.raises(ValueError, match=f"one image, and was given {len(frames)}"):
            pali.predict([frames], ["detect: button"])
    limit = pali.pipeline("pali").max_prompt
    with pytest.raises(ValueError, match="shorten it"):
        pali.predict([[screenshot]], ["detect: " + "x " * limit])


def test_confidence_of_words_is_calibrated_where_the_reader_says_how(
    bundle, screenshot, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("openpali_screen.text._LEGIBLE", 0)  # or random weights would be doubted
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    raw = reader_of_bundle(Pali.from_pretrained(bundle)).read_words(screenshot)
    middle = sorted(word.confidence for word in raw)[len(raw) // 2]
    calibration = Calibration(2.0, -math.log(middle / (1 - middle)) / 2)  # one half for that
    add_facts(copy / "reader", calibration={"ocr": calibration})
    sure = [calibration.confidence(math.log(word.confidence)) for word in raw]
    kept = [(word, each) for word, each in zip(raw, sure, strict=True) if each >= LEAST]
    assert kept
    for (word, each), other in zip(
        kept, reader_of_bundle(Pali.from_pretrained(copy)).read_words(screenshot), strict=True
    ):
        assert (word.text, word.box) == (other.text, other.box)
        assert other.confidence == pytest.approx(each)


def test_confidence_of_elements_is_calibrated_by_role(bundle, screenshot, tmp_path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    raw = reader_of_bundle(Pali.from_pretrained(bundle)).screen(screenshot).elements
    assert {thing.role for thing in raw} >= {"button", "icon"}
    calibration = Calibration(1.5, 0.5, {"button": -2.0, "icon": 2.0})
    add_facts(copy / "elements", calibration={"detect": calibration})
    found = reader_of_bundle(Pali.from_pretrained(copy)).screen(screenshot).elements
    assert [thing.confidence for thing in found] == sorted((thing.confidence for thing in found), reverse=True)
    sure = {(thing.role, thing.box): thing.confidence for thing in found}
    assert sure == {(t.role, t.box): pytest.approx(calibration.of(t.confidence, t.role)) for t in raw}


def test_lone_letters_are_left_out_unless_they_are_sure(bundle, tmp_path, monkeypatch) -> None:
    """Most of the others are icons."""
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    add_facts(copy / "reader", calibration={"ocr": Calibration(1.0)})
    box = Box(0, 0, 9, 9)
    said = [("x", 0.8), ("7", 0.95), ("8", 0.8), ("17", 0.4), ("ab", 0.5), ("OK", 0.7), ("abc", 0.4), ("a b", 0.2)]
    row = [("Qty", 0.9), ("3", 0.4), ("y", 0.4)]
    lines = [
        ReadLine([ReadWord(word, box, sure) for word in text.split()], box, row=min(i, len(said)))
        for i, (text, sure) in enumerate(said + row)
    ]
    monkeypatch.setattr(screen_reader, "read_page", lambda *_: ReadPage(lines, Size(99, 99)))
    page = reader_of_bundle(Pali.from_pretrained(copy)).read_page(np.zeros((9, 9, 3), np.uint8))
    assert [line.text for line in page] == ["7", "17", "OK", "abc", "Qty", "3"]


def test_words_of_a_page_that_cannot_be_read_are_doubted(bundle, tmp_path, monkeypatch) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    add_facts(copy / "reader", calibration={"ocr": Calibration(1.0)})
    box = Box(0, 0, 9, 9)
    for legibility, confidence in ((0.6, 0.9), (0.2, 0.18)):
        reading = ReadPage([ReadLine([ReadWord("word", box, 0.9)], box)], Size(99, 99), None, 0.0, legibility)
        monkeypatch.setattr(screen_reader, "read_page", lambda *_, reading=reading: reading)
        page = reader_of_bundle(Pali.from_pretrained(copy)).page(np.zeros((9, 9, 3), np.uint8))
        assert page.lines[0].words[0].confidence == pytest.approx(confidence)
        assert page.reason == ("text" if legibility < 0.5 else None)


def test_words_that_are_hardly_right_are_left_out_of_lines() -> None:
    words = [ReadWord("yes", Box(0, 0, 9, 9), 0.9), ReadWord("no", Box(0, 20, 9, 29), 0.05)]
    both = ReadLine(words, Box(0, 0, 9, 29))
    assert [word.text for word in both.calibrated(Calibration(1.0)).words] == ["yes", "no"]
    assert [word.text for word in both.calibrated(Calibration(1.0), 0.3).words] == ["yes"]
    assert both.calibrated(Calibration(1.0), 0.95) is None
