"""Answers about images in their own proportions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import check_same

from openpali.data.media.native import NativePreprocess
from openpali.infer.generate import Decoding, Generation
from openpali.infer.pali import Pali
from openpali.model.patches import Patches
from openpali.tasks.base import Sample
from openpali.tasks.example import Box, Example, Image, Object
from openpali.weights.ood import OodDetector, describe

SIZES = [(40, 160), (150, 30), (64, 64), (100, 75)]  # height and width
PROMPTS = ["detect: horse", "Answer in en: what? <extra_id_0>", "detect: red horse and blue cat", "detect: cat"]
SHORT = Decoding(max_tokens=8)


@pytest.fixture(scope="module")
def images() -> Sequence[Image]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


@pytest.fixture
def rows(images: Sequence[Image]) -> list[list[Image]]:
    """One image, two, and none."""
    return [[images[0]], [images[1], images[2]], [], [images[3]]]


@pytest.fixture(scope="module", params=["torch", "openvino"])
def pali(native: Path, request: pytest.FixtureRequest) -> Iterator[Pali]:
    with pytest.MonkeyPatch.context() as patch:
        # a random model is sure of nothing
        patch.setattr("openpali.infer.engines.openvino.bf16_is_faster", lambda device: False)
        yield Pali.from_pretrained(native, request.param)


@pytest.mark.filterwarnings("ignore::openpali.infer.pipeline.Untrained")
@pytest.mark.parametrize("decoding", [SHORT, Decoding(max_tokens=6, beams=3)], ids=["greedy", "beams"])
def test_a_batch_is_its_rows_one_by_one(pali: Pali, rows: list[list[Image]], decoding: Decoding) -> None:
    together = pali.predict(rows, PROMPTS, part="pali", decoding=decoding)
    for row, prompt, expected in zip(rows, PROMPTS, together, strict=True):
        [found] = pali.predict([row], [prompt], part="pali", decoding=decoding)
        check_same(found.generation, expected.generation)
    if pali.engine == "openvino":
        torch_ = Pali.from_pretrained(pali.folder).predict(rows, PROMPTS, part="pali", decoding=decoding)
        for found, expected in zip(together, torch_, strict=True):
            check_same(found.generation, expected.generation)


def test_losses_are_those_of_rows_alone(native: Path, rows: list[list[Image]]) -> None:
    pipeline = Pali.from_pretrained(native).pipeline()
    given = PROMPTS[0], ["a horse", "none"]
    alone = [pipeline.log_perplexity([row], *given)[0] for row in rows]
    np.testing.assert_allclose(pipeline.log_perplexity(rows, *given), alone, atol=1e-5)
    samples = [Sample(prompt, "a horse", ("a horse",)) for prompt in PROMPTS]
    for row, sample, nats in zip(rows, samples, pipeline.token_losses(rows, samples), strict=True):
        np.testing.assert_allclose(pipeline.token_losses([row], [sample])[0], nats, atol=1e-5)


def test_padding_is_not_out_of_distribution(native: Path, rows: list[list[Image]]) -> None:
    """The detector sees real patches alone."""
    pipeline = Pali.from_pretrained(native).pipeline()
    wide, tall = rows[0][0], rows[1][0]
    packed = NativePreprocess(12, 40).arrays(wide)
    real = torch.from_numpy(packed["images"][: packed["grids"].prod()])[None]
    with torch.inference_mode():
        expected = describe(pipeline.model.vit(Patches(real, torch.from_numpy(packed["grids"])[None])))
    found = pipeline.describe([tall, wide])
    torch.testing.assert_close(found[1:], expected, rtol=1e-4, atol=1e-4)
    d = found.shape[1]
    pipeline.ood = OodDetector(expected[0], torch.eye(d), torch.zeros(1, d), torch.tensor(1.0))
    scores = [
        each.ood_score for each in pipeline.predict(rows, PROMPTS, task=pipeline.task("detect"), decoding=SHORT)
    ]
    assert scores[0] == pytest.approx(0, abs=1e-3)
    assert scores[2] is None
    assert min(scores[1], scores[3]) > 0.1


@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_in_pixels_of_the_image(native: Path, size: tuple[int, int]) -> None:
    """What training writes of a box is read back to within half of a bin, whatever the proportions."""
    pipeline, (height, width) = Pali.from_pretrained(native).pipeline(), size
    box = Box(0.1 * height, 0.3 * width, 0.9 * height, 0.7 * width)
    pixels = np.zeros((*size, 3), np.uint8)
    task = pipeline.task("detect")
    example = Example("one", (pixels,), objects=(Object("horse", box),))
    sample = task.write(example, np.random.default_rng(0))
    row = pipeline.row([pixels], sample.prompt, task)
    assert row.images[0].shape[:2] != size
    ids = sample.target_ids(pipeline.tokenizer)
    [found] = pipeline.prediction(row, Generation(ids, [0.0] * len(ids), 0.0, "eos")).answer.objects
    sides = np.array([height, width] * 2)
    assert np.abs(np.array(found.box) - box).max() > 0
    assert (np.abs(np.array(found.box) - box) <= sides / 99 / 2 + 1e-6).all()
