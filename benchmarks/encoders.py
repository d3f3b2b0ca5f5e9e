"""A training step of nano's image encoder with each loss of the study, beside SigLIP's alone.

    python benchmarks/encoders.py --json encoders.json
    python benchmarks/encoders.py --preset pico --batch 4 --rounds 1     # a quick check that it works

The recipes are those of `recipes/study/encoders.toml`, with the trainer's own step on random weights. Each image
has one object, and texts have the most tokens. All arms take turns in one process; times are medians.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from _report import Result, cost, interleaved, machine, report
from openpali.distributed import ALONE
from openpali.train.machine import resolve_precision
from openpali.train.objectives.base import Lengths
from openpali.train.recipe import Recipe
from openpali.train.step import TrainStep
from openpali_lab.plan.planner import build_without_data
from openpali_lab.study.runs import plan_study
from openpali_lab.study.spec import load_study

STUDY = Path(__file__).parents[1] / "recipes" / "study" / "encoders.toml"
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano", help="the shapes; pico to try the script")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each arm")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    facts = {**machine(), "preset": options.preset, "batch": options.batch}
    report(_measure(options.preset, options.batch, options.rounds), facts, options.file)


def _measure(preset: str, batch: int, rounds: int) -> Iterator[Result]:
    study = load_study(STUDY)
    plan = plan_study(study, STUDY.parent, [f"model.preset={preset}", f"batch={batch}"])
    jobs = [job for job in plan.jobs if job.seed == study.seeds[0]]
    steps = {job.arm: _step(plan.runs[job.runs[0]].recipe) for job in jobs}
    seconds = interleaved(steps, rounds)
    for arm in steps:
        if arm != study.baseline:
            yield cost(arm, seconds[arm], seconds[study.baseline], study.baseline, "s")


def _step(recipe: Recipe) -> Callable[[], object]:
    phase = recipe.phases[-1]
    objective = build_without_data(recipe, phase, "cpu")
    step = TrainStep(recipe, objective, ALONE, resolve_precision(recipe.precision, CPU))
    batch = objective.example_batch(phase, recipe.batch, Lengths())
    return lambda: step.run([batch], weight=float(recipe.batch))


if __name__ == "__main__":
    main()
