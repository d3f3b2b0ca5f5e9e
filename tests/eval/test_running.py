"""The answers of a run do not depend on kills and resumes, the number of processes, or the batch size."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openpali.cli.main import main
from openpali.distributed import Ranks
from openpali.eval.benchmark import AnswerBenchmark, Embedded, EncoderBenchmark, SeenSamples
from openpali.eval.evaluators import LongPrompts
from openpali.eval.predictions import PredictionsFile, read_predictions
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import Run, run
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Pipeline, PromptTooLong
from openpali.metrics.exact import exact_match
from openpali.metrics.scores import Scores
from openpali.tasks.example import Example, Size
from openpali.tasks.scoring import UNASKED, Answered

LIMIT, BATCH = 24, 3
CHANGING = ("seconds", "predictions")  # fields of a card that two equal runs do not share


class Questions:
    """Images of noise, and questions of very different lengths."""

    def __init__(self, size: int = 18) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Example:
        noise = np.random.default_rng(index).integers(0, 256, (30 + index, 40, 3), np.uint8)
        question = " ".join(["what is it"] * (1 + index * 5 % 7)) + "?"
        kind = "even" if index % 2 == 0 else "odd"
        return Example(f"q{index}", images=[noise], question=question, answers=["yes"], question_kind=kind)


def score(rows: Any) -> Scores:
    """Exact match."""
    return exact_match([row.text for row in rows], [row.references for row in rows])


QUESTIONS = AnswerBenchmark(
    name="questions",
    title="Questions",
    split="all",
    metric="exact_match",
    paper={"exact_match": 0.5},
    open=lambda root: Questions(),
    task="vqa",
    decoding=Decoding(max_tokens=6),
    scorer=score,
)


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


def same(card: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in card.items() if name not in CHANGING}


def card_of(stem: Path) -> dict[str, Any]:
    return same(json.loads(Path(f"{stem}.json").read_text("utf-8")))


def command(bundle: Path, stem: Path) -> list[str]:
    return [
        *("eval", "nano/vqa", "--model", str(bundle), "--limit", str(LIMIT), "--batch-size", str(BATCH)),
        *("--json", f"{stem}.json", "--save-predictions", f"{stem}.jsonl"),
    ]


def run_here(arguments: list[str]) -> None:
    """Run the command in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as `start`
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["openpali", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    torch.set_num_threads(threads)
    assert not end.value.code, end.value.code


def start(arguments: list[str], **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    arguments = [sys.executable, "-m", "openpali", *arguments]
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def unbroken(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of an undisturbed run in one process."""
    stem = tmp_path_factory.mktemp("unbroken") / "run"
    run_here(command(bundle, stem))
    return stem


def test_a_killed_run_continues_to_the_same_answers(bundle: Path, unbroken: Path, tmp_path: Path) -> None:
    stem = tmp_path / "run"
    answers = Path(f"{stem}.jsonl")
    process = start(command(bundle, stem))
    while not answers.is_file() or answers.read_bytes().count(b"\n") < 1 + BATCH:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = answers.read_bytes()
    assert before.count(b"\n") < 1 + LIMIT, "it was over before the kill"
    answers.write_bytes(before + b'{"index": 23, "key": "torn')

    run_here(command(bundle, stem))
    assert answers.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert answers.read_bytes().count(b"\n") == 1 + LIMIT  # nothing was asked twice
    assert read_predictions(answers) == read_predictions(Path(f"{unbroken}.jsonl"))
    assert card_of(stem) == card_of(unbroken)


def test_files_that_are_not_of_this_run_stay_as_they_are(tmp_path: Path) -> None:
    file, run = tmp_path / "answers.jsonl", {"benchmark": "x"}
    for foreign in (
        b"notes of mine",
        b"a,b\n1,2\n3,4",
        b'{"benchmark": "x"}',
        b'{"run": {"benchmark": "y"}}\ntorn',
    ):
        file.write_bytes(foreign)
        with pytest.raises(
            ValueError, match=r"answers\.jsonl (is no predictions file|holds answers of another run)"
        ):
            PredictionsFile(file, run).go_on()
        assert file.read_bytes() == foreign
    for ours in (b"", b'{"r', b'{"run": {"benchm', b'{"run": {"benchmark": "x"}}\n{"index": 0, "te'):
        file.write_bytes(ours)
        assert PredictionsFile(file, run).go_on() == []
        assert file.read_bytes() == b'{"run": {"benchmark": "x"}}\n'


def test_two_processes_give_the_answers_of_one(bundle: Path, unbroken: Path, tmp_path: Path) -> None:
    stem = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = [start(command(bundle, stem), RANK=str(r), LOCAL_RANK=str(r), **address) for r in range(2)]
    for process in ranks:
        finish(process)
    answers = Path(f"{stem}.jsonl")
    assert answers.read_bytes().count(b"\n") == 1 + LIMIT
    assert read_predictions(answers) == read_predictions(Path(f"{unbroken}.jsonl"))
    assert card_of(stem) == card_of(unbroken)


def test_batches_are_sorted_by_length_and_answer_as_batch_size_one(
    pali: Pali, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    predict = Pipeline.predict

    def spy(self: Pipeline, frames: Any, prompts: Any, **rest: Any) -> Any:
        asked.append([len(prompt) for prompt in prompts])
        return predict(self, frames, prompts, **rest)

    one = run(QUESTIONS, pali, tmp_path, batch=1)
    monkeypatch.setattr(Pipeline, "predict", spy)
    many = run(QUESTIONS, pali, tmp_path, batch=5)
    assert [len(lengths) for lengths in asked] == [5, 5, 5, 3]
    lengths = [length for batch in asked for length in batch]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3
    assert [row.index for row in many.rows] == list(range(18))
    assert many.rows == one.rows
    assert len({row.text for row in one.rows}) > 3, (
        "the model gives every sample the same answer, so this test shows nothing"
    )


def test_known_answers_are_not_asked_for_again(pali: Pali, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "answers.jsonl"
    seen: list[tuple[int, int]] = []
    first = run(QUESTIONS, pali, tmp_path, limit=10, batch=4, predictions=file)
    longer = run(
        QUESTIONS,
        pali,
        tmp_path,
        batch=4,
        predictions=file,
        watch=lambda done, total: seen.append((done, total)),
    )
    assert seen[0] == (10, 18)
    assert seen[-1] == (18, 18)
    assert seen == sorted(seen)
    assert longer.rows[:10] == first.rows
    assert file.read_bytes().count(b"\n") == 1 + 18, "something was written twice"

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(Pipeline, "predict", never)
    again = run(QUESTIONS, pali, tmp_path, predictions=file)
    assert same(again.card.as_json()) == same(longer.card.as_json())
    shorter = run(QUESTIONS, pali, tmp_path, limit=10, predictions=file)
    assert same(shorter.card.as_json()) == same(first.card.as_json())


def test_a_prompt_that_is_too_long_counts_as_an_empty_answer(
    pali: Pali, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, pipeline, file = run(QUESTIONS, pali, tmp_path), pali.pipeline(), tmp_path / "answers.jsonl"
    tokens = [len(pipeline.tokenizer.encode(row.prompt)) for row in whole.rows]
    monkeypatch.setattr(pipeline, "max_prompt", sorted(tokens)[7])
    fits = [count <= pipeline.max_prompt for count in tokens]
    told = f"{fits.count(False)} of 18 prompts"
    with pytest.warns(LongPrompts, match=told):
        found = run(QUESTIONS, pali, tmp_path, batch=5, predictions=file)
    assert [row.text for row in found.rows] == [
        row.text if short else "" for row, short in zip(whole.rows, fits, strict=True)
    ]
    assert [UNASKED in row.values for row in found.rows] == [not short for short in fits]
    assert told in found.card.note
    assert told not in whole.card.note
    with pytest.warns(LongPrompts, match=told):
        assert same(run(QUESTIONS, pali, tmp_path, predictions=file).card.as_json()) == same(found.card.as_json())
    with pytest.raises(PromptTooLong):
        pali.predict([[]], [whole.rows[fits.index(False)].prompt])
    monkeypatch.setattr(pipeline, "max_prompt", 1)
    with pytest.raises(ValueError, match=r"no prompt of questions fits .* tokens, this model takes 1"):
        run(QUESTIONS, pali, tmp_path)


def test_answers_of_another_run_are_refused(pali: Pali, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    run(QUESTIONS, pali, tmp_path, limit=2, predictions=file)
    with pytest.raises(ValueError, match=r"answers\.jsonl holds answers of another run: its decoding"):
        run(replace(QUESTIONS, decoding=Decoding(max_tokens=5)), pali, tmp_path, limit=2, predictions=file)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("key", {"key": "another"}),
        ("prompt", {"question": "who is it?"}),
        ("references", {"answers": ["no"]}),
        ("pixels", {"images": [np.zeros((30, 40, 3), np.uint8)]}),
    ],
)
@pytest.mark.parametrize("place", [0, 11])  # the first of a window of 8, and the last that is known
def test_answers_about_other_data_are_refused(
    pali: Pali, tmp_path: Path, name: str, changed: dict[str, Any], place: int
) -> None:
    class Other(Questions):
        def __getitem__(self, index: int, /) -> Example:
            example = super().__getitem__(index)
            return replace(example, **changed) if index == place else example

    file = tmp_path / "answers.jsonl"
    run(QUESTIONS, pali, tmp_path, limit=12, batch=2, predictions=file)
    with pytest.raises(
        ValueError, match=rf"other data: the {name} of sample {place} of questions was .*another file"
    ):
        run(replace(QUESTIONS, open=lambda root: Other()), pali, tmp_path, batch=2, predictions=file)


def test_the_named_part_answers_if_the_bundle_has_it(
    pali: Pali, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[str] = []
    predict = Pipeline.predict

    def spy(self: Pipeline, frames: Any, prompts: Any, **rest: Any) -> Any:
        parts.extend(name for name in pali.parts if pali._pipelines.get(name) is self)
        return predict(self, frames, prompts, **rest)

    monkeypatch.setattr(Pipeline, "predict", spy)
    asked = [
        run(replace(QUESTIONS, part=part), pali, tmp_path, limit=1).card.model["part"]
        for part in ("refseg", "nowhere", None)
    ]
    assert asked == parts == ["refseg", "pali", "pali"]


def test_answers_of_another_part_of_a_bundle_are_refused(pali: Pali, bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    run(replace(QUESTIONS, part="refseg"), pali, tmp_path, limit=1, predictions=file)
    with pytest.raises(ValueError, match=r"'refseg'.*'pali'"):
        run(QUESTIONS, pali, tmp_path, limit=1, predictions=file)

    single = Pali.from_pretrained(bundle / "pali")
    run(QUESTIONS, single, tmp_path, limit=1, predictions=tmp_path / "old.jsonl")
    head, *rest = (tmp_path / "old.jsonl").read_text().splitlines(keepends=True)
    assert '"part": null, ' in head
    (tmp_path / "old.jsonl").write_text("".join([head.replace('"part": null, ', ""), *rest]))
    run(QUESTIONS, single, tmp_path, limit=1, predictions=tmp_path / "old.jsonl")


def test_ocr_text_is_in_the_prompt_and_its_engine_on_the_card(pali: Pali, tmp_path: Path) -> None:
    class Engine:
        name = "reader 1"

        def read(self, image: Any, key: str) -> str:
            return f"SIGN {key}"

    file = tmp_path / "answers.jsonl"
    done = run(QUESTIONS, pali, tmp_path, limit=3, ocr=Engine(), predictions=file)
    assert "OCR: SIGN q0" in done.rows[0].prompt
    assert done.card.prompt["ocr"] == "reader 1"
    with pytest.raises(ValueError):
        run(QUESTIONS, pali, tmp_path, limit=3, predictions=file)


def test_benchmarks_of_embeddings_write_a_card_too(pali: Pali, tmp_path: Path) -> None:
    def embed(pali: Pali, root: Path, limit: int | None, advance: Any) -> Embedded:
        """Recall."""
        advance(3, 3)
        seen = SeenSamples()
        seen.texts((root / "list.txt").read_text())
        scores = Scores({"r@1": 2 / 3}, {"r@1": [1.0, 0.0, 1.0]})
        return Embedded(scores=scores, n=3, of=7, data=seen.hash, prompt={"text": "bare"})

    (tmp_path / "list.txt").write_text("a")
    pairs = EncoderBenchmark(name="pairs", run=embed, title="Pairs", split="all", metric="r@1", resolution=224)
    first: Run = run(pairs, pali, tmp_path)
    assert (first.card.n, first.card.scores) == (3, {"r@1": 2 / 3})
    assert first.card.intervals["r@1"][0] < 2 / 3 < first.card.intervals["r@1"][1]
    assert (first.card.data["of"], first.card.prompt) == (7, {"text": "bare"})
    assert first.card.preprocessing["siglip"]["height"] == 72
    assert first.card.scoring["definition"] == "Recall"
    assert first.card.note == "The model takes images of 72 x 72 pixels; the paper evaluates at 224."
    assert run(replace(pairs, resolution=72), pali, tmp_path).card.note == ""
    (tmp_path / "list.txt").write_text("b")
    assert run(pairs, pali, tmp_path).card.data["hash"] != first.card.data["hash"]
    with pytest.raises(ValueError):
        run(pairs, pali, tmp_path, predictions=tmp_path / "answers.jsonl")


def test_a_benchmark_of_a_composed_world_has_a_full_card(pali: Pali, tmp_path: Path) -> None:
    """Without files, samples are hashed as they are read."""
    cards = [run(find_benchmark("nano/retrieval"), pali, tmp_path, limit=limit).card for limit in (6, 6, 5)]
    assert [card.n for card in cards] == [6, 6, 5]
    assert cards[0].data["of"] == 1000
    assert cards[0].data["hash"] == cards[1].data["hash"] != cards[2].data["hash"]
    assert cards[0].data["hash"] != SeenSamples().hash, "the hash of nothing"
    assert {"r@1/mean", "r@1/en"} <= cards[0].intervals.keys()
    assert "en" in cards[0].prompt["languages"]
    other = run(find_benchmark("nano/retrieval@dev"), pali, tmp_path, limit=6).card
    assert other.data["hash"] != cards[0].data["hash"]


class ThreadRanks(Ranks):
    """Two ranks as two threads."""

    barrier, given = threading.Barrier(2, timeout=60), [None, None]

    def gather(self, value: object) -> list[object]:
        self.given[self.rank] = value  # type: ignore[call-overload]
        self.barrier.wait()
        gathered = list(self.given)
        self.barrier.wait()
        return gathered


class Damaged(Questions):
    """A sample of the second rank cannot be read."""

    def __getitem__(self, index: int, /) -> Example:
        if index == 5:
            raise ValueError("image 5 is damaged")
        return super().__getitem__(index)


def test_an_error_on_one_rank_is_raised_on_all(bundle: Path, tmp_path: Path) -> None:
    damaged = replace(QUESTIONS, open=lambda root: Damaged())
    ends: list[str] = []

    def work(rank: int) -> None:
        ranks = ThreadRanks(rank, 2, torch.device("cpu"))
        try:
            run(damaged, Pali.from_pretrained(bundle), tmp_path, batch=1, ranks=ranks)
        except ValueError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == ["image 5 is damaged"] * 2


def test_a_limit_must_be_positive(pali: Pali, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit must be at least 1"):
        run(QUESTIONS, pali, tmp_path, limit=0)


def test_detection_f1_is_over_all_boxes_together() -> None:
    def row(found: int, true: int, sure: float) -> Answered:
        boxes = [["cat", 10.0 * i, 0.0, 10.0 * i + 9, 9.0] for i in range(max(found, true))]
        values = {"found": [[*box, sure] for box in boxes[:found]], "true": [[*box, 1.0] for box in boxes[:true]]}
        return Answered(0, "k", "p", "t", ("r",), values=json.loads(json.dumps(values)))

    found = find_benchmark("nano/detect")
    assert isinstance(found, AnswerBenchmark)
    # 2 of 2 + 2 boxes paired, and 1 of 1 + 5: F1 over all is 2 * 3 / 10
    scores = found.score([row(2, 2, 0.9), row(1, 5, 0.8), row(0, 1, 1.0)])
    assert scores.summary["f1@0.5"] == pytest.approx(6 / 11)
    assert scores.per_sample["f1@0.5"] == pytest.approx([1, 1 / 3, 0])
    assert scores.summary["iou"] == pytest.approx((1 + 1 / 5 + 0) / 3)
    assert scores.summary["ap50/mean"] == scores.summary["ap/mean"] == pytest.approx(38 / 101)  # 3 of 8 found
    wrong = row(3, 1, 0.5)  # two boxes that are not there lower precision; the more confident, the more
    late, soon = (
        found.score([row(1, 1, 0.7), replace(wrong, values=v)]).summary["ap/mean"]
        for v in (
            wrong.values,
            {
                **wrong.values,
                "found": [
                    [*box[:5], score] for box, score in zip(wrong.values["found"], (0.1, 0.9, 0.9), strict=True)
                ],
            },
        )
    )
    assert soon < late


def test_detections_of_a_model_have_an_average_precision(pali: Pali, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    done = run(find_benchmark("nano/detect"), pali, tmp_path, limit=4, predictions=file)
    assert {"iou", "f1@0.5", "ap/mean", "ap50/mean"} <= done.card.scores.keys()
    for row in done.rows:
        assert len(row.values["found"]) == len(pali.task("detect").parse(row.text, Size(96, 96)).objects)
        assert all(0 <= box[-1] <= 1 for box in row.values["found"])
        assert row.values["true"]
    again = run(find_benchmark("nano/detect"), pali, tmp_path, limit=4, predictions=file)
    assert again.scores == done.scores
