"""Confidence and OOD scores: maths against brute force, errors by hand, and that a model shows what was fitted."""

from __future__ import annotations

import io
import json
import math
import shutil
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import openpali
from openpali.cli.main import app
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import SEEDS, AnswerBenchmark
from openpali.eval.calibrate import calibrate, calibrate_ood, confidence_scores, fitted_part
from openpali.eval.registry import benchmarks, on_split
from openpali.eval.runner import run
from openpali.eval.splits import EvalSplit
from openpali.eval.suites import find_suite
from openpali.infer.bulk import Reply
from openpali.infer.generate import Generation
from openpali.infer.pali import Pali
from openpali.infer.pipeline import CONFIDENT, OutOfDistribution, Prediction, Row
from openpali.metrics.boxes import Detection, right_boxes
from openpali.metrics.calibration import Calibration, auroc, expected_calibration_error, fit_calibration
from openpali.tasks.base import Answer
from openpali.tasks.caption import Caption
from openpali.tasks.detect import Detect
from openpali.tasks.example import Size
from openpali.tasks.refseg import RefSeg
from openpali.tasks.scoring import CLAIMS, CONFIDENCES, Answered
from openpali.text.masks import MaskText
from openpali.text.tokenizer import Tokenizer
from openpali.weights.bundle import open_tokenizer
from openpali.weights.find import SHIPPED
from openpali.weights.format import add_facts, open_model
from openpali.weights.ood import fit_ood, read_ood, write_ood
from openpali.weights.quantize import write_int8
from openpali_lab.worlds.benchmarks.pages import page_suite
from openpali_lab.worlds.benchmarks.samples import CALIBRATION_SEED, CALIBRATION_SIZE, Composed, heldout
from openpali_lab.worlds.builders.ood import SETS, shard
from openpali_lab.worlds.builders.output import write_shards
from openpali_lab.worlds.world import World
from openpali_screen.bundles import reader_of_bundle


def drawn(temperature: float, offset: float, count: int = 20_000) -> tuple[list[float], list[bool]]:
    """Log-probabilities of answers that are right as often as a calibration says."""
    rng = np.random.default_rng(3)
    odds = rng.normal(0.5, 2.5, count)
    right = rng.random(count) < 1 / (1 + np.exp(-(odds / temperature + offset)))
    return (-np.log1p(np.exp(-odds))).tolist(), right.tolist()


@pytest.mark.parametrize(("temperature", "offset"), [(0.7, 0.0), (2.5, 0.0), (1.4, 1.0)])
def test_a_fit_finds_the_calibration_that_drew_the_answers(temperature: float, offset: float) -> None:
    log_probs, right = drawn(temperature, offset)
    found = fit_calibration(log_probs, right, offset=offset != 0)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.offset == pytest.approx(offset, abs=0.05)
    assert expected_calibration_error([found.confidence(each) for each in log_probs], right) < 0.02


def test_a_fit_is_found_where_all_answers_are_unlikely() -> None:
    """Masks have many tokens: half of them may be right, and each as good as impossible to the letter."""
    rng = np.random.default_rng(0)
    odds = rng.uniform(-11, -5, 2000)
    right = rng.random(2000) < 1 / (1 + np.exp(-(odds / 5 + 1.5)))
    found = fit_calibration(odds.tolist(), right.tolist(), offset=True)
    assert found.temperature == pytest.approx(5, rel=0.25)
    assert found.offset == pytest.approx(1.5, abs=0.4)


def test_a_fit_finds_what_is_overestimated_among_classes() -> None:
    log_probs, right = drawn(1.4, 0.5, 6_000)
    lower, lower_right = drawn(1.4, -0.5, 6_000)
    names = ["button"] * 6_000 + ["icon"] * 5_999 + ["tab"]
    found = fit_calibration(log_probs + lower, right + lower_right, offset=True, names=names)
    assert found.temperature == pytest.approx(1.4, rel=0.05)
    assert found.offset + found.offsets["button"] == pytest.approx(0.5, abs=0.1)
    assert found.offset + found.offsets["icon"] == pytest.approx(-0.5, abs=0.1)
    assert abs(found.offsets["tab"]) < 0.1, "one answer says little"
    for name, own, hits in (("button", log_probs, right), ("icon", lower, lower_right)):
        assert expected_calibration_error([found.confidence(each, name) for each in own], hits) < 0.03


def test_confidence_by_hand() -> None:
    assert Calibration(1.0, 1.0, {"tab": math.log(3) - 1.0}).of(0.5, "tab") == pytest.approx(0.75)
    assert Calibration(1.0, 0.0, {"tab": 1.0}).of(0.5, "button") == pytest.approx(0.5)
    assert Calibration(1.0).confidence(math.log(0.8)) == pytest.approx(0.8)
    assert Calibration(2.0).confidence(math.log(0.8)) == pytest.approx(2 / 3)  # odds of 4 become odds of 2
    assert Calibration(1.0, math.log(3)).confidence(math.log(0.5)) == pytest.approx(0.75)
    assert 0.5 < Calibration(1.0).confidence(0.0) < 1  # an answer without any doubt
    assert Calibration(1.0).confidence(-1e4) > 0


def test_answers_that_are_all_right_leave_the_confidence_below_1() -> None:
    fitted = fit_calibration([math.log(0.9)] * 50, [True] * 50, offset=False)
    assert 0.9 < fitted.confidence(math.log(0.9)) < 1


@pytest.mark.parametrize("offset", [False, True])
def test_log_probabilities_that_say_the_opposite_cannot_be_calibrated(offset: bool) -> None:
    log_probs, right = drawn(1.0, 0.0, 500)
    with pytest.raises(ValueError, match="give other samples"):
        fit_calibration(log_probs, [not each for each in right], offset=offset)


def test_calibration_error_by_hand() -> None:
    assert expected_calibration_error([0.9] * 10, [True] * 9 + [False], bins=1) == pytest.approx(0)
    assert expected_calibration_error([1.0, 0.0], [False, True]) == pytest.approx(1)
    # Two bins of two: |0.15 - 0.5| and |0.85 - 1|.
    error = expected_calibration_error([0.9, 0.1, 0.8, 0.2], [True, True, True, False], bins=2)
    assert error == pytest.approx((0.35 + 0.15) / 2)
    assert expected_calibration_error([0.3], [True]) == pytest.approx(0.7)  # fewer answers than bins
    with pytest.raises(ValueError):
        expected_calibration_error([], [])


def test_auroc_counts_the_pairs_in_order() -> None:
    low, high = [0.1, 0.4, 0.4, 0.7], [0.4, 0.9, 0.2]
    pairs = [(a < b) + 0.5 * (a == b) for a in low for b in high]
    assert auroc(low, high) == pytest.approx(sum(pairs) / len(pairs))
    with pytest.raises(ValueError):
        auroc([], [1.0])


def test_right_boxes_have_the_name_and_overlap_and_are_the_surest() -> None:
    cat, low = (0, 0, 10, 10), (0, 0, 4, 10)
    found = [Detection("cat", cat, 0.5), Detection("cat", cat, 0.9), Detection("dog", cat), Detection("cat", low)]
    assert right_boxes(found, [Detection("cat", cat)]) == [False, True, False, False]
    assert right_boxes(found, [Detection("cat", cat), Detection("dog", (0, 0, 10, 9))]) == [
        False,
        True,
        True,
        False,
    ]
    assert right_boxes([], [Detection("cat", cat)]) == []
    assert right_boxes(found[:1], []) == [False]


# ---- claims of answers


@pytest.fixture(scope="module")
def tokenizer(world_with_vocabulary: Path) -> Tokenizer:
    return open_tokenizer("nano-vocabulary")


def said(tokenizer: Tokenizer, *parts: tuple[str, float]) -> Generation:
    """An answer in parts; each token of a part has its log-probability. EOS has -8."""
    ids: list[int] = []
    logs: list[float] = []
    for n in range(len(parts)):
        longer = tokenizer.encode(" ".join(text for text, _ in parts[: n + 1]))
        logs += [parts[n][1]] * (len(longer) - len(ids))
        ids = longer
    return Generation(ids, [*logs, -8.0], sum(logs) - 8, "eos")


def test_the_claim_of_a_text_is_all_of_it(tokenizer: Tokenizer) -> None:
    generated = said(tokenizer, ("A red", -1.0), ("apple", -0.5))
    assert Caption().claims(generated, tokenizer) == [pytest.approx(sum(generated.log_probs))]
    row = Answered(0, "k", "p", "a cat", ("a cat", "cat"))
    assert Caption.right_claims(row) == [True]
    assert Caption.right_claims(Answered(0, "k", "p", "a Cat", ("a cat", "cat"))) == [False]


def test_the_claims_of_a_detection_are_its_boxes(tokenizer: Tokenizer) -> None:
    task = Detect(bins=100)
    first, second = "10 20 30 40 red circle", "50 60 70 80 blue star"
    generated = said(tokenizer, (first, -0.25), ("90 90 10 10 nowhere", -4.0), (second, -0.5))
    lengths = len(tokenizer.encode(first)), len(tokenizer.encode(second))
    claims = task.claims(generated, tokenizer)
    assert claims == [pytest.approx(-0.25 * lengths[0]), pytest.approx(-0.5 * lengths[1])]
    answer = task.parse(tokenizer.decode(generated.ids), Size(100, 100))
    assert len(answer.objects) == len(claims)
    assert task.claims(said(tokenizer, ("none", -1.0)), tokenizer) == []


def test_the_claims_of_a_segmentation_are_its_objects(tokenizer: Tokenizer) -> None:
    task = RefSeg(bins=100)
    first, second = (f"{box} {MaskText().encode(range(16))}" for box in ("1 2 30 40", "50 60 70 80"))
    broken = f"9 9 9 9 {MaskText().encode(range(16))}"
    generated = said(tokenizer, (first, -0.25), (broken, -9.0), (second, -0.5))
    lengths = len(tokenizer.encode("1 2 30 40")), len(tokenizer.encode("50 60 70 80"))
    claims = task.claims(generated, tokenizer)
    assert len(task.parse(tokenizer.decode(generated.ids), Size(100, 100)).objects) == len(claims) == 2
    assert claims[0] == pytest.approx(-0.25 * lengths[0])
    assert claims[1] == pytest.approx(-0.5 * lengths[1])
    values = {"intersection": 5, "union": 10, "invalid": 0.0, CLAIMS: claims}
    assert RefSeg.right_claims(Answered(0, "k", "p", "", (), "", values)) == [True]
    assert RefSeg.right_claims(Answered(0, "k", "p", "", (), "", {**values, "intersection": 4})) == [False]
    assert RefSeg.right_claims(Answered(0, "k", "p", "", (), "", {**values, "invalid": 1.0})) == []


# ---- the samples


@pytest.mark.parametrize(
    "name", ["nano/caption", "nano/ocr", "nano/vqa", "nano/detect", "nano/refseg", "nano/video"]
)
def test_confidence_is_fitted_on_samples_of_the_training_split_with_a_seed_of_their_own(
    tmp_path: Path, world: World, name: str
) -> None:
    benchmark = benchmarks()[name]
    assert isinstance(benchmark, AnswerBenchmark)
    assert benchmark.calibration is not None
    asked, fitted = benchmark.open(tmp_path), benchmark.calibration(tmp_path)
    assert isinstance(asked, Composed)
    assert isinstance(fitted, Composed)
    assert (asked.split, fitted.split, fitted.seed) == ("heldout", "train", CALIBRATION_SEED)
    assert (fitted.kind, fitted.options, len(fitted)) == (asked.kind, asked.options, CALIBRATION_SIZE)


def test_confidence_of_easy_vqa_is_fitted_on_images_that_training_never_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    folder = tmp_path / "data" / "easy-vqa"
    folder.mkdir(parents=True)
    shown = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(shown).save(folder / "0.png")
    record = {"key": "a", "images": ["0.png"], "question": "what shape is present?", "answers": ["circle"]}
    (folder / "train.jsonl").write_text(json.dumps(record) + "\n")
    benchmark = benchmarks()["easy-vqa"]
    assert isinstance(benchmark, AnswerBenchmark)
    assert benchmark.calibration is not None
    [example] = list(benchmark.calibration(tmp_path))
    assert (example.question, example.answers) == ("what shape is present?", ("circle",))
    np.testing.assert_array_equal(example.images[0], shown[:, ::-1])


# ---- a calibrated model


@pytest.fixture(scope="module")
def calibrated(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a made-up calibration of two tasks."""
    folder = tmp_path_factory.mktemp("calibrated") / "bundle"
    shutil.copytree(bundle, folder)
    add_facts(
        folder / "pali", calibration={"detect": asdict(Calibration(2.0, 1.0)), "caption": {"temperature": 3.0}}
    )
    return folder


def test_predictions_have_a_confidence_only_where_the_model_is_calibrated(
    calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Generation, "complete", True)  # a random model hardly ever ends its answers
    pali, image = Pali.from_pretrained(calibrated), np.full((72, 72, 3), 90, np.uint8)
    prompts = ["Generate the alt_text in en at 0: <extra_id_0>", "Answer in en: what? <extra_id_0>"]
    caption, answer = pali.predict([[image]] * 2, prompts)
    total = math.fsum(caption.generation.log_probs)
    assert caption.answer.confidence == pytest.approx(Calibration(3.0).confidence(total))
    assert answer.answer.confidence is None
    assert Reply("k", caption).as_json()["confidence"] == caption.answer.confidence
    assert Reply("k", answer).as_json()["confidence"] is None


def test_each_box_has_its_own_confidence(calibrated: Path, tokenizer: Tokenizer) -> None:
    pipeline = Pali.from_pretrained(calibrated).pipeline()
    task = pipeline.task("detect")
    generated = said(tokenizer, ("10 20 30 40 red circle", -0.25), ("50 60 70 80 blue star", -1.5))
    answer = pipeline.prediction(Row("p", (), (), Size(100, 100), task), generated).answer
    assert pipeline.prediction(Row("p", (), (), Size(100, 100), task), generated, ["red"]).answer.objects == ()
    sure = [Calibration(2.0, 1.0).confidence(claim) for claim in task.claims(generated, tokenizer)]
    assert [thing.confidence for thing in answer.objects] == sure
    assert answer.confidence is None
    assert sure[0] > sure[1]
    assert [
        thing["confidence"] for thing in Reply("k", Prediction("p", answer, generated)).as_json()["objects"]
    ] == sure


@pytest.mark.parametrize("reason", ["length", "repetition", "stop"])
def test_an_answer_that_was_cut_has_no_confidence(calibrated: Path, tokenizer: Tokenizer, reason: Any) -> None:
    """Its log-probability is that of its beginning alone."""
    pipeline = Pali.from_pretrained(calibrated).pipeline()
    for name, text in (("caption", "A red"), ("detect", "10 20 30 40 red circle")):
        whole = said(tokenizer, (text, -0.25))
        cut = replace(whole, log_probs=whole.log_probs[:-1], finish_reason=reason)
        for generation in (whole, cut):
            answer = pipeline.prediction(Row("p", (), (), Size(100, 100), pipeline.task(name)), generation).answer
            [sure] = [thing.confidence for thing in answer.objects] or [answer.confidence]
            assert (sure is None) == (generation is cut)


def test_mask_tokens_tell_which_task_reads_an_answer(bundle: Path, tokenizer: Tokenizer) -> None:
    """Detection and referring segmentation ask with the same words."""
    pipeline = Pali.from_pretrained(bundle).pipeline("refseg")
    mask = f"10 20 30 40 {MaskText().encode(range(16))}"
    size, cut = Size(100, 100), mask.rsplit(" ", 1)[0]

    def read(name: str, text: str) -> Answer:
        generated = said(tokenizer, (text, -0.25))
        return pipeline.prediction(
            Row("detect: the red circle", (), (), size, pipeline.task(name)), generated
        ).answer

    for name in ("detect", "refseg"):
        [thing] = read(name, mask).objects
        assert (thing.name, thing.mask is None) == ("", False)
        assert read(name, cut).objects == ()
        [box] = read(name, "10 20 30 40 red circle").objects
        assert (box.name, box.mask) == ("red circle", None)
        assert name == "detect" or box.box == thing.box  # the part was trained on refseg alone


def test_a_calibration_survives_int8(calibrated: Path, tmp_path: Path) -> None:
    write_int8(open_model(calibrated / "pali"), tmp_path / "int8")
    assert open_model(tmp_path / "int8").facts.calibration == open_model(calibrated / "pali").facts.calibration


def test_a_damaged_calibration_is_named(calibrated: Path, tmp_path: Path) -> None:
    shutil.copytree(calibrated / "pali", tmp_path / "pali")
    config = tmp_path / "pali" / "config.json"
    config.write_text(config.read_text().replace('"offset": 1.0', '"offset": "high"'))
    with pytest.raises(ValueError, match=r"config\.json.*calibration\.detect\.offset"):
        open_model(tmp_path / "pali")


def test_calibrating_stores_what_it_fits_and_evaluation_prints_its_error(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    caption = benchmarks()["nano/caption"]
    monkeypatch.setattr(Generation, "complete", True)
    # The tiny model is never right; half of its answers count as right here.
    monkeypatch.setattr(Caption, "right_claims", classmethod(lambda cls, row: [row.values[CLAIMS][0] > -60]))
    assert "ece" not in run(caption, Pali.from_pretrained(folder), Path(), limit=4).scores.summary
    [fitted] = calibrate([caption, benchmarks()["easy-vqa"]], Pali.from_pretrained(folder), Path(), limit=4)
    assert (fitted.part, fitted.task, fitted.claims) == ("pali", "caption", 4)
    assert open_model(folder / "pali").facts.calibration == {"caption": fitted.calibration}
    done = run(caption, Pali.from_pretrained(folder), Path(), limit=4)
    assert done.scores.summary["ece"] == confidence_scores(done.rows, Caption())["ece"]
    sure = [fitted.calibration.confidence(row.values[CLAIMS][0]) for row in done.rows]
    assert [row.values[CONFIDENCES] for row in done.rows] == [[each] for each in sure]
    assert json.loads(json.dumps(done.card.as_json()))["scores"]["ece"] == done.scores.summary["ece"]


def test_answers_without_things_cannot_be_calibrated(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    monkeypatch.setattr(Detect, "parse", lambda *anything, **options: Answer(""))
    with pytest.raises(ValueError, match="finds nothing in the samples of detect"):
        [*calibrate([benchmarks()["nano/detect"]], Pali.from_pretrained(folder), Path(), limit=2)]


# ---- what a model knows


@pytest.fixture(scope="module")
def knowing(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, which knows grey images."""
    folder = tmp_path_factory.mktemp("knowing") / "bundle"
    shutil.copytree(bundle, folder)
    pipeline = Pali.from_pretrained(folder).pipeline()
    known, others = (pipeline.describe([grey(i) for i in some]) for some in (range(100), range(100, 150)))
    write_ood(folder / "pali", fit_ood(known, others))
    return folder


NOISE = np.random.default_rng(0).integers(0, 256, (72, 72, 3), dtype=np.uint8)


def grey(seed: int) -> np.ndarray:
    """A grey image with a little noise."""
    rng = np.random.default_rng(seed)
    return (rng.integers(90, 160) + rng.integers(0, 8, (72, 72, 3))).astype(np.uint8)


def test_predictions_tell_images_that_the_model_does_not_know(knowing: Path, bundle: Path) -> None:
    image = grey(200)
    rows, prompts = [[image], [NOISE], [image, NOISE], []], ["detect: horse"] * 4
    known, noise, both, text = Pali.from_pretrained(knowing).predict(rows, prompts)
    assert (known.out_of_distribution, noise.out_of_distribution, text.out_of_distribution) == (False, True, None)
    assert known.ood_score is not None
    assert noise.ood_score is not None
    assert both.ood_score == pytest.approx((known.ood_score + noise.ood_score) / 2, rel=1e-3)
    assert Reply("k", noise).as_json()["out_of_distribution"] is True
    [silent] = Pali.from_pretrained(bundle).predict([[NOISE]], ["detect: horse"])
    assert (silent.ood_score, silent.out_of_distribution) == (None, None)


def test_python_warns_of_images_out_of_distribution(knowing: Path) -> None:
    pali = Pali.from_pretrained(knowing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for image in (grey(200), NOISE, NOISE):
            pali.detect([image], ["horse"])
    own = [each for each in caught if issubclass(each.category, OutOfDistribution)]
    assert [each.filename for each in own] == [__file__], "once, at the caller's line"


def test_the_command_warns_once_of_each_image_that_the_model_does_not_know(
    knowing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, pixels in (("noise", NOISE), ("known", grey(200))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    images = [str(tmp_path / f"{name}.png") for name in ("noise", "known")]
    app(["predict", *images, "detect: horse", "--model", str(knowing), "--json"], standalone_mode=False)
    printed = capsys.readouterr()
    assert printed.err.count("noise.png: an image is out of the distribution") == 1
    assert "known.png" not in printed.err
    assert [json.loads(line)["out_of_distribution"] for line in printed.out.splitlines()] == [True, False]


def test_the_ood_detector_is_fitted_on_the_samples_for_fitting(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    chosen = [benchmarks()[name] for name in ("nano/caption", "nano/detect", "nano/video", "nano/line")]
    assert dict(calibrate_ood(chosen, Pali.from_pretrained(folder), Path(), limit=40)) == {
        "pali": 80,
        "video": 77,  # three frames are equal to others
    }
    assert read_ood(folder / "pali") is not None
    twice = [replace(chosen[0], name=f"{number}") for number in range(2)]  # its images are learnt once
    assert dict(calibrate_ood([*twice, chosen[1]], Pali.from_pretrained(folder), Path(), limit=40)) == {"pali": 80}
    assert dict(calibrate_ood(chosen[:1], Pali.from_pretrained(folder), Path(), limit=40)) == {}  # too few


@pytest.mark.parametrize("split", ["heldout", "dev"])
def test_the_benchmark_separates_the_world_from_other_images(
    split: EvalSplit, knowing: Path, bundle: Path, world_with_vocabulary: Path
) -> None:
    folder = world_with_vocabulary / "data" / "ood"
    folder.mkdir(exist_ok=True)
    with io.BytesIO() as out:
        Image.fromarray(NOISE).save(out, "JPEG")
        jpeg = out.getvalue()
    for kind in SETS[split]:
        write_shards(folder, f"{split}-{kind}", [("noise", {"jpg": jpeg, "json": b"{}"})])
    pali, benchmark = Pali.from_pretrained(knowing), on_split(benchmarks()["nano/ood"], split)
    card = run(benchmark, pali, Path(), limit=3).card
    scores = card.scores
    kinds = ("single", "scene", "word")
    own = [heldout("nano", kind, SEEDS[split])[i].images[0] for kind in kinds for i in range(3)]
    others = [open_source(str(shard(folder, split, kind)), {})[0].images[0] for kind in SETS[split]]
    pipeline = pali.pipeline()
    assert pipeline.ood is not None
    known, ood = (pipeline.ood.score(pipeline.describe(side)).numpy() for side in (own, others))
    assert scores["auroc"] == pytest.approx(np.mean(ood[:, None] > known), abs=1e-6)
    assert scores["auroc/photograph"] == pytest.approx(np.mean(ood[0] > known), abs=1e-6)
    assert (scores["false_alarms"], scores["detected"]) == (np.mean(known > 1), np.mean(ood > 1))
    assert scores["false_alarms/scene"] == np.mean(known[3:6] > 1)
    assert scores["detected/screenshot"] == float(ood[1] > 1)
    assert (scores["unsure"], scores["world_unsure"]) == (np.mean(ood > CONFIDENT), np.mean(known > CONFIDENT))
    assert {"detected", "false_alarms", "false_alarms/scene"} <= set(card.intervals)
    assert card.data["seed"] == SEEDS[split]
    with pytest.raises(ValueError, match="run `openpali calibrate`"):
        run(benchmark, Pali.from_pretrained(bundle), Path(), limit=3)


def test_photographs_are_told_from_pages(bundle: Path, world_with_vocabulary: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, folder := tmp_path / "bundle")
    [benchmark] = [each for each in page_suite() if each.name == "real/ood"]
    with pytest.raises(ValueError, match="--suite pages"):
        run(benchmark, Pali.from_pretrained(folder), Path(), limit=2)
    pali = Pali.from_pretrained(folder)
    features = torch.from_numpy(np.stack([reader_of_bundle(pali).features(grey(i)) for i in range(90)]))
    write_ood(folder / "finder", fit_ood(features[:80], features[80:]))
    (data := world_with_vocabulary / "data" / "ood").mkdir(exist_ok=True)
    for kind in ("photograph", "icon"):
        with io.BytesIO() as out:
            Image.fromarray(NOISE).save(out, "JPEG")
            write_shards(data, f"heldout-{kind}", [("noise", {"jpg": out.getvalue(), "json": b"{}"})])
    card = run(benchmark, Pali.from_pretrained(folder), Path(), limit=2).card
    assert card.n == 2 + 2 + 1 + 1
    assert {"detected/photograph", "detected/icon", "false_alarms/screen", "false_alarms/document"} <= {
        *card.scores
    }
    assert all(0 <= value <= 1 for value in card.scores.values())


def test_each_part_of_nano_that_writes_answers_is_fitted_by_its_suite() -> None:
    pali = Pali.from_pretrained(SHIPPED / "nano")
    writing = {part for part, folder in pali.parts.items() if open_model(folder).answers}
    suite = [each for each in find_suite("nano") if isinstance(each, AnswerBenchmark) and each.calibration]
    assert {fitted_part(each, pali) for each in suite} == writing
    assert [each for each in suite if not pali.is_calibrated(fitted_part(each, pali), each.task)] == []


def test_nano_knows_the_demo_and_not_a_chart() -> None:
    pipeline = Pali.from_pretrained(SHIPPED / "nano").pipeline()
    assert pipeline.ood is not None
    chart = Path(__file__).parents[2] / "docs" / "results" / "nano" / "curves-0a_siglip.png"
    own = sorted((Path(openpali.__file__).parent / "demo" / "images").glob("*-1.png"))
    beyond = (pipeline.ood.score(pipeline.describe([chart, *own])) > 1).tolist()
    assert beyond == [True] + [False] * len(own)
