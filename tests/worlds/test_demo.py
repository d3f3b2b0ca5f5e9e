"""The samples of the demo: chosen by a rule, small, complete, and licensed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from openpali.data.sources.jsonl import JsonlSource
from openpali.data.validate import validate
from openpali.home import DEMO, DEMO_SAMPLES, FONTS
from openpali.tasks.registry import tasks_of
from openpali.weights.known import known_terms
from openpali_lab.worlds.compose import WorldSource
from openpali_lab.worlds.demo import CANVAS, ROWS, SEED, draw, places
from openpali_lab.worlds.world import World


def test_the_committed_samples_are_one_question_per_row() -> None:
    source = JsonlSource(DEMO_SAMPLES)
    examples = [source[i] for i in range(len(source))]
    assert [example.key for example in examples] == [title for title, *_ in ROWS]
    tasks = Counter(name for example in examples for name in tasks_of(example))
    assert tasks == {"caption": 5, "ocr": 1, "vqa": 3, "detect": 1, "refseg": 1, "video_qa": 1}
    assert {example.size for example in examples} == {(CANVAS, CANVAS)}
    assert validate(str(DEMO_SAMPLES), known_terms("nano", ""), limit=12).ok


def test_they_are_small_and_have_their_licence() -> None:
    sizes = {path: path.stat().st_size for path in DEMO.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 400_000
    text = DEMO_SAMPLES.read_text("utf-8")
    assert {path.relative_to(DEMO).as_posix() for path in sizes} == {
        DEMO_SAMPLES.name,
        "ATTRIBUTION.md",
        "LICENSE",
        "screen.webp",
        *re.findall(r"images/[\w-]+\.png", text),
    }
    for folder, title in ((DEMO, "GNU GENERAL PUBLIC LICENSE"), (FONTS, "SIL OPEN FONT LICENSE")):
        assert title in (folder / "LICENSE").read_text("utf-8")
        assert "(LICENSE)" in (folder / "ATTRIBUTION.md").read_text("utf-8")
        pyproject = (Path(__file__).parents[2] / "packages" / "openpali" / "pyproject.toml").read_text("utf-8")
        assert f'"src/openpali/{folder.name}/LICENSE"' in pyproject


@pytest.fixture(scope="module")
def drawn(world: World, tmp_path_factory: pytest.TempPathFactory) -> JsonlSource:
    folder = tmp_path_factory.mktemp("demo")
    draw(world, folder)
    return JsonlSource(folder / DEMO_SAMPLES.name)


def test_each_row_takes_the_first_sample_that_no_row_above_takes(world: World, drawn: JsonlSource) -> None:
    taken: Counter[str] = Counter()
    for number, ((_, kind, options, _), index) in enumerate(zip(ROWS, places(), strict=True)):
        data = f"{kind} {options}"
        assert index == taken[data]
        taken[data] += 1
        whole = WorldSource(world, kind, split="heldout", seed=SEED, canvas=CANVAS, **options)[index]
        np.testing.assert_array_equal(drawn[number].images, whole.images)


def test_records_keep_what_is_asked_and_what_is_true(drawn: JsonlSource) -> None:
    by_title = {example.key: example for example in (drawn[i] for i in range(len(drawn)))}
    assert [*by_title["Caption in Korean"].captions] == ["ko"]
    assert by_title["Read"].text
    count, where = by_title["Count"], by_title["Where"]
    assert re.fullmatch(r"how many .+ are in the image\?", count.question)
    assert count.answers[0].isdecimal()
    assert re.fullmatch(r"where is the .+\?", where.question)
    assert len({thing.name for thing in by_title["Detect"].objects}) == 1
    segment = by_title["Segment"]
    assert segment.expression
    thing = segment.objects[segment.referred[0]]
    assert thing.mask is not None
    assert thing.mask.any()
    assert len(by_title["Video"].images) == 8
