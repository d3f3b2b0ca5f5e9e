"""Specifics of single benchmarks: boxes, letters, masks, leaks, slices, splits, strides."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from official_layouts import (
    AI2D_RECTANGLE,
    ANSWERING,
    REFCOCO_SIZE,
    REFCOCO_SPLITS,
    colour,
    dump_lines,
    film,
    write_refs,
)

from openpali.data.media.videos import load_frames
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import benchmarks, find_benchmark
from openpali.infer.generate import Generation
from openpali.tasks.base import Answer, Sample
from openpali.tasks.example import Box, Example, Object
from openpali.tasks.refseg import RefSeg
from openpali.tasks.registry import TASKS
from openpali.tasks.scoring import Answered, with_slices
from openpali_lab.benchmarks import refcoco, scoring
from openpali_lab.benchmarks.captions import draw_box
from openpali_lab.benchmarks.files import Folder
from openpali_lab.benchmarks.questions import any_order, is_held_out
from openpali_lab.benchmarks.scoring import mean_of_slices


def benchmark(name: str) -> AnswerBenchmark:
    found = find_benchmark(name)
    assert isinstance(found, AnswerBenchmark)
    return found


def answered(text: str, *references: str, kind: str = "", **values: float) -> Answered:
    return Answered(0, "k", "p", text, references, kind, values)


# ---- images that are drawn on


def test_a_widget_is_framed_in_red(tmp_path: Path) -> None:
    ANSWERING["widgetcap"](tmp_path)
    image = benchmark("widgetcap").open(tmp_path)[0].images[0]
    red = (image == (255, 0, 0)).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    # bounds 160, 1280, 1120, 1920 of 2560, on an image 960 pixels high
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (480, 720, 60, 420)
    assert not red[485:715, 65:415].any()
    untouched = image[~red].reshape(-1, 3)
    assert np.median(untouched, axis=0) == pytest.approx(colour("12.jpg"), abs=4)


def test_a_box_at_the_edge_stays_in_the_image() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    marked = draw_box(image, Box(-5, -5, 40, 40))
    assert not image.any()  # a copy was drawn on
    assert (marked[0] == (255, 0, 0)).all()
    assert (marked[:, -1] == (255, 0, 0)).all()
    assert not marked[1:-1, 1:-1].any()


def test_ai2d_puts_letters_only_where_the_question_has_them(tmp_path: Path) -> None:
    ANSWERING["ai2d"](tmp_path)
    plain, lettered = (benchmark("ai2d").open(tmp_path)[i].images[0] for i in (0, 1))
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1
    (left, top), (right, bottom) = AI2D_RECTANGLE
    inside = lettered[top : bottom + 1, left : right + 1]
    assert (inside[0, 0] == 255).all()
    assert (inside.max(axis=2) < 128).any()  # the letter
    outside = lettered.copy()
    outside[top : bottom + 1, left : right + 1] = plain[0, 0]
    assert (outside == plain).all()


# ---- RefCOCO


@pytest.fixture
def referring(tmp_path: Path) -> Path:
    for data_set in refcoco.DATA_SETS:
        write_refs(tmp_path, data_set.name, data_set.split_by, REFCOCO_SPLITS[data_set.name])
    return tmp_path


@pytest.mark.parametrize("name", ["refcoco/val", "refcocog/test"])  # polygons, run lengths
def test_masks_and_boxes(name: str, referring: Path) -> None:
    thing = benchmark(name).open(referring)[1].objects[0]
    expected = np.zeros(REFCOCO_SIZE, bool)
    expected[10:30, 8:40] = True
    assert thing.box == (10, 8, 30, 40)
    assert thing.name == "horse"
    assert thing.mask is not None
    assert (thing.mask == expected).all()


def test_images_for_scoring_are_not_trained_on(openpali, referring: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine" / "refcoco.jsonl"
    assert "refcocog: 1 images, 1 left out" in openpali("data", "refcoco", out, "--data", referring)
    source = open_source(str(out), {})
    trained = [source[i] for i in range(len(source))]
    assert {example.key.split("_")[0] for example in trained} == {"refcoco", "refcoco+", "refcocog"}
    assert {int(example.key.split("_")[1]) for example in trained} == {1, 2}  # 3 is in RefCOCO's val
    expected = np.zeros(REFCOCO_SIZE, bool)
    expected[10:30, 8:40] = True
    for example in trained:
        assert example.expression
        assert example.objects[example.referred[0]].name == "horse"
        assert (example.objects[0].mask == expected).all()
        assert example.objects[0].box == (10, 8, 30, 40)


def test_a_leaking_split_is_refused(tmp_path: Path) -> None:
    """As Google's split of RefCOCOg, under UMD's name."""
    write_refs(tmp_path, "refcocog", "umd", {"train": [1, 2], "val": [2, 3]})
    with pytest.raises(ValueError):
        benchmark("refcocog/val").open(tmp_path)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return exec, ("raise SystemExit('code of a pickle has run')",)


@pytest.mark.parametrize("content", [pickle.dumps([Hostile()]), b"nonsense", b"", pickle.dumps({"a": 1})])
def test_pickles_hold_plain_data_or_are_refused(referring: Path, content: bytes) -> None:
    (referring / "refcoco" / "refs(unc).p").write_bytes(content)
    with pytest.raises(ValueError):
        benchmark("refcoco/val").open(referring)


class Codec:
    """Sixteen codes that stand for a full box."""

    def encode(self, mask: np.ndarray) -> list[int]:
        return [5] * 16

    def decode(self, codes: list[int]) -> np.ndarray:
        return np.ones((64, 64), np.float32)


def test_segmentation_is_measured_against_the_pixels(referring: Path) -> None:
    example = benchmark("refcoco/val").open(referring)[0]
    task = RefSeg(masks=Codec())  # type: ignore[arg-type]
    truth = example.objects[0]
    assert truth.mask is not None
    lower = np.roll(truth.mask, 10, axis=0)  # half of it beside the truth

    def measure(example: Example, answer: Answer, task: RefSeg) -> dict[str, float]:
        sample = task.write(example, np.random.default_rng(0)) if task.masks else Sample("", "")
        return dict(task.measure(example, sample, answer, Generation([], [], 0.0, "eos"), None))  # type: ignore[arg-type]

    right = measure(example, Answer("", (truth,)), task)
    partly = measure(example, Answer("", (Object("", Box(20, 8, 40, 40), lower),)), task)
    nothing = measure(example, Answer("nonsense"), task)
    assert right == {"intersection": 640, "union": 640, "box_iou": 1, "ceiling": 1, "invalid": 0}
    assert partly == {"intersection": 320, "union": 960, "box_iou": 1 / 3, "ceiling": 1, "invalid": 0}
    assert nothing == {"intersection": 0, "union": 640, "box_iou": 0, "ceiling": 1, "invalid": 1}
    coarse = measure(example, Answer("nonsense"), RefSeg(masks=Codec(), bins=12))  # type: ignore[arg-type]
    assert 0.5 < coarse["ceiling"] < 1  # the coordinates of the target are rounded to bins
    scores = RefSeg.score([answered("", **values) for values in (right, partly, nothing)]).summary
    assert scores["miou"] == pytest.approx(4 / 9)
    assert scores["oiou"] == pytest.approx(960 / 2240)
    assert scores["box_accuracy@0.5"] == pytest.approx(1 / 3)
    assert scores["invalid"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError):
        measure(example, Answer(""), RefSeg())


# ---- slices and splits


def test_slices_and_means() -> None:
    rows = [
        answered("10", "10", kind="human"),
        answered("11", "20", kind="human"),
        answered("30", "30", kind="augmented"),
        answered("30.9", "30", kind="human"),
    ]
    scores = mean_of_slices(scoring.relaxed)(rows)
    assert scores.summary["relaxed_accuracy/human"] == pytest.approx(2 / 3)
    assert scores.summary["relaxed_accuracy/augmented"] == 1
    assert scores.summary["relaxed_accuracy"] == pytest.approx(5 / 6)  # not 3/4: slices weigh the same
    assert scores.per_sample["relaxed_accuracy"] == [1, 0, 1, 1]
    whole = with_slices(scoring.relaxed)(rows)
    assert whole.summary["relaxed_accuracy"] == pytest.approx(3 / 4)
    assert whole.summary["relaxed_accuracy/human"] == pytest.approx(2 / 3)


OTHERS = ("refcoco", "screenspot")  # they have tests of their own


@pytest.mark.parametrize("name", [n for n in ANSWERING if not n.startswith(OTHERS)])
def test_perfect_answers_score_the_most(name: str, tmp_path: Path, wordnet: Path) -> None:
    ANSWERING[name](tmp_path)
    found = benchmark(name)
    source = found.open(tmp_path)
    rows = []
    for i in range(len(source)):
        example = source[i]
        references = list(example.answers) or next(iter(example.captions.values()))
        kind = example.question_kind or (example.lang if example.captions else "")
        values = {"choices": list(example.vocabulary)}
        rows.append(Answered(i, example.key, "", references[0], tuple(references), kind, values))
    right = found.score(rows)
    wrong = found.score([replace(row, text="zzz") for row in rows])
    assert right.summary[found.metric] > wrong.summary[found.metric]
    if found.metric != "cider":
        assert right.summary[found.metric] == 1
        assert wrong.summary[found.metric] == 0
    for values in right.per_sample.values():
        assert len(values) == len(rows)
    for metric in (*found.paper, *found.paper_ocr):
        assert metric in right.summary, f"the paper's {metric} has none of ours beside it"


def test_languages_weigh_the_same(tmp_path: Path) -> None:
    found = benchmark("xm3600")
    rows = [answered(f"a dog {i}", f"a dog {i}", kind="en") for i in range(4)]
    rows += [answered("nichts", f"ein Hund {i}", kind="de") for i in range(2)]
    scores = found.score(rows)
    assert scores.summary["cider"] == pytest.approx((scores.summary["cider/en"] + scores.summary["cider/de"]) / 2)
    assert scores.summary["cider/de"] == 0


def test_spans_in_any_order() -> None:
    assert any_order("a, b, c") == ["a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a"]
    assert any_order("one thing") == ["one thing"]
    many = ", ".join("abcdefgh")
    assert any_order(many) == [many]


def test_a_tenth_of_st_vqa_is_held_out() -> None:
    held = sum(is_held_out(f"coco-text/COCO_train2014_{i:012d}.jpg") for i in range(10_000))
    assert 900 < held < 1100


def test_okvqa_has_both_scorers(tmp_path: Path) -> None:
    rows = [answered("the dog", *["dog"] * 9, "cat")]  # only the official one takes the article away
    scores = benchmark("okvqa").score(rows).summary
    assert scores["accuracy"] == 0
    assert scores["vqa_accuracy"] == 1


def test_ai2d_counts_letters_beside_exact_match(tmp_path: Path) -> None:
    ANSWERING["ai2d"](tmp_path)
    found = benchmark("ai2d")
    example = found.open(tmp_path)[0]
    options, right = list(example.vocabulary), example.answers[0]
    assert right in options
    letter = "ABCD"[options.index(right)]
    values = scoring.measure_choices(replace(example, vocabulary=[f"{option} " for option in options]))
    rows = [answered(text, right) for text in (right, f"({letter})", "something else", "")]
    scores = found.score([replace(row, values=values) for row in rows]).summary
    assert (scores["exact_match"], scores["multiple_choice"], scores["unparsed"]) == (0.25, 0.5, 0.5)


def test_lines_end_where_json_lines_do(tmp_path: Path) -> None:
    rows = [{"caption": "a\u2028b\x85"}, {"caption": "c"}]
    dump_lines(tmp_path / "a.jsonl", rows)
    assert [row.values for row in Folder(tmp_path, "A", "a.org").rows("a.jsonl")] == rows


def test_damaged_json_is_reported(tmp_path: Path) -> None:
    ANSWERING["docvqa"](tmp_path)
    path = tmp_path / "docvqa" / "val_v1.0_withQT.json"
    for text, message in (
        ("{", "Expecting property name"),
        ("[]", "valid dictionary"),
        ('{"data": 3}', "valid list"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            benchmark("docvqa").open(tmp_path)
    path.write_text(json.dumps({"data": []}))
    with pytest.raises(ValueError):
        benchmark("docvqa").open(tmp_path)


# ---- frames of videos


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({"frames": 16, "stride": 1}, range(16)),
        ({"frames": 4, "stride": 9}, (0, 9, 18, 27)),
        ({"frames": 16, "stride": 20}, (0, 20, 40)),  # the video is shorter
        ({"frames": 3}, (0, 24, 49)),  # evenly
        ({"frames": 2, "stride": 2, "start": 3.0}, (30, 32)),
        ({"frames": 16, "stride": 3, "start": 1.0, "end": 2.0}, (10, 13, 16, 19)),
        ({"frames": 2, "start": 1.0, "end": 2.0}, (10, 19)),
    ],
)
def test_frames_are_the_ones_asked_for(tmp_path: Path, options: dict, frames: range) -> None:
    film(tmp_path / "film.mp4")
    found = [round(float(image.mean()) / 5) for image in load_frames(tmp_path / "film.mp4", **options)]
    assert found == list(frames)


def test_a_segment_without_frames_is_reported(tmp_path: Path) -> None:
    film(tmp_path / "film.mp4")
    for stride in (None, 5):
        with pytest.raises(ValueError):
            load_frames(tmp_path / "film.mp4", 4, stride, start=7.0, end=9.0)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "film.mp4").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        load_frames(tmp_path / "broken.mp4", 4, 1)


def test_benchmarks_name_a_scorer_only_where_it_is_not_the_tasks() -> None:
    of_the_task = {
        name
        for name, benchmark in benchmarks().items()
        if isinstance(benchmark, AnswerBenchmark) and benchmark.scorer is None
    }
    assert {"coco-captions", "refcoco/val", "msrvtt-qa", "nano/detect", "nano/refseg"} <= of_the_task
    assert not {"vqav2", "docvqa", "chartqa", "nano/vqa"} & of_the_task
    for name in of_the_task:
        benchmark = benchmarks()[name]
        assert isinstance(benchmark, AnswerBenchmark)
        assert benchmark.metric == TASKS[benchmark.task].metric
        assert benchmark.score == TASKS[benchmark.task].score
