"""The command ``openpali eval``: cards, reports, suites and diffs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from official_layouts import ANSWERING

from openpali.eval.predictions import read_predictions
from openpali_lab.worlds.sources import _world


def test_one_benchmark_writes_card_answers_and_report(openpali, bundle: Path, tmp_path: Path) -> None:
    files = [
        "--json",
        tmp_path / "a.json",
        "--save-predictions",
        tmp_path / "a.jsonl",
        "--report",
        tmp_path / "a.html",
    ]
    printed = openpali("eval", "nano/vqa", "--model", bundle, "--limit", 5, "--batch-size", 2, *files)
    card = json.loads((tmp_path / "a.json").read_text())
    assert f"{card['scores']['acc']:.4f}" in printed
    assert "5 samples in fp32" in printed
    assert len(read_predictions(tmp_path / "a.jsonl")) == 5
    assert "data:image/" in (tmp_path / "a.html").read_text()

    files = ["--json", tmp_path / "b.json", "--save-predictions", tmp_path / "b.jsonl"]
    openpali("eval", "nano/vqa", "--model", bundle, "--limit", 3, *files)
    printed = openpali("eval", "diff", tmp_path / "a.json", tmp_path / "b.json")
    assert "n: 5 -> 3" in printed
    assert "3 samples in both: 0 better, 0 worse by acc; 0 answered differently" in printed


def test_each_scoring_of_a_test_set_is_recorded(
    openpali, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENPALI_TESTS_LOG", str(tmp_path / "tests.jsonl"))
    openpali("eval", "nano/vqa", "--model", bundle, "--limit", 3, "--json", tmp_path / "card.json")
    openpali("eval", "nano/vqa", "--model", bundle, "--limit", 3, "--split", "dev")
    openpali("eval", "nano/ocr", "--model", bundle, "--limit", 2)
    first, second = (json.loads(line) for line in (tmp_path / "tests.jsonl").read_text().splitlines())
    card = json.loads((tmp_path / "card.json").read_text())
    assert (first["benchmark"], first["n"], second["benchmark"], second["n"]) == ("nano/vqa", 3, "nano/ocr", 2)
    assert first["score"] == {"acc": card["scores"]["acc"]}
    assert first["model"] == card["model"]["hash"]
    assert first["commit"]
    assert first["date"] <= second["date"]


@pytest.mark.parametrize(
    ("name", "compares"), [("nano/retrieval", False), ("nano/same", False), ("nano/vqa", True)]
)
def test_a_limit_that_leaves_out_candidates_is_named(
    openpali, bundle: Path, tmp_path: Path, name: str, compares: bool
) -> None:
    printed = openpali("eval", name, "--model", bundle, "--limit", 5, "--json", tmp_path / "a.json")
    limited = json.loads((tmp_path / "a.json").read_text())["limited"]
    assert (not limited) is compares
    assert (limited in printed.splitlines()) is not compares


def test_the_nano_suite_runs_what_it_can_and_lists_the_rest(openpali, bundle: Path, tmp_path: Path) -> None:
    printed = openpali("eval", "--suite", "nano", "--model", bundle, "--limit", 2, "--out", tmp_path)
    for name in ("caption", "ocr", "vqa", "detect", "refseg", "video", "retrieval"):
        assert f"nano/{name}" in printed
        assert json.loads((tmp_path / f"nano-{name}.json").read_text())["benchmark"] == f"nano/{name}"
    assert "not run: easy-vqa: " in printed
    assert "data build easy-vqa" in printed
    assert "paper (5B)" not in printed  # it has no numbers of these
    assert "| nano/video | 2 |" in (tmp_path / "table.md").read_text()


def test_the_paper_suite_runs_on_the_data_root(openpali, bundle: Path, tmp_path: Path) -> None:
    expected = ANSWERING["docvqa"](tmp_path)
    printed = openpali("eval", "--suite", "paper", "--model", bundle, "--data", tmp_path)
    [row] = [line for line in printed.splitlines() if line.startswith(" docvqa ")]
    assert row.split()[1] == str(expected.count)
    assert "paper (5B)" in printed
    assert "87.6" in row
    assert "88.6" in row
    assert "not run: coco-captions: " in printed


def test_an_empty_home_names_the_command_that_builds_the_data(
    openpali, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    _world.cache_clear()  # worlds are cached per process
    said = openpali(
        "eval", "--suite", "nano", "--model", bundle / "siglip", fails=True
    )  # cannot answer real/line, which ships
    assert "`openpali data build all` makes the data of nano" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nano/vqa", "nano/ocr"], "'nano/ocr' beside 'nano/vqa'"),
        (["--suite", "paper", "--data", "nowhere", "--model", "BUNDLE"], "no benchmark of the suite paper can run"),
        (["--suite", "nona"], "unknown suite 'nona'"),
        (["--suite", "nano", "--json", "card.json"], "--out DIR"),
        (["nano/vqa", "--out", "folder"], "--out is for suites"),
        (["nano/vqa", "--json", "a.json", "--save-predictions", "./a.json"], "a.json is named for two outputs"),
        (["diff", "a.json"], "name two score cards"),
        (["diff", "a.json", "b.json"], "no score card a.json"),
        (["nano/vqa", "--ocr", "nothing.json", "--model", "BUNDLE"], "nothing.json"),
        (["nano/retrieval", "--save-predictions", "a.jsonl", "--model", "BUNDLE"], "no answers"),
    ],
)
def test_mistakes_end_in_one_sentence(openpali, bundle: Path, arguments: list[str], message: str) -> None:
    failed = openpali("eval", *(str(bundle) if a == "BUNDLE" else a for a in arguments), fails=True)
    assert message in failed


def test_the_library_works_as_documented(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nano").symlink_to(bundle)
    monkeypatch.setattr("openpali.weights.find.SHIPPED", tmp_path)
    document = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    [block] = re.findall(r"```python\n(.*?)```", document, re.S)
    exec(compile(block, "evaluation.md", "exec"), {})
    assert "'acc': " in capsys.readouterr().out
