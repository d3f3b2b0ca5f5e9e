"""``openpali eval`` of one's own data: any source, scored as its task scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openpali.eval.benchmark import own_benchmark
from openpali.eval.predictions import read_predictions
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import run
from openpali.infer.pali import Pali

QUESTIONS = [
    {"question": "what is this?", "answers": ["a horse"], "question_kind": "what", "lang": "en"},
    {"question": "wie viele?", "answers": ["zwei"], "question_kind": "count", "lang": "de"},
    {"question": "how many?", "answers": ["two"], "question_kind": "count", "lang": "en"},
]
BOX = {"name": "horse", "box": [4, 4, 30, 30]}
FIELDS: dict[str, dict[str, Any]] = {
    "vqa": {"question": "what?", "answers": ["a horse"]},
    "caption": {"captions": {"en": ["a horse"]}},
    "ocr": {"text": "STOP"},
    "detect": {"objects": [BOX]},
    "refseg": {"objects": [BOX | {"mask": [[4, 4, 30, 4, 30, 30]]}], "expression": "the horse", "referred": [0]},
    "classify": {"label": "horse"},
}


def write(folder: Path, records: list[dict[str, Any]], name: str = "mine-test.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    for i, record in enumerate(records):
        noise = np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        records[i] = {"key": f"k{i}", "images": [f"{i}.png"], **record}
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder / name


def test_a_file_gets_card_answers_page_and_slices(openpali, bundle: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data", [dict(each) for each in QUESTIONS])
    out = [
        "--json",
        tmp_path / "a.json",
        "--report",
        tmp_path / "a.html",
        "--save-predictions",
        tmp_path / "a.jsonl",
    ]
    printed = openpali("eval", data, "--task", "vqa", "--model", bundle, *out)
    assert "3 samples" in printed
    card = json.loads((tmp_path / "a.json").read_text())
    assert (card["benchmark"], card["n"], card["metric"]) == (str(data), 3, "exact_match")
    assert card["data"]["root"] == str(Path.cwd())
    assert len(card["data"]["hash"]) == 64
    assert {name: each["n"] for name, each in card["slices"].items()} == {"count": 2, "what": 1, "de": 1, "en": 2}
    assert "mine-test.jsonl: vqa" in (tmp_path / "a.html").read_text()

    answers = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(answers[:-20])  # as a kill leaves it
    openpali("eval", data, "--task", "vqa", "--model", bundle, *out)
    assert (tmp_path / "a.jsonl").read_bytes() == answers
    assert [line.answered.key for line in read_predictions(tmp_path / "a.jsonl")] == ["k0", "k1", "k2"]
    Image.new("RGB", (40, 50)).save(data.parent / "0.png")
    assert "other data: the pixels of sample 0" in openpali(
        "eval", data, "--task", "vqa", "--model", bundle, "--save-predictions", tmp_path / "a.jsonl", fails=True
    )


@pytest.mark.parametrize("task", FIELDS)
def test_every_kind_of_record_tells_its_task_and_is_scored(bundle: Path, tmp_path: Path, task: str) -> None:
    data = write(tmp_path, [dict(FIELDS[task]) for _ in range(2)])
    benchmark = own_benchmark(str(data))
    assert benchmark.task == task
    done = run(benchmark, Pali.from_pretrained(bundle), tmp_path)
    assert done.card.metric in done.card.scores
    assert done.card.n == 2


def test_several_images_of_a_record_are_a_video(tmp_path: Path) -> None:
    record = {**FIELDS["vqa"], "images": ["0.png", "0.png"]}
    assert own_benchmark(str(write(tmp_path, [record]))).task == "video_qa"


@pytest.mark.parametrize("source", ["shards", "table.parquet"])
def test_shards_and_parquet_are_scored_as_the_jsonl_file(bundle: Path, tmp_path: Path, source: str) -> None:
    data = write(tmp_path / "data", [dict(each) for each in QUESTIONS])
    records = [json.loads(line) for line in data.read_text().splitlines()]
    images = [(data.parent / record["images"][0]).read_bytes() for record in records]
    if source == "shards":
        import io
        import tarfile

        (tmp_path / source).mkdir()
        with tarfile.open(tmp_path / source / "0.tar", "w") as tar:
            for record, image in zip(records, images, strict=True):
                text = json.dumps({k: v for k, v in record.items() if k not in ("images", "key")}).encode()
                for ending, content in (("png", image), ("json", text)):
                    member = tarfile.TarInfo(f"{record['key']}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        rows = [record | {"images": [image]} for record, image in zip(records, images, strict=True)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / source)
    pali = Pali.from_pretrained(bundle)
    cards = [run(find_benchmark(str(each)), pali, tmp_path).card for each in (data, tmp_path / source)]
    assert cards[0].scores == cards[1].scores
    assert cards[0].data["of"] == cards[1].data["of"] == 3


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        (
            {**FIELDS["vqa"], **FIELDS["caption"]},
            [],
            "is for vqa or caption; name one with --task",
        ),
        ({}, [], "its first sample is for none; name one with --task"),
        (FIELDS["vqa"], ["--task", "captoin"], "did you mean 'caption'?"),
        (FIELDS["vqa"], ["--task", "caption"], "sample k0 has no captions"),
    ],
)
def test_what_cannot_be_scored_is_said(
    openpali, bundle: Path, tmp_path: Path, fields: dict[str, Any], arguments: list[str], message: str
) -> None:
    assert message in openpali("eval", write(tmp_path, [dict(fields)]), "--model", bundle, *arguments, fails=True)


def test_a_source_without_end_needs_a_limit(openpali, bundle: Path) -> None:
    said = openpali("eval", "nano/scene", "--task", "detect", "--model", bundle, fails=True)
    assert "cannot be evaluated whole: set a limit" in said


def test_a_prompt_that_is_too_long_is_counted(openpali, bundle: Path, tmp_path: Path) -> None:
    long = {**FIELDS["vqa"], "question": "why " * 500}
    card = tmp_path / "card.json"
    openpali("eval", write(tmp_path, [dict(FIELDS["vqa"]), long]), "--model", bundle, "--json", card)
    written = json.loads(card.read_text())
    assert written["n"] == 2
    assert "1 of 2 prompts are too long" in written["note"]


def test_a_task_is_for_data_of_ones_own(openpali, bundle: Path) -> None:
    assert "defines its task: leave out --task" in openpali(
        "eval", "nano/vqa", "--task", "vqa", "--model", bundle, fails=True
    )
    assert "of a suite have their tasks" in openpali(
        "eval", "--suite", "nano", "--task", "vqa", "--model", bundle, fails=True
    )
    assert "no data file gone.jsonl" in openpali("eval", "gone.jsonl", "--model", bundle, fails=True)


def test_a_card_does_not_replace_the_data(openpali, bundle: Path, tmp_path: Path) -> None:
    data = write(tmp_path, [dict(FIELDS["vqa"])])
    assert "is an input and would be overwritten" in openpali(
        "eval", data, "--model", bundle, "--json", data, fails=True
    )


def test_videos_are_sampled_as_asked(openpali, bundle: Path, tmp_path: Path) -> None:
    """As those that a model was tuned with; the hash of the data, which is over what was seen, tells."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        for i in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * i, np.uint8))))
        container.mux(stream.encode())
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"images": ["clip.mp4"], "question": "what moves?", "answers": ["a sail boat"]}))
    hashes = []
    for options in ([], ["--frames", 8], ["--frames", 2], ["--frames", 2, "--stride", 1]):
        openpali("eval", file, "--model", bundle, "--json", tmp_path / "card.json", *options)
        hashes.append(json.loads((tmp_path / "card.json").read_text())["data"]["hash"])
    assert hashes[0] == hashes[1]
    assert len({*hashes}) == 3
    for command in (["eval", "nano/vqa"], ["calibrate", bundle]):
        assert "--frames is for your own data" in openpali(*command, "--frames", 2, fails=True)
