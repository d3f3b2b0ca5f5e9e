"""The first losses of each stage that `make nano` trains, on its real data: they must be those that are stored, so
that a recipe keeps making the weights that were shipped while the code moves.

``OPENPALI_REGENERATE=1 python -m pytest tests/stages -k NAME`` writes those of one stage, without -k of all. Each
stage starts from weights that are drawn instead of those of the stage before, and so needs no run. The data sets
are those in ``OPENPALI_HOME``; what is missing is an error that says how to build it.
"""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from openpali.distributed import ALONE
from openpali.train.load import load_recipe
from openpali.train.recipe import PromptedRecipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_name("first_losses.json")
STEPS = 200
TOLERANCE = 1e-3  # relative, as in tests/train/test_golden.py
MASKS = "nano/mask_vqvae"  # that of the package, in place of a run
VERSIONS = {"torch": torch.__version__, "machine": platform.machine()}


def stages() -> list[str]:
    """Those of the Makefile, in order."""
    [told] = re.findall(r"^STAGES := (.*?[^\\])$", (ROOT / "Makefile").read_text(), re.DOTALL | re.MULTILINE)
    groups = re.findall(r"addprefix (\S+/),([^)]*)\)", told)
    return [prefix + name for prefix, names in groups for name in names.replace("\\", " ").split()]


class Enough(BaseException):
    """Ends a run; nothing catches it."""


def first_losses(stage: str, folder: Path) -> list[float]:
    """The loss of each of the first steps, on one rank and in float32."""
    path = ROOT / "recipes" / f"{stage}.toml"
    alone = ["model.init={}", "precision=fp32", "workers=0", "micro=1"]
    if isinstance(whole := load_recipe(path), PromptedRecipe) and whole.model.masks:
        alone.append(f"model.masks={MASKS}")
    recipe = load_recipe(path, alone)
    trainer = Trainer(recipe, folder, ALONE, open_tokenizer(recipe.model.tokenizer))
    losses: list[float] = []
    original = trainer.objective.losses

    def watched(*args: Any) -> Any:
        if len(losses) == STEPS:
            raise Enough
        found = original(*args)
        losses.append(float(found.total))
        return found

    trainer.objective.losses = watched  # type: ignore[method-assign]
    with pytest.raises(Enough):
        trainer.train()
    return losses


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", stages())
def test_the_first_losses_of_a_stage_are_those_that_are_stored(stage: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    losses = first_losses(stage, tmp_path)
    stored = json.loads(STORED.read_text()) if STORED.is_file() else {}
    if os.environ.get("OPENPALI_REGENERATE"):
        stored[stage] = {"versions": VERSIONS, "losses": [float(f"{loss:.6g}") for loss in losses]}
        text = ",\n".join(f" {json.dumps(name)}: {json.dumps(stored[name])}" for name in sorted(stored))
        STORED.write_text(f"{{\n{text}\n}}\n")
    assert stage in stored, f"no losses are stored: OPENPALI_REGENERATE=1 python -m pytest tests/stages -k {stage}"
    written = f"written with {stored[stage]['versions']}"
    assert losses == pytest.approx(stored[stage]["losses"], rel=TOLERANCE), written


def test_every_stage_is_a_recipe_from_nothing() -> None:
    """At most 12, five of them for pages; each extends one file and starts from nothing or from a stage before."""
    found = stages()
    assert len(found) <= 12
    assert len([name for name in found if name.startswith("pages/")]) <= 5
    files = [path for kind in ("nano", "pages") for path in (ROOT / "recipes" / kind).glob("*.toml")]
    assert {*found} == {f"{path.parent.name}/{path.stem}" for path in files} - {"nano/bundle"}
    for number, name in enumerate(found):
        path = ROOT / "recipes" / f"{name}.toml"
        [base] = re.findall(r'^extends = "(.*)"$', path.read_text(), re.MULTILINE)
        assert "extends" not in (path.parent / base).read_text()
        recipe = load_recipe(path)
        assert {*recipe.model.init.values()} <= {*found[:number]}
        entries = [entry for phase in recipe.phases for entry in phase.mixture]
        built = [each.source for each in entries if re.match("pages|icons", each.source)]
        assert all(re.fullmatch(r"(pages/[\w-]+|icons)@\d+", source) for source in built)
