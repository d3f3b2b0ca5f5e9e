"""ScreenSpot: which clicks are right, and who is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from official_layouts import ANSWERING, SCREEN_BOX

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import run
from openpali.infer.pali import Pali
from openpali.tasks.detect import Detect
from openpali.tasks.example import Box, Object
from openpali.tasks.scoring import Answered
from openpali_screen.pointing import ReadScreen
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


@pytest.mark.parametrize("name", ["screenspot", "screenspot-v2", "screenspot-pro"])
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
        monkeypatch.setattr(ReadScreen, "named", property(lambda self: self.elements))  # nothing is written on it
        monkeypatch.setattr(ScreenReader, "screen", lambda self, image, own=elements: ReadScreen(own, []))
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
