"""The table of a study: each arm's scores, and their differences to the baseline with intervals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from openpali.eval.markdown import table_row
from openpali.eval.scales import is_cider, is_error
from openpali_lab.study.runs import Job
from openpali_lab.study.seeds import LEVEL, Estimate, Values, difference, estimate, holm
from openpali_lab.study.spec import ColumnSpec, Study
from openpali_lab.study.work import Scoring

MEMORY = "from memory of the paper, ViT-G/14"
FLOOR = 3  # percent, or CIDEr
TOO_LOW = "too low to tell"
ONE_SEED = "one seed"
INTRODUCTION = f"""Scores in percent, CIDEr on its own scale. A difference is to the arm {{baseline}}, with its \
95 % interval over seeds and samples. Of so many columns some miss by chance, so p is adjusted by Holm's method \
over the columns of a size; that of arms beside {{compared}} over these arms, too. The paper's numbers are \
{MEMORY}; never ours. The sign agrees (yes) or disagrees (no) where p is below .05, and is open elsewhere. Where \
both arms are below {FLOOR}, it is {TOO_LOW}. Where an arm has {ONE_SEED}, the interval is too narrow and p too \
small, since nothing is known of other seeds."""


@dataclass(frozen=True)
class Row:
    """A column of the paper's table, which is a row here, at one size.

    Attributes:
        n: number of samples that are scored.
        seeds: arm -> its seeds.
        scores: arm -> mean, in percent or CIDEr.
        differences: arm -> difference to the baseline.
        p: of the compared arm's difference, adjusted by Holm's method over all columns; None without one.
        others: arm -> p of another arm's difference, adjusted over all columns and all such arms.
    """

    column: ColumnSpec
    size: str
    n: int
    seeds: Mapping[str, Sequence[int]]
    scores: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    p: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)

    def sign(self, study: Study) -> str:
        """Whether the sign of the difference is the paper's: "yes", "no", "open", or "" where there is none.

        :data:`TOO_LOW` where both arms have learned next to nothing, and :data:`ONE_SEED` where an arm has no
        other, with or without a number of the paper.
        """
        found = self.differences.get(study.compared)
        if found is None:
            return ""
        if max(self.scores[arm].value for arm in (study.baseline, study.compared)) < FLOOR:
            return TOO_LOW
        if self.count(study) < 2:
            return ONE_SEED
        if not self.column.paper:
            return ""
        if self.p is None or self.p >= 1 - LEVEL:
            return "open"
        return "yes" if (found.value > 0) == (self.column.paper[1] > 0) else "no"

    def count(self, study: Study, arm: str = "") -> int:
        """How many seeds both the baseline and an arm have, by default the compared one."""
        return min(len(self.seeds.get(each, ())) for each in (study.baseline, arm or study.compared))

    def as_json(self, study: Study) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "column": self.column.name,
            "size": self.size,
            "n": self.n,
            "seeds": {arm: list(seeds) for arm, seeds in self.seeds.items()},
            "scores": {arm: each._asdict() for arm, each in self.scores.items()},
            "differences": {arm: each._asdict() for arm, each in self.differences.items()},
            "p": self.p,
            "others": dict(self.others),
            "paper": {"from": MEMORY, "column": self.column.paper_name, "values": self.column.paper},
            "sign": self.sign(study),
        }


def rows_of(study: Study, scorings: Sequence[Scoring]) -> list[Row]:
    """The rows of all jobs that have been scored so far, size by size."""
    asked: dict[tuple[str, str], tuple[str, int, str]] = {}
    found: dict[tuple[str, str], dict[str, dict[int, Values]]] = {}
    columns = {column.name: column for column in study.columns}
    for scoring in scorings:
        result, job = scoring.result(), scoring.job
        for column in study.columns if result else ():
            if column.test == scoring.test:
                values, data = values_of(column, result, job), result["card"]["data"]["hash"]
                first = asked.setdefault((job.size, column.name), (data, len(values), job.model))
                if first[:2] != (data, len(values)):
                    raise ValueError(
                        f"column {column.name}: {first[2]} and {job.model} were asked about different "
                        "samples: delete the scores of one of them, and it is asked again"
                    )
                arms = found.setdefault((job.size, column.name), {})
                arms.setdefault(job.arm, {})[job.seed] = values
    keys = [(size, name) for size in study.sizes for name in columns if (size, name) in found]
    rows = [_row(columns[name], size, study.baseline, found[size, name]) for size, name in keys]
    return [row for _, own in groupby(rows, lambda row: row.size) for row in _adjusted(study, [*own])]


def values_of(column: ColumnSpec, result: Mapping[str, Any], job: Job) -> Values:
    """The column's score of each of its samples ``[N]``, in percent or CIDEr."""
    score = column.score or result["card"]["metric"]
    if is_error(score):
        raise ValueError(
            f"column {column.name}: {score} is an error rate, and in a table more is better: name another score"
        )
    values, prompts, asked = result["values"].get(score), result["prompts"], result["asked"]
    if values is None:
        raise ValueError(
            f"column {column.name}: samples of {result['card']['benchmark']} have no score {score!r}, but "
            f"{', '.join(result['values'])}: name one of them"
        )
    if column.prompt and len(values) != len(asked):
        raise ValueError(
            f"column {column.name}: the scores of {job.model} have no prompts to choose from: leave prompt out, or "
            "delete them, and the model is asked again"
        )
    chosen = [not column.prompt or re.search(column.prompt, prompt) for prompt in prompts]
    kept = [i for i, _ in enumerate(values) if not column.prompt or chosen[asked[i]]]
    if not kept:
        raise ValueError(f"column {column.name}: {column.prompt!r} is found in no prompt of {job.model}")
    return np.array(values, np.float64)[kept] * (1 if is_cider(score) else 100)


def missing_of(scorings: Sequence[Scoring]) -> dict[Job, int]:
    """Job -> number of its tests that are not scored; complete jobs are left out."""
    return dict(Counter(scoring.job for scoring in scorings if not scoring.result()))


def counted_seeds(study: Study, rows: Sequence[Row], arm: str = "") -> str:
    """How many seeds the baseline and an arm have in each of these rows, in words."""
    counts = sorted({row.count(study, arm) for row in rows})
    shown = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    return f"{shown} seed{'s' * (counts[-1] != 1)}"


def as_json(study: Study, rows: Sequence[Row], missing: Mapping[Job, int]) -> dict[str, Any]:
    """The whole table. ``missing``: as :func:`missing_of`."""
    return {
        "study": study.name,
        "baseline": study.baseline,
        "compared": study.compared,
        "missing": [
            {"arm": job.arm, "size": job.size, "seed": job.seed, "tests": tests} for job, tests in missing.items()
        ],
        "rows": [row.as_json(study) for row in rows],
    }


def as_markdown(study: Study, rows: Sequence[Row], missing: Mapping[Job, int]) -> str:
    """A table for each size. ``missing``: as :func:`missing_of`."""
    lines = [f"# {study.name}", "", INTRODUCTION.format(baseline=study.baseline, compared=study.compared)]
    if missing:
        lines += ["", "Not complete. These are missing:", ""]
        lines += [f"- {job}: {tests} test{'s' * (tests > 1)}" for job, tests in missing.items()]
    for size, own in groupby(rows, lambda row: row.size):
        of_size = [*own]
        lines += ["", f"## {size}", "", _scored_seeds(study, of_size), "", *_table(study, of_size)]
    return "\n".join(lines) + "\n"


def _row(column: ColumnSpec, size: str, baseline: str, arms: Mapping[str, Mapping[int, Values]]) -> Row:
    stacked = {arm: np.stack([own[seed] for seed in sorted(own)]) for arm, own in arms.items()}
    against = stacked.get(baseline)
    return Row(
        column,
        size,
        n=next(iter(stacked.values())).shape[1],
        seeds={arm: sorted(own) for arm, own in arms.items()},
        scores={arm: estimate(values) for arm, values in stacked.items()},
        differences={
            arm: difference(values, against)
            for arm, values in stacked.items()
            if arm != baseline and against is not None
        },
    )


def _adjusted(study: Study, rows: Sequence[Row]) -> list[Row]:
    """The rows of a size with the p values of all of them adjusted."""
    beside = [arm for arm in study.arms if arm not in (study.baseline, study.compared)]
    each = zip(rows, _p_values(rows, [study.compared]), _p_values(rows, beside), strict=True)
    return [replace(row, p=own.get(study.compared), others=others) for row, own, others in each]


def _p_values(rows: Sequence[Row], arms: Sequence[str]) -> list[dict[str, float]]:
    """For each row the p of each of these arms that it has, adjusted over all of them."""
    pairs = [(i, arm) for i, row in enumerate(rows) for arm in arms if arm in row.differences]
    found: list[dict[str, float]] = [{} for _ in rows]
    for (i, arm), p in zip(pairs, holm([rows[i].differences[arm].p for i, arm in pairs]), strict=True):
        found[i][arm] = p
    return found


def _scored_seeds(study: Study, rows: Sequence[Row]) -> str:
    """Which of the seeds have been scored, in all columns or in some."""
    main = (study.baseline, study.compared)
    arms = {arm: sorted({seed for row in rows for seed in row.seeds.get(arm, ())}) for arm in study.arms}
    found = [f"{arm}: {_numbers(seeds) or 'none'}" for arm, seeds in arms.items() if seeds or arm in main]
    return f"Scored seeds, of {_numbers(study.seeds)}: {'; '.join(found)}."


def _table(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    others = [arm for arm in study.arms if arm not in (study.baseline, study.compared)]
    others = [arm for arm in others if any(arm in row.differences for row in rows)]
    head = ["column", "samples", study.baseline, study.compared, "difference", "p (Holm)"]
    seeds = {arm: max(len(row.seeds.get(arm, ())) for row in rows) for arm in others}
    head += [f"{arm}, difference ({seeds[arm]} of {len(study.seeds)} seeds)" for arm in others]
    yield table_row([*head, "paper", "paper's baseline", "paper's difference", "sign agrees"])
    yield table_row(["---"] * (len(head) + 4))
    for row in rows:
        paper = row.column.paper
        cells = [row.column.name, f"{row.n:,}"]
        cells += [f"{row.scores[arm].value:.1f}" if arm in row.scores else "" for arm in head[2:4]]
        cells += [_shown(row.differences.get(study.compared)), _shown_p(row.p)]
        cells += [_with_p(row.differences.get(arm), row.others.get(arm)) for arm in others]
        cells += [row.column.paper_name, f"{paper[0]:.1f}", f"{paper[1]:+.1f}"] if paper else ["", "", ""]
        yield table_row([*cells, row.sign(study)])


def _numbers(found: Sequence[int]) -> str:
    return ", ".join(map(str, found))


def _shown_p(p: float | None) -> str:
    if p is None:
        return ""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _with_p(found: Estimate | None, p: float | None) -> str:
    return "" if found is None else f"{_shown(found)}, p {_shown_p(p)}"


def _shown(found: Estimate | None) -> str:
    if found is None:
        return ""
    interval = f" ({found.low:+z.1f} .. {found.high:+z.1f})" if found.low < found.high else ""
    return f"{found.value:+z.1f}{interval}"
