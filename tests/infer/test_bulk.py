"""Bulk predictions: one line per sample in order, bad ones with an error, and a killed run goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openpali.architectures.pali import PaliModel
from openpali.data.media.images import Preprocess
from openpali.data.sources.jsonl import JsonlSource
from openpali.data.sources.mask_formats import RunLengths, read_run_lengths
from openpali.eval.predictions import PredictionsFile
from openpali.infer.bulk import AnswersFile, Reply, Request, replies
from openpali.infer.generate import Generation
from openpali.infer.lines import as_lines
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Prediction
from openpali.tasks.base import Answer
from openpali.tasks.example import Box, Object, Size
from openpali.weights.bundle import open_tokenizer

COUNT = 11


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Questions of different lengths about images of different sizes; no answers."""
    records: list[dict[str, Any]] = []
    for i in range(COUNT):
        noise = np.random.default_rng(i).integers(0, 256, (40 + i, 50, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
        question = " ".join(["what"] * (1 + i * 5 % 7)) + "?"
        records.append({"key": f"k{i}", "images": [f"{i}.png"], "question": question})
    return write(tmp_path / "questions.jsonl", records)


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_each_sample_has_a_line_with_what_predict_says_alone(
    openpali, bundle: Path, questions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    printed = openpali("predict", "--input", questions, "--output", out, "--model", bundle, "--batch-size", 2)
    assert f"{out}: 11 samples" in printed
    lines = lines_of(out)
    assert [line["key"] for line in lines] == [f"k{i}" for i in range(COUNT)]
    assert [line["images"] for line in lines] == [[f"{i}.png"] for i in range(COUNT)]
    pali = Pali.from_pretrained(bundle)
    for line, example in zip(lines, JsonlSource(questions), strict=True):
        assert line["prompt"] == f"Answer in en: {example.question} <extra_id_0>"
        assert line["text"] == pali.answer(example.images, [example.question])[0]
        assert line["finish_reason"] in ("eos", "length", "repetition")
        assert line["score"] <= 0


def test_a_run_without_any_answer_fails(openpali, bundle: Path, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    assert (
        openpali("predict", "--input", questions, "--output", out, "--model", bundle, "--lang", "xx", fails=True)
        == "1"
    )
    assert all("error" in line for line in lines_of(out))


def test_a_bad_sample_is_a_line_with_its_error(
    openpali, bundle: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_tokenizer("nano-vocabulary").sentinel_id(0)  # as T5Gemma 2's <start_of_image>
    monkeypatch.setattr(PaliModel, "image_place", place)
    records = lines_of(questions)
    records[1]["images"] = ["gone.png"]
    (tmp_path / "2.png").write_bytes(b"no image")
    records[3]["question"] = ""
    records[4]["question"] = "what " * 900
    records[5]["colour"] = "red"
    records[6]["question"] = "what <extra_id_0>?"
    del records[7]["images"]
    write(questions, records)
    with questions.open("a", encoding="utf-8") as file:
        file.write("{torn\n")
    out = tmp_path / "answers.jsonl"
    command = ["predict", "--input", questions, "--output", out, "--model", bundle, "--batch-size", 2]
    printed = openpali(*command)
    assert "12 samples, 8 with an error" in printed
    assert openpali(*command) == printed, "those of an earlier run count"
    lines = lines_of(out)
    errors = {i: line["error"] for i, line in enumerate(lines) if "error" in line}
    assert [line["key"] for line in lines[:5]] == [f"k{i}" for i in range(5)]
    assert "no file" in errors[1]
    assert lines[1]["images"] == ["gone.png"]
    assert "not an image" in errors[2]
    assert "no task" in errors[3]
    assert "tokens, this model takes" in errors[4]
    assert "colour" in errors[5]
    assert "the prompt has 2 times" in errors[6]
    assert "no image" in errors[7]
    assert list(errors) == [*range(1, 8), COUNT]
    assert all(line["text"] is not None for i, line in enumerate(lines) if i not in errors)


@pytest.mark.parametrize("cut", [1, 25, 400, 1000])
def test_a_torn_file_is_continued_without_asking_again(
    openpali, bundle: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    out = tmp_path / "answers.jsonl"
    command = ["predict", "--input", questions, "--output", out, "--model", bundle, "--batch-size", 2]
    openpali(*command)
    whole = out.read_bytes()
    out.write_bytes(whole[:-cut])
    openpali(*command)
    assert out.read_bytes() == whole

    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(Pali, "ask", refuse)
    openpali(*command)
    assert out.read_bytes() == whole


def test_a_killed_process_is_continued(openpali, bundle: Path, questions: Path, tmp_path: Path) -> None:
    records = lines_of(questions)
    write(questions, [record | {"key": f"{n}-{record['key']}"} for n in range(3) for record in records])
    command = ["predict", "--input", str(questions), "--model", str(bundle), "--batch-size", "1", "--output"]
    out, unbroken = tmp_path / "answers.jsonl", tmp_path / "unbroken.jsonl"
    process = subprocess.Popen([sys.executable, "-m", "openpali", *command, str(out)])
    while not out.is_file() or b"\n" not in out.read_bytes():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = out.read_bytes()
    assert before.count(b"\n") < 3 * COUNT, "it was over before the kill"
    openpali(*command, out)
    openpali(*command, unbroken)
    assert len(lines_of(unbroken)) == 3 * COUNT
    assert out.read_bytes() == unbroken.read_bytes()
    assert out.read_bytes().startswith(before[: before.rfind(b"\n") + 1])


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["predict", "--input", "questions.jsonl", "--output"], AnswersFile),
        (["eval", "questions.jsonl", "--task", "vqa", "--save-predictions"], PredictionsFile),
    ],
)
def test_an_interrupt_says_that_answers_are_kept(
    openpali, capsys, monkeypatch, bundle: Path, questions: Path, command: list[Any], kind: Any
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    write_lines = kind.write
    write(questions, [lines_of(questions)[0] | {"answers": "a cat"}])
    monkeypatch.chdir(questions.parent)
    monkeypatch.setattr(kind, "write", lambda *arguments: interrupt(write_lines(*arguments)))
    assert openpali(*command, "out.jsonl", "--model", bundle, fails=True) == "130"
    told = "openpali: interrupted: out.jsonl keeps what is answered, and the same command goes on\n"
    assert capsys.readouterr().err.endswith(told)
    monkeypatch.setattr(kind, "go_on", interrupt)  # before it is known whether the file is of this run
    assert openpali(*command, "out.jsonl", "--model", bundle, fails=True) == "130"
    assert "interrupted" not in capsys.readouterr().err


def test_answers_of_another_run_or_file_stay(
    openpali, bundle: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "answers.jsonl"
    command = ["predict", "--input", questions, "--output", out, "--model", bundle]
    openpali(*command)
    before = out.read_bytes()
    assert "answers of another run" in openpali(*command, "--task", "caption", fails=True)
    with monkeypatch.context() as upgrade:
        upgrade.setattr("openpali.cli.predict.__version__", "0.0.1")
        assert "answers of another run" in openpali(*command, fails=True)
    assert "would be overwritten" in openpali(
        "predict", "--input", out, "--output", out, "--model", bundle, fails=True
    )
    for image in tmp_path.glob("*.png"):
        image.write_bytes(b"not read again")
    assert "11 samples\n" in openpali(*command)
    first, *others = lines_of(questions)
    write(questions, [first, others[0] | {"question": "why?"}, *others[1:]])
    assert "answers of another run" in openpali(*command, fails=True)
    assert out.read_bytes() == before
    for foreign in (b"my notes", b"[1]\n", b'{"a": 1}\n'):
        out.write_bytes(foreign)
        assert "is no file of answers" in openpali(*command, fails=True)
        assert out.read_bytes() == foreign


def test_a_task_or_a_prompt_is_asked_of_all(openpali, bundle: Path, questions: Path, tmp_path: Path) -> None:
    def ask(*arguments: object) -> set[str]:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        openpali("predict", "--input", questions, "--output", out, "--model", bundle, *arguments)
        return {line["prompt"] for line in lines_of(out)}

    assert ask("--task", "caption", "--lang", "ja") == {"Generate the alt_text in ja at 0: <extra_id_0>"}
    assert ask("horse", "--task", "detect") == {"detect: horse"}
    assert ask("detect: dog") == {"detect: dog"}
    assert ask("what is it?") == {"Answer in en: what is it? <extra_id_0>"}
    write(questions, [{**record, "lang": "de"} for record in lines_of(questions)])
    assert ask("what is it?") == {"Answer in de: what is it? <extra_id_0>"}
    assert ask("what is it?", "--lang", "fr") == {"Answer in fr: what is it? <extra_id_0>"}
    assert ask("detect: dog") == {"detect: dog"}


def test_bytes_that_are_no_utf8_are_escaped() -> None:
    assert json.loads(as_lines([{"key": "caf\udce9.png, é"}])) == {"key": "caf\udce9.png, é"}


def test_boxes_are_in_pixels_of_the_file(bundle: Path, questions: Path) -> None:
    pali = Pali.from_pretrained(bundle)
    source = JsonlSource(write(questions, lines_of(questions)[:5]))
    sizes = []
    ask = pali.ask

    def spy(asked: Any, *more: Any) -> Any:
        sizes.extend(row.size for rows in asked for row in rows.values())
        return ask(asked, *more)

    pali.ask = spy  # type: ignore[method-assign]
    found = [reply for some in replies(pali, source, Request("detect", "horse"), batch=3) for reply in some]
    assert sorted(sizes) == [(40 + i, 50) for i in range(5)]
    fresh = Pali.from_pretrained(bundle)
    for reply, example in zip(found, source, strict=True):
        assert reply.prediction is not None
        [alone] = fresh.detect(example.images, ["horse"])
        assert [thing.box for thing in reply.prediction.answer.objects] == [thing.box for thing in alone]


def test_an_image_is_resized_once_for_each_part(
    bundle: Path, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, resize = [], Preprocess.__call__
    monkeypatch.setattr(
        Preprocess, "__call__", lambda self, image: (sizes.append(image.shape[0]), resize(self, image))[1]
    )
    found = [each for some in replies(Pali(bundle), JsonlSource(questions), Request("vqa")) for each in some]
    assert len([each for each in found if each.prediction]) == COUNT
    assert sizes == [40 + i for i in range(COUNT)]


def test_a_line_holds_boxes_and_masks_as_plain_json() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1:, 2] = True
    found = Answer("found", [Object("dog", Box(1, 2, 3, 3), mask), Object("cat", Box(0, 0, 1, 1))])
    line = Reply("k", Prediction("detect: dog", found, Generation([5], [-0.5], -0.5, "eos"))).as_json()
    assert json.loads(json.dumps(line)) == line
    assert line["objects"] == [
        {"name": "dog", "box": [1, 2, 3, 3], "mask": {"size": [3, 4], "counts": [7, 2, 3]}, "confidence": None},
        {"name": "cat", "box": [0, 0, 1, 1], "mask": None, "confidence": None},
    ]
    assert (line["score"], line["finish_reason"], line["text"]) == (-0.5, "eos", "found")


@given(st.integers(1, 7), st.integers(1, 7), st.data())
def test_run_lengths_are_read_back(height: int, width: int, data: st.DataObject) -> None:
    pixels = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(pixels).reshape(height, width)
    lengths = read_run_lengths(json.loads(json.dumps(RunLengths.of(mask).as_json())))
    assert np.array_equal(lengths.draw(Size(height, width)), mask)


def test_a_folder_of_a_cluster_is_checked_and_counted(
    openpali, bundle: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is complete, so that no cluster is needed; ``make test-ray`` starts one."""
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "3.png").write_bytes(b"no image")
    one, out = tmp_path / "one.jsonl", tmp_path / "answers"
    asked = ["predict", "--input", questions, "--model", bundle, "--batch-size", 2]
    openpali(*asked, "--output", one)
    lines = one.read_bytes().splitlines(keepends=True)
    out.mkdir()
    for start in (0, 8):
        (out / f"{start:012}.jsonl").write_bytes(b"".join(lines[start : start + 8]))
    asked += ["--output", out, "--ray"]
    assert "11 samples, 1 with an error" in openpali(*asked)
    assert "openpali-lab[ray]" in openpali(*asked[:-2], tmp_path / "none", "--ray", fails=True)
    assert "holds answers of another run" in openpali(*asked, "--task", "caption", fails=True)
    assert "of another --batch-size" in openpali(*asked[:6], 3, *asked[7:], fails=True)
    (out / "000000000000.jsonl").write_text("{}\n")
    assert "is no file of answers" in openpali(*asked, fails=True)
    assert "give both" in openpali("predict", questions, "what?", "--ray", fails=True)
