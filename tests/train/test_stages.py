"""Every nano recipe, shortened, end to end on the stand-in world, each stage starting from those before."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from openpali.bundle import find_model, open_bundle, open_family, open_tokenizer, pack_family
from openpali.train.ranks import Ranks
from openpali.train.recipe import Recipe, load_recipe
from openpali.train.trainer import Trainer

FOLDER = Path(__file__).parents[2] / "recipes" / "nano"
FAMILY = FOLDER / "family.toml"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("*.toml")) if path != FAMILY}  # in the order of stages


def shortened(path: Path) -> Recipe:
    """Two steps of each phase with the pico preset; everything else as it stands."""
    phases = len(load_recipe(path).phases)
    lengths = [f"phases.{i}.samples=8" for i in range(phases)]
    # the stand-in vocabulary has fewer words than the real one, so that texts have more tokens
    tiny = ["batch=4", "micro=1", "workers=0", "model.preset=pico", "max_prompt=160", "max_target=160"]
    return load_recipe(path, [*tiny, *lengths, "optimizer.warmup=4", "optimizer.cooldown=0"])


@pytest.fixture(scope="module")
def finished() -> dict[str, Recipe]:
    return {}


@pytest.mark.parametrize("name", RECIPES)
def test_stage(name, tiny_home, finished) -> None:
    recipe = shortened(RECIPES[name])
    assert recipe.name == f"nano/{name}"
    needed = {origin.partition("#")[0] for origin in recipe.model.init.values()} | {recipe.model.masks} - {""}
    assert needed <= {f"nano/{stage}" for stage in finished}, "no stage before it makes what it starts from"
    trainer = Trainer(
        recipe,
        tiny_home / "runs" / recipe.name,
        Ranks(0, 1, torch.device("cpu")),
        open_tokenizer(recipe.model.tokenizer),
    )
    started = {name: p.detach().clone() for name, p in trainer.model.state_dict().items()}
    for part, origin in recipe.model.init.items():
        before = open_bundle(find_model(origin)).weights()
        prefix = f"{part}." if part else ""
        carried = [key for key in started if key.startswith(prefix) and not key.endswith("vit.positions")]
        assert carried
        assert all(torch.equal(started[key], before[key]) for key in carried)
    folder = trainer.train()
    bundle = open_bundle(folder)
    model = bundle.model()
    assert trainer.bad <= 4
    assert all(p.isfinite().all() for p in model.parameters())
    if bundle.preprocess is not None:
        assert (bundle.preprocess.height, bundle.preprocess.width) == bundle.config.vision.image_size
        assert bundle.preprocess.height == recipe.phases[-1].size
    for key, value in bundle.weights().items():
        if any(key.startswith(f"{part}.") for part in recipe.model.frozen):
            assert torch.equal(value, started[key]), key
    finished[name] = recipe


def test_the_family_packs(finished, tmp_path) -> None:
    assert finished.keys() == RECIPES.keys()
    sizes = pack_family(FAMILY, tmp_path / "family")
    parts, tasks = open_family(tmp_path / "family")
    described = tomllib.loads(FAMILY.read_text())
    assert parts.keys() == sizes.keys() == described["parts"].keys()
    assert tasks == described["tasks"]
    for folder in parts.values():
        open_bundle(folder).model()
