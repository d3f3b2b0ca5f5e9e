"""Models from folders: typed answers, independence of the batch, parts by task, and clear errors."""

from __future__ import annotations

import io
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from openpali import Pali
from openpali.architectures.registry import find_dialect
from openpali.data.sources.registry import open_source
from openpali.infer.components import Question
from openpali.infer.pali import Reworded
from openpali.infer.pipeline import open_image
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int8


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


@pytest.fixture(scope="module")
def images(bundle: Path) -> list[np.ndarray]:
    source = open_source("nano/scene", {"split": "heldout", "min_objects": 2})
    return [source[i].images[0] for i in range(3)]


def test_every_method_returns_one_answer_per_image(pali: Pali, images: list[np.ndarray]) -> None:
    assert all(isinstance(text, str) for text in pali.caption(images, lang="ja") + pali.read(images))
    assert len(pali.detect(images, ["horse"] * 3)) == len(pali.segment(images, ["the horse"] * 3)) == 3
    for embedded in (pali.embed_image(images), pali.embed_text(["a horse", "a cat"])):
        np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)
    similarity = pali.similarity(images, ["a horse", "a cat"])
    assert similarity.shape == (3, 2)
    assert ((similarity > 0) & (similarity < 1)).all()


def test_paths_bytes_and_pillow_images_give_the_same_pixels(
    pali: Pali, images: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(images[0]).save(path)
    buffer = io.BytesIO()
    Image.fromarray(images[0]).save(buffer, "PNG")
    for image in (str(path), path, buffer.getvalue(), Image.fromarray(images[0])):
        np.testing.assert_array_equal(open_image(image).pixels, images[0])


def test_an_opened_pillow_image_gives_the_pixels_of_its_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)
    pixels[:3, :, 3] = 0
    clear, turned = Image.fromarray(pixels), Image.fromarray(pixels[..., :3])
    turned.getexif()[ExifTags.Base.Orientation] = 6
    for name, image, shape in (("clear.png", clear, (6, 8, 3)), ("turned.png", turned, (8, 6, 3))):
        image.save(tmp_path / name, exif=image.getexif())
        with Image.open(tmp_path / name) as opened:
            got = open_image(opened).pixels
            assert opened.size == (8, 6)  # it is left as it was
        assert got.shape == shape
        np.testing.assert_array_equal(got, open_image(tmp_path / name).pixels)
    np.testing.assert_array_equal(open_image(clear).pixels[:3], 255)  # transparency is laid on white


def test_parts_are_chosen_by_task_and_share_the_frozen_vit(pali: Pali, bundle: Path) -> None:
    assert pali.task("refseg").masks is not None
    main, transfer = (open_model(bundle / part).weights() for part in ("pali", "refseg"))
    assert (transfer["vit.positions"] == main["vit.positions"]).all()
    assert (bundle / "refseg" / "model.safetensors").stat().st_size < (
        bundle / "pali" / "model.safetensors"
    ).stat().st_size


def test_a_task_that_asks_alike_is_for_the_same_parts(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pali = Pali.from_pretrained(bundle)
    monkeypatch.setattr(pali, "by_task", {"vqa": ("gone", "pali")})
    assert pali.listed_for("vqa") == pali.listed_for("object_vqa") == ("gone", "pali")
    assert pali.listed_for("caption") == ("pali",)
    with pytest.raises(ValueError, match="no part 'gone'"):
        pali.parts_for("object_vqa")


def test_without_calibration_the_part_whose_proportions_fit_answers(readers: Path) -> None:
    pali = Pali(readers)
    assert pali.route(Question("ocr", "ocr en", [])) == ("pali",)  # without an image, the first
    shapes = {(20, 20): "pali", (50, 90): "pali", (20, 50): "line", (12, 200): "line", (90, 20): "line"}
    rows = [np.zeros((*size, 3), np.uint8) for size in shapes]
    assert [pali.route(Question("ocr", "ocr en", [open_image(row)])) for row in rows] == [
        (part,) for part in shapes.values()
    ]
    prompt = "Generate the ocr_text in en: <extra_id_0>"
    together = pali.predict([[row] for row in rows], [prompt] * len(rows))
    for row, part, found in zip(rows, shapes.values(), together, strict=True):
        assert found.part == part
        alone = {name: pali.predict([[row]], [prompt], part=name)[0].generation.score for name in ("pali", "line")}
        assert found.generation.score == pytest.approx(alone.pop(part), rel=1e-4)
        assert found.generation.score != pytest.approx(alone.popitem()[1], rel=1e-4)


def test_the_perplexity_of_an_answer_about_a_video_asks_the_part_for_videos(
    pali: Pali, images: list[np.ndarray]
) -> None:
    video = [images[:2]]
    found, own, other = (
        pali.log_perplexity(video, "what moves?", ["a dog"], part=part) for part in (None, "video", "pali")
    )
    assert found == pytest.approx(own)
    assert found != pytest.approx(other)


def test_tasks_keep_the_options_of_their_training(pali: Pali) -> None:
    assert pali.task("detect").bins == pali.task("refseg").bins == 100


def test_free_prompts_are_recognised(pali: Pali) -> None:
    assert pali.recognise("detect: cat") == "detect"
    assert pali.recognise("Generate the ocr_text in en: <extra_id_0>") == "ocr"
    assert pali.recognise("what moves?", frames=8) == "video_qa"
    assert pali.recognise("anything else") == "vqa"


def test_what_is_no_prompt_is_asked_as_a_question(
    pali: Pali, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Answer in one word: what is it?"
    question = f"Answer in en: {text} <extra_id_0>"
    with pytest.warns(Reworded):
        found = pali.predict([images[:1]] * 2, [text, "detect: horse"])
    assert [each.prompt for each in found] == [question, "detect: horse"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Reworded)
        [raw] = pali.predict([images[:1]], [text], raw=True)
        assert raw.prompt == text
        [blank] = pali.predict([images[:1]], ["a horse <extra_id_0> in the grass"])
        assert blank.prompt == "a horse <extra_id_0> in the grass"
    assert pali.prompted(text, lang="ja").prompt == f"Answer in ja: {text} <extra_id_0>"
    assert pali.prompted(text, frames=2).task.name == "video_qa"
    with pytest.raises(ValueError, match="leave out the language"):
        pali.prompted(question, lang="ja")
    caption = pali.prompted("a dog", pali.task("caption"))
    assert (caption.prompt, bool(caption.note)) == ("Generate the alt_text in en at 0: <extra_id_0>", True)
    monkeypatch.setattr(pali, "languages", ("de", "fr"))
    assert pali.prompted("was ist das?").prompt == "Answer in de: was ist das? <extra_id_0>"
    for each in (pali, pali.pipeline()):
        monkeypatch.setattr(each, "dialect", find_dialect("plain"))  # asks questions as they are
    assert pali.prompted("what?")[1:3] == pali.prompted("what?", raw=True)[1:3] == ("what?", "")


@pytest.mark.parametrize("text", ["detect: café", "is this a café?"])
def test_prompts_are_composed_as_texts_of_training_are(pali: Pali, text: str) -> None:
    apart = unicodedata.normalize("NFD", text)
    assert text in pali.prompted(apart).prompt
    assert pali.prompted(apart, raw=True).prompt == apart
    assert pali.task("detect").ask(apart) == pali.task("detect").ask(text)


def test_names_that_a_model_does_not_know_are_said(pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pali.prompted("cup", pali.task("detect")).note == ""  # this one does not say what it knows
    monkeypatch.setattr(pali, "names", ("cup of coffee", "red apple"))
    assert "text on a screen" in pali.prompted("plane", pali.task("detect")).note
    assert pali.prompted("button", pali.task("detect")).note == ""  # an element of a screen
    for text in ("cup", "a large cup of coffee", "Red  apple and cup"):
        assert pali.prompted(text, pali.task("detect")).note == ""
    for text in ("plane", "detect: cup and plane"):
        task = None if text.startswith("detect") else pali.task("detect")
        asked = pali.prompted(text, task)
        assert "does not know 'plane'" in asked.note
        assert "cup" not in asked.note
        assert "did you mean" not in asked.note
    assert "did you mean 'red apple'" in pali.prompted("red aple", pali.task("detect")).note
    assert pali.prompted("detect: plane", raw=True).note == ""
    monkeypatch.delitem(pali.parts, "reader")
    assert "`openpali names" in pali.prompted("plane", pali.task("detect")).note


@pytest.mark.parametrize(
    ("frames", "prompts", "message"),
    [
        ([[]], ["a", "b"], "1 rows of images, but 2 prompts: give one row per prompt"),
        ([[]], ["  "], "prompt is empty"),
        ([[]], ["word " * 500], "tokens, this model takes 64: shorten it"),
        ([[np.zeros((4, 4), np.uint8)]], ["a"], r"uint8 \[H, W, 3\]"),
        ([[b"no image"]], ["a"], "not an image"),
        *(
            (frames, ["detect: cat"] * len(frames), "give a list of images for each prompt")
            for frames in ("a.png", ["a.png"], [Path("a.png")], [b"png"], [np.zeros((4, 4, 3), np.uint8)])
        ),
    ],
)
def test_rows_that_cannot_be_answered_are_refused(pali: Pali, frames: Any, prompts: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pali.predict(frames, prompts)


def test_a_single_image_or_text_must_be_in_a_list(pali: Pali) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    images = ("photo.png", Path("photo.png"), b"", pixels, Image.fromarray(pixels))
    calls: list[tuple[Any, tuple[Any, ...], str]] = [
        *((ask, (image,), "image") for image in images for ask in (pali.caption, pali.read, pali.embed_image)),
        *((ask, ([pixels], "a"), "text") for ask in (pali.answer, pali.detect, pali.segment, pali.similarity)),
        (pali.embed_text, ("a",), "text"),
    ]
    for ask, given, thing in calls:
        with pytest.raises(ValueError, match=f"give a list of {thing}s, even for one {thing}"):
            ask(*given)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(FileNotFoundError):
        Pali.from_pretrained("nothing")


def test_tasks_without_a_language_ignore_the_languages_of_the_bundle(
    pali: Pali, images: list[np.ndarray], monkeypatch
) -> None:
    monkeypatch.setattr(pali.pipeline(), "languages", ("ja",))
    assert len(pali.detect(images, ["horse"] * len(images))) == len(images)
    with pytest.raises(ValueError, match="does not answer in 'en'; it knows ja"):
        pali.answer(images, ["what?"] * len(images))


def test_an_unknown_language_is_refused(pali: Pali, images: list[np.ndarray]) -> None:
    for lang in ("xx", "", "日本"):
        with pytest.raises(ValueError, match=rf"does not answer in '{lang}'; it knows en, de, fr, ja"):
            pali.caption(images, lang=lang)


def test_the_model_computes_in_the_requested_dtype(bundle: Path, tmp_path: Path, images: list) -> None:
    """In bf16, what is bf16 on disk is not copied; int8 stays int8."""
    half = Pali.from_pretrained(bundle, dtype="bf16")
    for part in ("pali", "siglip"):
        assert {t.dtype for t in half.load(part)[1].state_dict().values()} == {torch.bfloat16}
    stored = open_model(bundle / "pali").weights()
    assert all(value.dtype == torch.bfloat16 for value in stored.values())
    assert {t.dtype for t in Pali.from_pretrained(bundle).load("pali")[1].parameters()} == {torch.float32}
    write_int8(open_model(bundle / "pali"), tmp_path / "int8")
    small = Pali.from_pretrained(tmp_path / "int8", dtype="bf16")
    assert {t.dtype for t in small.load("pali")[1].state_dict().values()} == {torch.int8, torch.bfloat16}
    for pali in (half, small):
        assert len(pali.caption(images)) == len(images)
        assert np.isfinite(pali.log_perplexity([[p] for p in images], "what?", ["a horse"])).all()
    exact = Pali.from_pretrained(bundle)
    np.testing.assert_allclose(half.embed_image(images), exact.embed_image(images), atol=0.02)
    np.testing.assert_allclose(half.embed_text(["a cat"]), exact.embed_text(["a cat"]), atol=0.02)
    np.testing.assert_allclose(half.similarity(images, ["cat"]), exact.similarity(images, ["cat"]), atol=0.05)


def test_model_and_inputs_are_on_the_requested_device(bundle: Path, images: list) -> None:
    """On torch's device without memory, which a machine without a GPU has too, as far as that goes."""
    pali = Pali.from_pretrained(bundle)
    pali.device = torch.device("meta")  # which is refused, since nothing can be read from it
    assert all(value.is_meta for value in pali.load("pali")[1].state_dict().values())
    pixels, prompt, _ = pali.pipeline().read([([image], [5, 6]) for image in images])
    assert pixels is not None
    assert pixels.is_meta
    assert prompt.is_meta


def test_missing_devices_and_dtypes_are_refused(bundle: Path, monkeypatch) -> None:
    for device in ("abacus", "meta", "hpu", *(() if torch.cuda.is_available() else ("cuda",))):
        with pytest.raises(ValueError, match=f"'{device}'"):
            Pali.from_pretrained(bundle, device=device)
    with pytest.raises(ValueError):
        Pali.from_pretrained(bundle, dtype="fp16")
