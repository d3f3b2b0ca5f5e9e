"""Florence-2 as transformers writes it: every layer, generated tokens, answers, and files in and out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoProcessor, Florence2ForConditionalGeneration
from transformers.models.florence2.processing_florence2 import Florence2PostProcessor, Florence2Processor
from typer.testing import CliRunner

from openpali.cli.main import app
from openpali.infer.generate import Decoding, Generation, generate
from openpali.infer.pali import Pali
from openpali.serve.scheduler import Scheduler
from openpali.tasks import Answer, get_task, open_task, recognise
from openpali.tasks.dialects import PALI3
from openpali.tasks.example import Box, Example, Object, Size
from openpali.tasks.registry import is_prompt
from openpali.tensors import load_exactly
from openpali.text.byte_pairs import BytePairTokenizer
from openpali.train.load import parse_recipe
from openpali.train.optim.qk_clip import attentions
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.weights.bundle import pack_bundle
from openpali.weights.convert import convert
from openpali.weights.export import export
from openpali.weights.format import add_facts, open_model
from openpali.weights.quantize import write_int8
from openpali.weights.write import write_model
from openpali_lab.florence2.architecture import (
    DIALECT,
    Florence2Architecture,
    Florence2Model,
    read_florence2,
    read_tokenizer,
)
from openpali_lab.parity import compare_florence2
from openpali_lab.plan.planner import find_device, rehearse
from openpali_lab.sizes import count_parameters, flops_per_image

from . import florence
from .shared import MINE, answer_in_every_way, raw_recipe, trainer

Saved = tuple[Path, Florence2ForConditionalGeneration]
PAD, BOS, EOS = 1, 0, 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("florence2")
    return folder, florence.write(folder)


@pytest.fixture(scope="module")
def converted(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    [line, vocabulary, images] = convert([saved[0]], folder)
    assert line.startswith("Florence-2: 273 tensors")
    assert vocabulary == "vocabulary: 1330 tokens, 1344 rows"
    assert images == "images: 64 x 64 pixels, 5 tokens"
    return folder


# ---- the network


def test_every_layer_agrees(saved: Saved) -> None:
    parities = compare_florence2(read_florence2(saved[0]), saved[0])
    assert len(parities) == 4 + 1 + 2 + 3 + 1
    assert all(p.relative <= 1e-5 for p in parities), parities


@pytest.mark.parametrize("size", [0, 2])
@pytest.mark.parametrize("beams", [1, 3])
def test_generated_tokens_are_the_same(beams: int, size: int, saved: Saved) -> None:
    """For a batch with padding and its rows alone; beams at a fixed length, since they end by different rules."""
    folder, theirs = saved
    found = read_florence2(folder)
    model = Florence2Model(found.config).eval()
    load_exactly(model, found.weights, "it")
    images = torch.rand(2, 1, 64, 64, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    prompts = torch.tensor([[21, 26, 23, 56, 25], [66, 27, PAD, PAD, PAD]])
    allowed = [token for token in range(found.config.text.vocab_size) if token != EOS or beams == 1]
    written, repeats = set(), 0
    for rows in (slice(0, 2), slice(0, 1), slice(1, 2)):
        decoding = Decoding(12, beams, no_repeat_ngram_size=size)
        ours = [
            row[0].ids
            for row in generate(model, images[rows], prompts[rows], None, decoding, EOS, lambda _: allowed)
        ]
        assert ours == transformers_generate(theirs, images[rows], prompts[rows], beams, size)
        written |= {pair for ids in ours for pair in pairwise(ids)}
        repeats += sum(len({*pairwise(ids)}) < len(ids) - 1 for ids in ours)
    assert len(written) > 2  # not one token again and again
    assert bool(repeats) == (size == 0)


def transformers_inputs(images: Tensor, prompts: Tensor, image_token: int) -> dict[str, Tensor]:
    """What transformers' model takes for images ``[B, 1, H, W, 3]`` in -1..1 and prompts ``[B, P]``."""
    rows = [[*[image_token] * 5, BOS, *(i for i in row if i != PAD), EOS] for row in prompts.tolist()]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    mean, std = (torch.tensor(florence.NORMALISED[key]) for key in ("image_mean", "image_std"))
    pixels = ((images[:, 0] / 2 + 0.5 - mean) / std).permute(0, 3, 1, 2)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "pixel_values": pixels}


def transformers_generate(
    theirs: Florence2ForConditionalGeneration, images: Tensor, prompts: Tensor, beams: int, size: int
) -> list[list[int]]:
    out: Any = theirs.generate(
        **transformers_inputs(images, prompts, theirs.config.image_token_id),
        max_new_tokens=13,
        num_beams=beams,
        no_repeat_ngram_size=size,
        do_sample=False,
        length_penalty=0.0,
        forced_bos_token_id=BOS,
        forced_eos_token_id=None,
        suppress_tokens=None if beams == 1 else [EOS],
        early_stopping=False,
    )
    texts = out[:, 2:].tolist()
    return [text[: text.index(EOS)] if EOS in text else text for text in texts]


@pytest.mark.slow
def test_published_shapes_agree(tmp_path: Path) -> None:
    model = florence.write(tmp_path, side=768, vision={}, text=florence.BASE)
    parameters = sum(p.numel() for p in model.parameters())
    del model
    read = read_florence2(tmp_path)
    assert sum(count_parameters(read.config).values()) == parameters
    parities = compare_florence2(read, tmp_path)
    assert all(p.relative <= 1e-5 for p in parities), parities


def test_presets_have_the_shapes_of_transformers() -> None:
    presets, counts = Florence2Architecture.presets, []
    for text, vision in ((florence.BASE, {}), (florence.LARGE, florence.LARGE_VISION)):
        with torch.device("meta"):
            model = Florence2ForConditionalGeneration(florence.configuration(text, vision))
        counts.append(sum(p.numel() for p in model.parameters()))
    assert [sum(count_parameters(shape).values()) for shape in presets.values()] == counts
    assert [count // 10**6 for count in counts] == [231, 770]
    assert Florence2Architecture().visual_tokens(presets["florence2-base"]) == 577
    assert flops_per_image(presets["florence2-base"]) > 2 * 577 * 20e6


# ---- files


def equal(before: Any, after: Any) -> bool:
    return before.keys() == after.keys() and all(torch.equal(after[key], value) for key, value in before.items())


def test_a_folder_goes_in_and_out_bit_for_bit(saved: Saved, converted: Path, tmp_path: Path) -> None:
    made = open_model(converted)
    assert (made.facts.dialect, made.facts.max_prompt) == ("florence2", 120)
    assert isinstance(made.tokenizer, BytePairTokenizer)
    export(made, tmp_path)
    after, info = Florence2ForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert equal(saved[1].state_dict(), after.state_dict())
    for half in ("text_config", "vision_config"):
        ours, theirs = (getattr(each.config, half).to_dict() for each in (after, saved[1]))
        keys = theirs.keys() - {"dtype", "dropout", "architectures", "transformers_version"}
        assert {key: ours[key] for key in keys} == {key: theirs[key] for key in keys}
    assert equal(made.weights(), read_florence2(tmp_path).weights)

    image, text = (
        np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8),
        "<OPEN_VOCABULARY_DETECTION> the cat",
    )
    pipeline = Pali(converted).pipeline()
    batch = pipeline.read([([image], pipeline.prompt_ids(DIALECT.expand(text)))])
    assert batch.images is not None
    for folder in (saved[0], tmp_path):
        asked = AutoProcessor.from_pretrained(folder)(text=text, images=[image], return_tensors="pt")
        ours = transformers_inputs(batch.images / 127.5 - 1, batch.prompt, after.config.image_token_id)
        assert torch.equal(asked.input_ids, ours["input_ids"])
        assert (asked.pixel_values - ours["pixel_values"]).abs().max() <= 1.01 / 255 / 0.22


def test_ngrams_that_may_not_repeat_are_those_of_the_checkpoint(saved: Saved, tmp_path: Path) -> None:
    """With every way to ask, until a request says otherwise; from `config.json` where the first ones have it."""
    first, modern = (tmp_path / name for name in ("first", "modern"))
    change(saved[0], first, "config.json", lambda config: config["text_config"].update(no_repeat_ngram_size=2))
    (first / "generation_config.json").unlink()
    own = {"no_repeat_ngram_size": 2, "num_beams": 3}
    change(saved[0], modern, "generation_config.json", lambda config: config.update(own))
    parsing = {"phrase_grounding": {"banned_grounding_tokens": ["it"]}}
    described = json.loads((modern / "processor_config.json").read_text())
    (modern / "processor_config.json").write_text(json.dumps({**described, "post_processor_config": parsing}))
    sizes = {}
    for folder, name in ((saved[0], "none"), (first, "one"), (modern, "ours")):
        convert([folder], tmp_path / name)
        sizes[name] = open_model(tmp_path / name).facts.no_repeat_ngram_size
    assert sizes == {"none": None, "one": 2, "ours": 2}
    export(open_model(tmp_path / "ours"), tmp_path / "out")
    again = Florence2ForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert (again.generation_config.no_repeat_ngram_size, again.generation_config.num_beams) == (2, 3)
    assert AutoProcessor.from_pretrained(tmp_path / "out").post_processor_config == parsing
    pali = Pali(tmp_path / "ours")
    image, prompt = np.full((20, 30, 3), 90, np.uint8), "what?"
    scheduler, found = Scheduler(pali, slots=3), {}
    for size in (None, 0):
        decoding = Decoding(12, no_repeat_ngram_size=size)
        [alone] = pali.predict([[image]], [prompt], decoding=decoding)
        ticket = scheduler.submit([image], prompt, decoding=decoding)
        while scheduler.turn():
            pass
        [served] = ticket.predictions()
        found[size] = alone.generation.ids
        assert served.generation.ids == found[size]
    assert len({*pairwise(found[None])}) == 11 > len({*pairwise(found[0])})


def change(folder: Path, copy: Path, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
    """A copy of a folder, with one JSON file edited."""
    shutil.copytree(folder, copy)
    described = json.loads((copy / name).read_text())
    edit(described)
    (copy / name).write_text(json.dumps(described))


def test_a_checkpoint_is_written_with_rows_for_the_token_of_images(
    saved: Saved, converted: Path, tmp_path: Path
) -> None:
    """Its embedding has no more rows than its tokenizer has tokens."""
    made = open_model(converted)
    florence.tokenizer().save_pretrained(tmp_path / "bart")
    tokenizer = read_tokenizer(tmp_path / "bart")
    count = tokenizer.vocab_size
    weights = {**made.weights(), "text.embed.weight": made.weights()["text.embed.weight"][:count].contiguous()}
    config = replace(made.config, text=replace(made.config.text, vocab_size=count), image_token=51_289)
    facts = made.facts
    write_model(tmp_path / "first", weights, config, preprocess=made.preprocess, tokenizer=tokenizer, facts=facts)
    export(open_model(tmp_path / "first"), tmp_path / "out")
    theirs, info = Florence2ForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    rows = theirs.get_input_embeddings().weight
    assert len(rows) % 64 == 0
    torch.testing.assert_close(rows[count:], rows[:count].mean(0).expand(len(rows) - count, -1))
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    asked = processor(text="what?", images=[image], return_tensors="pt")
    assert theirs.config.image_token_id == processor.image_token_id == count
    written = theirs.generate(**asked, max_new_tokens=8, do_sample=False, num_beams=1)
    convert([tmp_path / "out"], tmp_path / "again")
    [ours] = Pali(tmp_path / "again").predict([[image]], ["what?"], decoding=Decoding(8), raw=True)
    assert ours.generation.ids[:5] == written[0, 2:7].tolist()


@pytest.mark.parametrize(
    ("half", "config", "message"),
    [
        ("vision_config", {"patch_stride": [4, 2, 2, 1]}, "patch_stride"),
        ("vision_config", {"num_groups": [1, 1, 1]}, "other than 4 stages"),
        ("vision_config", {"dim_embed": [8, 8, 16, 16]}, "take the model of florence-community"),
        ("text_config", {"scale_embedding": True}, "scale_embedding = True"),
        ("text_config", {"decoder_ffn_dim": 41}, "ffn_dim"),
        ("text_config", {"d_model": 32}, "has shape"),
    ],
)
def test_other_models_are_refused(
    half: str, config: dict[str, Any], message: str, saved: Saved, tmp_path: Path
) -> None:
    for file in saved[0].iterdir():
        (tmp_path / file.name).symlink_to(file)
    described = json.loads((saved[0] / "config.json").read_text())
    described[half] |= config
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=message):
        read_florence2(tmp_path)


# ---- prompts and answers


def test_prompts_are_those_of_the_processor(saved: Saved) -> None:
    processor: Florence2Processor = AutoProcessor.from_pretrained(saved[0])
    for short, prompt in processor.task_prompts_without_inputs.items():
        assert DIALECT.expand(short) == prompt
    for short, prompt in processor.task_prompts_with_input.items():
        text = "<loc_1><loc_20><loc_300><loc_999>" if short.startswith("<REGION_TO_") else "a red dog"
        assert DIALECT.expand(f"{short} {text}") == DIALECT.expand(f" {short}{text}") == prompt.format(input=text)
        with pytest.raises(ValueError, match=short):
            DIALECT.expand(short)
    assert {*DIALECT.shorthands} == {*processor.task_prompts_without_inputs, *processor.task_prompts_with_input}
    assert DIALECT.expand("a <CAPTION> in it") == "a <CAPTION> in it"


@pytest.mark.parametrize("text", ["<od>", "<CAPTIONS>", " <REGION_TO_CATEGORIES><loc_1><loc_2><loc_3><loc_4>"])
def test_mistyped_shorthands_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"no prompt {text.partition('>')[0].strip()}>"):
        DIALECT.expand(text)
    assert PALI3.expand(text) == text


@pytest.mark.parametrize("short", [short for short in DIALECT.shorthands if short.startswith("<REGION_TO_")])
@pytest.mark.parametrize(
    "region", ["", "a red dog", "27 22 65 55", "<loc_1><loc_2><loc_3>", "<loc_1><loc_2><loc_3><loc_1000>"]
)
def test_what_is_no_region_is_refused(short: str, region: str) -> None:
    """Such as pixels, to which a model would answer anything."""
    with pytest.raises(ValueError, match=f"{short} needs a region.*<loc_52><loc_333>"):
        DIALECT.expand(f"{short} {region}")


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        ("<CAPTION>", "caption"),
        ("<DETAILED_CAPTION>", "caption"),
        ("<OCR>", "ocr"),
        ("<OCR_WITH_REGION>", "ocr"),
        ("<OD>", "detect"),
        ("<CAPTION_TO_PHRASE_GROUNDING> a dog", "detect"),
        ("<OPEN_VOCABULARY_DETECTION> a dog", "detect"),
        ("<REFERRING_EXPRESSION_SEGMENTATION> a dog", "refseg"),
        ("<REGION_TO_CATEGORY><loc_1><loc_2><loc_3><loc_4>", "vqa"),
        ("what is it?", "vqa"),
    ],
)
def test_prompts_are_recognised(prompt: str, task: str) -> None:
    expanded = DIALECT.expand(prompt)
    assert recognise(expanded, dialect=DIALECT) == task
    assert is_prompt(expanded, DIALECT) == (expanded != "what is it?")


RUN = st.lists(st.integers(0, 999), min_size=4, max_size=11).map(lambda ns: "".join(f"<loc_{n}>" for n in ns))
ANSWER = st.lists(st.tuples(st.sampled_from(["car", "a red dog", "it", "STOP 12"]), RUN), max_size=4).map(
    lambda parts: "".join(name + run for name, run in parts)
)
SIZE = Size(480, 640)


class _Tokenizer:
    all_special_tokens = ()


THEIRS = Florence2PostProcessor({}, _Tokenizer())


def whole(things: Any) -> list[tuple[str, list[int]]]:
    """Boxes as transformers gives them: xmin, ymin, xmax, ymax, cut to whole pixels."""
    return [(o.name, [int(o.box[i] + 1e-6) for i in (1, 0, 3, 2)]) for o in things]


@settings(max_examples=60)
@given(ANSWER)
def test_boxes_are_those_of_the_processor(text: str) -> None:
    task = get_task("detect", dialect=DIALECT)
    expected = THEIRS.parse_description_with_bboxes_from_text_and_spans(text, image_size=(640, 480))
    true = [
        (o["cat_name"], o["bbox"]) for o in expected if o["bbox"][0] < o["bbox"][2] and o["bbox"][1] < o["bbox"][3]
    ]
    found = task.parse(text, SIZE, prompt=DIALECT.expand("<OD>")).objects
    assert [o for o in whole(found) if o[1][0] < o[1][2] and o[1][1] < o[1][3]] == true
    asked = task.parse(text, SIZE, prompt=task.ask("dog")).objects
    assert [o.name for o in asked] == [o.name for o in found if "dog" in o.name]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["car", "a red dog", "it", "the image", "It", "a dog"]), RUN), max_size=4)
)
def test_phrases_are_those_of_the_processor(parts: list[tuple[str, str]]) -> None:
    """Without those that mean no thing, as the published checkpoints have them."""
    text, task = "".join(name + run for name, run in parts), get_task("detect", dialect=DIALECT)
    banned = {"phrase_grounding": {"banned_grounding_tokens": ["it", "the image"]}}
    assert set(banned["phrase_grounding"]["banned_grounding_tokens"]) < set(*DIALECT.unnamed.values())
    processor = Florence2PostProcessor(banned, _Tokenizer())
    expected = processor.parse_phrase_grounding_from_text_and_spans(text, image_size=(640, 480))
    boxes = [(each["cat_name"], box) for each in expected for box in each["bbox"]]
    caption = "It is a car, a red dog, a dog, and the image shows it"
    found = task.parse(text, SIZE, prompt=DIALECT.expand(f"<CAPTION_TO_PHRASE_GROUNDING>{caption}")).objects
    shown = [(name, box) for name, box in boxes if box[0] < box[2] and box[1] < box[3]]
    assert [(n, b) for n, b in whole(found) if b[0] < b[2] and b[1] < b[3]] == shown


CORNERS = st.lists(st.integers(0, 999), min_size=6, max_size=10).map(lambda n: "".join(f"<loc_{i}>" for i in n))
OUTLINED = st.lists(CORNERS, min_size=1, max_size=2).map(lambda parts: f"<poly>{'<sep>'.join(parts)}</poly>")


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["car", "a red dog"]), st.lists(OUTLINED, min_size=1, max_size=2)), min_size=1
    )
)
def test_outlines_of_named_things_are_those_of_the_processor(things: list[tuple[str, list[str]]]) -> None:
    """Which `<OPEN_VOCABULARY_DETECTION>` may give instead of boxes."""
    text = "".join(name + "".join(outlines) for name, outlines in things)
    expected = THEIRS.parse_description_with_polygons_from_text_and_spans(text, image_size=(640, 480))
    task = get_task("detect", dialect=DIALECT)
    true = []
    for each in expected:
        corners = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in each["polygons"]])
        if (corners.min(0) < corners.max(0)).all():
            true.append((each["cat_name"], [*corners.min(0).astype(int), *corners.max(0).astype(int)]))
    assert whole(task.parse(text, SIZE, prompt=task.ask("car and a red dog")).objects) == true
    asked = task.parse(text, SIZE, prompt=task.ask("dog")).objects
    assert [thing.name for thing in asked] == [name for name, _ in true if "dog" in name]
    assert all(thing.mask is not None for thing in asked)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["STOP", "12 a"]), st.lists(st.integers(0, 999), min_size=8, max_size=8)),
        max_size=3,
    )
)
def test_texts_with_regions_are_those_of_the_processor(lines: list[tuple[str, list[int]]]) -> None:
    text = "".join(name + "".join(f"<loc_{n}>" for n in bins) for name, bins in lines)
    expected = THEIRS.parse_ocr_from_text_and_spans(text, None, image_size=(640, 480))
    found = get_task("ocr", dialect=DIALECT).parse(text, SIZE).objects
    quads = {o["text"]: o["quad_box"] for o in expected}
    boxes = [[min(q[::2]), min(q[1::2]), max(q[::2]), max(q[1::2])] for q in (o["quad_box"] for o in expected)]
    degenerate = [b for b in boxes if b[0] == b[2] or b[1] == b[3]]
    assert [o for o in whole(found) if o[1] not in degenerate] == [
        (o["text"], b) for o, b in zip(expected, boxes, strict=True) if b not in degenerate
    ]
    assert quads.keys() <= {name for name, _ in lines}
    assert get_task("ocr").parse(text, SIZE).objects == ()


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=12), min_size=1, max_size=3))
def test_polygons_are_those_of_the_processor(rings: list[list[int]]) -> None:
    text = "<sep>".join("".join(f"<loc_{n}>" for n in ring) for ring in rings)
    [expected] = THEIRS.parse_description_with_polygons_from_text_and_spans(
        text, image_size=(640, 480), allow_empty_phrase=True
    ) or [{"polygons": []}]
    true = [polygon for polygon in expected["polygons"] if len(polygon) >= 6]
    assert DIALECT.outlines is not None
    found = [corners for polygons, _ in DIALECT.outlines.find(text, SIZE) for corners in polygons]
    assert [(corners + 1e-6).astype(int).ravel().tolist() for corners in found] == true


def test_a_mask_is_written_as_polygons_read_back_and_measured(converted: Path) -> None:
    y, x = np.mgrid[:480, :640]
    mask = ((y - 200) / 150) ** 2 + ((x - 300) / 220) ** 2 <= 1
    mask[400:450, 100:180] = True
    things = (Object("dog", Box(50, 80, 450, 520), mask),)
    image = np.zeros((480, 640, 3), np.uint8)
    example = Example("x", (image,), objects=things, expression="the dog", referred=(0,))
    task = open_task("refseg", dialect=DIALECT)
    sample = task.write(example, np.random.default_rng(0))
    assert sample.prompt == "Locate the dog in the image with mask"
    [found] = task.parse(sample.target, SIZE).objects
    assert found.mask is not None
    assert (found.mask & mask).sum() / (found.mask | mask).sum() > 0.99
    assert found.box == pytest.approx((50, 80, 450, 520), abs=1)
    tiny = np.zeros((3000, 4000), bool)
    tiny[100:104, 200:204] = True
    things = (Object("dog", Box(100, 200, 104, 204), tiny),)
    far = replace(example, images=(np.zeros((3000, 4000, 3), np.uint8),), objects=things)
    assert "<loc_" in task.write(far, np.random.default_rng(0)).target
    tokenizer = open_model(converted).tokenizer
    ids = sample.target_ids(tokenizer)
    assert len(ids) == sample.target.count("<loc_") + sample.target.count("<sep>") < 200
    generated = Generation(ids, [-0.5] * (len(ids) + 1), 0.0, "eos")
    measured = task.measure(example, sample, Answer("", (found,)), generated, tokenizer)
    assert measured["invalid"] == 0
    assert measured["intersection"] / measured["union"] == measured["ceiling"] > 0.99
    assert task.claims(generated, tokenizer) == [-0.5 * len(ids)]
    with pytest.raises(ValueError, match="mask that is empty"):
        task.write(
            Example(
                "x",
                (image,),
                objects=(Object("dog", Box(0, 0, 9, 9), mask & False),),
                expression="it",
                referred=(0,),
            ),
            np.random.default_rng(0),
        )


# ---- commands


def test_commands_take_it(openpali, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = openpali
    monkeypatch.chdir(tmp_path)
    assert "worst: " in run("convert", saved[0], "--out", "f2", "--report")
    run("convert", saved[0], "--out", "wide", "--size", "64x96")
    assert open_model(Path("wide")).config.vision.grid == (2, 3)
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save("photo.png")
    record = {"images": ["photo.png"], "question": "What is it?", "answers": ["a dog"]}
    Path("mine.jsonl").write_text(json.dumps(record) + "\n")
    assert "What is it?" in run("data", "validate", "mine.jsonl", "--model", "f2")
    assert "exact_match" in run("eval", "mine.jsonl", "--task", "vqa", "--model", "f2")
    for model in ("f2", "wide"):
        answer = json.loads(run("predict", "photo.png", "<OD>", "--model", model, "--json").splitlines()[0])
        assert answer["prompt"] == "Locate the objects with category name in the image."
    run("quantize", "f2", "--out", "small")
    assert open_model(Path("small")).facts.int8
    run("predict", "photo.png", "dog", "--task", "detect", "--model", "small", "--dtype", "bf16")
    run("export", "f2", "--out", "exported")
    assert equal(load_file(saved[0] / "model.safetensors"), load_file("exported/model.safetensors"))


@pytest.mark.openvino
def test_it_answers_and_the_server_says_the_same(converted: Path) -> None:
    assert Pali.from_pretrained(converted, engine="auto").engine == "openvino"
    pali = Pali.from_pretrained(converted)
    images = [np.full((20, 30, 3), shade, np.uint8) for shade in (90, 200)]
    rows = [[images[0]], images, [], [images[1]]]
    prompts = ["<OD>", "what is the same?", "a text without any image", "<REFERRING_EXPRESSION_SEGMENTATION> dog"]
    ids = answer_in_every_way(pali, rows, prompts)
    assert len({tuple(each) for each in ids}) == 4


def test_a_prompt_with_padding_in_it_is_refused(converted: Path) -> None:
    with pytest.raises(ValueError, match="'<pad>' in it"):
        Pali(converted).pipeline().prompt_ids("what <pad> is it?")


def test_prompts_for_all_there_is_go_to_the_decoder(converted: Path, bundle: Path, detecting: Path) -> None:
    """An image encoder and a finder of elements look for names alone."""
    image = np.full((20, 30, 3), 90, np.uint8)
    [alone] = Pali(converted).predict([[image]], ["<OD>"], decoding=Decoding(4))
    encoder = f'siglip = "{detecting.parent / "siglip"}"\n[tasks]\ndetect = "siglip"\n'
    pages = "".join(f'{part} = "{bundle / part}"\n' for part in ("finder", "reader", "elements", "icons"))
    for number, rest in enumerate((encoder, pages)):
        folder = converted.parent / f"bundle{number}"
        folder.mkdir()
        (folder / "bundle.toml").write_text(f'[parts]\npali = "{converted}"\n{rest}')
        pack_bundle(folder / "bundle.toml", folder / "model")
        pali = Pali(folder / "model")
        for prompt in ("<OD>", "<CAPTION_TO_PHRASE_GROUNDING> a dog"):
            [found] = pali.predict([[image]], [prompt], decoding=Decoding(4))
            assert found.part == "pali"
        assert pali.predict([[image]], ["<OD>"], decoding=Decoding(4))[0].generation.ids == alone.generation.ids
    fast = Pali(converted.parent / "bundle0" / "model")
    assert fast.predict([[image]], ["<OPEN_VOCABULARY_DETECTION> dog"])[0].part == "siglip"
    with pytest.raises(ValueError, match=r"looks for names, and 'Locate the objects.* has none"):
        fast.predict([[image]], ["<OD>"], part="siglip")


def test_shorthands_leave_no_place_for_a_task(converted: Path) -> None:
    """Else the name to detect would be "<OD>"."""
    pali = Pali.from_pretrained(converted)
    for name, text in (("detect", "<OD>"), ("caption", "<CAPTION>"), ("vqa", " <OCR> what?")):
        with pytest.raises(ValueError, match=f"{text.split()[0]} .*leave out the task {name}"):
            pali.prompted(text, pali.task(name))


def test_checkpoints_in_fp16_are_read(saved: Saved, converted: Path, tmp_path: Path) -> None:
    """As the published ones are."""
    shutil.copytree(saved[0], tmp_path / "half")
    tensors = {name: tensor.half() for name, tensor in load_file(saved[0] / "model.safetensors").items()}
    save_file(tensors, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    convert([tmp_path / "half"], tmp_path / "ours")
    exact, half = (open_model(folder).weights() for folder in (converted, tmp_path / "ours"))
    assert all(torch.equal(half[name].float(), exact[name].half().float()) for name in exact)
    assert Pali(tmp_path / "ours").caption([np.full((20, 30, 3), 90, np.uint8)])
    export(open_model(tmp_path / "ours"), tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written[name].float(), tensor.float()) for name, tensor in tensors.items())


# ---- training


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two samples, and runs that take a second."""
    monkeypatch.chdir(tmp_path)
    with Path("mine.jsonl").open("w") as file:
        for shade, answer in ((20, "a dog"), (200, "two blue stars")):
            Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(f"{shade}.png")
            dog = {"name": "dog", "mask": [[1, 1, 6, 1, 6, 7, 1, 7]]}
            about = {"question": "what?", "answers": [answer], "expression": "the dog", "referred": [0]}
            file.write(json.dumps({"images": [f"{shade}.png"], **about, "objects": [dog]}) + "\n")


@pytest.mark.usefixtures("data")
def test_it_trains_with_the_loss_of_transformers(saved: Saved, converted: Path, tmp_path: Path) -> None:
    recipe = inherit(parse_recipe(raw_recipe(converted, 64, frozen=["vit"])))
    run = trainer(recipe, tmp_path / "run")
    images = torch.randint(0, 256, (2, 1, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prompts, targets = (
        torch.tensor([[21, 6, 23], [60, PAD, PAD]]),
        torch.tensor([[31, 32, EOS, PAD], [33, 34, 35, EOS]]),
    )
    batch = {"images": images, "prompt": prompts, "target": targets}
    batch["places"] = (targets != PAD).flatten().nonzero()[:, 0]
    objective = run.objective
    losses = objective.losses(batch, objective.weight(batch))
    losses.total.backward()
    theirs = Florence2ForConditionalGeneration.from_pretrained(saved[0]).eval()
    labels = torch.nn.functional.pad(targets.masked_fill(targets == PAD, -100), (1, 0), value=-100)
    started = torch.tensor([[EOS, BOS]]).expand(2, -1)
    reference = theirs(
        **transformers_inputs(images / 127.5 - 1, prompts, theirs.config.image_token_id),
        decoder_input_ids=torch.cat([started, targets[:, :-1]], dim=1),
        labels=labels,
    )
    reference.loss.backward()
    torch.testing.assert_close(losses.total, reference.loss, rtol=1e-5, atol=0)
    ours, there = objective.model, theirs.model
    decoder = there.language_model.decoder.layers[1]
    for got, expected in (
        (ours.project.linear.weight, there.multi_modal_projector.image_projection.weight.grad),
        (ours.project.rows, there.multi_modal_projector.image_position_embed.row_embeddings.weight.grad),
        (ours.text.encoder.layers[0].ff.down.weight, there.language_model.encoder.layers[0].fc2.weight.grad),
        (ours.text.decoder.layers[1].cross.query.weight, decoder.encoder_attn.q_proj.weight.grad),
        (ours.text.decoder.positions, there.language_model.decoder.embed_positions.weight.grad),
    ):
        rounding = 1e-4 * float(expected.abs().max())  # small gradients are sums of large ones
        torch.testing.assert_close(got.grad, expected, rtol=1e-3, atol=rounding)
    ours.zero_grad()
    run.train()
    trained, started_from = open_model(tmp_path / "run" / "model"), open_model(converted)
    after, before = trained.weights(), started_from.weights()
    same = {key for key in before if torch.equal(after[key], before[key])}
    assert same == {key for key in before if key.startswith("vit.")} | {"project.times"}
    assert (trained.preprocess, trained.facts.dialect) == (started_from.preprocess, "florence2")
    export(trained, tmp_path / "exported")
    assert equal(after, read_florence2(tmp_path / "exported").weights)
    costs = rehearse(recipe, recipe.phases[0], find_device("h100", 1), 1)
    assert costs.memory["weights"] == 4 * sum(t.numel() for t in ours.state_dict().values())
    with pytest.raises(ValueError, match="qk_clip"):
        attentions(ours)


@pytest.mark.usefixtures("data")
def test_an_adapter_of_it_in_int8_trains_and_answers(openpali, converted: Path, tmp_path: Path) -> None:
    base = tmp_path / "int8"
    write_int8(open_model(converted), base)
    add_facts(base, kept={"num_beams": 3})  # which an export gives back
    raw = raw_recipe(base, 64, lora={"rank": 2})
    raw["phases"][0]["mixture"] = [{**MINE, "task": task} for task in ("vqa", "detect", "refseg")]
    recipe = inherit(parse_recipe({**raw, "batch": 6, "phases": [{**raw["phases"][0], "samples": 12}]}))
    whole_run = open_model(trainer(recipe, tmp_path / "whole").train())
    assert whole_run.adapter is not None
    assert whole_run.facts.kept == {"num_beams": 3}
    assert {name.split(".")[1] for name in whole_run.adapter.config.targets} == {"encoder", "decoder"}
    assert all(value.any() for value in whole_run.adapter.tensors.values())
    inputs = torch.zeros(1, 1, 64, 64, 3), torch.tensor([[21, 6, 23]]), torch.tensor([[31, 32, EOS]])
    models = whole_run.model(), whole_run.model(plain=True), open_model(base).model()
    apart, merged, before = (model(*inputs) for model in models)
    torch.testing.assert_close(apart, merged, rtol=1e-2, atol=1e-2)
    assert not torch.allclose(apart, before, rtol=1e-2, atol=1e-2)
    run = openpali
    assert '"score": ' in run("predict", "20.png", "what?", "--json", "--model", "whole")


def test_images_and_prompts_that_do_not_fit_are_refused_alone(converted: Path, tmp_path: Path) -> None:
    """Before they are encoded, so that the other samples of a file are answered."""
    pali, image = Pali(converted), np.full((20, 30, 3), 90, np.uint8)
    config = open_model(converted).config
    visual, most = math.prod(config.vision.grid) + 1, config.text.positions
    fitting = (most - 10) // visual
    assert pali.predict([[image] * fitting], ["what?"], decoding=Decoding(1), raw=True)
    with pytest.raises(ValueError, match="positions"):
        pali.rows([image] * (fitting + 1), "what?")
    sample = {"images": ["a.png"], "question": "what?"}
    Image.fromarray(image).save(tmp_path / "a.png")
    many = {"images": ["a.png"] * (fitting + 1), "question": "what?"}
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(many)}\n{json.dumps(sample)}\n")
    arguments = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    asked = ["--model", str(converted), "--task", "vqa"]
    CliRunner().invoke(app, ["predict", *arguments, *asked])
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first["error"]
    assert "text" in second


@pytest.mark.usefixtures("data")
def test_training_refuses_lengths_without_positions(converted: Path, tmp_path: Path) -> None:
    positions = open_model(converted).config.text.positions

    def train(key: str, length: int) -> Trainer:
        return trainer(inherit(parse_recipe({**raw_recipe(converted, 64), key: length})), tmp_path / key)

    train("max_target", positions - 1)
    for key in ("max_target", "max_prompt"):
        with pytest.raises(ValueError, match=f"^{key} = {positions}, but .* positions"):
            train(key, positions)


def test_the_longest_prompt_is_that_beside_images_of_the_size(saved: Saved, tmp_path: Path) -> None:
    convert([saved[0]], tmp_path / "large", size=(224, 224))
    large = open_model(tmp_path / "large")
    visual = math.prod(large.config.vision.grid) + 1
    assert large.facts.max_prompt == (large.config.text.positions - visual - 2) // 8 * 8
    with pytest.raises(ValueError, match="no room"):
        convert([saved[0]], tmp_path / "larger", size=(1024, 1024))
