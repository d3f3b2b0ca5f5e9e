"""The runs of a study: ordinary recipes, each with its name, its seed and the runs that it starts from.

A run is named by the stages that lead to it, ``STUDY/SIZE-SEED/siglip+pali``, so that arms which begin alike share
their first runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Any

from openpali.home import home
from openpali.train.load import load_recipe, parse_recipe
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import read_overrides
from openpali_lab.study.spec import Study


@dataclass(frozen=True)
class Start:
    """The checkpoint of a run that another one starts from: after so many samples, of one step each ``batch``."""

    run: str
    samples: int
    batch: int

    @property
    def folder(self) -> Path:
        return home() / "runs" / self.run

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / self._step

    @property
    def exported(self) -> Path:
        """The folder of the model that is made of it."""
        return self.folder / "models" / self._step

    @property
    def model(self) -> str:
        """That model, as :func:`~openpali.weights.find.find_model` takes it."""
        return f"{self.run}/models/{self._step}"

    @property
    def _step(self) -> str:
        return f"step-{self.samples // self.batch:08d}"


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study.

    Attributes:
        stage, size: of the study.
        recipe: complete but for what it inherits; its name is the run's.
        needs: names of the runs that must be finished before.
        start: a checkpoint to make a model of before.
    """

    stage: str
    size: str
    recipe: Recipe
    needs: Sequence[str]
    start: Start | None = None

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def folder(self) -> Path:
        return home() / "runs" / self.name


@dataclass(frozen=True)
class Job:
    """An arm at a size with a seed: runs, of which the last one is scored, and the first in some columns.

    Attributes:
        samples: of the stage before the last, on a point of the curve; None: all.
    """

    arm: str
    size: str
    seed: int
    samples: int | None
    runs: tuple[str, ...]

    def __str__(self) -> str:
        after = "" if self.samples is None else f", after {self.samples:,} samples"
        return f"{self.arm}, {self.size}, seed {self.seed}{after}"

    @property
    def model(self) -> str:
        """Name of the run that is scored."""
        return self.runs[-1]


@dataclass(frozen=True)
class Plan:
    """All runs of a study by name, each after those it needs, and its jobs."""

    runs: Mapping[str, PlannedRun]
    jobs: Sequence[Job]

    def runs_of(self, jobs: Sequence[Job]) -> list[PlannedRun]:
        """The runs of some jobs, and those that they need, in order."""
        wanted = {name for job in jobs for name in job.runs}
        for name in reversed(list(self.runs)):
            if name in wanted:
                wanted |= set(self.runs[name].needs)
        return [run for name, run in self.runs.items() if name in wanted]


def plan_study(study: Study, folder: Path, overrides: Sequence[str] = ()) -> Plan:
    """Every run and job of a study.

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
    jobs = [job for points in (False, True) for job in builder.jobs(points)]
    return Plan(builder.runs, jobs)


class _Builder:
    def __init__(self, study: Study, folder: Path, overrides: Sequence[str]) -> None:
        self.study, self.folder, self.overrides = study, folder, overrides
        self.runs: dict[str, PlannedRun] = {}

    def jobs(self, points: bool) -> Iterator[Job]:
        """The jobs of whole runs, or those on the points of the curve: all arms of a seed before the next one."""
        study, curve = self.study, self.study.curve
        for samples in curve.samples if points else [None]:
            for seed, size, (arm, spec) in product(study.seeds, study.sizes, study.arms.items()):
                limits: list[tuple[object, Sequence[object]]] = [(size, spec.sizes), (seed, spec.seeds)]
                if points:
                    limits += [(arm, curve.arms), (size, curve.sizes), (seed, curve.seeds)]
                if all(not some or each in some for each, some in limits):
                    yield Job(arm, size, seed, samples, tuple(self._chain(spec.stages, size, seed, samples)))

    def _chain(self, stages: Sequence[str], size: str, seed: int, samples: int | None) -> list[str]:
        """Plan the runs of a chain of stages; returns their names."""
        names: list[str] = []
        for number, stage in enumerate(stages):
            cut = f"@{samples}" if number == len(stages) - 1 and samples is not None else ""
            name = f"{names[-1]}{cut}+{stage}" if names else f"{self.study.name}/{size}-{seed}/{stage}"
            if name not in self.runs:
                raw = self._recipe(stage, size) | {"name": name, "seed": seed}
                start = self._start(names[-1], samples) if cut and samples is not None else None
                if names:
                    raw["model"]["init"]["vit"] = start.model if start else names[-1]
                self._add(stage, size, raw, names[-1:], start)
            names.append(name)
        return names

    def _start(self, run: str, samples: int) -> Start:
        """The point of a run that is planned, which then keeps its checkpoints."""
        planned = self.runs[run]
        before = planned.recipe
        if samples % before.batch or samples > before.samples:
            raise ValueError(
                f"curve.samples: {run} has no checkpoint after {samples:,} samples, since it learns from "
                f"{before.samples:,}, {before.batch} in a step: choose others, or none with curve.samples=[]"
            )
        kept = before.model_copy(update={"keep_every": math.gcd(*self.study.curve.samples)})
        self.runs[run] = replace(planned, recipe=kept)
        return Start(run, samples, before.batch)

    def _recipe(self, stage: str, size: str) -> dict[str, Any]:
        path = self.folder / self.study.recipes[stage]
        recipe = load_recipe(path, [*self.study.sizes[size], *self.overrides])
        return recipe.model_dump()

    def _add(self, stage: str, size: str, raw: dict[str, Any], needs: Sequence[str], start: Start | None) -> None:
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
        self.runs[raw["name"]] = PlannedRun(stage, size, parse_recipe(raw), [*needs, *shared], start)

    def _share(self, stage: str) -> str:
        name = f"{self.study.name}/{stage}"
        if name not in self.runs:
            size = next(iter(self.study.sizes))
            self._add(stage, size, self._recipe(stage, size) | {"name": name}, [], None)
        return name
