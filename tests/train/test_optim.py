"""Parameter groups, learning rates and schedules, by value."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import losses_of, make_recipe, train_and_kill

from openpali.train.optim.adafactor import Adafactor
from openpali.train.optim.optimizer import build_optimizer, freeze, rate, rate_in
from openpali.train.recipe import OptimizerSpec


def spec(**options) -> OptimizerSpec:
    return OptimizerSpec(**{"lr": 1.0, **options})


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"schedule": "constant"}, {0: 1, 500: 1, 999: 1}),
        ({"schedule": "constant", "warmup": 100}, {0: 0.01, 49: 0.5, 99: 1, 100: 1, 999: 1}),
        ({"schedule": "constant", "cooldown": 200}, {0: 1, 800: 1, 900: 0.5, 950: 0.25, 1000: 0}),
        ({"schedule": "linear"}, {0: 1, 250: 0.75, 1000: 0}),
        ({"schedule": "linear", "warmup": 200}, {99: 0.5, 199: 1, 200: 1, 600: 0.5, 1000: 0}),
        ({"schedule": "cosine"}, {0: 1, 250: 0.5 + math.sqrt(0.125), 500: 0.5, 1000: 0}),
        ({"schedule": "cosine", "warmup": 200}, {99: 0.5, 200: 1, 600: 0.5, 1000: 0}),
        ({"schedule": "rsqrt", "warmup": 100}, {49: 0.5, 99: 1, 100: 1, 400: 0.5, 900: 1 / 3}),
        ({"schedule": "rsqrt", "warmup": 100, "cooldown": 200}, {400: 0.5, 900: 1 / 6, 1000: 0}),
    ],
)
def test_schedules_by_value(options, values) -> None:
    for sample, expected in values.items():
        assert rate(spec(**options), sample, 1000) == pytest.approx(expected, abs=1e-12), sample


def test_phases_have_learning_rates_of_their_own() -> None:
    mixture = make_recipe().phases[0].mixture
    phase = {"size": 72, "mixture": [entry.model_dump() for entry in mixture]}
    recipe = make_recipe(
        optimizer={"lr": 1e-3, "schedule": "constant", "warmup": 4, "cooldown": 8},
        phases=[
            {"samples": 8, **phase},
            {"samples": 8, **phase},  # goes on with the optimizer's
            {"samples": 8, "lr": 5e-4, "warmup": 4, **phase},
            {"samples": 24, "lr": 2e-3, "cooldown": 16, **phase},
        ],
    )
    wanted = {
        0: 0.25,
        3: 1,
        8: 1,
        12: 0.5,
        15: 1 / 8,
        16: 0.125,
        19: 0.5,
        23: 0.5,
        24: 2,
        32: 2,
        40: 1,
        47: 1 / 8,
        48: 0,
    }
    assert {sample: rate_in(recipe.schedules, 1e-3, sample) for sample in wanted} == pytest.approx(wanted)


@given(
    schedule=st.sampled_from(["cosine", "linear", "rsqrt", "constant"]),
    warmup=st.integers(50, 400),
    cooldown=st.sampled_from([0, 50, 300]),
    sample=st.integers(0, 999),
)
def test_the_rate_has_no_jumps(schedule, warmup, cooldown, sample) -> None:
    cooldown = cooldown if schedule in ("rsqrt", "constant") else 0
    options = spec(schedule=schedule, warmup=warmup, cooldown=cooldown)
    now, then = (rate(options, s, 1000) for s in (sample, sample + 1))
    assert 0 <= then <= 1
    assert abs(then - now) <= 1 / 50 + 1 / 50


TABLES = "text.encoder_bias.0.table.weight", "text.decoder_bias.0.table.weight"


def names_of(model, group) -> set[str]:
    known = {id(p): name for name, p in model.named_parameters()}
    return {known[id(p)] for p in group["params"]}


def names_with_decay(model, options) -> set[str]:
    groups = build_optimizer(model, options).param_groups
    assert {group["weight_decay"] for group in groups} == {0.0, options.weight_decay}
    return set().union(*(names_of(model, group) for group in groups if group["weight_decay"]))


@pytest.mark.parametrize(
    ("objective", "spared"),
    [
        ("siglip", {"vit.positions", "text.positions", "text.embed.weight", "pool.probe"}),
        ("sequence", {"vit.positions", "text.embed.weight", *TABLES}),
        ("elements", {"kind.weight"}),
    ],
)
def test_only_matrices_decay(objective, spared, make_trainer) -> None:
    model = make_trainer(make_recipe(objective)).model
    matrices = {name for name, p in model.named_parameters() if p.ndim >= 2}
    assert names_with_decay(model, spec(weight_decay=0.1)) == matrices - spared


def test_lr_scale_by_part(make_trainer) -> None:
    model = make_trainer(make_recipe()).model
    optimizer = build_optimizer(model, spec(lr=0.1, lr_scale={"vit": 0.5, "vit.positions": 0.1, "text.head": 2.0}))
    rates = {name: g["peak_lr"] for g in optimizer.param_groups for name in names_of(model, g)}
    assert rates["vit.patch_embed.weight"] == pytest.approx(0.05)
    assert rates["vit.positions"] == pytest.approx(0.005)
    assert rates["text.head.weight"] == pytest.approx(0.2)
    assert rates["text.embed.weight"] == rates["project.weight"] == pytest.approx(0.1)
    assert rates.keys() == dict(model.named_parameters()).keys()
    with pytest.raises(ValueError):
        build_optimizer(model, spec(lr_scale={"vision": 0.5}))


def test_a_part_is_not_a_prefix(make_trainer) -> None:
    """ "text.enc" is not a part, and "text.encoder" does not include "text.encoder_norm"."""
    model = make_trainer(make_recipe()).model
    with pytest.raises(ValueError):
        freeze(model, ["text.enc"])
    freeze(model, ["text.encoder"])
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("text.encoder.")}
    assert frozen


def test_frozen_parts_have_no_gradient_and_no_optimizer_state(make_trainer) -> None:
    trainer = make_trainer(make_recipe(model__frozen=["vit", "text.embed"], optimizer__weight_decay=0.1))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    in_groups = set().union(*(names_of(trainer.model, g) for g in trainer.optimizer.param_groups))
    assert in_groups == {n for n in before if not n.startswith(("vit.", "text.embed."))}
    seen = {}
    original = trainer.optimizer.step

    def look() -> None:
        seen.update({n: p.grad is not None for n, p in trainer.model.named_parameters()})
        original()

    trainer.optimizer.step = look
    trainer.train()
    assert {name for name, has in seen.items() if has} == in_groups
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == in_groups


def test_nothing_or_everything_frozen(make_trainer) -> None:
    for part, named in (("", "every part is frozen"), ("vision", "'vision': name parts of the model")):
        with pytest.raises(ValueError, match=named):
            make_trainer(make_recipe(model__frozen=[part]))


def rates_of(trainer) -> list[list[float]]:
    """A list that receives the learning rates of each step."""
    used: list[list[float]] = []
    original = trainer.optimizer.step

    def look() -> None:
        used.append(sorted({group["lr"] for group in trainer.optimizer.param_groups}))
        original()

    trainer.optimizer.step = look
    return used


def test_the_rate_is_applied_through_phases_and_restarts(make_trainer) -> None:
    optimizer = {"lr": 0.1, "schedule": "linear", "warmup": 8, "lr_scale": {"vit": 0.5}}
    phases = [{**make_recipe().model_dump()["phases"][0], "samples": 12, "size": size} for size in (48, 72)]
    recipe = make_recipe(optimizer=optimizer, phases=phases, save_minutes=1e-9)
    trainer = make_trainer(recipe)
    used = rates_of(trainer)
    train_and_kill(trainer, 5)
    trainer = make_trainer(recipe)
    assert trainer.step == 4
    again = rates_of(trainer)
    trainer.train()
    factors = [1 / 8, 5 / 8, 1, 0.75, 0.5, 0.25]
    assert used + again == [pytest.approx([0.05 * f, 0.1 * f]) for f in factors]


def test_adafactor_learns(make_trainer) -> None:
    trainer = make_trainer(make_recipe(optimizer__name="adafactor", optimizer__lr=0.03, phases__0__samples=80))
    assert isinstance(trainer.optimizer, Adafactor)
    losses = losses_of(trainer)
    trainer.train()
    assert sum(losses[-5:]) < sum(losses[:5])


def test_gradients_are_clipped_by_their_norm(make_trainer) -> None:
    trainer = make_trainer(make_recipe(optimizer__clip=0.25, phases__0__samples=4))
    norms = []
    original = trainer.optimizer.step

    def look() -> None:
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in trainer.model.parameters()]).item())
        original()

    trainer.optimizer.step = look
    trainer.train()
    assert norms == [pytest.approx(0.25, rel=1e-4)]
