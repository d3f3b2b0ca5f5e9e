"""The work of a study: runs to train and models to score, done in any order that their needs allow.

Any number of processes may work on one study, on machines that share the cache's file system. Each unit of work is
locked by the process that does it. One that was killed is resumed by whoever comes next: training from its newest
checkpoint, scoring from the answers so far. A model is trained only for tests that have no scores yet, so that the
records and scores of a finished job are all that must be kept of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from openpali.distributed import Ranks
from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.runner import run as evaluate
from openpali.home import home
from openpali.infer.lines import as_lines
from openpali.infer.pali import Pali
from openpali.locks import lock
from openpali.progress import Say
from openpali.reports.progress import progress_bar
from openpali.train.run_folder import RunFolder
from openpali.train.snapshot import export_checkpoint
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali.whole import write_whole
from openpali_lab.study.runs import Job, Plan, PlannedRun
from openpali_lab.study.spec import Study, TestSpec

INSTEAD = "give the study another name"  # than to delete a run of another recipe
DIGITS = 5  # of a sample's score, after the point
WAIT = 10.0  # seconds from one look for work to the next, while other processes do what is needed first


class Unit(Protocol):
    """A piece of work."""

    @property
    def name(self) -> str:
        """The folder of its lock."""
        ...

    @property
    def needs(self) -> Sequence[Unit]:
        """What must be done before."""
        ...

    def done(self) -> bool:
        """Whether it has been done."""
        ...

    def do(self, ranks: Ranks) -> None:
        """Do or resume it. Collective."""
        ...


@dataclass(frozen=True)
class Training:
    """A run, by the trainer; done when its model is there.

    Attributes:
        needs: the runs that it starts from.
    """

    run: PlannedRun
    needs: Sequence[Training]

    @property
    def name(self) -> str:
        return f"{self.run.name}/train"

    def done(self) -> bool:
        """Raises as :meth:`check`."""
        if not (self.run.folder / "model" / "config.json").is_file():
            return False
        self.check()
        return True

    def check(self) -> None:
        """Check that the run, and those before it whose records are kept, are of the study's recipes."""
        folder = RunFolder(self.run.folder)
        if not folder.record.is_file():
            raise FileNotFoundError(f"{folder.path} has no recipe.json that says what it is of: delete the folder")
        folder.check_same(self.run.recipe, INSTEAD)
        for need in self.needs:
            if RunFolder(need.run.folder).record.is_file():
                need.check()

    def do(self, ranks: Ranks) -> None:
        if RunFolder(self.run.folder).record.is_file():
            self.check()
        start = self.run.start
        if start and ranks.rank == 0:
            if not (start.checkpoint.is_dir() or start.exported.is_dir()):
                raise FileNotFoundError(
                    f"{start.folder} has no checkpoint after {start.samples:,} samples: delete the folder, and the "
                    "run is trained again"
                )
            export_checkpoint(start.checkpoint)
        ranks.wait()
        recipe = inherit(self.run.recipe, self.run.folder)
        Trainer(recipe, self.run.folder, ranks, open_tokenizer(recipe.model.tokenizer)).train()


@dataclass(frozen=True)
class Scoring:
    """One test of the model of a job, or of its image encoder.

    Its file has the test, the score card, the different prompts, the number of each sample's prompt among them, and
    each score of every sample.

    Attributes:
        needs: the run that makes the model.
        data: the root of official data sets.
    """

    job: Job
    test: TestSpec
    needs: Sequence[Training]
    data: Path

    @property
    def name(self) -> str:
        return f"{self.model}/{self.test.stem}"

    @property
    def model(self) -> str:
        """Name of the run that is asked."""
        return _asked(self.job, self.test)

    @property
    def file(self) -> Path:
        """Where its result is."""
        return home() / "runs" / self.model / "scores" / f"{self.test.stem}.json"

    def done(self) -> bool:
        return bool(self.result())

    def result(self) -> dict[str, Any]:
        """What is in its file; empty before, and if the test has changed since."""
        if not self.file.is_file():
            return {}
        found = read_scores(self.file)
        if missing := [key for key in ("test", "card", "prompts", "asked", "values") if key not in found]:
            raise ValueError(f"{self.file} has no {missing[0]}: delete it, and the model is asked again")
        if TestSpec.model_validate(found["test"]) != self.test:
            return {}
        for need in self.needs:
            need.check()
        return found

    def check(self) -> None:
        """Check that there is what it asks, before the model is trained."""
        benchmark = self.test.open()
        if isinstance(benchmark, AnswerBenchmark):
            benchmark.open(self.data)

    def write(self, result: Mapping[str, Any]) -> None:
        write_whole(self.file, as_lines([result]))

    def do(self, ranks: Ranks) -> None:
        benchmark = self.test.open()
        pali = Pali.from_pretrained(self.model, device=ranks.device)
        answers = self.file.with_suffix(".jsonl") if isinstance(benchmark, AnswerBenchmark) else None
        with progress_bar(quiet=ranks.rank > 0) as watch:
            limit = self.test.limit or None
            done = evaluate(
                benchmark, pali, self.data, limit=limit, predictions=answers, ranks=ranks, watch=watch(benchmark)
            )
        if ranks.rank:
            return
        prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(row.prompt for row in done.rows))}
        self.write(
            {
                "test": self.test.model_dump(),
                "card": done.card.as_json(),
                "prompts": list(prompts),
                "asked": [prompts[row.prompt] for row in done.rows],
                "values": {name: [_short(value) for value in own] for name, own in done.scores.per_sample.items()},
            }
        )


def units_of(study: Study, plan: Plan, jobs: Sequence[Job], data: Path) -> list[Training | Scoring]:
    """The work of some jobs of a study, one job after the other."""
    tests: list[TestSpec] = []
    for column in study.columns:
        if column.test not in tests:
            tests.append(column.test)
    trainings: dict[str, Training] = {}
    units: list[Training | Scoring] = []
    for job in jobs:
        for run in plan.runs_of([job]):
            if run.name not in trainings:
                trainings[run.name] = Training(run, [trainings[name] for name in run.needs])
                units.append(trainings[run.name])
        units += [Scoring(job, test, [trainings[_asked(job, test)]], data) for test in tests]
    return units


def _asked(job: Job, test: TestSpec) -> str:
    """Name of the run whose model a test asks."""
    return job.runs[0] if test.encoder else job.model


def check_tests(units: Sequence[Training | Scoring]) -> None:
    """Check each test that must still be scored, as :meth:`Scoring.check`."""
    for unit in {unit.test.stem: unit for unit in left(units) if isinstance(unit, Scoring)}.values():
        unit.check()


def left(units: Sequence[Unit]) -> list[Unit]:
    """The units that must still be done.

    They are those that no other unit needs and that are not done, and what is not done of their needs.

    Args:
        units: each after those that it needs.
    """
    needed = {need.name for unit in units for need in unit.needs}
    wanted = {unit.name for unit in units if unit.name not in needed and not unit.done()}
    for unit in reversed(units):
        if unit.name in wanted:
            wanted |= {need.name for need in unit.needs if not need.done()}
    return [unit for unit in units if unit.name in wanted]


def work(units: Sequence[Unit], ranks: Ranks, say: Say, after: Callable[[Unit], None] = lambda unit: None) -> None:
    """Do all units that are left, beside other processes, until none is. Collective.

    Args:
        after: called on rank 0 when a unit has been done.

    Raises:
        ValueError, OSError: a unit fails; the message names it.
        InterruptedError: SIGTERM or ctrl-C while a run trains.
    """
    names = {unit.name for unit in left(units)} if ranks.rank == 0 else set()
    todo, waits = {number: unit for number, unit in enumerate(units) if unit.name in names}, False
    while True:
        if ranks.rank == 0:
            todo = {number: unit for number, unit in todo.items() if not unit.done()}
        claimed = _claim(todo) if ranks.rank == 0 else None
        number, count = ranks.gather((claimed[0] if claimed else -1, len(todo)))[0]
        if not count:
            return
        if number < 0:
            if not waits and ranks.rank == 0:
                say(f"waiting for other processes: {count} of {len(units)} units are left")
            waits = True
            time.sleep(WAIT)
            continue
        waits, unit = False, units[number]
        if ranks.rank == 0:
            say(f"{unit.name}: {count} of {len(units)} units are left")
        try:
            unit.do(ranks)
        except InterruptedError:
            raise
        except (ValueError, OSError) as error:
            raise ValueError(f"{unit.name}: {error}") from error
        finally:
            if claimed:
                claimed[1].close()
        if ranks.rank == 0:
            after(unit)


def read_scores(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} has no scores that can be read ({error}): delete it") from error
    return found


def _claim(todo: Mapping[int, Unit]) -> tuple[int, BinaryIO] | None:
    """The first unit that can be done now and that no other process does, with its lock; None if there is none."""
    for number, unit in todo.items():
        if not all(need.done() for need in unit.needs):
            continue
        folder = home() / "locks" / unit.name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = lock(folder / ".lock", f"another process does {unit.name}")
        except ValueError:  # another process does it
            continue
        if not unit.done():  # it may just have been
            return number, held
        held.close()
    return None


def _short(value: float) -> float:
    """A score in few characters of JSON."""
    return int(value) if float(value).is_integer() else round(float(value), DIGITS)
