"""Detection by the patches of an image encoder: what they name, and where that is."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
import warnings
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from openpali.architectures.siglip.network import SigLIP
from openpali.cli.main import app
from openpali.data.media.images import Preprocess
from openpali.data.media.native import NativePreprocess
from openpali.eval.calibrate import calibrate_patches
from openpali.eval.registry import benchmarks
from openpali.eval.runner import run
from openpali.infer.bulk import Request, replies
from openpali.infer.components import ImageEncoder
from openpali.infer.pali import Pali
from openpali.infer.patch_detector import LEAST, PatchDetector
from openpali.infer.pipeline import EmbeddingPipeline, Sized, Untrained
from openpali.metrics.boxes import Detection
from openpali.metrics.calibration import Calibration
from openpali.model.patches import Patches
from openpali.serve.scheduler import Scheduler
from openpali.serve.service import Served
from openpali.tasks.example import Example, Size
from openpali.weights.bundle import pack_bundle
from openpali.weights.format import open_model
from openpali_lab.playground.tables import routes_of

NAMES = {"red apple": 0, "dog": 1, "cat": 2, "": 3}


class Planted:
    """Stands for a model: embeddings of texts are one-hot, and so are those of patches, times how sure they are."""

    def __init__(self, patches: list[tuple[str, float]], boxes: list[list[float]], softmax: bool = False) -> None:
        self.softmax = softmax
        self.seen = np.zeros((len(patches), len(NAMES)), np.float32)
        for row, (name, sure) in zip(self.seen, patches, strict=True):
            row[NAMES[name]] = sure
        self.boxes, self.asked = np.array(boxes, np.float32), []
        self.model = type("Sides", (), {"sides": True})

    def patches(self, image: object) -> tuple[np.ndarray, np.ndarray]:
        return self.seen, self.boxes

    def embed_text(self, texts: list[str]) -> np.ndarray:
        self.asked.append(texts)
        return np.eye(len(NAMES), dtype=np.float32)[[NAMES[text] for text in texts]]

    def probabilities(self, seen: np.ndarray, texts: np.ndarray) -> np.ndarray:
        cosine = torch.from_numpy(seen @ texts.T)
        return ((cosine * 20).softmax(1) if self.softmax else cosine).numpy()


def test_patches_of_a_thing_are_one_box_the_mean_of_theirs() -> None:
    patches = [
        ("red apple", 0.9),
        ("red apple", 0.6),
        ("dog", 0.8),
        ("red apple", 0.7),
        ("red apple", LEAST - 0.01),
        ("red apple", 0.8),  # sees too little of the first to tell where it ends
    ]
    boxes = [[0, 0, 10, 10], [0, 0, 10, 13], [0, 0, 9, 9], [9, 9, 60, 60], [80, 80, 90, 90], [0, 0, 10, 4]]
    detector = PatchDetector(Planted(patches, boxes))
    found = detector.find(None, ["red apple", "dog", "cat"])
    assert [(thing.name, round(thing.score, 3)) for thing in found] == [
        ("red apple", 0.9),
        ("dog", 0.8),
        ("red apple", 0.7),
    ]
    assert found[0].box == pytest.approx([0, 0, 10, (10 * 0.9 + 13 * 0.6) / 1.5])
    assert found[1].box == [0, 0, 9, 9]
    assert found[2].box == [9, 9, 60, 60]  # a little beside the first
    assert [thing.confidence for thing in detector.detect(None, ["dog"])] == [None]
    assert detector.find(None, []) == []
    assert detector.embedding.asked == [["red apple", "dog", "cat"]]  # "dog" is not embedded again
    sure = PatchDetector(Planted(patches, boxes), calibration=Calibration(1.0, -1.0)).detect(None, ["dog"])
    assert sure[0].confidence == pytest.approx(1 / (1 + np.exp(1) * 0.2 / 0.8), rel=1e-5)


def test_a_model_of_softmax_compares_with_what_else_there_may_be() -> None:
    """A patch that is a little like a dog, and much like a cat."""
    box, asked = [[0, 0, 9, 9]], ["dog"]
    alone, beside = (Planted([("cat", 0.9)], box, softmax=True) for _ in range(2))
    for each in (alone, beside):
        each.seen[0, NAMES["dog"]] = 0.5
    assert [thing.name for thing in PatchDetector(alone).find(None, asked)] == asked
    assert PatchDetector(beside, ["cat", "hot dog", "red apple"]).find(None, asked) == []
    assert [thing.name for thing in PatchDetector(alone).find(None, ["dog", "dog"])] == asked
    assert beside.asked == [["dog", "cat", "red apple", ""]]  # "hot dog" would take from "dog"


@pytest.fixture(scope="module")
def model(detecting: Path) -> SigLIP:
    model = open_model(detecting.parent / "siglip").model()
    assert isinstance(model, SigLIP)
    return model


@pytest.mark.parametrize("policy", ["squash", "pad"])
def test_boxes_of_patches_are_in_pixels_of_the_image(policy: str, model: SigLIP, bundle: Path) -> None:
    tokenizer = open_model(bundle / "pali").tokenizer
    preprocess = Preprocess(72, 72, policy=policy)
    image = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    embeddings, boxes = EmbeddingPipeline(model, tokenizer, preprocess).patches(image)
    with torch.inference_mode():
        tokens = model.vit(torch.from_numpy(preprocess(image))[None])
        sides = model.side_distances(tokens).numpy()
        kept = 18 if policy == "pad" else 36  # the lower half is grey
        torch.testing.assert_close(torch.from_numpy(embeddings), model.embed_patches(tokens)[:kept])
    height, width = (200, 200) if policy == "pad" else (100, 200)  # of what the model sees, in pixels of the image
    assert len(boxes) == kept
    for row in range(kept // 6):
        for column in range(6):
            y, x = (row + 0.5) / 6, (column + 0.5) / 6
            top, left, bottom, right = sides[row * 6 + column]
            edges = [(y - top) * height, (x - left) * width, (y + bottom) * height, (x + right) * width]
            expected = np.clip(edges, 0, [100, 200, 100, 200])
            np.testing.assert_allclose(boxes[row * 6 + column], expected, atol=1e-3)


def test_patches_of_an_image_in_its_own_proportions_are_those_that_it_has(model: SigLIP, bundle: Path) -> None:
    tokenizer, preprocess = open_model(bundle / "pali").tokenizer, NativePreprocess(12, 40)
    image = np.random.default_rng(1).integers(0, 256, (100, 90, 3), np.uint8)
    rows, columns = preprocess.grid(Size(100, 90))
    assert rows * columns < 40  # the others are padding
    embeddings, boxes = EmbeddingPipeline(model, tokenizer, preprocess).patches(image)
    assert embeddings.shape[0] == len(boxes) == rows * columns
    arrays = {key: torch.from_numpy(value)[None] for key, value in preprocess.arrays(image).items()}
    with torch.inference_mode():
        sides = model.side_distances(model.vit(Patches(arrays["images"], arrays["grids"]))).numpy()
    for number, box in enumerate(boxes):
        y, x = (number // columns + 0.5) / rows, (number % columns + 0.5) / columns
        top, left, bottom, right = sides[number]
        edges = [(y - top) * 100, (x - left) * 90, (y + bottom) * 100, (x + right) * 90]
        np.testing.assert_allclose(box, np.clip(edges, 0, [100, 90, 100, 90]), atol=1e-3)


def test_boxes_in_an_image_that_was_decoded_smaller_are_in_its_own_pixels(detecting: Path) -> None:
    small = np.random.default_rng(1).integers(0, 256, (72, 72, 3), np.uint8)
    pali = Pali(detecting)
    (own,), (scaled,) = (pali.detect([each], ["dog"], fast=True) for each in (small, Sized(small, Size(144, 288))))
    assert own
    for one, other in zip(own, scaled, strict=True):
        np.testing.assert_allclose(np.array(one.box) * [2, 4, 2, 4], other.box, rtol=1e-5)


def test_patches_are_asked_without_a_word_about_the_decoder(
    detecting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that it was not trained on detection, nor that it does not know a name."""
    image = tmp_path / "noise.png"
    Image.effect_noise((90, 60), 50).convert("RGB").save(image)
    pali = Pali(detecting)
    monkeypatch.setattr(pali.pipeline(), "options", {"caption": {}})
    monkeypatch.setattr(pali, "names", ("cat",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pali.detect([image], ["dog"], fast=True)[0]
        source = [Example(key="a", images=[np.asarray(Image.open(image))])]
        [[reply]] = replies(pali, source, Request("detect", "dog", fast=True))
        [[untasked]] = replies(pali, source, Request(text="detect: dog", fast=True))
    for each in (reply, untasked):
        assert (each.error, each.note, each.prediction.part) == ("", "", "siglip")
    with pytest.warns(Untrained):
        pali.task("detect")


def test_command_bulk_and_python_detect_alike(detecting: Path, tmp_path: Path) -> None:
    Image.effect_noise((90, 60), 50).convert("RGB").save(tmp_path / "noise.png")
    line = {"key": "a", "images": [str(tmp_path / "noise.png")], "objects": [{"name": "dog", "box": [0, 0, 9, 9]}]}
    (tmp_path / "samples.jsonl").write_text(json.dumps(line) + "\n")
    [found] = Pali(detecting).detect([tmp_path / "noise.png"], ["dog"], fast=True)
    assert found
    assert all(0.5 < thing.confidence <= 1 for thing in found)
    expected = [list(thing.box) for thing in found]
    command = ["predict", "--task", "detect", "--fast", "--model", str(detecting)]
    said = CliRunner().invoke(app, [*command, str(tmp_path / "noise.png"), "dog", "--json"])
    assert said.exit_code == 0, said.output
    answers = [json.loads(said.stdout)]
    out = tmp_path / "answers.jsonl"
    said = CliRunner().invoke(
        app, [*command, "--input", str(tmp_path / "samples.jsonl"), "--output", str(out)], catch_exceptions=False
    )
    assert said.exit_code == 0, said.output
    answers.append(json.loads(out.read_text()))
    alone = str(detecting / "siglip")  # without any decoder, and whether --fast is given or not
    for more in (["--fast"], []):
        asked = [*command[:3], "--model", alone, *more, str(tmp_path / "noise.png"), "dog", "--json"]
        said = CliRunner().invoke(app, asked, catch_exceptions=False)
        assert said.exit_code == 0, said.output
        answers.append(json.loads(said.stdout))
    card = tmp_path / "card.json"
    said = CliRunner().invoke(
        app, ["eval", "nano/detect", "--limit", "3", "--model", alone, "--json", str(card)], catch_exceptions=False
    )
    assert said.exit_code == 0, said.output
    found = json.loads(card.read_text())
    assert found["n"] == 3
    assert {"iou", "f1@0.5", "ece"} <= found["scores"].keys()
    with pytest.raises(ValueError, match="has no part 'pali', which task vqa needs"):
        Pali(Path(alone)).answer([tmp_path / "noise.png"], ["what?"])
    for model in (alone, str(detecting)):
        with pytest.raises(ValueError, match="ask for 'dog' with task detect"):
            CliRunner().invoke(
                app,
                [*command[:1], "--model", model, "--fast", str(tmp_path / "noise.png"), "dog"],
                catch_exceptions=False,
            )
    for answer in answers:
        assert [thing["box"] for thing in answer["objects"]] == expected
        assert {thing["name"] for thing in answer["objects"]} == {"dog"}


def test_a_bundle_may_leave_detection_to_its_encoder(
    detecting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user asks as always, and is not told that the decoder was not trained on it."""
    parts = (detecting.parent / "bundle.toml").read_text()
    (tmp_path / "bundle.toml").write_text(f'{parts}\n[tasks]\ndetect = "siglip"\n')
    pack_bundle(tmp_path / "bundle.toml", tmp_path / "model")
    Image.effect_noise((90, 60), 50).convert("RGB").save(tmp_path / "noise.png")
    pali = Pali(tmp_path / "model")
    monkeypatch.setattr(pali.pipeline(), "options", {"caption": {}})  # what its decoder was trained on
    monkeypatch.setattr(pali, "names", ("cat",))
    assert pali.prompted("dog", pali.task("detect")).note == ""
    [expected] = Pali(detecting).detect([tmp_path / "noise.png"], ["dog"], fast=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Untrained)
        [prediction] = pali.predict([[tmp_path / "noise.png"]], ["detect: dog"])
        assert pali.detect([tmp_path / "noise.png"], ["dog"]) == [expected]
        card = run(benchmarks()["nano/detect"], pali, Path(), limit=2).card
    assert (prediction.part, prediction.answer.objects) == ("siglip", tuple(expected))
    assert "ece" in card.scores
    assert (card.model["part"], card.note) == ("siglip", "")
    assert [told["note"] for told in Served("x", pali).tasks if told["name"] == "detect"] == [""]
    assert not routes_of(pali)["detect"]  # the page without a server does not know patches
    with pytest.raises(ValueError, match=r"^part siglip answers about one image, and was given 2$"):
        pali.predict([[tmp_path / "noise.png"] * 2], ["detect: dog"])
    scheduler = Scheduler(pali)
    ticket = scheduler.submit([tmp_path / "noise.png"], "detect: dog")
    while scheduler.turn():
        pass
    assert ticket.predictions(0)[0].answer.objects == tuple(expected)


def test_an_encoder_detects_alone_and_with_sides(detecting: Path, bundle: Path, tmp_path: Path) -> None:
    parts = (detecting.parent / "bundle.toml").read_text()
    for tasks, encoder, told in (
        ('["siglip", "pali"]', detecting.parent / "siglip", "siglip answers detect alone"),
        ('"siglip"', bundle / "siglip", "was trained without sides and cannot detect"),
    ):
        described = parts.replace(str(detecting.parent / "siglip"), str(encoder))
        (tmp_path / "bundle.toml").write_text(f"{described}\n[tasks]\ndetect = {tasks}\n")
        with pytest.raises(ValueError, match=told):
            pack_bundle(tmp_path / "bundle.toml", tmp_path / "model")


def test_confidence_is_fitted_by_what_is_right(
    detecting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of true boxes at .9 and wrong ones at .4."""
    shutil.copytree(detecting, tmp_path / "both")
    detect, count = benchmarks()["nano/detect"], 5
    source = detect.calibration(Path())
    true = {source[i].images[0].tobytes(): source[i].objects for i in range(count)}

    def find(self: PatchDetector, image: Sized | np.ndarray, names: list[str]) -> list[Detection]:
        pixels = image.pixels if isinstance(image, Sized) else image
        right = [Detection(each.name, each.box, 0.9) for each in true[pixels.tobytes()] if each.name in names]
        return [*right, Detection(names[0], (0, 0, 1, 1), 0.4)]

    monkeypatch.setattr(PatchDetector, "find", find)
    fitted = calibrate_patches(detect, Pali(tmp_path / "both"), source, count)
    assert (fitted.part, fitted.task) == ("siglip", "detect")
    assert fitted.right == (fitted.claims - count) / fitted.claims
    monkeypatch.setattr(PatchDetector, "find", lambda *anything: [])
    with pytest.raises(ValueError, match="find nothing in 5 images"):
        calibrate_patches(detect, Pali(tmp_path / "both"), source, count)
    monkeypatch.setattr(PatchDetector, "find", find)
    detector = cast(ImageEncoder, Pali(tmp_path / "both").component("siglip")).detector
    assert detector.calibration == fitted.calibration
    first = source[0]
    *right, wrong = detector.detect(first.images[0], [first.objects[0].name])
    assert min(thing.confidence for thing in right) > 0.7 > 0.3 > wrong.confidence


def test_the_benchmark_stands_beside_the_decoder(
    detecting: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    asked, predict = [], Pali.predict

    def spy(pali: Pali, *rows: object, part: str, **options: object) -> object:
        asked.append((pali.folder, part))
        return predict(pali, *rows, part=part, **options)

    monkeypatch.setattr(Pali, "predict", spy)
    arguments = ["--model", str(detecting), "--decoder", str(bundle), "--limit", "1"]
    arguments += ["--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", ["detect.py", *arguments])
    runpy.run_path(str(folder / "detect.py"), run_name="__main__")
    found = {row["name"] for row in json.loads((tmp_path / "x.json").read_text())["results"]}
    assert {*asked} == {(detecting, "siglip"), (bundle, "pali")}
    sets = ("nano/detect", "10 to 20 things", "20 to 40 things")
    assert found == {f"{name}: {what}" for name in sets for what in ("f1@0.5", "ap", "found", "ece", "an image")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--task", "detect", "dog"], "sides = 1.0"), (["--task", "vqa", "is it red?"], "task vqa")],
)
def test_what_cannot_be_detected_so_is_said(
    arguments: list[str], told: str, bundle: Path, detecting: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 60)).save(tmp_path / "x.png")
    folder = bundle if "detect" in arguments else detecting
    command = ["predict", "--fast", "--model", str(folder), str(tmp_path / "x.png"), *arguments]
    said = CliRunner().invoke(app, command)
    assert isinstance(said.exception, ValueError)
    assert told in str(said.exception)
