"""The loss of captions and boxes that a decoder writes from patch tokens: what it writes, and its value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_runs import losses_of, make_recipe
from torch import Tensor

from openpali.data.pipeline.encode import images_in
from openpali.model.patches import real_patches
from openpali.rng import generator
from openpali.train.objectives.base import Lengths
from openpali.train.objectives.captions import caption_loss
from openpali.train.recipe import Recipe
from openpali.weights.format import open_model


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Images with an object, without one, with one outside, and without one."""
    objects = [[("red horse", [10, 30, 40, 60])], [], [("star", [50, 70, 60, 80])], []]
    lines = []
    for i, named in enumerate(objects):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        things = [{"name": name, "box": box} for name, box in named]
        lines.append({"images": f"{i}.png", "caption": "a small red horse " * (i + 1), "objects": things})
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    return path


def captioned(source: Path, **changes: Any) -> Recipe:
    mixture = [{"source": str(source), "task": "contrastive"}]
    return make_recipe("siglip", **{"phases__0__mixture": mixture, "captions": 0.3, **changes})


def samples_of(trainer: Any) -> list[dict[str, np.ndarray]]:
    [phase] = trainer.phases
    [entry], encode = phase.entries, trainer.objective.encoder.encode
    return [encode(entry.source[i], entry.task, phase.preprocess, generator(i)) for i in range(4)]


def sequences(batch: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Each sequence with its padding, and the places in it that have loss."""
    width = batch["written"].shape[1]
    row, place = batch["written_places"] // width, batch["written_places"] % width
    return [(ids, place[row == number]) for number, ids in enumerate(batch["written"])]


def test_an_image_has_its_text_and_both_ways_between_a_box_and_its_name(mine: Path, make_trainer: Any) -> None:
    trainer = make_trainer(captioned(mine))
    batch, tokenizer = trainer.objective.encoder.collate(samples_of(trainer)), trainer.tokenizer
    caption, to_name, to_box = sequences(batch)[:3]

    def told(sequence: tuple[Tensor, Tensor]) -> tuple[str, str]:
        ids, places = sequence
        assert places.tolist() == [*range(places[0], places[-1] + 1)]
        assert ids[places[-1]] == tokenizer.eos_id
        assert not ids[places[-1] + 1 :].any()
        return tokenizer.decode(ids[: places[0]].tolist()), tokenizer.decode(ids[places].tolist())

    assert told(caption) == ("", "a small red horse")
    box = "25 50 99 99"  # of 40 x 60 pixels in bins 0 to 99
    assert (told(to_name), told(to_box)) == ((box, "red horse"), ("red horse", box))
    assert to_name[0][to_name[1][0] - 1] == to_box[0][to_box[1][0] - 1] == tokenizer.pad_id
    with_loss = [len(places) > 0 for _, places in sequences(batch)]
    assert with_loss == [True] * 3 + [True, False, False] * 3
    assert trainer.objective.encoder.pairs.length == len(sequences(batch)[9][1])  # a text that is too long is cut


def test_the_loss_is_that_of_each_sequence_by_itself(mine: Path, make_trainer: Any) -> None:
    trainer = make_trainer(captioned(mine))
    batch, model = trainer.objective.encoder.collate(samples_of(trainer)), trainer.model
    decoder, tokens = model.auxiliary["captions"], model.vit(batch["images"])
    expected = torch.zeros(())
    for number, (ids, places) in enumerate(sequences(batch)):
        if len(places):
            own = ids[None, : int(places[-1]) + 1]
            memory = decoder.encode(tokens[number // 3 : number // 3 + 1], None)
            logits = decoder.logits(decoder.decode(F.pad(own[:, :-1], (1, 0)), memory, None))[0]
            expected = expected + F.cross_entropy(logits[places], ids[places])
    torch.testing.assert_close(caption_loss(decoder, tokens, None, batch, 0), expected)

    plain = make_trainer(captioned(mine, captions=0.0), "plain")
    plain.model.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("auxiliary")})
    pairs, total = (each.objective.losses(batch, 4.0).total for each in (plain, trainer))
    torch.testing.assert_close(total, pairs + 0.3 / 4 * expected)
    [of_pairs] = torch.autograd.grad(pairs, plain.model.vit.positions)
    [of_total], [own] = (torch.autograd.grad(loss, model.vit.positions) for loss in (total, expected))
    torch.testing.assert_close(of_total, of_pairs + 0.3 / 4 * own)


def test_its_gradient_reaches_the_image_encoder_and_all_of_the_decoder(mine: Path, make_trainer: Any) -> None:
    trainer = make_trainer(captioned(mine))
    batch, model = trainer.objective.encoder.collate(samples_of(trainer)), trainer.model
    caption_loss(model.auxiliary["captions"], model.vit(batch["images"]), None, batch, 0).backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {name for name in model.state_dict() if name.startswith(("vit.", "auxiliary."))}


def test_neither_other_images_nor_padding_change_it(mine: Path, make_trainer: Any) -> None:
    """Of images in their own proportions, whose patches are padded, too."""
    phases = [{"samples": 8, "tokens": 40, "mixture": [{"source": str(mine), "task": "contrastive"}]}]
    trainer = make_trainer(captioned(mine, phases=phases, model__resize="native"))
    collate, samples, model = trainer.objective.encoder.collate, samples_of(trainer), trainer.model

    def loss(batch: dict[str, Tensor]) -> Tensor:
        images = images_in(batch)
        return caption_loss(
            model.auxiliary["captions"], model.vit(images), real_patches(images), batch, trainer.tokenizer.pad_id
        )

    alone = sum(loss(collate([sample])) for sample in samples)
    together = collate(samples)
    torch.testing.assert_close(loss(together), alone)
    longer = F.pad(together["images"], (0, 0, 0, 24), value=77)
    torch.testing.assert_close(loss({**together, "images": longer}), alone)


def test_a_run_learns_to_write_and_exports_no_decoder(mine: Path, make_trainer: Any, tmp_path: Path) -> None:
    changes = {"captions": 1.0, "ema": 0.5, "phases__0__samples": 160, "optimizer__lr": 1e-2}
    trainer = make_trainer(captioned(mine, **changes))
    seen = losses_of(trainer, "captions")
    written = trainer.train()
    assert np.mean(seen[-5:]) < 0.5 * np.mean(seen[:5])
    plain = make_trainer(captioned(mine, captions=0.0), "plain").model.state_dict()
    assert open_model(written).weights().keys() == plain.keys()
    assert open_model(written).config == trainer.objective.config

    again = make_trainer(captioned(mine, model__init={"": str(written)}), "again")
    assert torch.equal(again.model.vit.positions, open_model(written).weights()["vit.positions"])
    assert again.model.auxiliary["captions"].decoder[0].ff.up.weight.requires_grad
    losses = losses_of(again)
    again.train()
    assert np.isfinite(losses).all()


def test_plans_see_the_batch_that_training_sees(mine: Path, make_trainer: Any) -> None:
    trainer = make_trainer(captioned(mine))
    batch = trainer.objective.encoder.collate(samples_of(trainer))
    planned = trainer.objective.example_batch(trainer.recipe.phases[0], 4, Lengths())
    assert planned.keys() == batch.keys()
    assert len(planned["written"]) == len(batch["written"])
    assert planned["written"].shape[1] >= batch["written"].shape[1]
    assert all(planned[name].dtype == batch[name].dtype for name in batch)


def test_no_adapter_holds_the_decoder() -> None:
    with pytest.raises(ValueError, match=r"train parts that no adapter holds: remove model\.lora"):
        make_recipe("siglip", captions=0.1, model__init={"": "any"}, model__lora={"rank": 2})
