"""``benchmarks/reading.py``: what it records, and what it tells Tesseract."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pytest

from openpali.eval.benchmark import PageBenchmark
from openpali.tasks.example import Box, Example, Image, Line, Word
from openpali_lab.worlds.benchmarks.pages import page_suite
from openpali_screen.evaluate import words_of
from openpali_screen.parts import READER, WORDS
from openpali_screen.text import ReadWord

FOLDER = Path(__file__).parents[2] / "benchmarks"


class OneWord:
    """Finds the same word on every page, and no letter on a line."""

    parts: Mapping[str, Path] = MappingProxyType({})

    def read_words(self, image: Image) -> list[ReadWord]:
        return [ReadWord("one", Box(0, 0, 9, 9), 0.9)]

    def read(self, images: list[Image]) -> list[str]:
        return [""] * len(images)


class Peer:
    """Finds nothing, whatever its settings."""

    def __init__(self, *args: object, **settings: object) -> None: ...

    def read(self, image: Image) -> list[ReadWord]:
        return []

    def line(self, image: Image) -> str:
        return ""


def page(key: str) -> Example:
    words = [Word("one", Box(0, 0, 9, 9)), Word("two", Box(0, 20, 9, 29))]
    return Example(key, [np.zeros((40, 40, 3), np.uint8)], lines=[Line(words)])


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setitem(sys.modules, "rapidocr", ModuleType("rapidocr"))
    monkeypatch.syspath_prepend(FOLDER)
    return runpy.run_path(str(FOLDER / "reading.py"))


def test_scorings_of_test_sets_are_recorded(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENPALI_TESTS_LOG", str(tmp_path / "tests.jsonl"))
    sets = [
        PageBenchmark(
            name=name,
            title=name,
            split="all",
            part=READER,
            open=lambda root: [page("a"), page("b"), page("c")],
            parts=WORDS,
            answer=words_of,
            test=name == "tested",
        )
        for name in ("tested", "developed")
    ]
    measure = script["measure"]
    stand_ins = {
        "page_suite": lambda: sets,
        "Rapid": Peer,
        "Tesseract": Peer,
        "reader_of_bundle": lambda pali: pali,
    }
    for name, other in stand_ins.items():
        monkeypatch.setitem(measure.__globals__, name, other)
    monkeypatch.setattr("openpali_screen.evaluate.reader_of_bundle", lambda bundle: bundle)
    assert {each.name for each in measure(OneWord(), 2, script["Answers"](None))}
    lines = [json.loads(line) for line in (tmp_path / "tests.jsonl").read_text().splitlines()]
    assert [(each["benchmark"], each["n"]) for each in lines] == [("tested", 2), ("real/line", 200)]
    assert lines[0]["score"] == {"word_f1": pytest.approx(2 / 3)}
    assert lines[1]["score"] == {"cer": 1.0}


def test_tesseract_is_told_the_language_of_each_page(script: dict[str, Any]) -> None:
    told = {}
    for benchmark in page_suite():
        if benchmark.name in ("real/documents", "real/printed", "real/themes"):
            source = benchmark.open(Path())  # type: ignore[attr-defined]
            told[benchmark.name] = {script["language_of"](source[i].key) for i in range(len(source))}
    printed = {"eng", "ces", "deu", "fra", "ita", "pol", "por", "rus", "spa", "ukr"}
    assert told == {
        "real/documents": printed - {"pol"} | {"swe"},
        "real/printed": printed,
        "real/themes": {"eng"},
    }
