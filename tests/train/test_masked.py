"""Patches that are hidden, and the prediction of their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import assert_added, first_batch, make_recipe
from torch import Tensor

from openpali.data.media.images import Preprocess
from openpali.model.init import materialise
from openpali.model.patches import Patches
from openpali.model.vit import ViTConfig, cut
from openpali.tasks.example import Example
from openpali.train.objectives.masked import ADDED, MOMENTUM, Heads, HidingEncoder, hide, take
from openpali.weights.format import open_model


class Whole:
    """Stands for an encoder of images alone."""

    def encode(self, example: Example, task: Any, preprocess: Any, rng: Any) -> Mapping[str, np.ndarray]:
        return dict(preprocess.arrays(example.images[0]))

    def collate(self, samples: Any) -> dict[str, Tensor]:
        assert not any(key in sample for sample in samples for key in ADDED)
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


@pytest.mark.parametrize(("preprocess", "grid", "length"), [(Preprocess(36, 48), (3, 4), 2), (Native(), (2, 3), 4)])
def test_a_part_is_a_rectangle_of_half_the_rows_and_columns(
    preprocess: Any, grid: tuple[int, int], length: int
) -> None:
    example = Example("x", [np.zeros((40, 50, 3), np.uint8)])
    encoder, rng = HidingEncoder(Whole(), 12), np.random.default_rng(0)
    batch = encoder.collate([encoder.encode(example, None, preprocess, rng) for _ in range(40)])
    rows, columns = grid[0] // 2, grid[1] // 2
    assert batch["part"].shape == (40, length)
    assert batch["part_grids"].tolist() == [[rows, columns]] * 40
    seen = set()
    for part in batch["part"].tolist():
        places = [divmod(number, grid[1]) for number in part[: rows * columns]]
        top, left = places[0]
        assert places == [(top + y, left + x) for y in range(rows) for x in range(columns)]
        assert top + rows <= grid[0]
        assert left + columns <= grid[1]
        assert not any(part[rows * columns :])  # padding
        seen.add((top, left))
    assert len(seen) == (grid[0] - rows + 1) * (grid[1] - columns + 1)


def test_the_patches_of_a_part_are_taken() -> None:
    images = torch.randint(256, (2, 24, 36, 3), dtype=torch.uint8)
    parts = take(images, torch.tensor([[0, 1], [4, 5]]), torch.tensor([[1, 2], [1, 2]]), 12)
    assert torch.equal(parts.values[0], cut(images[:1, :12, :24], 12)[0])
    assert torch.equal(parts.values[1], cut(images[1:, 12:, 12:], 12)[0])
    again = take(
        Patches(cut(images, 12), torch.tensor([[2, 3], [2, 3]])), torch.tensor([[3], [0]]), parts.grids, 12
    )
    assert torch.equal(again.values[:, 0], torch.stack([cut(images, 12)[0, 3], cut(images, 12)[1, 0]]))


def heads() -> Heads:
    torch.manual_seed(0)
    return materialise(Heads(ViTConfig(12, (2, 2), 8, 1, 16, 2), masked=True, part=True))


def test_targets_are_of_the_averages_and_have_no_gradient() -> None:
    """By hand, from DINO's and iBOT's definition: -p(teacher) log p(student), with a centred teacher."""
    module = heads()
    seen, whole = torch.randn(3, 4, 8, requires_grad=True), torch.randn(3, 4, 8, requires_grad=True)
    hidden = torch.tensor([[True, False, False, True], [True, True, False, False], [False, True, False, False]])
    loss = module.masked_loss(seen, whole, hidden)
    scores = module.average["patches"](whole)
    target = ((scores - scores[hidden].mean(0)) / 0.05).softmax(-1)
    each = -(target * (module.learning["patches"](seen) / 0.1).log_softmax(-1)).sum(-1)
    torch.testing.assert_close(loss, sum(row[chosen].mean() for row, chosen in zip(each, hidden, strict=True)))
    loss.backward()
    assert whole.grad is None
    assert seen.grad is not None
    assert (seen.grad.abs().sum(-1) > 0).tolist() == hidden.tolist()
    assert all(p.grad is None for p in module.average.parameters())
    part, image = torch.randn(3, 8), torch.randn(3, 8)
    scores = module.average["image"](image)
    target = ((scores - scores.mean(0)) / 0.05).softmax(-1)
    expected = -(target * (module.learning["image"](part) / 0.1).log_softmax(-1)).sum()
    torch.testing.assert_close(module.part_loss(part, image), expected)


@pytest.mark.parametrize("key", ["masked", "self_distillation"])
def test_a_loss_is_added_by_its_weight(make_trainer: Any, key: str) -> None:
    trainer, plain = (
        make_trainer(make_recipe("siglip", **{key: weight}), f"{key}-{weight}") for weight in (0.5, 0.0)
    )
    model, batch = trainer.model, first_batch(trainer, plain)
    module = model.auxiliary["heads"]
    if key == "masked":
        seen = model.vit(hide(batch["images"], batch["hidden"], 12))
        own = module.masked_loss(seen, model.vit(batch["images"]), batch["hidden"])
    else:
        part = model.embed_image(take(batch["images"], batch["part"], batch["part_grids"], 12))
        own = module.part_loss(part, model.embed_image(batch["images"]))
    assert list(module.learning) == [{"masked": "patches"}.get(key, "image")]
    assert_added(trainer, plain, batch, own, 0.5)


def test_what_sees_less_learns_to_choose_as_what_sees_all_does() -> None:
    """The tokens of 64 images with noise, which a head can tell from each other and a map can undo."""
    module = heads()
    undo = torch.nn.Linear(8, 8)
    optimizer = torch.optim.AdamW([*undo.parameters(), *module.learning.parameters()], lr=1e-2)
    module.follow(0.0)
    whole, twist, hidden = torch.randn(64, 4, 8), torch.randn(8, 8), torch.ones(64, 4, dtype=torch.bool)
    losses = []
    for _ in range(100):
        loss = module.masked_loss(undo(whole @ twist), whole, hidden) / 64
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        module.follow(MOMENTUM)
    assert losses[-1] < 0.7 * losses[0], losses


def test_both_begin_where_they_are_told_and_no_head_is_exported(make_trainer: Any) -> None:
    """They begin after half of the run: the averages are then the heads, and follow them."""
    losses = {"masked": 1.0, "self_distillation": 1.0, "masked_from": 0.5}
    recipe = make_recipe("siglip", **losses, phases__0__samples=32)
    trainer = make_trainer(recipe)
    module = trainer.model.auxiliary["heads"]
    averages: list[list[Tensor]] = []
    seen: list[dict[str, Tensor]] = []
    original = trainer.objective.losses

    def spy(*args: Any) -> Any:
        found = original(*args)
        seen.append(found.extra)
        averages.append(
            [p.detach().clone() for each in (module.learning, module.average) for p in each.parameters()]
        )
        return found

    trainer.objective.losses = spy
    written = open_model(trainer.train())
    begun = ["masked" in extra for extra in seen]
    assert begun == [False] * 4 + [True] * 4
    half = len(averages[4]) // 2
    assert all(map(torch.equal, averages[4][:half], averages[4][half:]))
    for old, head, new in zip(averages[4][half:], averages[5][:half], averages[5][half:], strict=True):
        torch.testing.assert_close(new, MOMENTUM * old + (1 - MOMENTUM) * head)
    assert written.weights().keys() == make_trainer(make_recipe("siglip"), "plain").model.state_dict().keys()


def test_a_step_that_is_computed_again_and_more_samples_move_no_average(make_trainer: Any) -> None:
    recipe = make_recipe("siglip", masked=1.0, masked_from=0.5, phases__0__samples=32)
    objective = make_trainer(recipe).objective
    heads = objective.model.auxiliary["heads"]
    objective.begin_step(5)
    with torch.no_grad():
        heads.learning["patches"].prototypes.add_(1.0)
    before = [p.clone() for p in heads.average.parameters()]
    objective.begin_step(5)
    assert all(map(torch.equal, before, heads.average.parameters()))
    objective.begin_step(6)
    assert not all(map(torch.equal, before, heads.average.parameters()))
    longer = recipe.model_copy(update={"more_samples": 64})
    assert longer.samples == 96
    objective.recipe = longer
    assert objective.late == ()  # step 6 of 24, after the beginning at step 4 of 8
    before = [p.clone() for p in heads.average.parameters()]
    objective.begin_step(6)
    assert all(map(torch.equal, before, heads.average.parameters()))


def test_heads_do_not_decay_before_they_learn(make_trainer: Any) -> None:
    changes = {"optimizer__weight_decay": 0.5, "optimizer__lr": 1e-2, "phases__0__samples": 32}
    trainer = make_trainer(make_recipe("siglip", masked=1.0, masked_from=0.99, **changes))
    learning = trainer.model.auxiliary["heads"].learning
    before = {name: p.clone() for name, p in learning.named_parameters()}
    original, begun = trainer.objective.losses, []

    def spy(*args: Any) -> Any:
        begun.append(trainer.objective.late == ())
        assert all(torch.equal(before[name], p) for name, p in learning.named_parameters())
        return original(*args)

    trainer.objective.losses = spy
    trainer.train()
    assert len(before) == 5
    assert begun == [False] * 7 + [True]  # at the latest in the last step


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="no adapter holds"):
        make_recipe("siglip", masked=1.0, model__init={"": "any"}, model__lora={"rank": 2})
    with pytest.raises(ValueError, match="masked_from"):
        make_recipe("siglip", masked_from=0.5)
