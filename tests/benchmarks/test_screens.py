"""ScreenSpot, ScreenQA and UI RefExp: which clicks and answers are right, and who is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from official_layouts import ANSWERING, SCREEN_BOX, dump_examples

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import run
from openpali.infer.pali import Pali
from openpali.tasks.detect import Detect
from openpali.tasks.example import Box, Object
from openpali.tasks.scoring import Answered
from openpali_lab.benchmarks.metrics.screenqa import normalize, short_answers
from openpali_lab.benchmarks.tfrecord import read_examples
from openpali_screen.pointing import Screen
from openpali_screen.reader import ScreenReader

LEFT, TOP, WIDTH, HEIGHT = SCREEN_BOX
TRUE = Box(TOP, LEFT, TOP + HEIGHT, LEFT + WIDTH)


def benchmark(name: str) -> AnswerBenchmark:
    found = find_benchmark(name)
    assert isinstance(found, AnswerBenchmark)
    return found


def clicked(*boxes: Box, kind: str = "web-text") -> Answered:
    """An answer of these boxes, where ``TRUE`` is right."""
    found = [["menu", *box, 1.0] for box in boxes]
    return Answered(0, "k", "p", "", (), kind, {"found": found, "true": [["menu", *TRUE, 1.0]]})


def around(x: float, y: float) -> Box:
    """A box with this centre."""
    return Box(y - 3, x - 5, y + 3, x + 5)


@pytest.mark.parametrize("name", ["screenspot", "screenspot-v2", "screenspot-pro", "ui-refexp"])
def test_boxes_are_read_as_their_owners_write_them(name: str, tmp_path: Path) -> None:
    ANSWERING[name](tmp_path)
    for each in (benchmark(name).open(tmp_path)[i] for i in (0, 1)):
        assert [thing.box for thing in each.objects] == [pytest.approx(TRUE, abs=1e-5)]
        assert each.referred == [0]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ([TRUE], 1),
        ([around(LEFT, TOP)], 1),  # the centre is a corner of the true box
        ([around(LEFT + WIDTH, TOP + HEIGHT)], 1),
        ([around(LEFT + WIDTH + 0.01, TOP + 1)], 0),
        ([around(LEFT + 1, TOP + HEIGHT + 0.01)], 0),
        ([around(LEFT - 0.01, TOP + 1)], 0),
        ([around(TOP + 1, LEFT + 1)], 0),  # x and y exchanged
        ([Box(0, 0, 100, 100)], 0),  # holds the true box, but its centre is elsewhere
        ([], 0),
        ([around(0, 0), TRUE], 0),  # one click
        ([TRUE, around(0, 0)], 1),
    ],
)
def test_which_clicks_are_right(answer: list[Box], right: float) -> None:
    for name in ("screenspot", "screenspot-v2", "screenspot-pro"):
        kind = "CAD/windows-icon" if name == "screenspot-pro" else "web-icon"
        scores = benchmark(name).score([clicked(*answer, kind=kind)])
        assert scores.summary["pointing"] == right
        assert scores.per_sample["pointing"] == [right]


def test_scores_of_platforms_and_of_text_and_icons() -> None:
    hit, miss = clicked(TRUE), clicked()
    rows = [
        *(replace(hit, kind=kind) for kind in ("mobile-text", "mobile-text", "mobile-icon", "web-text")),
        *(replace(miss, kind=kind) for kind in ("web-icon", "web-text", "web-text", "desktop-text")),
    ]
    scores = benchmark("screenspot").score(rows).summary
    assert scores == pytest.approx(
        {
            "pointing": 4 / 8,
            "pointing/mobile": 1,
            "pointing/web": 1 / 4,
            "pointing/desktop": 0,
            "pointing/text": 3 / 6,
            "pointing/icon": 1 / 2,
            "pointing/mobile-text": 1,
            "pointing/mobile-icon": 1,
            "pointing/web-text": 1 / 3,
            "pointing/web-icon": 0,
            "pointing/desktop-text": 0,
            "mean_pointing": (1 + 1 + 1 / 3 + 0 + 0) / 5,
        }
    )


def test_scores_of_groups_and_platforms() -> None:
    kinds = ("CAD/windows-text", "CAD/windows-icon", "Dev/macos-icon", "Dev/windows-text")
    rows = [clicked(*([TRUE] if i < 2 else []), kind=kind) for i, kind in enumerate(kinds)]
    assert benchmark("screenspot-pro").score(rows).summary == pytest.approx(
        {
            "pointing": 1 / 2,
            "pointing/CAD": 1,
            "pointing/Dev": 0,
            "pointing/windows": 2 / 3,
            "pointing/macos": 0,
            "pointing/text": 1 / 2,
            "pointing/icon": 1 / 2,
            "pointing/CAD-text": 1,
            "pointing/CAD-icon": 1,
            "pointing/Dev-text": 0,
            "pointing/Dev-icon": 0,
        }
    )


def test_the_mean_is_that_of_the_owners_table() -> None:
    """SeeClick's row: 78.0, 52.0, 72.2, 30.0, 55.7 and 32.5 percent make 53.4."""
    shares = {"mobile-text": 780, "mobile-icon": 520, "desktop-text": 722, "desktop-icon": 300}
    shares |= {"web-text": 557, "web-icon": 325}
    rows = [
        clicked(*([TRUE] if i < share else []), kind=kind) for kind, share in shares.items() for i in range(1000)
    ]
    assert benchmark("screenspot").score(rows).summary["mean_pointing"] == pytest.approx(0.534)


def test_an_instruction_is_asked_as_a_whole(tmp_path: Path) -> None:
    ANSWERING["screenspot"](tmp_path)
    found = benchmark("screenspot")
    task, source = Detect(**found.options), found.open(tmp_path)
    for index, name in ((0, "open and close the mobile menu"), (1, "2 open and close the menu")):
        sample = task.write(source[index], np.random.default_rng(0))
        assert sample.prompt == f"detect: {name}"
        assert task.names_in(sample.prompt) == [name]
        [thing] = task.parse(sample.target, source[index].size, prompt=sample.prompt, strict=True).objects
        assert thing.box == pytest.approx(TRUE, abs=0.04)


def test_a_bundle_that_finds_elements_is_asked_as_users_ask_it(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ANSWERING["screenspot"](tmp_path)
    meant = Object("open close menu", TRUE, confidence=0.5, role="button")
    for elements, share in (([meant], 1), ([replace(meant, box=Box(40, 50, 48, 64))], 0), ([], 0)):
        monkeypatch.setattr(Screen, "named", property(lambda self: self.elements))  # nothing is written on it
        monkeypatch.setattr(ScreenReader, "screen", lambda self, image, own=elements: Screen(own, []))
        pali = Pali.from_pretrained(bundle)
        pali.names = ["horse"]  # it knows, and so no menu
        done = run(benchmark("screenspot"), pali, tmp_path)
        told = {row.text == "none" for row in done.rows if row.kind.endswith("text")}
        assert told == {not elements}
        assert done.scores.summary["pointing"] == share
        assert {name: part["n"] for name, part in done.card.slices.items()} == {
            f"{platform}-{what}": 1 for platform in ("mobile", "desktop", "web") for what in ("text", "icon")
        }


def test_a_model_without_parts_for_screens_is_asked_itself(bundle: Path, tmp_path: Path) -> None:
    ANSWERING["screenspot"](tmp_path)
    done = run(benchmark("screenspot"), Pali.from_pretrained(bundle / "pali"), tmp_path, limit=2)
    assert done.card.scores["pointing"] in (0, 0.5, 1)
    assert done.rows[0].prompt == "detect: open and close the mobile menu"


# ---- ScreenQA


@pytest.mark.parametrize(
    ("prediction", "references", "same", "alike"),
    [  # the results of the official script
        ("The Learn tab!", ["learn tab"], 1, 1),
        ("learn", ['"Learn" tab', "<no answer>"], 0, 2 / 3),
        ("<no answer>", ["Learn", "<no answer>"], 1, 1),
        ("<no answer>", ["Learn"], 0, 0),
        ("no answer", ["<no answer>"], 0, 0),
        ("Learn", ["<no answer>"], 0, 0),
        ("an", ["the"], 1, 0),  # nothing is left of either
        ("12 12 exercises", ["12 exercises", "12"], 0, 0.8),
        ("$4.50", ["4.50"], 1, 1),
        ("4-50", ["4 50"], 0, 0),
    ],
)
def test_short_answers(prediction: str, references: list[str], same: float, alike: float) -> None:
    scores = short_answers([prediction], [references])
    assert scores.summary == pytest.approx({"exact_match": same, "f1": alike})
    assert scores.per_sample["f1"] == [pytest.approx(alike)]


def test_normal_form_of_short_answers() -> None:
    assert normalize("  The “theatre” of\tan A-list, a ") == "“theatre” of alist"


def test_empty_answers_are_wrong() -> None:
    assert benchmark("screenqa").score([Answered(0, "k", "p", "", ("Learn",))]).summary["f1"] == 0


# ---- UI RefExp


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ([TRUE], 1),
        ([Box(TOP, LEFT, TOP + HEIGHT, LEFT + WIDTH / 10)], 1),  # an IoU of exactly 0.1
        ([Box(TOP, LEFT, TOP + HEIGHT, LEFT + WIDTH / 11)], 0),
        ([Box(TOP, LEFT, TOP + HEIGHT, LEFT + 10 * WIDTH)], 1),  # its centre is elsewhere
        ([Box(TOP, LEFT, TOP + HEIGHT, LEFT + 11 * WIDTH)], 0),
        ([], 0),
        ([around(0, 0), TRUE], 0),  # the first box counts
        ([TRUE, around(0, 0)], 1),
    ],
)
def test_which_elements_are_right(answer: list[Box], right: float) -> None:
    scores = benchmark("ui-refexp").score([clicked(*answer)])
    assert scores.summary == {"box_accuracy@0.1": right}
    assert scores.per_sample == {"box_accuracy@0.1": [right]}


def test_an_element_that_is_not_there_is_reported(tmp_path: Path) -> None:
    ANSWERING["ui-refexp"](tmp_path)
    file = tmp_path / "uibert/ref_exp/test.tfrecord"
    rows = read_examples(file)
    rows[1]["image/ref_exp/label"] = [3]
    dump_examples(file, rows)
    with pytest.raises(ValueError, match=r"entry 2: .*no element 3 among 3.*uibert"):
        benchmark("ui-refexp").open(tmp_path)


OFFICIAL = (  # features of the first record of Google's test.tfrecord, as TensorFlow wrote them
    "0a10696d6167652f6f626a6563742f6e756d120812060a0400000042",
    "0a13696d6167652f7265665f6578702f6c6162656c12051a030a011a",
    "0a12696d6167652f7265665f6578702f7465787412250a230a2173656c65637420746865206c656674207369646520626f74746f6d20696d616765",
    "0a08696d6167652f696412090a070a053631363534",
)


def test_official_bytes_are_read(tmp_path: Path) -> None:
    features = [bytes.fromhex(each) for each in OFFICIAL]
    entries = b"".join(b"\x0a" + bytes([len(each)]) + each for each in features)
    record = b"\x0a" + bytes([128 + len(entries) % 128, len(entries) // 128]) + entries
    file = tmp_path / "test.tfrecord"
    file.write_bytes(len(record).to_bytes(8, "little") + bytes(4) + record + bytes(4))
    assert read_examples(file) == [
        {
            "image/object/num": [32.0],
            "image/ref_exp/label": [26],
            "image/ref_exp/text": ["select the left side bottom image"],
            "image/id": ["61654"],
        }
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"image/id": 61654}', "cut off"),
        ((3).to_bytes(8, "little") + bytes(4) + b"\x0a\x07x" + bytes(4), "record 1 is no tf.train.Example"),
        (
            (7).to_bytes(8, "little") + bytes(4) + b"\x0a\x05\x0a\x03\x0a\x01\xff" + bytes(4),
            "record 1 is no tf.train",
        ),
    ],
)
def test_a_damaged_file_is_reported(data: bytes, told: str, tmp_path: Path) -> None:
    ANSWERING["ui-refexp"](tmp_path)
    (tmp_path / "uibert/ref_exp/test.tfrecord").write_bytes(data)
    with pytest.raises(ValueError, match=rf"test\.tfrecord.*{told}.*uibert"):
        benchmark("ui-refexp").open(tmp_path)
