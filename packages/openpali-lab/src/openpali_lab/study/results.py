"""The results of a study in a folder that outlives its runs: of each finished job the recipes and the scores.

The folder is laid out as the study's runs are: ``SIZE-SEED/STAGES/recipe.json`` of every run of a finished job, and
``scores.json`` beside that of the run that is scored. It has what the table needs and no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openpali.train.run_folder import RunFolder
from openpali.whole import write_whole
from openpali_lab.study.runs import Job, Plan
from openpali_lab.study.spec import Study, TestSpec
from openpali_lab.study.table import values_of
from openpali_lab.study.work import Scoring, read_scores, units_of


class Results:
    """The results of a study in a folder.

    Args:
        folder: made by :meth:`keep`.
        data: the root of official data sets.
    """

    def __init__(self, folder: Path, study: Study, plan: Plan, data: Path) -> None:
        self.folder, self.study, self.plan, self.data = folder, study, plan, data

    def take_up(self) -> None:
        """Give the study's runs the recipes and scores of the folder that they do not have."""
        for run in self.plan.runs.values():
            kept = RunFolder(self._place(run.name))
            if kept.record.is_file():
                kept.check_same(run.recipe, "name another folder with --results")
                if not (run.folder / kept.record.name).exists():
                    _copy(kept.record, run.folder)
        for job in self.plan.jobs:
            scores = self._read(job)
            for scoring in self._scorings(job):
                if (key := _key(scoring.test)) in scores and not scoring.file.exists():
                    scoring.write(scores[key])

    def keep(self, job: Job) -> None:
        """Write the recipes and scores of a job if all its tests have been scored.

        What other columns need, and is there, stays.
        """
        scorings = self._scorings(job)
        if not all(scoring.done() for scoring in scorings):
            return
        before = self._read(job)
        named = {_key(each.test): each for each in scorings}
        scores = before | {key: self._compact(each, before.get(key, {})) for key, each in named.items()}
        for run in self.plan.runs_of([job]):
            record = RunFolder(run.folder).record
            if record.is_file():
                _copy(record, self._place(run.name))
        lines = [f"{json.dumps(key)}: {_line(result)}" for key, result in sorted(scores.items())]
        write_whole(self._file(job), ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8"))

    def _compact(self, scoring: Scoring, before: Mapping[str, Any]) -> dict[str, Any]:
        """What the columns need of a result, and its card without samples and paths, beside what is kept of it."""
        result = scoring.result()
        columns = [column for column in self.study.columns if column.test == scoring.test]
        for column in columns:
            values_of(column, result, scoring.job)  # has the scores and prompts that it needs
        names = {column.score or result["card"]["metric"] for column in columns}
        needed = any(column.prompt for column in columns)
        card = {key: value for key, value in result["card"].items() if key not in ("worst", "predictions")}
        card["data"] = {key: value for key, value in card["data"].items() if key != "root"}
        card["model"] = {**card["model"], "name": scoring.model}
        same = before if before.get("card") == card else {"prompts": [], "asked": [], "values": {}}
        return {
            "test": result["test"],
            "card": card,
            "prompts": result["prompts"] if needed else same["prompts"],
            "asked": result["asked"] if needed else same["asked"],
            "values": same["values"] | {name: own for name, own in result["values"].items() if name in names},
        }

    def _scorings(self, job: Job) -> list[Scoring]:
        units = units_of(self.study, self.plan, [job], self.data)
        return [unit for unit in units if isinstance(unit, Scoring)]

    def _read(self, job: Job) -> dict[str, Any]:
        """The result of each test of a job, by :func:`_key`; empty before it is kept."""
        file = self._file(job)
        results = read_scores(file).values() if file.is_file() else ()
        return {_key(TestSpec.model_validate(result["test"])): result for result in results}

    def _file(self, job: Job) -> Path:
        return self._place(job.model) / "scores.json"

    def _place(self, run: str) -> Path:
        return self.folder / run.removeprefix(f"{self.study.name}/")


def _key(test: TestSpec) -> str:
    """Names a test among those of a job, of which some may ask the same of its image encoder."""
    return f"{test.stem}-encoder" if test.encoder else test.stem


def _copy(file: Path, folder: Path) -> None:
    write_whole(folder / file.name, file.read_bytes())


def _line(result: Mapping[str, Any]) -> str:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":"))
