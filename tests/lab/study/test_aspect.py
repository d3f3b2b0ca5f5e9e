"""The study of proportions: arms differ in how images are resized alone, and each has as many patches."""

from __future__ import annotations

from pathlib import Path

import pytest

from openpali.architectures.base import vision_of
from openpali.train.shapes import shape_of
from openpali_lab.study.runs import plan_study
from openpali_lab.study.spec import load_study

RECIPES = Path(__file__).parents[3] / "recipes" / "study"
PATCH = 12  # pixels, of nano


@pytest.fixture(autouse=True)
def _home(world_with_vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(world_with_vocabulary))


def test_arms_differ_in_how_images_are_resized_alone() -> None:
    plan = plan_study(load_study(RECIPES / "aspect.toml"), RECIPES)
    assert [job.arm for job in plan.jobs] == ["squash", "pad", "native"]
    for stage in (0, 1):
        recipes = [plan.runs[job.runs[stage]].recipe for job in plan.jobs]
        assert [recipe.model.resize for recipe in recipes] == ["squash", "pad", "native"]
        for recipe in recipes:
            [phase] = recipe.phases
            assert phase.at_resolution(vision_of(shape_of(recipe, *recipe.kinds))).grid == (8, 8)
            assert (phase.tokens or (phase.pixels.height // PATCH) * (phase.pixels.width // PATCH)) == 64
        alike = [
            {
                **recipe.model_dump(exclude={"name", "model", "phases"}),
                "model": recipe.model.model_dump(exclude={"resize", "init"}),
                "phases": [phase.model_dump(exclude={"size", "tokens"}) for phase in recipe.phases],
            }
            for recipe in recipes
        ]
        assert all(each == alike[0] for each in alike)
