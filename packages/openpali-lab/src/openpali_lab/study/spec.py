"""A study as data: which ways to train are compared, at which sizes, with which seeds, and by which scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from openpali.eval.benchmark import Benchmark, own_benchmark
from openpali.eval.registry import find_benchmark
from openpali.eval.suites import file_stem
from openpali.messages import hint
from openpali.tasks.registry import find_family
from openpali.train.load import explain_table
from openpali.train.recipe_file import STUDY, assign, read_overrides, read_table

NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ArmSpec(_Table):
    """One of the ways to train.

    Attributes:
        stages: names of recipes, in order. Each but the first starts from the image encoder of the one before.
        sizes, seeds: those it is trained at; by default all of the study.
    """

    stages: list[str] = Field(min_length=2)
    sizes: list[str] = []
    seeds: list[int] = []


class TestSpec(_Table):
    """A benchmark by name, or a held-out source with the task that asks about it.

    Attributes:
        benchmark: what ``openpali eval`` calls it.
        source, task, options: instead of a benchmark; the options are of the source.
        limit: number of its first samples; 0 is all.
        encoder: asks the model of the arm's first stage, such as a SigLIP with its text tower, not of its last.
    """

    benchmark: str = ""
    source: str = ""
    task: str = ""
    options: dict[str, Any] = {}
    limit: int = Field(0, ge=0)
    encoder: bool = False

    @property
    def stem(self) -> str:
        """Names what is asked, whichever model of an arm is, as the stem of a file."""
        options = [f"{key}-{value}" for key, value in sorted(self.options.items())]
        limit = f"first-{self.limit}" if self.limit else ""
        return file_stem("-".join(filter(None, [self.benchmark or self.source, self.task, *options, limit])))

    def open(self) -> Benchmark:
        if self.benchmark:
            return find_benchmark(self.benchmark)
        return own_benchmark(self.source, self.task, self.options)


class ColumnSpec(TestSpec):
    """A column of the table: the mean of a score over samples.

    Attributes:
        name: in the table.
        score: one that each sample has; by default the benchmark's main score.
        prompt: a regular expression; only samples count in whose prompt it is found.
        paper: the paper's score of the baseline, and the difference to it, in its own unit (percent, CIDEr).
        paper_name: the paper's column.
    """

    name: str
    score: str = ""
    prompt: str = ""
    paper: list[float] = Field([], max_length=2)
    paper_name: str = ""

    @model_validator(mode="after")
    def _check(self) -> ColumnSpec:
        if self.benchmark:
            if self.source or self.task or self.options:
                raise ValueError(
                    f"column {self.name}: {self.benchmark} has its own source, task and options: leave them out"
                )
            find_benchmark(self.benchmark)
        elif self.source and self.task:
            find_family(self.task)
        else:
            raise ValueError(f"column {self.name}: give either a benchmark, or a source with its task")
        if len(self.paper) == 1:
            raise ValueError(f"column {self.name}: paper is the baseline's score and the difference to it")
        try:
            re.compile(self.prompt)
        except re.error as error:
            raise ValueError(f"column {self.name}: prompt is not a regular expression ({error})") from error
        return self

    @property
    def test(self) -> TestSpec:
        """What is asked; several columns may share it."""
        return TestSpec(**{key: getattr(self, key) for key in TestSpec.model_fields})


class Study(_Table):
    """A study.

    Attributes:
        name: the folder of its runs and of its table, ``runs/NAME`` in the cache.
        seeds: of the runs of each arm. Runs of a seed see the same samples in the same order.
        baseline: the arm that others are compared with.
        compared: the arm whose difference to it the paper reports.
        recipes: stage -> its recipe, a path relative to the study. A recipe that an arm does not list, but that
            ``model.init`` or ``model.masks`` of another one names, is trained once and shared by all arms, with the
            first size and the recipe's own seed.
        sizes: name -> overrides of each recipe.
        arms: name -> stages.
        columns: the scores.
    """

    name: str
    seeds: list[int] = Field(min_length=1)
    baseline: str
    compared: str
    recipes: dict[str, str]
    sizes: dict[str, list[str]] = Field(min_length=1)
    arms: dict[str, ArmSpec]
    columns: list[ColumnSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> Study:
        for name in (self.name, *self.sizes, *self.recipes):
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} becomes a folder's name: use letters, digits, and - _ . / between them")
        if self.baseline == self.compared:
            raise ValueError(f"baseline and compared are both {self.baseline!r}: name two arms")
        if len({*self.seeds}) < len(self.seeds):
            raise ValueError(f"seeds = {self.seeds}: name each once")
        for name, arm in self.arms.items():
            if unknown := [seed for seed in arm.seeds if seed not in self.seeds]:
                raise ValueError(f"arms.{name}.seeds: {unknown[0]} is not one of seeds = {self.seeds}")
        arms, sizes, recipes = list(self.arms), list(self.sizes), list(self.recipes)
        asked = [("baseline", [self.baseline], arms), ("compared", [self.compared], arms)]
        for name, arm in self.arms.items():
            asked += [(f"arms.{name}.stages", arm.stages, recipes), (f"arms.{name}.sizes", arm.sizes, sizes)]
        for where, wanted, known in asked:
            for each in wanted:
                if each not in known:
                    raise ValueError(f"{where}: there is no {each!r}; {hint(each, known)}")
        names = [column.name for column in self.columns]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two columns are called {twice[0]!r}: give each a name")
        return self


def is_study(path: Path) -> bool:
    """Whether a TOML file is a study and not a recipe."""
    return STUDY in read_table(path)


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study; ``overrides`` are ``key=value`` as for recipes."""
    raw = read_table(path, "study")
    if STUDY not in raw and "objective" in raw:
        raise ValueError(f"{path} is a recipe: use openpali train")
    try:
        for key, value in read_overrides(overrides):
            assign(raw, key, value)
        return Study.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path}: {explain_table(error, Study)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
