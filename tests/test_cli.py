"""Every verb on tiny models, as typed; errors never end in a traceback."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from openpali.architectures import registry
from openpali.architectures.pali import PRESETS
from openpali.architectures.preprocessor import Inexpressible
from openpali.cli.main import app, main
from openpali.data.importers.registry import IMPORTERS
from openpali.data.sources.registry import open_source
from openpali.extensions import added
from openpali.home import DEMO
from openpali.infer.pali import Pali, Reworded
from openpali.infer.pipeline import Untrained
from openpali.weights.bundle import open_bundle
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali_screen.parts import FINDER


def test_the_version_is_that_of_the_installed_package(openpali) -> None:
    assert openpali("--version") == f"openpali {importlib.metadata.version('openpali')}\n"


@pytest.fixture(scope="module")
def photo(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(open_source("nano/scene", {"split": "heldout"})[0].images[0]).save(path)
    return path


def test_predict_prints_json_and_draws_the_answer(openpali, bundle: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.png"
    record = json.loads(openpali("predict", photo, "detect: horse", "--model", bundle, "--json", "--out", out))
    assert record["prompt"] == "detect: horse"
    assert {"text", "objects", "score", "finish_reason"} <= set(record)
    assert np.asarray(Image.open(out)).ndim == 3
    assert str(out) in openpali.errors


def test_a_full_disk_is_one_sentence_that_names_the_file(
    openpali, monkeypatch, bundle: Path, photo: Path, tmp_path: Path
) -> None:
    def refuse(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    (tmp_path / "mine.jsonl").write_text(
        json.dumps({"images": [str(photo)], "question": "what?", "answers": ["a"]})
    )
    words = ["--input", tmp_path / "mine.jsonl", "--output", tmp_path / "answers.jsonl", "--model", bundle]
    assert re.search(
        r"^openpali: no space is left .*answers\.jsonl was being written: free some",
        openpali("predict", *words, fails=True),
    )


def test_predict_writes_the_prompt_of_a_task(openpali, bundle: Path, photo: Path) -> None:
    printed = openpali("predict", photo, "--task", "caption", "--lang", "ja", "--model", bundle, "--json")
    assert json.loads(printed)["prompt"] == "Generate the alt_text in ja at 0: <extra_id_0>"


def test_predict_asks_plain_words_as_a_question(openpali, bundle: Path, photo: Path) -> None:
    def ask(*options: str) -> dict[str, Any]:
        return json.loads(openpali("predict", photo, *options, "--model", bundle, "--json"))

    with pytest.warns(Reworded):
        asked = ask("what is this?")
    assert asked["prompt"] == "Answer in en: what is this? <extra_id_0>"
    assert "asked as a question" in asked["note"]
    with pytest.warns(Reworded):
        caption = ask("a dog", "--task", "caption")
    assert caption["prompt"] == "Generate the alt_text in en at 0: <extra_id_0>"
    assert "task caption takes no text" in caption["note"]
    assert ask("what is this?", "--raw")["prompt"] == "what is this?"
    with pytest.warns(Reworded):
        assert ask("what?", "--lang", "ja")["prompt"] == "Answer in ja: what? <extra_id_0>"


def test_predict_accepts_frames_and_videos(
    openpali, monkeypatch, bundle: Path, photo: Path, tmp_path: Path
) -> None:
    av = pytest.importorskip("av")
    video = tmp_path / "video.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        for i in range(9):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 25 * i, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    question = ["Answer in en: what moves? <extra_id_0>", "--model", bundle, "--json"]
    for inputs in (["--as-frames", photo, photo], [video]):
        printed = openpali("predict", *inputs, *question)
        assert len(printed.splitlines()) == 1
    printed = openpali("predict", video, video, *question)
    assert [json.loads(line)["key"] for line in printed.splitlines()] == [str(video)] * 2  # not joined

    asked = []
    rows = Pali.rows
    monkeypatch.setattr(Pali, "rows", lambda *given: asked.append(given[3].name) or rows(*given))
    openpali("predict", video, "what moves?", "--task", "vqa", "--model", bundle)
    openpali("predict", video, *question)
    openpali("predict", photo, *question)
    assert asked == ["video_qa", "video_qa", "vqa"]  # the part for videos answers, by task as by prompt


def test_several_images_get_one_answer_each(openpali, bundle: Path, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (90, 50), "red").save(other)
    command = ["predict", photo, other, photo, "--task", "caption", "--model", bundle]
    printed = openpali(*command, "--json")
    each = [json.loads(line) for line in printed.splitlines()]
    assert [answer["key"] for answer in each] == [str(photo), str(other), str(photo)]
    alone = openpali("predict", other, "--task", "caption", "--model", bundle, "--json")
    assert json.loads(alone)["text"] == each[1]["text"]
    printed = openpali(*command)
    assert printed == "".join(f"{answer['key']}: {answer['text']}\n" for answer in each)
    printed = openpali("predict", photo, other, "horse", "--task", "detect", "--model", bundle, "--json")
    assert [json.loads(line)["prompt"] for line in printed.splitlines()] == ["detect: horse"] * 2


def test_a_folder_stands_for_its_images(openpali, capsys, bundle: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("b.png", "a.PNG", "deeper/c.png", "c.JFIF"):
        shutil.copy(photo, tmp_path / name)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").touch()
    command = ["predict", tmp_path, "--task", "caption", "--model", bundle]
    assert "1 of 4 images have no answer" in openpali(*command, "--json", fails=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["key"] for row in rows] == [
        str(tmp_path / name) for name in ("a.PNG", "b.png", "bad.jpg", "c.JFIF")
    ]
    assert ["text" in row for row in rows] == ["error" not in row for row in rows] == [True, True, False, True]
    printed = openpali("predict", tmp_path / "deeper", *command[2:], "--json")
    assert json.loads(printed)["images"] == [str(tmp_path / "deeper/c.png")]


def test_a_prompt_may_be_longer_than_the_name_of_a_file(monkeypatch, bundle: Path, photo: Path) -> None:
    for long in ("馬は" * 50, "x" * 300 + "/" + "y" * 5000):
        monkeypatch.setattr(sys, "argv", ["openpali", "predict", str(photo), long, "--model", str(bundle)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code in (0, None) or "tokens, this model takes" in str(end.value.code)


def test_a_task_that_a_model_was_not_trained_on_is_said(
    openpali, bundle: Path, photo: Path, tmp_path: Path
) -> None:
    said = "this model was not trained on task caption, but on detect: expect no good answers"
    lines, card = tmp_path / "lines.jsonl", tmp_path / "card.json"
    lines.write_text(json.dumps({"images": str(photo), "caption": "a horse"}) + "\n")
    for command in (
        ("predict", photo, "--task", "caption", "--json"),
        ("predict", photo, "Generate the alt_text in en at 0: <extra_id_0>", "--json"),
        ("predict", "--input", lines, "--output", tmp_path / "answers.jsonl"),
        ("eval", lines, "--task", "caption", "--json", card),
    ):
        with pytest.warns(Untrained) as caught:
            printed = openpali(*command, "--model", bundle)
        assert [str(each.message) for each in caught if each.category is Untrained] == [said]
        if command[-1] == "--json":
            assert json.loads(printed)["note"] == said
    assert json.loads((tmp_path / "answers.jsonl").read_text())["note"] == said
    assert json.loads(card.read_text())["note"] == said
    with warnings.catch_warnings():
        warnings.simplefilter("error", Untrained)
        command = ("predict", photo, "horse", "--task", "detect", "--model", bundle, "--json")
        assert "note" not in json.loads(openpali(*command))


WORLD_SETS = ["retrieval", "caption", "ocr", "vqa", "detect", "refseg", "video"]


@pytest.mark.parametrize("name", [*(f"nano/{name}" for name in WORLD_SETS), "mini/caption", "mini/detect"])
def test_eval_writes_a_score_card(openpali, bundle: Path, tmp_path: Path, name: str) -> None:
    card = tmp_path / "card.json"
    openpali("eval", name, "--model", bundle, "--limit", 6, "--json", card)
    written = json.loads(card.read_text())
    assert written["benchmark"] == name
    assert written["n"] == 6
    assert written["scores"]
    for score, value in written["scores"].items():
        assert 0 <= value <= 1 or score in ("cider/en", "cer"), (score, value)


def test_train_explain_and_pack(openpali, world_with_vocabulary: Path, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[1] / "recipes" / "nano" / "0a_siglip.toml"
    explained = openpali("explain", recipe, "scale=0.0001")
    samples = [int(number) for number in re.findall(r"(?m)^(\d+) samples at ", explained)]
    assert len(samples) == 4
    assert sum(samples) < 1000  # of 230,400, in whole batches
    shorten = ["scale=0.0001", "batch=8", "model.preset=pico", "name=short", "workers=0"]
    assert "model written to" in openpali("train", recipe, *shorten)
    assert (world_with_vocabulary / "runs" / "short" / "model" / "model.safetensors").is_file()


def test_demo_is_one_self_contained_page(openpali, monkeypatch, bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "demo" / "index.html"
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("openpali_lab.worlds.demo_page.SCREENS", (("dialog",),))  # a random reader is slow
    printed = openpali("demo", "--model", bundle, "--out", page)
    text = page.read_text("utf-8")
    assert text.count("data:image/") == 13
    assert 'src="http' not in text
    right = text.count(">right</span>")
    assert printed.startswith(f"{right} of 13 right")
    assert f"<b>{right} of 13</b> right" in text
    assert text.count(">wrong</span>") == 13 - right
    assert text.count("F1 of words 0.00, ") == 1  # by a reader that learned nothing
    assert text.count("expected: ") == 12 - right
    assert "りんごの しん" in text
    assert text.count("@font-face") == 2


def test_data_validate_prints_json_and_draws_a_contact_sheet(
    openpali, capsys, world_with_vocabulary: Path, photo: Path, tmp_path: Path
) -> None:
    data, sheet = tmp_path / "data.jsonl", tmp_path / "sheet.png"
    data.write_text(json.dumps({"images": str(photo), "caption": "a horse"}) + "\n")
    found = json.loads(openpali("data", "validate", data, "--out", sheet, "--json"))
    assert (found["checked"], found["problems"], found["sheet"]) == (1, {}, str(sheet))
    assert np.asarray(Image.open(sheet)).ndim == 3
    printed = openpali("data", "validate", data, "--task", "caption")
    assert "no problems found" in printed
    assert "what the model will see" not in printed
    data.write_text('{"imges": "a.png"}\n' * 6)
    assert openpali("data", "validate", data, "--json", fails=True) == "1"
    assert len(json.loads(capsys.readouterr().out)["messages"]["bad record"]) == 6
    assert openpali("data", "validate", data, fails=True) == "1"
    assert "--json prints every message" in capsys.readouterr().out


def test_data_validate_needs_no_built_data_set(openpali, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    thing = {"name": "cat", "box": [0, 10, 40, 80]}
    Path("mine.jsonl").write_text(json.dumps({"images": "a.png", "objects": [thing]}) + "\n")
    printed = openpali("data", "validate", "mine.jsonl", "--task", "detect")
    assert "target 0 6 24 47 cat" in " ".join(printed.split())
    recipe = Path(__file__).parents[1] / "recipes" / "transfer" / "detect.toml"
    text = recipe.read_text().replace("mine-train.jsonl", "mine.jsonl")
    Path("my.toml").write_text(text)
    found = json.loads(openpali("data", "validate", "mine.jsonl", "--recipe", "my.toml", "--json"))
    assert found["feeds"] == {"detect": 1}


def test_data_import_and_split(openpali, tmp_path: Path) -> None:
    for i in range(9):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    table, out = tmp_path / "t.csv", tmp_path / "new" / "mine.jsonl"
    table.write_text("image,label,notes\n" + "".join(f"{i}.png,cat,\n" for i in range(10)))
    printed = openpali("data", "import", "csv", table, "--out", out)
    for line in (
        "9 samples, 9 images, 0 objects",
        "columns not used: 'notes'",
        "1 x no image file",
        "t.csv:11: no",
    ):
        assert line in " ".join(printed.split())
    found = json.loads(openpali("data", "import", "csv", table, "--out", out, "--json"))
    assert (found["samples"], found["images"], found["problems"]) == (9, 9, {"no image file": 1})
    parts = json.loads(openpali("data", "split", out, "--held-out", "0.5", "--json"))
    printed = openpali("data", "split", out, "--held-out", "0.5")
    for name in ("train", "test"):
        file = tmp_path / "new" / f"mine-{name}.jsonl"
        assert parts[name]["samples"] == len(file.read_text().splitlines())
        assert f"{file}: {parts[name]['samples']} samples of {parts[name]['images']} images" in printed


FOUR_BITS = ["--bits", 4]


@pytest.mark.parametrize("bits", [[], FOUR_BITS])
def test_every_part_of_a_bundle_is_quantized(openpali, bits, bundle: Path, tmp_path: Path) -> None:
    small, before = tmp_path / "small", open_bundle(bundle)
    printed = openpali("quantize", bundle, "--out", small, *bits)
    after = open_bundle(small)
    assert [*after.parts] == [*before.parts] == [line.split()[0] for line in printed.splitlines()[:-1]]
    assert (after.tasks, after.languages, after.names) == (before.tasks, before.languages, before.names)
    for name, folder in after.parts.items():
        source = open_model(folder)
        assert source.int8 == (name != FINDER)
        assert bool(source.int4) == bool(bits and source.answers)
        assert not source.base_folder, "each part is whole"


@pytest.mark.slow
def test_quantized_nano_reads_the_same_words(openpali, tmp_path: Path) -> None:
    openpali("quantize", "nano", "--out", tmp_path / "small")
    shutil.copytree(find_model("nano"), tmp_path / "copy")  # read by its weights: it has no graphs
    small, whole = (
        openpali("read", DEMO / "screen.webp", "--model", tmp_path / name) for name in ("small", "copy")
    )
    assert small.split() == whole.split()


@pytest.mark.parametrize("bits", [[], FOUR_BITS])
def test_a_quantized_model_predicts(openpali, bits, bundle: Path, photo: Path, tmp_path: Path) -> None:
    printed = openpali("quantize", bundle / "pali", "--out", tmp_path / "small", *bits)
    written = sum(file.stat().st_size for file in (tmp_path / "small").glob("*.safetensors"))
    assert printed == f"model written to {tmp_path / 'small'}, {written / 1e6:.2f} MB of weights\n"
    answer = openpali("predict", photo, "--task", "caption", "--model", tmp_path / "small", "--json")
    assert json.loads(answer)["prompt"].startswith("Generate the alt_text in en")


def test_what_transformers_does_otherwise_is_one_warning(openpali, bundle: Path, tmp_path: Path) -> None:
    with pytest.warns(Inexpressible) as said:
        openpali("export", bundle, "--out", tmp_path / "out")
    assert len(said) == 1


def test_sizes(openpali, monkeypatch) -> None:
    """Of two presets; `test_readme.py` prints all."""
    some = {name: PRESETS[name] for name in ("pico", "pali3-5b")}
    monkeypatch.setattr(registry, "presets", lambda: some)
    described = json.loads(openpali("sizes", "--json"))
    large = described["pali3-5b"]
    assert 5.5e9 < large["parameters"]["all"] < 5.7e9
    count = large["parameters"]["all"]
    assert large["bytes"] == {"fp32": 4 * count, "bf16": 2 * count, "int8": 6_113_306_368, "int4": 4_792_100_608}
    assert list(large["flops"]) == ["224", "448", "812", "1064"]
    assert large["flops"]["812"]["visual_tokens"] == (812 // 14) ** 2
    printed = openpali("sizes")
    assert re.search(r"pico: vision \d+\.\dK, project [1-9]\d*\.\dK", printed)
    assert "pali3-5b: vision 1,842.8M, project 3.4M, encoder 1,157.7M, decoder 1,560.4M, embedding" in printed
    assert "812 px: 3,364 visual tokens, 27,458.9 GFLOP per image, 4.408 per generated token" in printed


def test_a_gpu_without_memory_is_said_in_a_sentence() -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SystemExit) as end:
        main(lambda **_: full())
    assert str(end.value.code).startswith("openpali: the GPU has too little memory")

    def broken() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        main(lambda **_: broken())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "nowhere.png", "what?", "--model", "BUNDLE"], "no image file nowhere.png"),
        (
            ["predict", "https://a.org/b.png", "what?", "--model", "BUNDLE"],
            "https://a.org/b.png is a URL: download",
        ),
        (
            ["predict", "recipes", "what?", "--model", "BUNDLE"],
            "recipes is a folder without images or videos",
        ),
        (["predict", "PHOTO", "recipes", "--task", "caption", "--model", "BUNDLE"], "recipes is a folder without"),
        (["predict", "PHOTO", "gone.png", "--task", "caption", "--model", "BUNDLE"], "no image file gone.png"),
        (["predict", "--as-frames", "a.mp4", "what?", "--model", "BUNDLE"], "a.mp4 is a video: leave it out"),
        (
            ["predict", "PHOTO", "PHOTO", "--task", "caption", "--out", "a.png", "--model", "BUNDLE"],
            "--out draws one answer, and there are 2 images",
        ),
        (["predict", "--input", "a.jsonl", "--model", "BUNDLE"], "--input and --output go together"),
        (["predict", "PHOTO", "what?", "--output", "a.jsonl"], "--input and --output go together"),
        (
            ["predict", "PHOTO", "--input", "a.jsonl", "--output", "b.jsonl", "--model", "BUNDLE"],
            "photo.png is a file beside --input, whose samples name their images: leave it out",
        ),
        (
            ["predict", "PHOTO", "PHOTO", "--model", "BUNDLE"],
            "photo.png is a file where the prompt is expected",
        ),
        (
            ["predict", "PHOTO", "gone.png", "--model", "BUNDLE"],
            "gone.png is a file where the prompt is expected",
        ),
        (
            ["predict", "PHOTO", "what?", "--out", "PHOTO", "--model", "BUNDLE"],
            "is an input and would be overwritten",
        ),
        (["eval", "nano/ocr", "--save-predictions", "PHOTO", "--model", "BUNDLE"], "is no predictions file"),
        (
            ["predict", "PHOTO", "what?", "--out", "a.xyz", "--model", "nowhere"],
            "does not end like an image file: use one of .jpg, .jpeg, .png",
        ),
        (
            ["data", "validate", "nowhere.jsonl", "--out", "sheet"],
            "sheet does not end like an image file: use one of .jpg, ",
        ),
        (["predict", "PHOTO", "what?", "--device", "meta", "--model", "BUNDLE"], "torch finds no device 'meta'"),
        (
            ["export", "BUNDLE", "--format", "openpali", "--out", "small"],
            "bundle is a bundle of several models: name one of its parts, ",
        ),
        (["quantize", "BUNDLE", "--out", "BUNDLE/pali"], "is an input and would be overwritten"),
        (["quantize", "BUNDLE", "--out", "out", "--bits", "3"], "no weights of 3 bits: --bits takes 8 or 4"),
        (["export", "BUNDLE", "--out", "BUNDLE"], "is an input and would be overwritten"),
        (["plan", "RECIPE", "--efficiency", "0"], "not a share of the peak: give a number"),
        (["predict", "PHOTO", "detect: cat", "--lang", "ja", "--model", "BUNDLE"], "leave out the language"),
        (["predict", "PHOTO", "what?", "--raw", "--task", "vqa", "--model", "BUNDLE"], "and no task"),
        (["predict", "PHOTO", "what?", "--model", "nowhere"], "no model 'nowhere'"),
        (["predict", "PHOTO", "what?", "--task", "captoin", "--model", "BUNDLE"], "did you mean 'caption'"),
        (["eval", "nano/captions", "--model", "BUNDLE"], "did you mean 'nano/caption'"),
        (["train", "nowhere/vqa.toml"], "no recipe nowhere/vqa.toml; openpali explain names"),
        (["predict", "mine.jsonl", "--task", "caption", "--model", "BUNDLE"], "ask with --input mine.jsonl"),
        (["data", "build", "stmaps"], "no data set 'stmaps'; did you mean 'stamps'?"),
        (["data", "import", "cocco", "nowhere", "--out", "new.jsonl"], "no format 'cocco'; did you mean 'coco'?"),
        (["data", "import", "csv", "PHOTO", "--out", "PHOTO"], "is an input and would be overwritten"),
        (["data", "import", "csv", "PHOTO", "--out", "new.txt"], "must end in .jsonl"),
        (["data", "split", "nowhere.jsonl"], "no data file nowhere.jsonl"),
        (["data", "split", "PHOTO"], "is not a .jsonl file"),
        (["data", "validate", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_errors_are_one_sentence_and_change_no_file(
    openpali, capsys, bundle: Path, photo: Path, arguments: list[str], message: str
) -> None:
    named = {"BUNDLE": str(bundle), "BUNDLE/pali": str(bundle / "pali"), "PHOTO": str(photo)}
    named["RECIPE"] = str(Path(__file__).parents[1] / "recipes" / "nano" / "1_multimodal.toml")
    files = [photo, *(file for file in bundle.rglob("*") if file.is_file())]
    before = [file.read_bytes() for file in files]
    assert message in openpali(*(named.get(a, a) for a in arguments), fails=True)
    assert not capsys.readouterr().out
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "PHOTO", "what?", "--model", "nowhere", "--out"],
        ["eval", "nano/vqa", "--model", "nowhere", "--json"],
        ["eval", "nano/vqa", "--model", "nowhere", "--report"],
        ["eval", "nano/vqa", "--model", "nowhere", "--save-predictions"],
        ["eval", "--suite", "nano", "--model", "nowhere", "--out"],
        ["data", "validate", "nowhere.jsonl", "--out"],
        ["data", "refcoco", "--data", "nowhere"],
        ["data", "import", "csv", "nowhere.csv", "--out"],
        ["runs", "--plot", "nowhere", "--out"],
        ["demo", "--model", "nowhere", "--out"],
    ],
)
def test_unwritable_outputs_are_reported_before_any_work(
    openpali, photo: Path, tmp_path: Path, arguments: list[str]
) -> None:
    arguments = [str(photo) if a == "PHOTO" else a for a in arguments]
    folder = tmp_path / "folder.png"
    folder.mkdir()
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "x.png", *([] if "--suite" in arguments else [folder])):
        assert re.search(f"openpali: {out}.* cannot be written", openpali(*arguments, out, fails=True))


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["predict"], "--task caption"),
        (["predict", "what?"], "--task caption"),
        (["predict", "--modle", "nano"], "--model"),
        (["predict", "x.png", "what?", "--frames", "0"], "greater than or equal to 1"),
        (["predict", "x.png", "what?", "--engine", "onnx"], "'openvino-int8'"),
        (["read"], "FILE..."),
        (["export", "bundle.toml"], "--out"),
        (["eval"], "--suite"),
        (["eval", "nano/vqa", "--suite", "nano"], "one benchmark or one --suite"),
        (["evla"], "'eval'"),
        (["data", "bild"], "'build'"),
    ],
)
def test_usage_errors_are_one_line_with_the_fix(openpali, capsys, arguments: list[str], fix: str) -> None:
    assert openpali(*arguments, fails=True) == "2"
    printed = capsys.readouterr()
    assert not printed.out
    [line] = printed.err.splitlines()
    assert line.startswith("openpali: ")
    assert fix in line
    assert "--help` shows" in line


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_a_group_alone_prints_its_help(openpali, capsys, arguments: list[str]) -> None:
    assert openpali(*arguments, fails=True) == "2"
    printed = capsys.readouterr()
    assert {"Ask", "Commands"} & {*(printed.out + printed.err).split()}
    assert "openpali: " not in printed.err


def test_no_output_makes_a_folder_at_the_root(openpali, photo: Path) -> None:
    folder = Path("/no-such-folder")
    for words in (
        ["predict", photo, "what?", "--out", folder / "x.png"],
        ["quantize", "nano", "--out", folder],
        ["export", "nowhere.toml", "--format", "openpali", "--out", folder],
        ["export", "nano", "--out", folder / "deeper"],
        ["convert", "nowhere", "--out", folder],
    ):
        assert f"there is no folder {folder}" in openpali(*words, fails=True)
        assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "nowhere.png", "what?"],
        ["predict", "PHOTO", "what?", "--model", "nowhere"],
        ["predict", "--input", "nowhere.jsonl", "--output", "answers.jsonl"],
        ["read", "nowhere.png"],
        ["read", "PHOTO", "--model", "nowhere"],
        ["eval", "nowhere.jsonl"],
        ["eval", "nano/ocr", "--model", "nowhere"],
        ["tune", "nowhere.jsonl"],
        ["train", "nowhere.toml"],
        ["serve", "--model", "nowhere"],
    ],
)
def test_wrong_paths_are_refused_before_torch_is_imported(
    photo: Path, tmp_path: Path, arguments: list[str]
) -> None:
    program = """
import sys
from openpali.cli.main import main
try:
    main()
finally:
    print("torch" in sys.modules)
"""
    words = [str(photo) if each == "PHOTO" else each for each in arguments]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert done.stdout == "False\n"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["predict", "x.png", "what?", "--frames", "0"], "--frames"),
        (["predict", "x.png", "what?", "--stride", "0"], "--stride"),
        (["eval", "nano/vqa", "--limit", "0"], "--limit"),
        (["eval", "--suite", "nano", "--batch-size", "0"], "--batch-size"),
        (["explain", "mine.toml", "--rows", "-1"], "--rows"),
        (["plan", "mine.toml", "--prompt", "0"], "--prompt"),
        (["plan", "mine.toml", "--target", "0"], "--target"),
    ],
)
def test_numbers_out_of_range_are_rejected(openpali, capsys, arguments: list[str], option: str) -> None:
    assert openpali(*arguments, fails=True) == "2"
    assert f"'{option}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["predict", "x.png", "what?", "--as-frames", "--stride", "2"], "--stride"),
        (["calibrate", "BUNDLE", "mine.jsonl", "--suite", "nano"], "--suite"),
        (["runs", "--out", "a.png"], "--out"),
        (["runs", "--plot", "mine", "--remove", "mine"], "--remove"),
        (["explain", "--source"], "--source"),
        (["explain", "--source", "detect", "batch=4"], "--source"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    openpali, bundle: Path, arguments: list[str], option: str
) -> None:
    typed = [str(bundle) if each == "BUNDLE" else each for each in arguments]
    assert option in openpali(*typed, fails=True)


def test_a_demo_of_a_model_without_answers_is_an_error(openpali, bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    assert "has no part that answers questions, only siglip" in openpali(
        "demo", "--model", bundle / "siglip", "--out", page, fails=True
    )
    assert not page.exists()


def test_help_names_all_data_sets_that_can_be_built() -> None:
    command = typer.main.get_command(app)
    for name in ("data", "build"):
        command = command.commands[name]
    [text] = [parameter.help for parameter in command.params if parameter.name == "name"]
    assert text.startswith(f"{', '.join(added('datasets'))}, or all (without emoji")


def test_help_names_all_formats_that_can_be_imported() -> None:
    command = typer.main.get_command(app).commands["data"].commands["import"]
    [text] = [parameter.help for parameter in command.params if parameter.name == "format"]
    assert text.replace(" or", ",") == ", ".join(IMPORTERS)


def test_the_installed_command_fails_with_code_1_and_no_traceback() -> None:
    command = [sys.executable, "-m", "openpali", "data", "build", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("openpali: there is no data set 'nothing'")
    assert "Traceback" not in done.stderr


def test_predict_does_not_import_the_compiler_or_the_trainer(bundle: Path, photo: Path) -> None:
    program = """
import sys
from openpali.cli.main import main
try:
    main()
finally:
    print(*{"torch._dynamo", "sympy", "matplotlib", "transformers", "openpali.train"} & set(sys.modules), sep=",")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", str(photo), "detect: horse", "--json", "--model", str(bundle)],
        capture_output=True,
        text=True,
        env=os.environ,
        check=True,
    )
    answer, imported = done.stdout.splitlines()
    assert json.loads(answer)["prompt"] == "detect: horse"
    assert not imported


def test_recipes_are_listed_without_torch() -> None:
    code = "import sys; from openpali.cli.explain import explain; explain(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *listed, imported = done.stdout.splitlines()
    assert {"detect", "nano/3_video"} <= {line.split()[0] for line in listed}
    assert imported == "False"


def test_names_lists_what_a_model_can_find(openpali) -> None:
    names = json.loads(openpali("names", "nano", "--json"))
    assert len(names) == len(set(names)) == 128
    assert "cup of coffee" in names
    assert "does not say which names" in openpali("names", str(find_model("nano") / "siglip"), fails=True)


@pytest.mark.parametrize("verb", ["read", "predict"])
@pytest.mark.parametrize("given", ["", "ACTIVE"])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(
    openpali, monkeypatch: pytest.MonkeyPatch, verb: str, given: str
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given)
    if not given:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    openpali(verb, "nowhere.png", "a question", fails=True)
    assert os.environ["OMP_WAIT_POLICY"] == (given or "PASSIVE")
