"""The page's modules, under node, do what Python does."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from page_modules import Run
from PIL import Image as PilImage

from openpali import Pali
from openpali.data.media.images import Preprocess
from openpali.data.sources.mask_formats import RunLengths
from openpali.infer.generate import Generation
from openpali.infer.pipeline import calibration_for
from openpali.metrics.calibration import Calibration
from openpali.tasks.example import Box, Object, Size
from openpali.tasks.refseg import paste_mask
from openpali.tasks.registry import reader
from openpali.text.characters import CHARACTERS, numbers_of
from openpali_lab.playground.tables import Json
from openpali_screen.find.predict import _lines
from openpali_screen.language import BITS, ORDER
from openpali_screen.networks import ReaderNetwork
from openpali_screen.order import reading_order
from openpali_screen.read.ctc import greedy, read_columns
from openpali_screen.read.fit_language import fit_language
from openpali_screen.read.predict import _look_twice, _pieces
from openpali_screen.reader import least_in
from openpali_screen.text import ReadLine, ReadWord
from openpali_screen.views import View, view_of_line
from openpali_screen.vit import PATCH

PROMPTS = ANSWERS = 1000
SPACES = ["  ", "\t", "\u00a0", "\u3000", "\x1c", "\x85", "\ufeff", " \n "]
ODD = [
    "▁",
    "ß",
    "İ",
    "ΣΑΣ",
    "ﬁ",
    "👩‍🚀",
    "\u0301e",
    "½",
    "²",
    "",
    "{text}",
    "{lang}",
    "<extra_id_0>",
    "$&",
    "[R]",
    "<unk>",
    "</s>",
]


def texts(nano: Pali, rng: np.random.Generator) -> Iterator[str]:
    """Names, numbers, tokens of masks, letters of many scripts, and spaces of all kinds."""
    scripts = ["яблоко", "μήλο", "りんごの しん", "사과", "苹果", "pomme d'été", "Äpfel", string.punctuation]
    pools: list[Any] = [nano.names, scripts, ODD, ["how many", "is", "in the image?", "and", "none", "of", "the"]]
    while True:
        words = []
        for _ in range(rng.integers(1, 8)):
            kind = rng.integers(7)
            if kind == 4:
                words.append(str(rng.integers(0, 10 ** rng.integers(1, 6))))
            elif kind == 5:
                words.append(
                    "".join(chr(code) for code in rng.choice([*range(32, 1280), *range(0x3040, 0x3100)], 3))
                )
            elif kind == 6:
                words.append(f"<mask_token{rng.integers(0, 140)}>")
            else:
                pool = pools[kind]
                words.append(pool[rng.integers(len(pool))])
        yield "".join(word + (" " if rng.random() < 0.9 else SPACES[rng.integers(len(SPACES))]) for word in words)


def answers(nano: Pali, rng: np.random.Generator) -> Iterator[str]:
    """Answers of detection and segmentation, most of them a little wrong, and any texts."""
    odd = texts(nano, rng)
    while True:
        parts: list[str] = []
        for _ in range(rng.integers(0, 4)):
            top, left = rng.integers(0, 40, 2)
            box = [top, left, *(edge + rng.integers(1, 12) for edge in (top, left))]
            parts += map(str, box if rng.random() < 0.9 else rng.integers(0, 60, 4))
            if rng.random() < 0.5:
                parts += [f"<mask_token{code}>" for code in rng.integers(0, 128 if rng.random() < 0.9 else 140, 16)]
            else:
                parts.append(nano.names[rng.integers(len(nano.names))])
        for _ in range(rng.choice(3, p=[0.6, 0.2, 0.2])):
            at = rng.integers(0, len(parts) + 1)
            parts[at : at + rng.integers(2)] = [next(odd)] if rng.random() < 0.5 else []
        yield " ".join(parts) or "none"


def test_prompts_are_those_of_python(nano: Pali, run: Run) -> None:
    rng = np.random.default_rng(0)
    tokenizer, odd = nano.pipeline().tokenizer, texts(nano, rng)
    calls, expected = [], []
    for _ in range(PROMPTS // 2):
        name, lang, text = str(rng.choice(["caption", "vqa", "detect", "refseg", "ocr"])), "de", next(odd)
        task = nano.task(name)
        text = text if task.takes and text.strip() else "a" if task.takes else ""
        calls.append(["ask", name, text, lang])
        expected.append(nano.write_prompt(task, text, lang))
    asked = [*expected, *(next(odd) for _ in range(PROMPTS // 2))]
    for prompt in asked:
        calls += [["encode", prompt], ["recognise", prompt]]
        ids = tokenizer.encode(prompt)
        expected.append({"ids": ids, "text": tokenizer.decode(ids)})  # type: ignore[arg-type]
        known = {"task": nano.recognise(prompt), "names": nano.task("detect").names_in(prompt)}
        expected.append(known)  # type: ignore[arg-type]
    found = run(calls)
    for call, ours, theirs in zip(calls, expected, found, strict=True):
        assert theirs == ours, call


def test_tokens_are_decoded_as_in_python(nano: Pali, run: Run) -> None:
    rng = np.random.default_rng(1)
    tokenizer = nano.pipeline().tokenizer
    byte = [tokenizer.piece_id(f"<0x{value:02X}>") for value in range(256)]
    rows = [rng.integers(0, tokenizer.vocab_size + 3, 6).tolist() for _ in range(200)]
    rows += [
        [byte[value] for value in rng.choice([0x41, 0x80, 0xC3, 0xE2, 0x96, 0x81, 0xF0, 0x9F, 0xFF], 8)]
        for _ in range(200)
    ]
    assert run([["decode", row] for row in rows]) == [tokenizer.decode(row) for row in rows]


def test_answers_are_parsed_as_in_python(nano: Pali, tables: Json, run: Run) -> None:
    rng = np.random.default_rng(2)
    pipeline, size = nano.pipeline(), Size(300, 401)
    many, boxes = answers(nano, rng), tables["parts"]["pali"]["boxes"]
    calls, expected = [], []
    for _ in range(ANSWERS):
        asked, text = str(rng.choice(["detect", "refseg", "caption"])), next(many)
        prompt = pipeline.write_prompt(
            pipeline.task(asked), " and ".join(rng.choice(nano.names, 2)) if asked != "caption" else ""
        )
        if asked == "detect" and rng.random() < 0.7:
            prompt = "detect: apple and horse and truck and a red umbrella and hat"
        ids = pipeline.tokenizer.encode(text)
        logs = (-rng.exponential(0.2, len(ids) + 1)).tolist()
        name = reader(pipeline.task(asked), text)
        task, about = pipeline.task(name), prompt if name == asked else ""
        answer, fit = task.parse(text, size, prompt=about), calibration_for(name, pipeline.calibrations)
        assert fit is not None
        claims = task.claims(Generation(ids, logs, 0.0, "eos"), pipeline.tokenizer, about)
        calls.append(["answer", boxes, asked, text, size, prompt, logs, [fit.temperature, fit.offset]])
        expected.append((name, answer, [fit.confidence(claim) for claim in claims]))
    found = run(calls)
    several = 0
    for call, (name, answer, sure), theirs in zip(calls, expected, found, strict=True):
        assert (theirs["task"], theirs["text"]) == (name, answer.text), call
        assert [each["name"] for each in theirs["objects"]] == [thing.name for thing in answer.objects], call
        np.testing.assert_allclose(
            [each["box"] for each in theirs["objects"]], [thing.box for thing in answer.objects]
        )
        np.testing.assert_allclose(theirs["sure"], sure, atol=1e-9)
        several += len(answer.objects) > 1
    assert several > 50


@pytest.mark.parametrize("part", ["pali", "line"])
def test_images_are_resized_as_torch_resizes_them(tables: Json, run: Run, part: str) -> None:
    rng = np.random.default_rng(3)
    how = tables["parts"][part]["preprocess"]
    preprocess = Preprocess(**how)
    images = [
        rng.integers(0, 256, shape, np.uint8) for shape in ((60, 90, 3), (200, 431, 3), (144, 300, 3), (48, 20, 3))
    ]
    images.append(np.full((17, 1000, 3), 255, np.uint8))
    found = run([["preprocess", image.shape[1], image.shape[0], image.ravel().tolist(), how] for image in images])
    for image, theirs in zip(images, found, strict=True):
        ours = preprocess(image)
        difference = np.abs(np.array(theirs).reshape(ours.shape) - ours.astype(int))
        assert difference.max() <= 1
        assert difference.mean() < 0.01


def test_lines_are_cut_out_as_pillow_does_it(run: Run) -> None:
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (70, 110, 3), np.uint8)
    boxes = [Box(5, 3, 20.5, 100), Box(-4, -8, 66, 108), Box(30, 40, 41, 47.5), Box(2, 2, 68, 60)]
    seen = [view_of_line(box, 32, 512) for box in boxes]
    placed = run([["viewOfLine", box, 32, 512] for box in boxes])
    for (view, width), theirs in zip(seen, placed, strict=True):
        assert theirs["width"] == width
        assert View(**theirs["view"]) == pytest.approx(view)
    calls = [["view", 110, 70, image.ravel().tolist(), view._asdict(), width, 32] for view, width in seen]
    for (view, width), found in zip(seen, run(calls), strict=True):
        ours = view.of(PilImage.fromarray(image), 32, width)
        assert (np.array(found).reshape(ours.shape) == ours).mean() > 0.999
        assert np.abs(np.array(found).reshape(ours.shape) - ours.astype(int)).max() <= 1


def test_long_lines_are_cut_as_in_python(run: Run) -> None:
    rng = np.random.default_rng(6)
    image = np.full((40, 1200, 3), 230, np.uint8)
    for left in np.cumsum([*rng.integers(9, 22, 40), *rng.integers(9, 12, 60)]).tolist():
        image[rng.integers(8, 14) : 30, left : left + 8] = rng.integers(0, 120)
    boxes = [Box(6, 4.5, 33, 1100), Box(4.2, 0, 30, 1200), Box(-3, 10, 20, 1190.5), Box(9, 5, 25, 80)]
    found = run([["pieces", 1200, 40, image.ravel().tolist(), box, 32, 256] for box in boxes])
    for box, theirs in zip(boxes, found, strict=True):
        ours = list(_pieces(PilImage.fromarray(image), 0, box, 32, 256))
        assert [each["goesOn"] for each in theirs] == [piece.goes_on for piece in ours]
        assert [(each["columns"], each["shown"]) for each in theirs] == [(one.columns, one.shown) for one in ours]
        for piece, each in zip(ours, theirs, strict=True):
            assert View(**each["view"]) == pytest.approx(piece.view)
    assert {each["goesOn"] for each in found[0][1:]} == {True, False}


def test_masks_are_placed_as_in_python(run: Run) -> None:
    rng = np.random.default_rng(5)
    size, side = Size(90, 70), 64
    coarse = rng.normal(size=(6, 6, 6)).astype(np.float32)
    values = [
        np.asarray(PilImage.fromarray(each).resize((side, side), PilImage.Resampling.BICUBIC)) for each in coarse
    ]
    boxes = [
        Box(10, 5, 60.5, 42),
        Box(0, 0, 90, 70),
        Box(30, 20, 33, 22),
        Box(89.8, 10, 90, 10.2),
        Box(2.5, 3.5, 40.5, 66),
    ]
    boxes.append(Box(0, 0, 1, 1))
    found = run(
        [["paste", each.ravel().tolist(), side, box, size] for each, box in zip(values, boxes, strict=True)]
    )
    for each, box, counts in zip(values, boxes, found, strict=True):
        ours = paste_mask(each, box, size)
        assert (RunLengths(size, counts).draw(size) != ours).sum() <= 2
    assert Object("", boxes[0]).box == boxes[0]


def test_lines_are_found_and_ordered_as_in_python(run: Run) -> None:
    rng = np.random.default_rng(6)
    fields = []
    for _ in range(20):
        text = np.kron(rng.random((6, 9)) < 0.4, np.ones((4, 7))) * rng.random((24, 63))
        up, down = 4 + 6 * rng.random((2, 24, 63))
        fields.append([each.astype(np.float32) for each in (text, up, down)])
    lines = [_lines(*field) for field in fields]
    found = run([["lines", 24, 63, *(each.ravel().tolist() for each in field)] for field in fields])
    for ours, theirs in zip(lines, found, strict=True):
        assert len(ours) > 2
        np.testing.assert_allclose(theirs, [line.box for line in ours], rtol=1e-5)
    pages = [[line.box for line in some] for some in lines] + [page(rng) for _ in range(100)]
    orders = [reading_order(boxes) for boxes in pages]
    assert run([["order", boxes] for boxes in pages]) == orders
    assert sum(len(order) > 1 for order in orders) > 50


def test_columns_are_read_with_the_language_model_as_in_python(run: Run) -> None:
    rng = np.random.default_rng(7)
    language = fit_language(["the words that a page says", "NOTIFICATIONS", "слово"] * 9, CHARACTERS)
    letters = numbers_of("thewordsNOTI слово") or []
    several = []
    for _ in range(60):
        scores = rng.random((30, 1 + len(CHARACTERS))) * 1e-4
        scores[:, [0, *letters]] += rng.dirichlet([3.0, *[0.05] * len(letters)], 30)
        several.append((scores / scores.sum(1, keepdims=True)).astype(np.float32))
    lone = np.zeros((3, 1 + len(CHARACTERS)), np.float32)
    lone[:, 0], lone[1, [0, *letters[:2]]] = 1, (0.5, 0.3, 0.2)
    several.append(lone)
    ours = [read_columns(scores, language) for scores in several]
    assert len(ours[-1]) == 1
    about = {"ngrams": language.ngrams.tolist(), "order": ORDER, "bits": BITS}
    about |= {"logProbs": language.log_probs.tolist(), "backoffs": language.backoffs.tolist()}
    [theirs] = run([["columns", [scores.tolist() for scores in several], about]])
    for one, other in zip(ours, theirs, strict=True):
        assert [[each.number, each.column] for each in one] == [[each["number"], each["column"]] for each in other]
        found = [each["probability"] for each in other]
        np.testing.assert_allclose(found, [each.probability for each in one], rtol=1e-4)
    assert sum(one != greedy(scores) for one, scores in zip(ours, several, strict=True)) > 20


def doubt(images: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`doubting` of run.mjs."""
    light = images[:, :1, 0, 0] / 255
    return np.stack([1 - light, 0.9 * light, 0.1 * light], -1).repeat(2 * images.shape[2] // PATCH, 1)


def test_dark_lines_are_seen_in_negative_as_in_python(run: Run) -> None:
    rng = np.random.default_rng(8)
    columns = rng.integers(3, 10, 40)
    images = np.kron(rng.integers(0, 256, (40, 1, 9, 1)), np.ones((1, 16, PATCH, 3))).astype(np.uint8)
    ours = _look_twice(ReaderNetwork(Size(*images.shape[1:3]), 2, (), doubt), images, columns)
    several = [each.ravel().tolist() for each in images]
    [theirs] = run([["twice", images.shape[2], images.shape[1], several, columns.tolist(), 2]])
    for one, other, own in zip(ours, theirs, columns, strict=True):
        np.testing.assert_allclose(other, one[: 2 * own], atol=1e-6)
    once = doubt(images, columns)
    assert 5 < sum(not np.allclose(one, other) for one, other in zip(ours, once, strict=True)) < 35


def page(rng: np.random.Generator) -> list[Box]:
    """Lines in columns, bands and tables."""
    boxes = []
    for column in range(rng.integers(1, 4)):
        top = float(rng.integers(0, 40))
        for _ in range(rng.integers(1, 12)):
            tall, left = float(rng.choice([10, 12, 20])), 200.0 * column + float(rng.integers(0, 30))
            boxes.append(Box(top, left, top + tall, left + float(rng.integers(20, 170))))
            top += tall + float(rng.choice([2, 4, 30]))
    return [boxes[i] for i in rng.permutation(len(boxes))]


def test_boxes_end_where_the_page_does_as_in_python(run: Run) -> None:
    rng, size = np.random.default_rng(9), Size(30, 50)
    boxes = [Box(*edges) for edges in rng.uniform(-20, 70, (100, 4)).tolist()]
    lines = [ReadLine([ReadWord("a", word, 0.5)], box) for word, box in zip(boxes, boxes[::-1], strict=True)]
    given = [{"words": [{"box": list(line.words[0].box)}], "box": list(line.box), "block": 2} for line in lines]
    theirs = run([["within", size._asdict(), line] for line in given])
    for found, line in zip(theirs, lines, strict=True):
        ours = line.within(size)
        assert found == {"words": [{"box": [*ours.words[0].box]}], "box": [*ours.box], "block": 2}


def test_words_that_are_not_sure_are_left_out_as_in_python(run: Run) -> None:
    fit, box = Calibration(1.4, 1.2), Box(0, 0, 9, 9)
    texts = ["x", "7", "17", "ab", "OK", "abc", "a b", "two words", "𝒳"]
    lines = [
        ReadLine([ReadWord(word, box, sure) for word in text.split()], box, row=row)
        for row, text in enumerate(texts)
        for sure in np.linspace(0.02, 0.99, 12).tolist()
    ]
    lines += [replace(line, row=len(texts) + i) for i, line in enumerate(lines)]  # alone in their rows
    plain = [
        {"words": [word.__dict__ for word in line.words], "box": list(line.box), "block": 0, "row": line.row}
        for line in lines
    ]
    least = least_in(lines)
    kept = [found for line in lines if (found := line.calibrated(fit, least(line)))]
    assert 0 < len(kept) < len(lines)
    [theirs] = run([["calibrated", plain, [fit.temperature, fit.offset]]])
    assert [line["text"] for line in theirs] == [line.text for line in kept]
    assert [line["confidence"] for line in theirs] == pytest.approx([line.confidence for line in kept])
