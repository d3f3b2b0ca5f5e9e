"""What is wrong in a recipe is said before anything is loaded, with the key and the nearest valid one."""

from __future__ import annotations

from pathlib import Path

import pytest

from openpali.train.recipe import FEW, load_recipe

SHIPPED = sorted((Path(__file__).parents[2] / "recipes").rglob("*.toml"))
VALID = """
name = "tiny"
objective = "sequence"
batch = 4

[model]
preset = "pico"
tokenizer = "nano-vocabulary"

[optimizer]
lr = 1e-3
schedule = "constant"
warmup = 40
cooldown = 20

[[phases]]
samples = 400
size = 72

[[phases.mixture]]
source = "nano/single"
task = "caption"

[[phases.mixture]]
source = "nano/scene"
task = "detect"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(VALID)
    return file


def test_a_recipe_loads(recipe) -> None:
    loaded = load_recipe(recipe)
    assert (loaded.name, loaded.samples, loaded.optimizer.betas) == ("tiny", 400, (0.9, 0.95))
    assert [line.name for line in loaded.phases[0].mixture] == ["caption@nano/single", "detect@nano/scene"]


def test_bad_samples_are_allowed_by_number_or_by_share(recipe) -> None:
    assert load_recipe(recipe, ["max_bad=7"]).bad_limit(10**9) == 7
    share = load_recipe(recipe, ["max_bad=0.001"])
    assert share.bad_limit(10**9) == 10**6
    assert share.bad_limit(4) == FEW  # the first bad one is no end
    with pytest.raises(ValueError, match="max_bad"):
        load_recipe(recipe, ["max_bad=1.5"])
    assert load_recipe(recipe, ["max_bad=0"]).bad_limit(10**9) == 0


def test_overrides_reach_everywhere(recipe) -> None:
    loaded = load_recipe(
        recipe,
        [
            "batch=8",
            "model.preset=mini",  # a bare word
            'model.init={ vit = "run" }',
            "optimizer.betas=[0.8, 0.9]",
            "phases.0.mixture.1.weight=0.5",
            "phases.0.mixture.1.options.min_objects=2",
            "name=a=b",
        ],
    )
    assert (loaded.batch, loaded.model.preset, loaded.name) == (8, "mini", "a=b")
    assert loaded.model.init == {"vit": "run"}
    assert loaded.optimizer.betas == (0.8, 0.9)
    assert [line.weight for line in loaded.phases[0].mixture] == [1.0, 0.5]
    assert loaded.phases[0].mixture[1].options == {"min_objects": 2}


def test_scale_shortens_in_whole_batches(recipe) -> None:
    loaded = load_recipe(recipe, ["scale=0.1", "batch=8"])
    assert (loaded.samples, loaded.optimizer.warmup, loaded.optimizer.cooldown) == (40, 4, 2)
    assert load_recipe(recipe, ["scale=1e-9"]).samples == 4
    assert load_recipe(recipe, ["scale=1e-9", "optimizer.schedule=rsqrt"]).optimizer.warmup == 1
    shortest = load_recipe(recipe, ["scale=1e-9", "batch=1"])
    assert (shortest.samples, shortest.optimizer.warmup, shortest.optimizer.cooldown) == (1, 1, 0)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_recipes_that_ship_load(path) -> None:
    if path.stem != "family":
        load_recipe(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # unknown keys
        ("bach=8", r"unknown key bach \(nearest: batch\)"),
        ("optimizer.learning_rat=1", "unknown key optimizer.learning_rat"),
        ("optimizer.wieght_decay=1", r"unknown key optimizer.wieght_decay \(nearest: weight_decay\)"),
        ("phases.0.sise=64", r"unknown key phases.0.sise \(nearest: size\)"),
        ("phases.0.mixture.1.weigth=2", r"unknown key phases.0.mixture.1.weigth \(nearest: weight\)"),
        ("xyzzy=1", "unknown key xyzzy$"),
        # wrong types and values
        ('batch="8"', "batch: Input should be a valid integer"),
        ("batch=true", "batch: Input should be a valid integer"),
        ("batch=1.5", "batch: Input should be a valid integer"),
        ("batch=0", "batch: Input should be greater than 0"),
        ("optimizer.lr=high", "optimizer.lr: Input should be a valid number"),
        ("optimizer.lr=inf", "optimizer.lr: Input should be a finite number"),
        ("optimizer.lr=-1", "optimizer.lr: Input should be greater than 0"),
        ("optimizer.lr_scale={ vit = -1.0 }", "optimizer.lr_scale.vit: Input should be greater than 0"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas.1: Input should be less than 1"),
        (
            "optimizer.schedule=cosin",
            "optimizer.schedule: Input should be 'cosine', 'linear', 'rsqrt' or",
        ),
        ("objective=clip", "objective: Input should be 'siglip', 'classify', 'sequence' or 'mask_vqvae'"),
        ("model.init=nano", "model.init: Input should be a valid dictionary"),
        ("phases=[]", "phases: List should have at least 1 item"),
        ("phases.0.mixture=[]", "phases.0.mixture: List should have at least 1 item"),
        # impossible combinations
        ("micro=3", "batch = 4 cannot be cut into micro = 3 equal parts"),
        (
            "optimizer.qk_clip=4 parallel.shard=full",
            "optimizer.qk_clip looks at whole weights, and parallel.shard = full cuts them",
        ),
        ("phases.0.samples=402", "phases.samples = 402 is no multiple of batch = 4"),
        ("optimizer.warmup=0 optimizer.schedule=rsqrt", "set optimizer.warmup"),
        (
            "optimizer.schedule=cosine",
            "schedule = cosine ends at zero as it is: a cooldown is for rsqrt and",
        ),
        ("optimizer.warmup=390", r"optimizer.warmup \+ cooldown = 410 is more than the run, 400 samples"),
        ("objective=mask_vqvae parallel.compile=true", "mask_vqvae has no transformer blocks to shard"),
        ("parallel.shard=fully", "parallel.shard: Input should be 'none', 'full' or 'hybrid'"),
        ("parallel.shrad=full", r"unknown key parallel.shrad \(nearest: shard\)"),
        ("objective=siglip micro=2", "siglip needs micro = 1"),
        ("objective=mask_vqvae micro=2", "mask_vqvae needs micro = 1"),
        # overrides
        ("batch", "'batch' is no override: write key=value"),
        ("phases.1.size=48", "override phases.1.size: there is no '1' in a list of 1"),
        ("phases.-1.size=48", "override phases.-1.size: there is no '-1' in a list of 1"),
        ("phases.first=1", "override phases.first: there is no 'first' in a list of 1"),
        ("phases.7=1", "override phases.7: there is no '7' in a list of 1"),
        ("batch.size=1", "override batch.size: batch is a value, not a table"),
        ("batch.size.x=1", "override batch.size.x: batch is a value, not a table"),
        ("scale=half", "'scale=half': scale is a positive number"),
        ("scale=0", "'scale=0': scale is a positive number"),
        ("scale=-1", "'scale=-1': scale is a positive number"),
        ("=3", "unknown key"),
    ],
)
def test_mistakes_are_named(override, message, recipe) -> None:
    spaced = "=" in override and (" = " in override or ", " in override)
    with pytest.raises(ValueError, match=message):
        load_recipe(recipe, [override] if spaced else override.split(" "))


def test_all_mistakes_are_named_at_once(recipe) -> None:
    with pytest.raises(ValueError, match=r"tiny.toml: .*batch.*; .*micro.*; unknown key model.presett"):
        load_recipe(recipe, ["batch=-1", "micro=-1", "model.presett=x"])


def test_a_missing_key_is_named(recipe) -> None:
    recipe.write_text(VALID.replace("lr = 1e-3", "").replace('task = "detect"', ""))
    with pytest.raises(ValueError, match=r"optimizer.lr: Field required; phases.0.mixture.1.task: Field required"):
        load_recipe(recipe)


def test_files_that_are_no_recipe(tmp_path, recipe) -> None:
    with pytest.raises(FileNotFoundError, match=r"no recipe .*tyny.toml; beside it: .*tiny"):
        load_recipe(tmp_path / "tyny.toml")
    recipe.write_text("name = ")
    with pytest.raises(ValueError, match=r"tiny.toml is no TOML"):
        load_recipe(recipe)
    recipe.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"tiny.toml is no TOML"):
        load_recipe(recipe)
