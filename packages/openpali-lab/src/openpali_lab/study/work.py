"""The work of a study: runs to train and models to score, one job after the other.

What is there is not done again: a killed run resumes from its newest checkpoint, a test from the answers so
far. A model is trained only for tests that have no scores yet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpali.distributed import Ranks
from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.runner import run as evaluate
from openpali.home import home
from openpali.infer.lines import as_lines
from openpali.infer.pali import Pali
from openpali.progress import Show
from openpali.reports.progress import progress_bar
from openpali.train.run_folder import RunFolder
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.train.watch import Watch
from openpali.weights.bundle import open_tokenizer
from openpali.whole import write_whole
from openpali_lab.study.runs import Job, Plan, PlannedRun
from openpali_lab.study.spec import Study, TestSpec


@dataclass(frozen=True)
class Scoring:
    """One test of the model of a job, or of its image encoder.

    Its file has the test, the score card, the different prompts, the number of each sample's prompt among them, and
    each score of every sample.
    """

    job: Job
    test: TestSpec

    @property
    def model(self) -> str:
        """Name of the run that is asked."""
        return self.job.runs[0] if self.test.encoder else self.job.model

    @property
    def file(self) -> Path:
        """Where its result is."""
        return home() / "runs" / self.model / "scores" / f"{self.test.stem}.json"

    def result(self) -> dict[str, Any]:
        """What is in its file; empty before, and if the test has changed since."""
        if not self.file.is_file():
            return {}
        try:
            found: dict[str, Any] = json.loads(self.file.read_text("utf-8"))
            test = TestSpec.model_validate(found["test"])
        except (ValueError, KeyError) as error:
            raise ValueError(f"{self.file} has no scores that can be read ({error}): delete it") from error
        return found if test == self.test else {}

    def do(self, ranks: Ranks, data: Path) -> None:
        """Ask the model. Collective.

        Args:
            data: the root of official data sets.
        """
        benchmark = self.test.open()
        pali = Pali.from_pretrained(self.model, device=ranks.device)
        answers = self.file.with_suffix(".jsonl") if isinstance(benchmark, AnswerBenchmark) else None
        with progress_bar(quiet=ranks.rank > 0) as watch:
            limit = self.test.limit or None
            done = evaluate(
                benchmark, pali, data, limit=limit, predictions=answers, ranks=ranks, watch=watch(benchmark.name)
            )
        if ranks.rank:
            return
        prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(row.prompt for row in done.rows))}
        result = {
            "test": self.test.model_dump(),
            "card": done.card.as_json(),
            "prompts": list(prompts),
            "asked": [prompts[row.prompt] for row in done.rows],
            "values": done.scores.per_sample,
        }
        write_whole(self.file, as_lines([result]))


def scorings_of(study: Study, jobs: Sequence[Job]) -> list[Scoring]:
    """The tests of some jobs, one job after the other."""
    tests: list[TestSpec] = []
    for column in study.columns:
        if column.test not in tests:
            tests.append(column.test)
    return [Scoring(job, test) for job in jobs for test in tests]


def is_trained(run: PlannedRun) -> bool:
    return (run.folder / "model" / "config.json").is_file()


def check_runs(plan: Plan) -> None:
    """Check that the runs that are there are of the study's recipes."""
    for run in plan.runs.values():
        if (folder := RunFolder(run.folder)).record.is_file():
            folder.check_same(run.recipe, "give the study another name")


def work(study: Study, plan: Plan, jobs: Sequence[Job], data: Path, ranks: Ranks, say: Show) -> None:
    """Train and score what is left of some jobs. Collective.

    Raises:
        ValueError, OSError: a run or a test fails; the message names it.
        InterruptedError: SIGTERM or ctrl-C while a run trains.
    """
    left = [scoring for scoring in scorings_of(study, jobs) if not scoring.result()]
    ranks.wait()  # before rank 0 writes a result
    for test in {scoring.test.stem: scoring.test for scoring in left}.values():
        if isinstance(benchmark := test.open(), AnswerBenchmark):
            benchmark.open(data)  # what is asked is there, before a model is trained
    for number, scoring in enumerate(left):
        name = f"{scoring.model}/{scoring.test.stem}"
        try:
            for run in plan.runs_of(scoring.job):
                if not is_trained(run):
                    name = f"{run.name}/train"
                    _say(ranks, say, name)
                    recipe = inherit(run.recipe, run.folder)
                    watch = Watch(quiet=ranks.rank > 0)
                    Trainer(recipe, run.folder, ranks, open_tokenizer(recipe.model.tokenizer)).train(watch)
                ranks.wait()  # rank 0 writes the model
            name = f"{scoring.model}/{scoring.test.stem}"
            _say(ranks, say, f"{name}: {len(left) - number} tests are left")
            scoring.do(ranks, data)
        except InterruptedError:
            raise
        except (ValueError, OSError) as error:
            raise ValueError(f"{name}: {error}") from error


def _say(ranks: Ranks, say: Show, text: str) -> None:
    if ranks.rank == 0:
        say(text)
