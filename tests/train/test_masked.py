"""Patches that are hidden, and the prediction of their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import assert_added, first_batch, losses_of, make_recipe
from torch import Tensor

from openpali.data.media.images import Preprocess
from openpali.model.patches import Patches
from openpali.tasks.example import Example
from openpali.train.objectives.distil import distillation_loss
from openpali.train.objectives.masked import HidingEncoder, hide
from openpali.weights.format import open_model


class Whole:
    """Stands for an encoder of images alone."""

    def encode(self, example: Example, task: Any, preprocess: Any, rng: Any) -> Mapping[str, np.ndarray]:
        return dict(preprocess.arrays(example.images[0]))

    def collate(self, samples: Any) -> dict[str, Tensor]:
        assert all("hidden" not in sample for sample in samples)
        return {"images": torch.from_numpy(np.stack([sample["images"] for sample in samples]))}


class Native:
    def arrays(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return {"images": np.zeros((8, 3 * 12 * 12), np.uint8), "grids": np.array([2, 3])}


@pytest.mark.parametrize(("preprocess", "patches", "real"), [(Preprocess(36, 48), 12, 12), (Native(), 8, 6)])
def test_half_of_the_patches_of_an_image_are_hidden(preprocess: Any, patches: int, real: int) -> None:
    example = Example("x", [np.zeros((40, 50, 3), np.uint8)])
    encoder, rng = HidingEncoder(Whole(), 12), np.random.default_rng(0)
    samples = [encoder.encode(example, None, preprocess, rng) for _ in range(40)]
    hidden = encoder.collate(samples)["hidden"]
    assert (hidden.shape, hidden.dtype) == ((40, patches), torch.bool)
    assert (hidden.sum(1) == real // 2).all()
    assert not hidden[:, real:].any()
    assert hidden[:, :real].any(0).all()  # each is, at some time
    assert len({tuple(row) for row in hidden.tolist()}) > 10


def test_hidden_patches_are_grey_and_others_stay() -> None:
    images = torch.randint(129, 256, (2, 24, 36, 3), dtype=torch.uint8)
    hidden = torch.tensor([[False, True, False, False, False, False], [False] * 5 + [True]])
    seen = hide(images, hidden, 12)
    changed = images != seen
    assert (seen[changed] == 128).all()
    assert changed[0, :12, 12:24].all()
    assert changed[1, 12:, 24:].all()
    assert changed.sum() == 2 * 12 * 12 * 3
    native = Patches(torch.full((1, 3, 5), -0.5), torch.tensor([[1, 2]]))
    values, grids = hide(native, torch.tensor([[True, False, False]]), 12)
    assert values.tolist() == [[[0.0] * 5, [-0.5] * 5, [-0.5] * 5]]
    assert grids is native.grids


def test_the_loss_is_added_by_its_weight_and_teaches_what_sees_less(make_trainer: Any) -> None:
    trainer, plain = (make_trainer(make_recipe("siglip", masked=weight), str(weight)) for weight in (0.5, 0.0))
    model, batch = trainer.model, first_batch(trainer, plain)
    seen, whole = model.vit(hide(batch["images"], batch["hidden"], 12)), model.vit(batch["images"]).detach()
    own = distillation_loss(model.auxiliary["predictor"](seen), whole, batch["hidden"])
    assert_added(trainer, plain, batch, own, 0.5)


def test_hidden_patches_are_learned_and_the_predictor_is_not_exported(make_trainer: Any) -> None:
    trainer = make_trainer(make_recipe("siglip", masked=1.0, phases__0__samples=96, optimizer__lr=1e-2))
    seen = losses_of(trainer, "masked")
    written = open_model(trainer.train())
    assert sum(seen[-4:]) < 0.7 * sum(seen[:4])
    assert written.weights().keys() == make_trainer(make_recipe("siglip"), "plain").model.state_dict().keys()


def test_an_adapter_holds_no_predictor() -> None:
    with pytest.raises(ValueError, match="captions, teacher and masked train parts that no adapter holds"):
        make_recipe("siglip", masked=1.0, model__init={"": "any"}, model__lora={"rank": 2})
