"""What forms and tables of a screen say, from its elements and lines."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from openpali import Pali
from openpali.infer.components import Question
from openpali.infer.pipeline import Sized
from openpali.metrics.calibration import Calibration
from openpali.tasks.example import Box, Example, Line, Object, Size, Word, around
from openpali.weights.format import add_facts
from openpali_lab.worlds.benchmarks.forms import questions_about
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.forms import answer_about, counted_roles
from openpali_screen.pointing import ReadScreen, text_of
from openpali_screen.text import ReadLine, ReadWord


def line(top: float, left: float, text: str) -> ReadLine:
    """Words of a line, 8 pixels a character."""
    words, x = [], left
    for word in text.split():
        words.append(ReadWord(word, Box(top, x, top + 16, x + 8 * len(word)), 0.9))
        x += 8 * len(word) + 8
    return ReadLine(words, around(word.box for word in words))


def element(role: str, *box: float, name: str = "") -> Object:
    return Object(name or role, Box(*box), confidence=0.8, role=role)


FORM = [
    *(line(10, 20, "User name"), line(12, 210, "michael23")),
    *(line(50, 20, "City"), line(80, 24, "New York")),
    *(line(120, 20, "Total"), line(120, 600, "far away"), line(120, 220, "$ 12.50")),
]
TABLE = [
    *(line(200, 20, "Name"), line(200, 200, "Country"), line(200, 400, "Salary")),
    *(line(230, 20, "Dakota Rice"), line(230, 200, "Niger"), line(230, 408, "$36,738")),
    *(line(260, 20, "Minerva Hooper"), line(260, 200, "Curaçao"), line(260, 408, "$23,789")),
]
FIELDS = [element("textbox", 8, 200, 34, 400), element("textbox", 74, 20, 104, 300)]
HEADERS = [element("columnheader", 196, x, 220, x + 170) for x in (16, 190, 380)]
BUTTONS = [element("button", 300, x, 330, x + 60) for x in (10, 100, 200)]
SCREEN = ReadScreen([*FIELDS, *HEADERS, *BUTTONS], [*FORM, *TABLE])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the User name?", "michael23"),
        ("what is the value of the city field", "New York"),
        ("What is the Total?", "$ 12.50"),
        ("What is the Salary of Minerva Hooper?", "$23,789"),
        ("Which country does Dakota Rice have?", "Niger"),
        ("How many buttons are there?", "3"),
        ("how many text fields are there", "2"),
    ],
)
def test_a_question_is_answered_from_what_stands_there(question: str, answer: str) -> None:
    said = answer_about(SCREEN, question)
    assert said is not None
    assert said.text == answer
    assert 0 < said.confidence < 1


def test_cells_and_values_are_found_without_elements() -> None:
    plain = ReadScreen([], SCREEN.lines)
    for question, answer in (("the Salary of Dakota Rice", "$36,738"), ("What is the city?", "New York")):
        said = answer_about(plain, question)
        assert said is not None
        assert said.text == answer


@pytest.mark.parametrize(
    ("question", "counted"),
    [
        ("How many buttons are on this screen?", True),
        ("how many buttons", True),
        ("How many buttons are there in total?", True),
        ("How many buttons are on screen?", True),
        ("How many buttons are there in this dialog?", True),
        ("How many buttons are on the left?", False),
        ("How many buttons are there below Save?", False),
        ("How many of the last buttons are there?", False),
        (" How  many buttons?!", True),
        ("How many buttons" + " " * 200_000 + "there", False),  # took minutes
    ],
)
def test_what_is_counted_is_all_of_a_screen(question: str, counted: bool) -> None:
    assert bool(counted_roles(question)) == counted


def test_radio_buttons_are_no_buttons() -> None:
    radios = [element("radio", 350, x, 364, x + 14) for x in (10, 40)]
    said = answer_about(ReadScreen([*BUTTONS, *radios], []), "How many radio buttons are there?")
    assert said is not None
    assert said.text == "2"


def test_the_confidence_of_a_count_is_the_probability_of_that_count() -> None:
    tabs = [element("tab", 10, x, 30, x + 60) for x in (10, 100)]
    doubtful = [replace(tab, confidence=0.3) for tab in tabs] + [element("button", 300, 400, 330, 460)]
    for found, sure in (([], 0.7**2), (tabs, 0.8**2 * 0.7**2 + 2 * 0.8 * 0.2 * 2 * 0.3 * 0.7 + 0.2**2 * 0.3**2)):
        said = answer_about(ReadScreen(found, [], doubtful=doubtful), "How many tabs are there?")
        assert said is not None
        assert (said.text, said.confidence) == (str(len(found)), pytest.approx(sure))


@pytest.mark.parametrize("question", ["What is the weather?", "Why?", "", "What is the Salary of Bob?"])
def test_what_is_not_there_has_no_answer(question: str) -> None:
    said = answer_about(SCREEN, question)
    assert said is None or said.confidence < 0.7
    assert answer_about(ReadScreen([], []), question) is None


def test_questions_of_a_window_are_about_fields_with_labels_and_cells() -> None:
    lines = [Line([Word(word.text, word.box) for word in each.words]) for each in SCREEN.lines]
    names = ("User name", "Not on the screen"), ("Name", "Country", "Salary")
    fields = [Object(name, each.box, role="textbox") for name, each in zip(names[0], FIELDS, strict=True)]
    headers = [Object(name, each.box, role="columnheader") for name, each in zip(names[1], HEADERS, strict=True)]
    image = np.zeros((400, 800, 3), np.uint8)
    example = Example("window", [image], objects=[*fields, *headers], lines=lines)
    found = {each.question: (*each.answers, each.question_kind) for each in questions_about(example)}
    assert found == {
        "What is the User name?": ("michael23", "field"),
        "What is the Country of Dakota Rice?": ("Niger", "cell"),
        "What is the Salary of Minerva Hooper?": ("$23,789", "cell"),
    }
    assert all(answer_about(SCREEN, question).text == answer for question, (answer, _) in found.items())


def test_questions_about_screens_alone_are_asked_of_the_part_that_finds_elements(bundle, tmp_path) -> None:
    uncalibrated = Pali.from_pretrained(bundle)
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    add_facts(copy / "pali", calibration={"vqa": Calibration(1.0)})
    pali = Pali.from_pretrained(copy)
    uncalibrated.by_task = {**uncalibrated.by_task, "vqa": ("pali", "elements")}
    pali.by_task = {**pali.by_task, "vqa": ("pali", "elements")}
    small, large = (np.full((side, side, 3), 255, np.uint8) for side in (96, 300))
    assert pali.route(Question("vqa", "answer en what is it?", [Sized(small, Size(96, 96))])) == ("pali",)
    assert pali.route(Question("vqa", "answer en what is it?", [Sized(large, Size(300, 300))])) == (
        "pali",
        "elements",
    )
    assert uncalibrated.route(Question("vqa", "answer en what is it?", [Sized(large, Size(300, 300))])) == (
        "pali",
    ), "nothing to compare"
    reader_of_bundle(pali)._last = large, SCREEN
    row = pali.rows([Image.fromarray(large)], "Answer in en: What is the city? <extra_id_0>", part="elements")
    said = pali.component("elements").answer(row["elements"])
    assert (said.answer.text, said.part) == ("New York", "elements")
    assert said.confidence == pytest.approx(0.81)


def test_the_values_of_a_row_of_names_stand_below_it_and_those_of_a_list_beside_it() -> None:
    below = [*(line(10, 20, "City"), line(10, 200, "Country")), *(line(36, 24, "Oslo"), line(36, 204, "Norway"))]
    beside = [*(line(100, 20, "Total"), line(100, 200, "12")), *(line(130, 20, "Tax"), line(130, 200, "3"))]
    screen = ReadScreen([], [*below, *beside, line(160, 20, "Fee"), line(160, 200, "1")])
    for question, answer in (("What is the city?", "Oslo"), ("What is the country?", "Norway"), ("the tax", "3")):
        said = answer_about(screen, question)
        assert said is not None
        assert said.text == answer


NAMES = ("Name", "City", "Order no.", "Tel.", "Qty", "Addr.")
VALUES = ("Ann Lee", "Oslo", "4711", "555 123", "3", "Elm Street 5")
QUESTIONS = {
    "What is the name?": "Ann Lee",
    "What is the order number?": "4711",
    "What is the order no.?": "4711",
    "What is the telephone number?": "555 123",
    "What is the phone number?": "555 123",
    "What is the quantity?": "3",
    "What is the address?": "Elm Street 5",
}


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("left", [104, 180, 300])
def test_fields_are_named_by_what_stands_at_their_left(left: int, filled: bool) -> None:
    fields = [element("textbox", 40 * i, left, 40 * i + 30, left + 200) for i in range(6)]
    names = [line(40 * i + 7, 20, name) for i, name in enumerate(NAMES)]
    values = [line(40 * i + 7, left + 10, value) for i, value in enumerate(VALUES) if filled]
    screen = ReadScreen(fields, [*names, *values])
    assert [text_of(screen.label(field)) for field in fields] == [*NAMES]
    for question, answer in QUESTIONS.items() if filled else ():
        said = answer_about(screen, question)
        assert said is not None
        assert said.text == answer


def test_what_stands_between_fields_is_no_label_of_the_next() -> None:
    tops, lefts = (100, 170, 240), (20, 340)
    places = [(top, left) for top in tops for left in lefts]
    fields = [element("textbox", top + 22, left, top + 52, left + 300) for top, left in places]
    names = [line(top, left, name) for (top, left), name in zip(places, NAMES, strict=True)]
    values = [line(top + 29, left + 10, value) for (top, left), value in zip(places, VALUES, strict=True)]
    units = [*(line(top + 29, 322, "k") for top in tops), *(line(top + 29, 2, "#") for top in tops)]
    screen = ReadScreen(fields, [*names, *values, *units])
    assert [text_of(screen.label(field)) for field in fields] == [*NAMES]
