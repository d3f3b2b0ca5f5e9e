"""Encoders: targets end in EOS, padding is on the right, and texts that are too long are errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from openpali.data.explain import explain_batch
from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import PairEncoder, SequenceEncoder
from openpali.model.regions import PADDING, UNKNOWN
from openpali.rng import generator
from openpali.tasks.base import Task
from openpali.tasks.example import Box, Example, Object, Size
from openpali.tasks.registry import get_task
from openpali.text.tokenizer import Tokenizer
from openpali.train.objectives.classify import LabelEncoder
from openpali.train.objectives.mask_vqvae import MaskEncoder

IMAGE = np.full((6, 9, 3), 7, np.uint8)
VQA = get_task("vqa")
SMALL = Preprocess(4, 4)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["what is it? a Small red horse stands on the grass"] * 5, 1000)


def question(key: str = "q", frames: int = 1, answer: str = "horse", **fields: Any) -> Example:
    images = [np.full_like(IMAGE, i + 1) for i in range(frames)]
    return Example(key=key, images=images, question="what is it?", answers=[answer], **fields)


def encode(encoder: Any, *examples: Example, task: Task = VQA) -> Any:
    return encoder.collate([encoder.encode(e, task, SMALL, generator(i)) for i, e in enumerate(examples)])


def test_sequences_end_in_eos_and_are_padded_on_the_right(tokenizer: Tokenizer) -> None:
    batch = encode(SequenceEncoder(tokenizer, 64, 64), question(), question(answer="a red horse on the grass"))
    assert {key: value.dtype for key, value in batch.items()} == {
        "prompt": torch.int64,
        "target": torch.int64,
        "images": torch.uint8,
        "places": torch.int64,
    }
    assert batch["target"].take(batch["places"]).tolist() == [i for i in batch["target"].flatten() if i]
    for line, answer in zip(batch["target"].tolist(), ("horse", "a red horse on the grass"), strict=True):
        ids = [*tokenizer.encode(answer), tokenizer.eos_id]
        assert line == ids + [tokenizer.pad_id] * (len(line) - len(ids))
    assert tokenizer.decode(batch["prompt"][0].tolist()) == "Answer in en: what is it? <extra_id_0>"
    assert tokenizer.eos_id not in batch["prompt"]
    assert batch["images"].shape == (2, 1, 4, 4, 3)


def test_a_sample_is_the_same_alone_and_among_others(tokenizer: Tokenizer) -> None:
    encoder = SequenceEncoder(tokenizer, 64, 64)
    alone, among = encode(encoder, question()), encode(encoder, question(), question(answer="a long answer " * 3))
    for key in ("prompt", "target"):
        length = alone[key].shape[1]
        assert length % 8 == among[key].shape[1] % 8 == 0  # few shapes
        assert torch.equal(among[key][0, :length], alone[key][0])
        assert not among[key][0, length:].any()


def test_a_target_that_is_too_long_may_be_cut(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a red horse on the grass")
    encoder = SequenceEncoder(tokenizer, 64, 4, cut=True)
    long = question(answer="a red horse on the grass")
    target = encoder.encode(long, VQA, SMALL, generator(0))["target"].tolist()
    assert target == ids[:4]  # no EOS: there is more to say
    fits = SequenceEncoder(tokenizer, 64, len(ids) + 1, cut=True)
    assert fits.encode(long, VQA, SMALL, generator(0))["target"].tolist() == [*ids, tokenizer.eos_id]
    with pytest.raises(ValueError):
        encode(SequenceEncoder(tokenizer, 3, 64, cut=True), question())


def test_rows_may_have_different_numbers_of_frames(tokenizer: Tokenizer) -> None:
    encoder = SequenceEncoder(tokenizer, 200, 200)
    text = Example(key="t", text="a small red horse stands on the grass " * 3)
    alone = encoder.encode(text, get_task("denoise", tokenizer=tokenizer), SMALL, generator(0))
    seen = [encoder.encode(question(frames=n), VQA, SMALL, generator(0)) for n in (3, 1)]
    batch = encoder.collate([*seen, alone])
    assert batch["frames"].tolist() == [3, 1, 0]
    assert batch["images"].shape == (3, 3, 4, 4, 3)
    assert batch["images"][:, :, 0, 0, 0].tolist() == [[1, 2, 3], [1, 0, 0], [0, 0, 0]]
    assert "frames" not in encode(encoder, question(frames=2), question(frames=2))
    assert "images" not in encoder.collate([alone, alone])


def test_texts_that_are_too_long_are_errors(tokenizer: Tokenizer) -> None:
    length = len(tokenizer.encode("horse")) + 1
    encode(SequenceEncoder(tokenizer, 64, length), question())
    for prompt, target, named in ((64, length - 1, f"max_target is {length - 1}"), (3, 64, "max_prompt")):
        with pytest.raises(ValueError, match=named):
            encode(SequenceEncoder(tokenizer, prompt, target), question())


def test_denoising_keeps_ids_unchanged(tokenizer: Tokenizer) -> None:
    task = get_task("denoise", tokenizer=tokenizer)
    example = Example(key="t", text="a small red horse stands on the grass " * 3)
    encoder = SequenceEncoder(tokenizer, 200, 200)
    arrays = encoder.encode(example, task, SMALL, generator(0))
    sample = task.write(example, generator(0))
    assert sample.ids is not None
    assert arrays["prompt"].tolist() == sample.ids[0]
    assert arrays["target"].tolist() == [*sample.ids[1], tokenizer.eos_id]


def test_pairs_are_lower_case_and_end_in_sticky_eos(tokenizer: Tokenizer) -> None:
    example = Example(key="c", images=[IMAGE], captions={"en": ["a Small red horse"]})
    task = get_task("contrastive")
    batch = encode(PairEncoder(tokenizer, 24), example, task=task)
    ids = tokenizer.encode("a small red horse")
    assert batch["ids"].tolist() == [ids + [tokenizer.eos_id] * (24 - len(ids))]
    assert batch["images"].shape == (1, 4, 4, 3)
    kept = encode(PairEncoder(tokenizer, 24, "as is"), example, task=task)
    assert tokenizer.decode(kept["ids"][0].tolist()) == "a Small red horse"
    cut = encode(PairEncoder(tokenizer, 3), example, task=task)
    assert cut["ids"].tolist() == [[*ids[:2], tokenizer.eos_id]]


def test_texts_may_have_one_eos_and_then_padding(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a small red horse")
    encoder = PairEncoder(tokenizer, 24, padding="pad")
    expected = [*ids, tokenizer.eos_id, *[tokenizer.pad_id] * (23 - len(ids))]
    assert encoder.text("a Small red horse").tolist() == expected
    assert PairEncoder(tokenizer, 3, padding="pad").text("a small red horse").tolist()[-1] == tokenizer.eos_id


def test_objects_are_regions_with_distinct_names(tokenizer: Tokenizer) -> None:
    horse, grass = Object("horse", Box(0, 0, 2, 9)), Object("grass", Box(3, 6, 6, 9))
    captioned = {"images": [IMAGE], "captions": {"en": ["x"]}}
    examples = [
        Example(key=k, objects=o, **captioned) for k, o in (("a", []), ("b", [horse, grass]), ("c", [horse]))
    ]
    encoder = PairEncoder(tokenizer, 24, regions=True)
    batch = encode(encoder, *examples, task=get_task("contrastive"))
    rows, named = batch["region_rows"], batch["region_names"]
    assert len(rows) == len(named) == len(batch["region_boxes"]) == 64
    assert named[3:].tolist() == [-1] * 61
    assert rows[:3].tolist() == [1, 1, 2]
    torch.testing.assert_close(
        batch["region_boxes"][:3], torch.tensor([[0, 0, 1 / 3, 1], [0.5, 6 / 9, 1, 1], [0, 0, 1 / 3, 1]])
    )
    names = [tokenizer.decode(ids) for ids in batch["names"].tolist()]
    assert sorted(names) == [*[""] * 62, "grass", "horse"]
    assert names[2:] == [""] * 62
    assert [names[n] for n in named[:3]] == ["horse", "grass", "horse"]
    nothing = encode(encoder, examples[0], task=get_task("contrastive"))
    assert (nothing["region_names"] == -1).all()
    assert "names" not in encode(PairEncoder(tokenizer, 24), examples[1], task=get_task("contrastive"))


def test_ignored_boxes_are_regions_without_a_name(tokenizer: Tokenizer) -> None:
    horse = Object("horse", Box(0, 0, 2, 9))
    captioned = {"images": [IMAGE], "captions": {"en": ["x"]}}
    crowd = {"ignored": [Box(0, 0, 6, 9), Box(3, 6, 6, 9)]}
    examples = [
        Example(key="a", **captioned, **crowd),
        Example(key="b", objects=[horse], **captioned),
        Example(key="c", objects=[horse], **captioned, ignored=[Box(3, 0, 6, 9)]),
    ]
    batch = encode(PairEncoder(tokenizer, 24, regions=True), *examples, task=get_task("contrastive"))
    named = batch["region_names"]
    horses = [tokenizer.decode(ids) for ids in batch["names"].tolist()].index("horse")
    assert named[:5].tolist() == [UNKNOWN, UNKNOWN, horses, horses, UNKNOWN]
    assert (named[5:] == PADDING).all()
    assert batch["region_rows"][:5].tolist() == [0, 0, 1, 2, 2]
    torch.testing.assert_close(batch["region_boxes"][4], torch.tensor([0.5, 0, 1, 1]))


def test_regions_are_where_padding_leaves_them(tokenizer: Tokenizer) -> None:
    wide = Example(
        key="w",
        images=[np.zeros((10, 40, 3), np.uint8)],
        captions={"en": ["x"]},
        objects=[Object("end", Box(0, 30, 10, 40))],
    )
    encoder = PairEncoder(tokenizer, 24, regions=True)
    padding = Preprocess(8, 16, policy="pad")  # the image takes 4 rows of the 8
    arrays = encoder.encode(wide, get_task("contrastive"), padding, generator(0))
    assert arrays["boxes"].tolist() == [[0, 0.75, 0.5, 1]]


def test_regions_of_an_image_decoded_smaller_are_in_pixels_of_its_file(tokenizer: Tokenizer) -> None:
    fields = {"captions": {"en": ["x"]}, "objects": [Object("horse", Box(0, 36, 24, 72))]}
    small = Example(key="s", images=[IMAGE], original=Size(48, 72), **fields)
    arrays = PairEncoder(tokenizer, 24, regions=True).encode(small, get_task("contrastive"), SMALL, generator(0))
    assert arrays["boxes"].tolist() == [[0, 0.5, 0.5, 1]]


def test_a_spelled_target_has_a_token_for_each_character(tokenizer: Tokenizer) -> None:
    line = Example(key="l", images=[IMAGE], text="a red horse", lang="en")
    ids = []
    for spelled in (False, True):
        batch = encode(SequenceEncoder(tokenizer, 64, 64), line, task=get_task("ocr", spelled=spelled))
        ids.append([i for i in batch["target"][0].tolist() if i not in (tokenizer.pad_id, tokenizer.eos_id)])
    assert ids == [tokenizer.encode(line.text), tokenizer.spell(line.text)]
    assert ids[0] != ids[1]


def test_labels_become_class_indices() -> None:
    encoder = LabelEncoder(("cat", "dog"))
    task = get_task("classify")
    batch = encode(encoder, Example(key="a", images=[IMAGE], label="dog"), task=task)
    assert batch["label"].tolist() == [1]
    with pytest.raises(ValueError, match="label 'cow' of b is not one of the 2 classes"):
        encode(encoder, Example(key="b", images=[IMAGE], label="cow"), task=task)


def test_masks_are_cropped_to_their_box() -> None:
    mask = np.zeros((40, 50), bool)
    mask[10:20, 5:45] = True
    thing = Object("bar", Box(10, 5, 20, 45), mask)
    batch = encode(MaskEncoder(), Example(key="m", objects=[Object("no mask", Box(0, 0, 1, 1)), thing]))
    assert batch["masks"].shape == (1, 64, 64)
    assert batch["masks"].min() == 1
    with pytest.raises(ValueError, match="sample n has no object with a mask"):
        encode(MaskEncoder(), Example(key="n"))


def test_a_missing_image_is_quarantined_not_a_crash(tokenizer: Tokenizer) -> None:
    example = Example(key="e", captions={"en": ["x"]}, label="cat")
    for encoder in (PairEncoder(tokenizer, 8), LabelEncoder(("cat",))):
        with pytest.raises(ValueError):
            encode(encoder, example, task=get_task("contrastive"))
    with pytest.raises(ValueError):  # or it would learn to guess
        encode(SequenceEncoder(tokenizer, 64, 64), question(frames=0))


def test_explain_marks_every_token_except_padding(tokenizer: Tokenizer) -> None:
    batch = encode(SequenceEncoder(tokenizer, 64, 64), question(), question(answer="a red horse"))
    lines = explain_batch(batch, tokenizer)
    prompts, targets, places = (list(batch[key].shape) for key in ("prompt", "target", "places"))
    assert lines[0] == f"batch: prompt {prompts}, target {targets}, images [2, 1, 4, 4, 3], places {places}"
    second = lines.index("sample 1")
    tokens = {
        row: [x.split() for x in part if x.endswith((" loss", " -"))]
        for row, part in enumerate((lines[:second], lines[second:]))
    }
    for row, listed in tokens.items():
        ids = batch["target"][row].tolist()
        assert [int(words[1]) for words in listed] == ids
        assert [words[-1] for words in listed] == ["loss" if i != tokenizer.pad_id else "-" for i in ids]
        assert [words[2] for words in listed] == tokenizer.pieces(ids)
    assert sum("</s>" in x and x.endswith(" loss") for x in lines) == 2
    assert "sample 1" not in explain_batch(batch, tokenizer, rows=1)
    with pytest.raises(ValueError):
        explain_batch({"ids": batch["prompt"]}, tokenizer)
