"""The table of a study: each arm's scores, and their differences to the baseline with intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openpali.eval.cards import is_cider
from openpali.metrics.seeds import Estimate, Values, difference, estimate
from openpali.study.runs import Job
from openpali.study.spec import ColumnSpec, Study
from openpali.study.work import Scoring

MEMORY = "from memory of the paper, ViT-G/14"
INTRODUCTION = (
    "Scores in percent, CIDEr on its own scale. A difference is to the arm {baseline}, with its 95 % interval over "
    "seeds and samples; seeds: {seeds}. The paper's numbers are " + MEMORY + "; never ours. The sign agrees (yes), "
    "disagrees (no), or is open: the interval contains 0."
)


@dataclass(frozen=True)
class Row:
    """A column of the paper's table, which is a row here, at one size and after so many samples.

    Attributes:
        samples: of the stage before the last; None: all.
        n: number of samples that are scored.
        seeds: arm -> its seeds.
        scores: arm -> mean, in percent or CIDEr.
        differences: arm -> difference to the baseline.
    """

    column: ColumnSpec
    size: str
    samples: int | None
    n: int
    seeds: Mapping[str, Sequence[int]]
    scores: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]

    def sign(self, compared: str) -> str:
        """Whether the sign of the difference is the paper's: "yes", "no", "open", or "" where there is none."""
        found = self.differences.get(compared)
        if found is None or not self.column.paper:
            return ""
        if found.low <= 0 <= found.high:
            return "open"
        return "yes" if (found.value > 0) == (self.column.paper[1] > 0) else "no"

    def as_json(self, compared: str) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "column": self.column.name,
            "size": self.size,
            "samples": self.samples,
            "n": self.n,
            "seeds": {arm: list(seeds) for arm, seeds in self.seeds.items()},
            "scores": {arm: each._asdict() for arm, each in self.scores.items()},
            "differences": {arm: each._asdict() for arm, each in self.differences.items()},
            "paper": {"from": MEMORY, "column": self.column.paper_name, "values": self.column.paper},
            "sign": self.sign(compared),
        }


def rows_of(study: Study, scorings: Sequence[Scoring]) -> list[Row]:
    """The rows of all jobs that have been scored so far: the points of the curve, then whole runs.

    Raises:
        ValueError: a score of a column is not one that each sample has, or a prompt is found nowhere.
    """
    found: dict[tuple[str, int | None, str], dict[str, dict[int, Values]]] = {}
    columns = {column.name: column for column in study.columns}
    for scoring in scorings:
        result, job = scoring.result(), scoring.job
        for column in study.columns if result else ():
            if column.test == scoring.test:
                arms = found.setdefault((job.size, job.samples, column.name), {})
                arms.setdefault(job.arm, {})[job.seed] = values_of(column, result, job)
    order = [*study.sizes], [*columns]
    keys = sorted(found, key=lambda key: (key[1] or math.inf, order[0].index(key[0]), order[1].index(key[2])))
    return [_row(columns[key[2]], key[0], key[1], study.baseline, found[key]) for key in keys]


def values_of(column: ColumnSpec, result: Mapping[str, Any], job: Job) -> Values:
    """The column's score of each of its samples ``[N]``, in percent or CIDEr.

    Raises:
        ValueError: as :func:`rows_of`.
    """
    score = column.score or result["card"]["metric"]
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


def as_json(study: Study, rows: Sequence[Row], missing: int) -> dict[str, Any]:
    """The whole table. ``missing``: number of tests of models that are left."""
    return {
        "study": study.name,
        "baseline": study.baseline,
        "compared": study.compared,
        "missing": missing,
        "rows": [row.as_json(study.compared) for row in rows],
    }


def as_markdown(study: Study, rows: Sequence[Row], missing: int) -> str:
    """A table for each size, and one for the curve."""
    lines = [f"# {study.name}", "", _introduction(study)]
    if missing:
        lines += ["", f"Not complete: tests of models that are left: {missing}."]
    whole = [row for row in rows if row.samples is None]
    for size in dict.fromkeys(row.size for row in whole):
        lines += ["", f"## {size}", "", *_table(study, [row for row in whole if row.size == size])]
    if curve := [*_curve(study, rows)]:
        lines += ["", "## After fewer samples of the encoder", "", *curve]
    return "\n".join(lines) + "\n"


def curve_of(study: Study, rows: Sequence[Row], column: str, size: str) -> list[tuple[int | None, Estimate]]:
    """Samples and difference of the compared arm, the whole runs (None) last."""
    own = [row for row in rows if (row.column.name, row.size) == (column, size)]
    return [(row.samples, row.differences[study.compared]) for row in own if study.compared in row.differences]


def _row(
    column: ColumnSpec, size: str, samples: int | None, baseline: str, arms: Mapping[str, Mapping[int, Values]]
) -> Row:
    stacked = {arm: np.stack([own[seed] for seed in sorted(own)]) for arm, own in arms.items()}
    against = stacked.get(baseline)
    return Row(
        column,
        size,
        samples,
        n=next(iter(stacked.values())).shape[1],
        seeds={arm: sorted(own) for arm, own in arms.items()},
        scores={arm: estimate(values) for arm, values in stacked.items()},
        differences={
            arm: difference(values, against)
            for arm, values in stacked.items()
            if arm != baseline and against is not None
        },
    )


def _introduction(study: Study) -> str:
    return INTRODUCTION.format(baseline=study.baseline, seeds=len(study.seeds))


def _table(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    others = [arm for arm in study.arms if arm not in (study.baseline, study.compared)]
    others = [arm for arm in others if any(arm in row.differences for row in rows)]
    head = ["column", "samples", study.baseline, study.compared, "difference"]
    seeds = {arm: max(len(row.seeds.get(arm, ())) for row in rows) for arm in others}
    head += [f"{arm}, difference ({seeds[arm]} of {len(study.seeds)} seeds)" for arm in others]
    yield _line([*head, "paper", "paper's baseline", "paper's difference", "sign agrees"])
    yield _line(["---"] * (len(head) + 4))
    for row in rows:
        paper = row.column.paper
        cells = [row.column.name, f"{row.n:,}"]
        cells += [f"{row.scores[arm].value:.1f}" if arm in row.scores else "" for arm in head[2:4]]
        cells += [_shown(row.differences.get(arm)) for arm in (study.compared, *others)]
        cells += [row.column.paper_name, f"{paper[0]:.1f}", f"{paper[1]:+.1f}"] if paper else ["", "", ""]
        yield _line([*cells, row.sign(study.compared)])


def _curve(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """Differences over samples, for each column and size that has points."""
    points = list(dict.fromkeys(row.samples for row in rows if row.samples is not None))
    for size in dict.fromkeys(row.size for row in rows if row.samples is not None):
        yield _line(["column", "size", *(f"{samples:,}" for samples in points), "all"])
        yield _line(["---"] * (len(points) + 3))
        for column in study.columns:
            known = dict(curve_of(study, rows, column.name, size))
            yield _line([column.name, size, *(_shown(known.get(samples)) for samples in (*points, None))])


def _shown(found: Estimate | None) -> str:
    return "" if found is None else f"{found.value:+.1f} ({found.low:+.1f} .. {found.high:+.1f})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
