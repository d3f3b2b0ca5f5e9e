"""Every recipe of nano and mini, shortened, on the stand-in world, each stage starting from those before."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from openpali.architectures.pali import PRESETS
from openpali.distributed import ALONE
from openpali.train.load import load_recipe
from openpali.train.objectives.sequence import SequenceRecipe
from openpali.train.recipe import Recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_bundle, open_tokenizer, pack_bundle
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali_lab.worlds.sources import _world
from page_readers import write_page_readers

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
BUNDLES = ("nano", "mini")
STAGES = {  # in order
    f"{bundle}/{path.stem}": path
    for bundle in BUNDLES
    for path in sorted((RECIPES / bundle).glob("*.toml"))
    if path.stem != "bundle"
}


def shortened(path: Path) -> Recipe:
    """Two steps of each phase with the pico preset, as many patches; everything else as it stands."""
    whole = load_recipe(path)
    patch, tiny_patch = (PRESETS[p].vision.patch_size for p in (whole.model.preset, "pico"))
    lengths = [f"phases.{i}.samples=8" for i in range(len(whole.phases))]
    for i, phase in enumerate(whole.phases):
        height, width = (side // patch * tiny_patch for side in phase.pixels)
        lengths.append(f'phases.{i}.size="{height}x{width}"')
        if phase.lr:
            lengths += [f"phases.{i}.warmup=4", f"phases.{i}.cooldown=0"]
    tiny = ["batch=4", "micro=1", "workers=0", "model.preset=pico"]
    if isinstance(whole, SequenceRecipe):  # the stand-in vocabulary has fewer words, so that texts have more tokens
        tiny += ["max_prompt=160", "max_target=160", "evals=[]"]
    return load_recipe(path, [*tiny, *lengths, "optimizer.warmup=4", "optimizer.cooldown=0"])


@pytest.fixture(scope="module")
def finished() -> dict[str, Recipe]:
    return {}


@pytest.fixture(scope="module")
def world(tiny_home) -> Path:
    """The home, with what only mini's recipes need: a vocabulary, and words of other languages."""
    vocabulary = tiny_home / "data" / "mini-vocabulary"
    if not (vocabulary / "tokenizer.model").is_file():
        shutil.copytree(tiny_home / "data" / "nano-vocabulary", vocabulary, dirs_exist_ok=True)
        stamps = tiny_home / "data" / "stamps"
        for language in ("de", "es", "fr", "it"):
            shutil.copy(stamps / "words-en.txt", stamps / f"words-{language}.txt")
        _world.cache_clear()
    return tiny_home


@pytest.mark.parametrize("name", STAGES)
def test_stage(name, world, finished) -> None:
    recipe = shortened(STAGES[name])
    assert recipe.name == name
    masks = {recipe.model.masks} if isinstance(recipe, SequenceRecipe) else set()
    needed = ({origin.partition("#")[0] for origin in recipe.model.init.values()} | masks) - {""}
    assert needed <= finished.keys(), "no stage before it makes what it starts from"
    trainer = Trainer(
        recipe,
        world / "runs" / recipe.name,
        ALONE,
        open_tokenizer(recipe.model.tokenizer),
    )
    started = {name: p.detach().clone() for name, p in trainer.model.state_dict().items()}
    origins = {f"{part}." if part else "": origin for part, origin in recipe.model.init.items()}
    for prefix, origin in origins.items():
        before = open_model(find_model(origin)).weights()
        later = tuple(list(origins)[list(origins).index(prefix) + 1 :])  # parts that another model replaces
        own = [key for key in started if key.startswith(prefix) and not key.startswith(later)]
        carried = [key for key in own if not key.endswith("vit.positions")]
        assert carried
        assert all(torch.equal(started[key], before[key]) for key in carried)
    folder = trainer.train()
    stored = open_model(folder)
    model = stored.model()
    assert trainer.bad <= 4
    assert all(p.isfinite().all() for p in model.parameters())
    if stored.preprocess is not None:
        assert (stored.preprocess.height, stored.preprocess.width) == stored.config.vision.image_size
        assert stored.preprocess.height == recipe.phases[-1].pixels.height
    after = stored.weights()
    for part in recipe.model.frozen:
        frozen = [key for key in after if key.startswith(f"{part}.")]
        assert frozen
        assert all(torch.equal(after[key], started[key]) for key in frozen)
    finished[name] = recipe


def models_of(description: Path) -> Iterator[tuple[str, str]]:
    """Each part of a bundle with each model that it is made of."""
    for part, models in tomllib.loads(description.read_text())["parts"].items():
        for model in [models] if isinstance(models, str) else models:
            yield part, model


@pytest.mark.parametrize("name", BUNDLES)
def test_the_bundle_packs(name, world, finished, tmp_path) -> None:
    assert finished.keys() == STAGES.keys()
    description = RECIPES / name / "bundle.toml"
    write_page_readers(tmp_path / "pages")
    for part, origin in models_of(description):
        if origin not in STAGES:  # it learns from windows of real pages, which the stand-in world has not
            assert (RECIPES / f"{origin}.toml").is_file()
            shutil.copytree(tmp_path / "pages" / part, world / "runs" / origin / "model", dirs_exist_ok=True)
    sizes = pack_bundle(description, tmp_path / "bundle")
    packed = open_bundle(tmp_path / "bundle")
    described = tomllib.loads(description.read_text())
    assert packed.parts.keys() == sizes.keys() == described["parts"].keys()
    wanted = described["tasks"].items()
    assert packed.tasks == {task: (own,) if isinstance(own, str) else tuple(own) for task, own in wanted}
    for folder in packed.parts.values():
        open_model(folder).model()


def test_make_trains_what_the_bundle_packs_each_after_what_it_starts_from() -> None:
    shown = subprocess.run(["make", "-n", "nano"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    stages = re.search(r"for stage in (.*?);", shown)
    assert stages
    before: set[str] = set()
    for stage in stages[1].split():
        recipe = load_recipe(ROOT / "recipes" / f"{stage}.toml")
        assert set(recipe.model.init.values()) <= before, stage
        before.add(recipe.name)
    assert {model for _, model in models_of(RECIPES / "nano/bundle.toml")} <= before
