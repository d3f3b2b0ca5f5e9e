"""The runs of a study: ordinary recipes, each with its name, its seed and the runs that it starts from.

A run is named by the stages that lead to it, ``STUDY/SIZE-SEED/siglip+pali``, so that arms which begin alike share
their first runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

from openpali.home import home
from openpali.train.load import load_recipe, parse_recipe
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import read_overrides
from openpali_lab.study.spec import Study


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study.

    Attributes:
        stage, size: of the study.
        recipe: complete but for what it inherits; its name is the run's.
        needs: names of the runs that must be finished before.
    """

    stage: str
    size: str
    recipe: Recipe
    needs: Sequence[str]

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def folder(self) -> Path:
        return home() / "runs" / self.name


@dataclass(frozen=True)
class Job:
    """An arm at a size with a seed: runs, of which the last one is scored, and the first in some columns."""

    arm: str
    size: str
    seed: int
    runs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.arm}, {self.size}, seed {self.seed}"

    @property
    def model(self) -> str:
        """Name of the run that is scored."""
        return self.runs[-1]


@dataclass(frozen=True)
class Plan:
    """All runs of a study by name, each after those it needs, and its jobs."""

    runs: Mapping[str, PlannedRun]
    jobs: Sequence[Job]

    def runs_of(self, job: Job) -> list[PlannedRun]:
        """The runs of a job, and those that they need, in order."""
        wanted = {*job.runs}
        for name in reversed(list(self.runs)):
            if name in wanted:
                wanted |= set(self.runs[name].needs)
        return [run for name, run in self.runs.items() if name in wanted]


def plan_study(study: Study, folder: Path, overrides: Sequence[str] = ()) -> Plan:
    """Every run and job of a study: all arms of a seed before the next one.

    Args:
        folder: that the paths of recipes are relative to.
        overrides: of every recipe, after those of the size.
    """
    for key, _ in read_overrides([*overrides, *chain.from_iterable(study.sizes.values())]):
        if key in ("name", "seed"):
            raise ValueError(
                f"{key} of each recipe is given by the study: leave it out, or change seeds or name there"
            )
    builder = _Builder(study, folder, overrides)
    jobs = [
        Job(arm, size, seed, tuple(builder.chain(spec.stages, size, seed)))
        for seed, size, (arm, spec) in product(study.seeds, study.sizes, study.arms.items())
        if size in (spec.sizes or study.sizes) and seed in (spec.seeds or study.seeds)
    ]
    return Plan(builder.runs, jobs)


class _Builder:
    def __init__(self, study: Study, folder: Path, overrides: Sequence[str]) -> None:
        self.study, self.folder, self.overrides = study, folder, overrides
        self.runs: dict[str, PlannedRun] = {}

    def chain(self, stages: Sequence[str], size: str, seed: int) -> list[str]:
        """Plan the runs of a chain of stages; returns their names."""
        names: list[str] = []
        for stage in stages:
            name = f"{names[-1]}+{stage}" if names else f"{self.study.name}/{size}-{seed}/{stage}"
            if name not in self.runs:
                raw = self._recipe(stage, size) | {"name": name, "seed": seed}
                if names:
                    raw["model"]["init"]["vit"] = names[-1]
                self._add(stage, size, raw, names[-1:])
            names.append(name)
        return names

    def _recipe(self, stage: str, size: str) -> dict[str, Any]:
        path = self.folder / self.study.recipes[stage]
        return load_recipe(path, [*self.study.sizes[size], *self.overrides]).model_dump()

    def _add(self, stage: str, size: str, raw: dict[str, Any], needs: Sequence[str]) -> None:
        """Add a run, after the shared ones that its recipe names."""
        model, shared = raw["model"], []
        if "" in model["init"]:
            raise ValueError(
                f'recipe {stage}: model.init has "", a whole model, and a study names the ViT of each run: name '
                'the other parts, such as text = "nano/pali"'
            )
        for part, origin in model["init"].items():
            if origin in self.study.recipes:
                model["init"][part] = self._share(origin)
                shared.append(model["init"][part])
        if model.get("masks") in self.study.recipes:
            model["masks"] = self._share(model["masks"])
            shared.append(model["masks"])
        self.runs[raw["name"]] = PlannedRun(stage, size, parse_recipe(raw), [*needs, *shared])

    def _share(self, stage: str) -> str:
        name = f"{self.study.name}/{stage}"
        if name not in self.runs:
            size = next(iter(self.study.sizes))
            self._add(stage, size, self._recipe(stage, size) | {"name": name}, [])
        return name
