"""Pipelines in memory: a model in training answers as it would from a folder, and does not notice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openpali.architectures.pali import PaliModel
from openpali.data.sources.registry import open_source
from openpali.infer.engines.openvino import OpenVinoPali
from openpali.infer.generate import Decoding, Generation
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Pipeline, Prediction
from openpali.rng import generator
from openpali.tasks.base import Answer, Sample
from openpali.tasks.example import Box, Object
from openpali.tasks.registry import get_task, open_task
from openpali.text.tokenizer import Tokenizer
from openpali.weights.format import add_facts

PROMPTS = [
    "detect: horse",  # may take 256 tokens
    "Generate the alt_text in en at 0: <extra_id_0>",  # 96, as in training
    "Answer in en: what? <extra_id_0>",
    "detect: red horse and blue cat",
]


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


@pytest.fixture(scope="module")
def images(bundle: Path) -> list[np.ndarray]:
    source = open_source("nano/scene", {"split": "heldout", "min_objects": 2})
    return [source[i].images[0] for i in range(4)]


@pytest.fixture
def live(bundle: Path) -> Pipeline:
    """A model in training, whose ViT is frozen in evaluation mode; its dropout would change every answer."""
    stored = Pali.from_pretrained(bundle).load("pali")[0]
    model = stored.model()
    assert isinstance(model, PaliModel)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.train()
    model.vit.eval()
    limits = {"max_prompt": 64, "max_target": stored.facts.max_target or 0}
    return Pipeline(model, stored.tokenizer, stored.preprocess, options=stored.facts.tasks, **limits)


def modes(model: torch.nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize(
    "decoding", [None, Decoding(max_tokens=8, beams=3), Decoding(max_tokens=8, temperature=1.0, seed=7)]
)
def test_a_model_in_training_answers_as_from_its_folder_and_keeps_its_state(
    live: Pipeline, pali: Pali, images: list[np.ndarray], decoding: Decoding | None
) -> None:
    rows = [[image] for image in images]
    before = modes(live.model), {name: value.clone() for name, value in live.model.state_dict().items()}
    assert True in before[0]
    assert False in before[0]
    random = torch.get_rng_state()
    answered = [replace(each, part="") for each in pali.predict(rows, PROMPTS, decoding=decoding)]
    assert live.predict(rows, PROMPTS, decoding=decoding) == answered
    np.testing.assert_array_equal(
        live.log_perplexity(rows, "what?", ["a horse"]), pali.log_perplexity(rows, "what?", ["a horse"])
    )
    assert modes(live.model) == before[0]
    assert torch.equal(torch.get_rng_state(), random)
    after = live.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before[1].items())
    live.model(torch.zeros(1, 1, 72, 72, 3), torch.ones(1, 2).long(), torch.ones(1, 2).long()).sum().backward()
    assert live.model.text.embed.weight.grad is not None  # it still trains


def test_the_mode_comes_back_after_an_error(live: Pipeline, images: list[np.ndarray], monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    before = modes(live.model)
    monkeypatch.setattr(live.model, "encode_tokens", fail)
    with pytest.raises(RuntimeError):
        live.predict([[images[0]]], PROMPTS[:1])
    assert modes(live.model) == before


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_answers_do_not_depend_on_the_rows_beside_them(
    live: Pipeline, images: list[np.ndarray], monkeypatch: Any, batch: int
) -> None:
    """Each row has its own task, and with it its own limit of tokens."""
    monkeypatch.setattr("openpali.infer.generate.loops", lambda ids, repeats: False)
    live.model.text.head.weight.data[live.tokenizer.eos_id] = 0.0  # others beat it
    rows = [[image] for image in images]
    together = live.predict(rows, PROMPTS, batch=batch)
    alone = [live.predict([row], [prompt])[0] for row, prompt in zip(rows, PROMPTS, strict=True)]
    assert [(p.prompt, p.generation.ids) for p in together] == [(p.prompt, p.generation.ids) for p in alone]
    assert [len(p.generation.ids) for p in together] == [256, 96, 96, 256]


def test_the_engine_generates_and_the_model_scores(live: Pipeline, images: list[np.ndarray]) -> None:
    class Spy:
        first = live.model.first
        steps = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(live.model, name)

        def step(self, *inputs: Any) -> Any:
            self.steps += 1
            return live.model.step(*inputs)

    engine = Spy()
    asked = Pipeline(live.model, live.tokenizer, live.preprocess, engine=engine)
    rows, decoding = [[images[0]]], Decoding(max_tokens=5)
    assert asked.predict(rows, PROMPTS[:1], decoding=decoding) == live.predict(rows, PROMPTS[:1], decoding=decoding)
    assert 0 < engine.steps <= 5
    asked.log_perplexity(rows, "what?", ["a horse"])
    assert engine.steps <= 5


def test_precision_is_that_of_the_engine(live: Pipeline, pali: Pali) -> None:
    assert live.precision == "fp32"
    engine = OpenVinoPali.__new__(OpenVinoPali)
    engine.precision = "bf16"
    assert Pipeline(live.model, live.tokenizer, live.preprocess, engine=engine).precision == "bf16"
    live.model.bfloat16()
    assert live.precision == "bf16"


def test_token_losses_are_those_of_log_perplexity(live: Pipeline, images: list[np.ndarray]) -> None:
    written = get_task("caption").write(open_source("nano/single", {"split": "heldout"})[0], generator(1))
    samples = [Sample("what?", "a horse"), Sample("how many red horses are there?", "3"), written]
    rows = [[image] for image in images[:3]]
    together = live.token_losses(rows, samples)
    for row, sample, losses in zip(rows, samples, together, strict=True):
        assert len(losses) == len(live.tokenizer.encode(sample.target)) + 1
        alone = live.log_perplexity([row], sample.prompt, [sample.target])[0, 0]
        assert np.mean(losses) == pytest.approx(alone, rel=1e-5)
    [with_ids] = live.token_losses([[]], [Sample("shown", "shown", ids=([5, 6], [7, 8, 9]))])
    assert len(with_ids) == 4
    spelled = Sample("what?", "a horse", spelled=True)
    ids = live.tokenizer.encode("what?"), live.tokenizer.spell("a horse")
    by_text, by_ids = live.token_losses([rows[0]] * 2, [spelled, Sample("shown", "shown", ids=ids)])
    assert by_text == pytest.approx(by_ids, rel=1e-5)


def test_a_model_of_text_alone_takes_no_images(live: Pipeline, images: list[np.ndarray]) -> None:
    words = Pipeline(live.model, live.tokenizer, None)
    assert len(words.predict([[]], ["what?"], decoding=Decoding(max_tokens=4))) == 1
    with pytest.raises(ValueError, match="takes text alone: leave out the images"):
        words.predict([[images[0]]], ["what?"])


def test_prompts_that_fit_are_those_that_are_answered(live: Pipeline) -> None:
    word = "horse "
    longest = max(n for n in range(1, 65) if live.fits(word * n))
    live.predict([[]], [word * longest], decoding=Decoding(max_tokens=2))
    with pytest.raises(ValueError, match="shorten it"):
        live.predict([[]], [word * (longest + 1)])


def test_answers_may_be_as_long_as_those_of_training(live: Pipeline, bundle: Path, tmp_path: Path) -> None:
    """Also from a folder, which records them; a task may be longer still."""
    caption, detect = (get_task(name) for name in ("caption", "detect"))
    live.max_target = 0
    assert live.decoding_for(caption).max_tokens == 64
    live.max_target = 200
    assert [live.decoding_for(task).max_tokens for task in (caption, detect)] == [200, 256]
    shutil.copytree(bundle / "pali", tmp_path / "own")
    add_facts(tmp_path / "own", recipe={"max_target": 200})
    own = Pali(tmp_path / "own")
    assert own.pipeline().decoding_for(caption).max_tokens == own.longest_answer(caption) == 200
    assert own.pipeline().decoding_for(caption, Decoding(9)).max_tokens == 9
    assert own.pipeline().decoding_for(detect, Decoding(beams=3)).max_tokens == 256


def test_the_mask_codec_is_opened_when_a_task_needs_it(live: Pipeline, pali: Pali) -> None:
    opened: list[object] = []

    def open_codec() -> Any:
        opened.append(codec)
        return codec

    codec = pali.task("refseg").masks  # type: ignore[attr-defined]
    pipeline = Pipeline(
        live.model, live.tokenizer, live.preprocess, options={"refseg": {"bins": 7}}, tools={"masks": open_codec}
    )
    pipeline.task("caption")
    assert opened == []
    task: Any = pipeline.task("refseg")
    assert (task.masks, task.bins) == (codec, 7)


def test_no_images_and_no_texts_have_no_embeddings(pali: Pali) -> None:
    width = pali.embedding.model.config.vision.width
    assert pali.embed_image([]).shape == pali.embed_text([]).shape == (0, width)
    assert pali.similarity([], ["a"]).shape == (0, 1)


def test_what_the_towers_read_is_counted_and_nothing_is_cut(pali: Pali) -> None:
    most = pali.embedding.model.config.text.length - 1  # and its end
    longest = "A " * (most - 1) + "A"
    assert len(pali.embedding.tokenizer.encode(longest.lower())) == most
    resized = pali.embedding.preprocess(np.zeros((40, 50, 3), np.uint8))
    assert pali.embedding.count([longest, "a"], [resized] * 2) == most + 1 + 2 * 36
    with pytest.raises(ValueError):
        pali.embedding.count([f"{longest} A"])


def test_prompts_of_several_tasks_go_to_their_parts(pali: Pali, images: list[np.ndarray]) -> None:
    """Each row of a call is answered by the part that its own task needs."""
    frames = [[images[0]], images[:2], [images[1]]]
    prompts = ["detect: horse", "Answer in en: what moves? <extra_id_0>", "detect: cat"]
    together = pali.predict(frames, prompts)
    parts = ["pali", "video", "pali"]
    alone = [pali.predict([f], [p], part=part)[0] for f, p, part in zip(frames, prompts, parts, strict=True)]
    assert [p.generation.ids for p in together] == [p.generation.ids for p in alone]


def test_a_part_that_takes_no_prompts_is_named(pali: Pali) -> None:
    with pytest.raises(ValueError, match="the image encoder alone detects things"):
        pali.predict([[np.zeros((20, 20, 3), np.uint8)]], ["what?"], part="siglip")


@pytest.mark.parametrize(("ood_score", "sure"), [(None, True), (0.6, True), (0.95, False), (1.1, False)])
def test_people_see_no_confidence_near_and_beyond_the_limit_of_the_distribution(
    ood_score: float | None, sure: bool
) -> None:
    answer = Answer("horse", [Object("horse", Box(1, 2, 3, 4), confidence=0.9)], confidence=0.8)
    prediction = Prediction("detect: horse", answer, Generation([1], 0.0, "stop", [0.0]), ood_score)
    shown = prediction.shown
    assert [shown.confidence, shown.objects[0].confidence] == ([0.8, 0.9] if sure else [None, None])
    assert (shown.text, shown.objects[0].box) == ("horse", Box(1, 2, 3, 4))
    assert prediction.answer is answer
    assert prediction.confidence_holds is sure
    assert prediction.out_of_distribution is (None if ood_score is None else ood_score > 1)


@pytest.mark.parametrize("decoding", [None, Decoding(beams=3), Decoding(temperature=5.0, seed=1)])
def test_answers_to_classify_are_limited_to_its_labels(
    pali: Pali, images: list[np.ndarray], decoding: Decoding | None
) -> None:
    labels = ("horse", "red horse", "q17 zebra-like")
    limited, free = get_task("classify", labels=labels), get_task("classify")
    rows, prompts = [[image] for image in images], [free.ask()] * len(images)
    found = pali.predict(rows, prompts, task=limited, decoding=decoding)
    assert all(each.answer.text in labels for each in found)
    assert {each.generation.finish_reason for each in found} == {"eos"}
    others = pali.predict(rows, prompts, task=free, decoding=decoding)
    assert any(each.answer.text not in labels for each in others)


def test_an_answer_among_labels_is_spelled_as_they_are(
    pali: Pali, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a tokenizer that normalises texts, as T5's, decodes others."""
    task, decode = open_task("classify", {"labels": ["Horse", "Q17  Zebra"]}), Tokenizer.decode
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: " ".join(decode(self, ids).lower().split()))
    for found in pali.predict([[image] for image in images], [task.ask()] * 4, task=task):
        assert found.answer.text in task.answer_set
