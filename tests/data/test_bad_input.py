"""Bad files through the real commands: one clear sentence and exit code 1, or quarantined and counted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_shards import flipped

from data.test_images import encoded, png_header
from openpali.cli.main import main
from openpali.data.sources.shards import DamagedShard
from openpali_lab.worlds.builders.output import write_shards

rng = np.random.default_rng(0)
PHOTO = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
JPEG = encoded(PHOTO, "JPEG")
TURNED = Image.Exif()
TURNED[0x0112] = 6

BAD = {
    "no.jpg": (b"<html>404</html>", "is not an image"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "is truncated or damaged"),
    "cut.png": (encoded(PHOTO)[:2000], "is truncated or damaged"),
    "empty.jpg": (b"", r"is empty (0 bytes)"),
    "huge.png": (png_header(50_000, 50_000), "more than 100,000,000 pixels"),
}
UNUSUAL = {
    "cmyk.jpg": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "deep.png": encoded(np.linspace(0, 65535, 2400).reshape(40, 60).astype(np.uint16)),
    "palette.png": encoded(PHOTO.convert("P", palette=Image.Palette.ADAPTIVE), transparency=3),
    "turned.jpg": encoded(PHOTO, "JPEG", exif=TURNED),
    "animated.gif": encoded(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(90)] * 3),
    "animated.webp": encoded(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)] * 3),
    "photo.jpg": JPEG,
}

Command = Callable[..., tuple[str, str]]


@pytest.fixture
def openpali(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process. Returns its output, and its final error sentence ("" for success)."""

    def run(*arguments: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["openpali", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr().out
        return printed, str(end.value.code) if end.value.code else ""

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, content in {**{name: data for name, (data, _) in BAD.items()}, **UNUSUAL}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


# ---- predict


@pytest.mark.parametrize("name", [*BAD, "gone.png"])
def test_predict_names_what_is_wrong_with_an_image(openpali: Command, bundle: Path, files: Path, name: str) -> None:
    _, sentence = openpali("predict", files / name, "detect: cat", "--model", bundle)
    problem = BAD[name][1] if name in BAD else "no image file"
    assert sentence.startswith("openpali: ")
    assert problem in sentence
    assert name in sentence
    assert "\n" not in sentence


def test_predict_answers_about_every_unusual_image(openpali: Command, bundle: Path, files: Path) -> None:
    for name in UNUSUAL:
        printed, sentence = openpali("predict", files / name, "detect: cat", "--model", bundle, "--json")
        assert not sentence
        assert json.loads(printed)["prompt"] == "detect: cat"


def test_predict_draws_every_unusual_image_upright(openpali: Command, bundle: Path, files: Path) -> None:
    _, sentence = openpali(
        "predict", files / "turned.jpg", "detect: cat", "--model", bundle, "--out", files / "drawn.png"
    )
    assert not sentence
    assert Image.open(files / "drawn.png").width == 40  # 60 wide in the file


# ---- data validate


def jsonl(folder: Path, *names: str) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps({"images": name, "caption": "red circle"}) + "\n" for name in names))
    return path


def test_validate_counts_each_kind_and_ends_with_an_error(
    openpali: Command, world_with_vocabulary: Path, files: Path
) -> None:
    path = jsonl(files, *BAD, "gone.png", *UNUSUAL)
    printed, sentence = openpali(
        "data", "validate", path, "--task", "caption", "--json", "--out", files / "new/s.png"
    )
    report = json.loads(printed)
    assert report["problems"] == {"bad image": len(BAD), "missing file": 1}
    assert report["feeds"] == {"caption": len(UNUSUAL)}
    assert sentence == "1"
    for line, (name, (_, problem)) in enumerate(BAD.items(), 1):
        assert any(f"mine.jsonl:{line}: {name} " in m and problem in m for m in report["messages"]["bad image"])
    assert Image.open(files / "new/s.png").width > 320  # the good ones side by side
    _, sentence = openpali("data", "validate", jsonl(files, *UNUSUAL), "--task", "caption")
    assert not sentence


def shards(folder: Path, count: int = 30) -> Path:
    write_shards(
        folder,
        "x",
        [(f"s{i:04d}", {"json": b'{"caption": "red circle"}', "jpg": JPEG}) for i in range(count)],
    )
    return folder / "x-00000.tar"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30_000])


def flip_header(path: Path) -> None:
    content = path.read_bytes()
    flipped(path, content.index(b"s0007.jpg") + 3)


@pytest.mark.parametrize("damage", [cut, flip_header])
def test_validate_reports_damaged_shards(
    openpali: Command, world_with_vocabulary: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = shards(tmp_path)
    damage(path)
    printed, sentence = openpali("data", "validate", path, "--task", "caption", "--json")
    report = json.loads(printed)
    assert report["problems"] == {"damaged shard": 1}
    assert report["samples"] == report["feeds"]["caption"] < 30
    assert f"{report['samples']} complete samples are used" in report["messages"]["damaged shard"][0]
    assert sentence == "1"


@pytest.fixture
def without_easy_vqa(world_with_vocabulary: Path, tmp_path: Path) -> Iterator[None]:
    """Other tests may have put one into the shared home."""
    built, aside = world_with_vocabulary / "data" / "easy-vqa", tmp_path / "easy-vqa"
    if built.exists():
        built.rename(aside)
    yield
    if aside.exists():
        aside.rename(built)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gone.jsonl", "no data file gone.jsonl"),
        ("gone-*.tar", "no .tar files at gone-*.tar"),
        ("gone.parquet", "no .parquet files at gone.parquet"),
        ("gone", "unknown source 'gone'"),
        ("data/gone", "unknown source 'data/gone'"),
        ("easy-vqa", "openpali data build easy-vqa"),
    ],
)
def test_missing_data_is_named_by_every_command(
    openpali: Command, without_easy_vqa: None, tmp_path: Path, name: str, problem: str
) -> None:
    for command in (
        ("data", "validate", name),
        ("train", recipe(tmp_path, name)),
        ("explain", recipe(tmp_path, name)),
    ):
        _, sentence = openpali(*command)
        assert sentence.startswith("openpali: ")
        assert problem in sentence
        assert "\n" not in sentence


# ---- train


def recipe(folder: Path, source: object, **changes: Any) -> Path:
    """Two steps of eight samples."""
    values = {"max_bad": 100, "samples": 16, "workers": 1} | changes
    path = folder / "mine.toml"
    path.write_text(
        f"""
        name = "t/mine"
        objective = "sequence"
        precision = "fp32"
        batch = 8
        workers = {values["workers"]}
        max_bad = {values["max_bad"]}
        model = {{ preset = "pico", tokenizer = "nano-vocabulary" }}
        optimizer = {{ lr = 1e-3 }}
        [[phases]]
        samples = {values["samples"]}
        size = 72
        mixture = [{{ source = "{source}", task = "caption" }}]
        """
    )
    return path


def quarantine(run: Path) -> list[str]:
    return [json.loads(line)["problem"] for line in (run / "quarantine.jsonl").read_text("utf-8").splitlines()]


def test_training_quarantines_bad_images_and_continues(
    openpali: Command, world_with_vocabulary: Path, files: Path
) -> None:
    path = jsonl(files, *BAD, "gone.png", *UNUSUAL)
    _, sentence = openpali("train", recipe(files, path, samples=32), "--run", files / "run")
    assert not sentence
    problems = quarantine(files / "run")
    for name, problem in [*((name, problem) for name, (_, problem) in BAD.items()), ("gone.png", "no file")]:
        assert any(name in p and problem in p for p in problems)
    last = json.loads((files / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["bad"] == len(problems)
    assert last["drawn"] == {f"caption@{path}": 32}


def test_training_ends_if_too_many_samples_are_bad(
    openpali: Command, world_with_vocabulary: Path, files: Path
) -> None:
    path = jsonl(files, *BAD, "gone.png", *UNUSUAL)
    _, sentence = openpali("train", recipe(files, path, max_bad=1), "--run", files / "run")
    assert "bad samples, more than max_bad = 1; they are listed in" in sentence
    assert len(quarantine(files / "run")) > 1
    _, sentence = openpali("train", recipe(files, jsonl(files, *BAD, *BAD)), "--run", files / "other")
    assert "8 samples in a row cannot be used" in sentence
    assert "mine.jsonl:" in sentence
    assert "Traceback" not in sentence


@pytest.mark.parametrize("damage", [cut, flip_header])
def test_training_on_damaged_shards_uses_complete_samples(
    openpali: Command, world_with_vocabulary: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = shards(tmp_path)
    damage(path)
    with pytest.warns(DamagedShard):
        _, sentence = openpali("train", recipe(tmp_path, path), "--run", tmp_path / "run")
    assert not sentence
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["bad"] == 0


def test_a_shard_that_vanishes_while_training_ends_it_with_a_sentence(
    openpali: Command, world_with_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openpali.train.step import TrainStep

    path = shards(tmp_path)
    original = TrainStep.run

    def step(self: Any, *arguments: Any, **options: Any) -> Any:
        path.unlink(missing_ok=True)
        return original(self, *arguments, **options)

    monkeypatch.setattr(TrainStep, "run", step)
    _, sentence = openpali("train", recipe(tmp_path, path, samples=48, workers=0), "--run", tmp_path / "run")
    assert "8 samples in a row cannot be used" in sentence
    assert "x-00000.tar" in sentence


def test_tuning_is_not_for_several_ranks(
    openpali: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    (tmp_path / "mine.jsonl").write_text("")
    _, error = openpali("tune", tmp_path / "mine.jsonl", "--task", "vqa")
    assert "torchrun" in error
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]


@pytest.mark.parametrize(
    ("task", "told"), [("vqa", "for classify"), ("captoin", "caption"), ("contrastive", "no recipe fine-tunes")]
)
def test_tune_refuses_a_wrong_task_before_it_writes(
    openpali: Command, tmp_path: Path, task: str, told: str
) -> None:
    file = tmp_path / "mine.jsonl"
    for index in range(12):
        shade = np.full((40, 40, 3), 4 * index, np.uint8)
        (tmp_path / f"{index}.png").write_bytes(encoded(Image.fromarray(shade)))
    file.write_text("\n".join(json.dumps({"images": [f"{i}.png"], "label": "dark"}) for i in range(12)))
    before = {*tmp_path.iterdir()}
    _, error = openpali("tune", file, "--task", task, "--run", tmp_path / "run")
    assert told in error
    assert {*tmp_path.iterdir()} == before


def test_tune_finds_damaged_held_out_images_before_it_trains(openpali: Command, tmp_path: Path) -> None:
    file, own = tmp_path / "mine.jsonl", np.random.default_rng(0)
    for index in range(60):
        png = encoded(Image.fromarray(own.integers(0, 256, (40, 100, 3), np.uint8)))
        (tmp_path / f"{index}.png").write_bytes(png[: len(png) // (1 if index % 3 else 2)])
    file.write_text("\n".join(json.dumps({"images": [f"{i}.png"], "text": "abc"}) for i in range(60)))
    _, error = openpali("tune", file, "--task", "ocr", "--run", tmp_path / "run")
    assert "mine-validation.jsonl cannot be asked" in error
    assert ".png" in error
    assert not (tmp_path / "run").exists()


def test_tune_finds_what_the_evaluation_at_its_end_would_refuse(openpali: Command, tmp_path: Path) -> None:
    """With the options and limits of the run: a prompt that is too long for the model."""
    file = tmp_path / "mine.jsonl"
    records = []
    for index in range(60):
        shade = np.full((40, 40, 3), 4 * index, np.uint8)
        (tmp_path / f"{index}.png").write_bytes(encoded(Image.fromarray(shade)))
        question = "what is it?" if index % 3 else "and so on " * 60
        records.append({"images": [f"{index}.png"], "question": question, "answers": ["a dog"]})
    file.write_text("\n".join(map(json.dumps, records)))
    _, error = openpali("tune", file, "--task", "vqa", "--run", tmp_path / "run")
    assert "mine-validation.jsonl cannot be asked" in error
    assert "tokens" in error
    assert not (tmp_path / "run").exists()
