"""Validation finds problems and shows what the model will see; the documentation's examples work."""

from __future__ import annotations

import io
import json
import re
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from openpali.data.sources.records import Record, parse_record
from openpali.data.validate import Terms, check_trainable, validate
from openpali.reports.contact_sheet import ContactSheet
from openpali.reports.validation import render
from openpali.rng import generator
from openpali.tasks.refseg import MaskCrop
from openpali.tasks.registry import TASKS, get_task
from openpali.text.tokenizer import Tokenizer
from openpali.train.load import parse_recipe
from openpali.train.phases import training_terms
from openpali.train.recipe import Recipe, SourceSpec
from openpali.weights.bundle import open_tokenizer
from openpali.weights.find import SHIPPED
from openpali.weights.format import add_facts, open_model
from openpali.weights.known import known_terms

DOCS = Path(__file__).parents[2] / "docs/data.md"


class Blocks:
    """A mask codec of 4 x 4 squares: code 127 inside, 0 outside."""

    def encode(self, mask: MaskCrop) -> Sequence[int]:
        return [127 * int(v > 0.5) for v in mask.reshape(4, 16, 4, 16).mean(axis=(1, 3)).ravel()]

    def decode(self, codes: Sequence[int]) -> MaskCrop:
        grid = np.where(np.array(codes).reshape(4, 4) > 63, 1.0, -1.0)
        return np.kron(grid, np.ones((16, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["what is it? a cat and a dog on the grass, 1 2 3"] * 5, 1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (100, 80), (90, 90, 90)).save(tmp_path / "a.png")
    return tmp_path


def write(folder: Path, *records: Any) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records), "utf-8")
    return path


def cat(box: Sequence[float], **fields: Any) -> dict[str, Any]:
    return {"images": "a.png", "objects": [{"name": "cat", "box": box, **fields}]}


def test_good_data_is_counted_per_task_and_shown(folder: Path, tokenizer: Tokenizer) -> None:
    path = write(
        folder,
        {"images": "a.png", "question": "what is it?", "answers": "a cat"},
        {"images": "a.png", "caption": "a cat"},
        {**cat([10, 20, 50, 60]), "label": "x"},
        {"text": "a cat and a dog on the grass"},
    )
    report = validate(path, Terms(tokenizer=tokenizer))
    assert report.ok
    assert (report.samples, report.checked) == (4, 4)
    expected = {"vqa": 1, "question_generation": 1, "video_qa": 1, "caption": 1, "contrastive": 1, "detect": 1}
    expected |= {"object_vqa": 1, "classify": 1, "denoise": 2, "ocr": 0, "refseg": 0}  # a text alone is no OCR
    assert expected.items() <= report.feeds.items()
    first = report.shown[0]
    assert (first.where, first.task, first.target) == ("data.jsonl:1", "vqa", "a cat")
    assert list(first.target_pieces) == [*tokenizer.pieces(tokenizer.encode("a cat")), "</s>"]
    assert [s.task for s in report.shown] == ["vqa", "caption", "detect", "denoise"]
    assert json.loads(json.dumps(report.as_json()))["feeds"] == report.feeds
    assert "no problems found" in printed(report)


def test_a_spelled_target_is_counted_and_shown_as_it_is_trained(folder: Path, tokenizer: Tokenizer) -> None:
    path = write(folder, {"images": "a.png", "text": "a cat 12"})  # "▁12" is a piece
    report = validate(path, Terms([get_task("ocr", spelled=True)], tokenizer=tokenizer))
    pieces = [*tokenizer.pieces(tokenizer.spell("a cat 12")), "</s>"]
    assert (list(report.shown[0].target_pieces), report.longest_target) == (pieces, len(pieces))
    assert len(pieces) > len(tokenizer.encode("a cat 12")) + 1


def printed(report: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(render(report))
    return out.getvalue()


def test_each_kind_of_problem_is_found_with_its_line(folder: Path, tokenizer: Tokenizer) -> None:
    (folder / "bad.png").write_bytes(b"?")
    inside = [[60, 50, 90, 50, 90, 70, 60, 70]]  # x 60..90, y 50..70
    path = write(
        folder,
        cat([10, 20, 50, 60]),
        {"images": "gone.png", "caption": "a cat"},
        {"images": "bad.png", "caption": "a cat"},
        {"imges": "a.png"},
        cat([10, 20, 50, 120]),
        cat([0.1, 0.2, 0.5, 0.6]),
        cat([60, 50, 90, 70], mask=inside),  # x and y swapped
        cat([50, 60, 70, 90], mask=inside),
        {"images": "a.png"},
        cat([10, 20, 50, 60]) | {"objects": [{"name": "7 up", "box": [1, 2, 30, 40]}]},
        {"images": "a.png", "caption": "a cat " * 100},
        cat([-3, 20, 50, 60]) | {"key": "a"},
        {"key": "b", "images": "a.png"},
        {"images": "a.png", "caption": ["a cat", ""], "answers": " ", "question": "what is it?"},
    )
    report = validate(path, Terms(tokenizer=tokenizer))
    lines = {kind: [re.findall(r"data\.jsonl:(\d+)", m)[0] for m in ms] for kind, ms in report.messages.items()}
    assert lines["missing file"] == ["2"]
    assert lines["bad image"] == ["3"]
    assert lines["bad record"] == ["4"]
    assert lines["box outside"] == ["5", "6", "7", "12"]
    assert "multiply" in report.messages["box outside"][1]
    assert lines["mask elsewhere"] == ["7"]
    assert lines["unusable"] == ["9", "13"]
    assert "data.jsonl:12 (key a): objects.0 (cat)" in report.messages["box outside"][3]
    fields = [message.split(" is empty")[0] for message in report.messages["empty text"]]
    assert fields == ["data.jsonl:14: captions.en.1", "data.jsonl:14: answers.0"]
    assert validate(path).problems["empty text"] == 2  # without a tokenizer, too
    assert set(lines["long target"]) == {"11"}
    assert not report.ok
    text = printed(report)
    assert "1 x missing file" in text
    assert "gone.png" in text


def test_a_task_names_the_missing_field(folder: Path) -> None:
    path = write(folder, {"images": "a.png", "question": "what?"}, *[{"images": "a.png"}] * 9)
    report = validate(path, Terms([get_task("vqa")], required=True))
    assert report.feeds == {"vqa": 0}
    assert report.problems == {"unusable": 10}
    assert report.messages["unusable"][0] == "sample data.jsonl:1 has no answers"
    assert report.as_json()["messages"]["unusable"][-1] == "sample data.jsonl:10 has no question"
    assert "and 5 more" in printed(report)


def test_texts_changed_by_the_tokenizer_are_counted(folder: Path, tokenizer: Tokenizer) -> None:
    class Lossy(Tokenizer):
        """Drops one character, as a vocabulary without it would."""

        def encode(self, text: str) -> list[int]:
            return super().encode(text.replace("{", ""))

    path = write(folder, *[{"images": "a.png", "caption": c} for c in ("a {cat}", "{", "a dog", "two\nlines")])
    report = validate(path, Terms(tokenizer=Lossy(tokenizer.proto)))
    assert (report.texts, report.lost, report.lost_characters) == (4, 2, {"{": 2})
    assert "50.0% of 4 texts do not round-trip" in printed(report)
    assert "{ x 2" in printed(report)
    assert validate(path, Terms(tokenizer=tokenizer)).lost == 0


def test_a_limit_checks_evenly_spaced_samples(folder: Path) -> None:
    path = write(folder, *[{"images": "a.png", "caption": f"c{i}"} for i in range(100)])
    report = validate(path, limit=5)
    assert (report.samples, report.checked) == (100, 5)
    assert [s.target for s in report.shown] == ["c0", "c24", "c49", "c74", "c99"]
    with pytest.raises(FileNotFoundError):
        validate(folder / "gone.jsonl")


def test_the_contact_sheet_is_drawn_from_the_target_text(folder: Path) -> None:
    """The mask covers the left half of the box, and is drawn as the codec's 16 tokens decode it."""
    Image.new("RGB", (320, 320), (0, 0, 0)).save(folder / "a.png")
    record = cat([80, 80, 240, 240], mask=[[80, 80, 160, 80, 160, 240, 80, 240]]) | {
        "expression": "the cat",
        "referred": [0],
    }
    out = folder / "sheet.png"
    contact_sheet = ContactSheet()
    report = validate(write(folder, record), Terms([get_task("refseg", masks=Blocks())]), show=contact_sheet.add)
    assert contact_sheet.save(out)
    assert report.shown[0].target.startswith("250 250 749 749 <mask_token127> <mask_token127> <mask_token0> ")
    sheet = np.asarray(Image.open(out).convert("RGB")).astype(int)
    image = sheet[:320, :320]
    masked = image.sum(axis=-1) > 60
    assert masked[100:220, 85:155].mean() > 0.99
    assert masked[100:220, 170:230].mean() < 0.01
    assert masked[160, 238:241].any()  # the box's right edge
    assert not masked[:75].any()


# ---- by a model, or by a recipe


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("empty_home")
def test_a_new_user_validates_with_the_shipped_model(folder: Path) -> None:
    """Nothing is built; options, tokenizer, mask codec and prompt limit are those of the model."""
    inside = [[20, 10, 60, 10, 60, 50, 20, 50]]
    path = write(folder, cat([10, 20, 50, 60], mask=inside) | {"expression": "the cat", "referred": [0]})
    report = validate(path, known_terms("nano", "detect"))
    assert report.ok
    assert report.shown[0].target == "6 9 29 28 cat"  # 48 bins, of 80 x 100 pixels
    shipped = open_tokenizer("nano/pali")
    assert list(report.shown[0].target_pieces) == [*shipped.pieces(shipped.encode("6 9 29 28 cat")), "</s>"]
    [shown] = validate(path, known_terms("nano", "refseg")).shown
    assert re.fullmatch(r"6 9 29 28( <mask_token\d+>){16}", shown.target)
    assert {"detect": 1, "refseg": 1, "vqa": 0}.items() <= validate(path, known_terms("nano")).feeds.items()


@pytest.mark.usefixtures("empty_home")
def test_prompts_longer_than_the_model_takes_are_found(folder: Path) -> None:
    path = write(folder, {"images": "a.png", "question": "what is it? " * 40, "answers": "a cat"})
    report = validate(path, known_terms("nano", "vqa"))
    assert set(report.problems) == {"long prompt"}
    assert report.messages["long prompt"][0].endswith("tokens as vqa, the maximum is 48")


@pytest.mark.usefixtures("empty_home")
def test_a_run_that_would_end_by_bad_samples_is_refused_before(folder: Path, tokenizer: Tokenizer) -> None:
    path = write(folder, *[{"images": "a.png", "label": "cat"}] * 9, {"images": "gone.png", "label": "cat"})
    terms = Terms([get_task("classify")], required=True, tokenizer=tokenizer)
    told = check_trainable(path, terms, draws=1000, most=100)
    assert "1 of 10 samples" in told
    assert "data.jsonl:10" in told
    with pytest.raises(ValueError, match=r"max_bad = 99.*data.jsonl:10"):
        check_trainable(path, terms, draws=1000, most=99)
    long = write(folder, {"images": "a.png", "label": "cat " * 90})
    assert check_trainable(long, terms, draws=10, most=10)
    assert not check_trainable(long, terms, draws=10, most=10, cut=True)


def test_what_a_model_lacks_is_said(tmp_path) -> None:
    with pytest.raises(ValueError):
        known_terms("nano/mask_vqvae")
    shutil.copytree(SHIPPED / "nano/pali", tmp_path / "alone")
    facts = open_model(tmp_path / "alone").facts
    add_facts(tmp_path / "alone", recipe=facts.recipe | {"model": facts.recipe["model"] | {"masks": "gone"}})
    for model, task, named in ((str(tmp_path / "alone"), "refseg", "mask VQ-VAE"), ("nano", "detcet", "'detect'")):
        with pytest.raises(ValueError, match=named):
            known_terms(model, task)


def recipe(source: object, *entries: dict[str, Any], **changes: Any) -> Recipe:
    raw = {
        "name": "mine",
        "objective": "sequence",
        "batch": 4,
        "model": {"preset": "nano", "tokenizer": "nano/pali", "masks": "nano/mask_vqvae"},
        "optimizer": {"lr": 1e-3},
        "phases": [{"samples": 4, "size": 96, "mixture": [{"source": str(source), **e} for e in entries]}],
    }
    return parse_recipe(raw | changes)


@pytest.mark.usefixtures("empty_home")
def test_a_recipe_says_how_its_samples_are_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        folder, cat([10, 20, 50, 60]) | {"question": "what is it?", "answers": "a cat"}, {"images": "a.png"}
    )
    entries = {"task": "detect", "task_options": {"bins": 50}}, {"task": "vqa"}
    loaded = recipe(path, *entries, max_target=2)
    shipped = open_tokenizer("nano/pali")
    monkeypatch.chdir(folder)
    report = validate(path, training_terms(loaded, shipped, "data.jsonl"))
    assert report.feeds == {"detect": 1, "vqa": 1}
    assert report.problems == {"unusable": 2, "long target": 2}  # the other record feeds neither task
    assert "the maximum is 2" in report.messages["long target"][0]
    [shown] = validate(path, training_terms(loaded, shipped, str(path), "detect")).shown
    assert shown.target == "6 10 31 29 cat"
    with pytest.raises(ValueError):
        training_terms(loaded, shipped, "other.jsonl")
    with pytest.raises(ValueError, match=r"does not train ocr on data\.jsonl: there are: detect, vqa"):
        training_terms(loaded, shipped, "data.jsonl", "ocr")


# ---- the documentation


def sections() -> list[tuple[list[str], str]]:
    """(tasks named in the heading, line) of each example in the documentation."""
    found, tasks = [], [""]
    for match in re.finditer(
        r"^#+ ([^\n]*)$|^```jsonl\n(.*?)^```", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        if match[1] is not None:
            tasks = re.findall(r"`(\w+)`", match[1]) or [""]
        else:
            found += [(tasks, line) for line in match[2].splitlines()]
    return found


@pytest.mark.parametrize(("names", "line"), sections())
def test_examples_in_the_documentation_work(names: list[str], line: str, tokenizer: Tokenizer) -> None:
    shape = (4, 6) if '"size"' in line else (480, 640)
    png = io.BytesIO()
    Image.fromarray(np.full((*shape, 3), 9, np.uint8)).save(png, "PNG")
    example = parse_record(line, "data.md").example(lambda name: png.getvalue(), "data.md")
    tools: dict[str, Any] = {"refseg": {"masks": Blocks()}, "denoise": {"tokenizer": tokenizer}}
    for name in filter(None, names):
        assert get_task(name, **tools.get(name, {})).write(example, generator(0)).target


def test_the_documentation_covers_all_tasks_and_fields() -> None:
    assert {name for names, _ in sections() for name in names} - {""} == set(TASKS)
    text = DOCS.read_text("utf-8")
    first_cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(first_cells)) == list(Record.model_fields)
    (toml,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    SourceSpec.model_validate(tomllib.loads(toml)["phases"]["mixture"][0])
