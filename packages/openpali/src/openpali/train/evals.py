"""Evaluation inside training: the ``[[evals]]`` of a recipe, and the best score so far.

Evaluations do not change what is learned. They run between steps, with the weights that the run would export, in
the precision of training, and leave modes, gradients and torch's random state as they are.

Ranks share the samples of an evaluation. If the model is sharded, each rank asks all of them instead, in lockstep:
blocks are gathered one by one while they run, as in training, and no rank holds the whole model.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch

from openpali.distributed import ALONE
from openpali.eval.benchmark import Embedded
from openpali.eval.evaluators import Measured
from openpali.eval.scales import is_error
from openpali.model.vision_language import DTYPES
from openpali.text.tokenizer import Tokenizer
from openpali.train.evaluation import Evaluation
from openpali.train.export import averaged
from openpali.train.objectives.registry import objectives
from openpali.train.parallel import is_sharded, runnable
from openpali.train.phases import open_tools
from openpali.train.recipe import Recipe
from openpali.train.step import TrainStep

LOSS = "loss"


@dataclass(frozen=True)
class Evaluated:
    """Scores of an evaluation: a line of ``metrics.jsonl``."""

    samples: int  # since the start of the run
    step: int
    eval: str  # name of the evaluation
    metric: str  # the score that counts
    n: int  # number of samples asked
    scores: Mapping[str, float]  # by name; ``loss`` is the held-out loss in nats per token
    precision: str  # of matmuls, "bf16" or "fp32"; weights are float32 in either
    seconds: float  # that the evaluation took

    def is_plain(self, score: str) -> bool:
        """Whether a score is of all samples, and not of a slice."""
        return score == self.metric or "/" not in score


@dataclass
class Best:
    """The best value of a score so far, and when it was reached; a part of a run's state."""

    score: str  # the recipe's ``keep_best``
    value: float | None = None  # None before the first
    samples: int = 0  # when it was reached
    step: int = 0

    def notice(self, value: float, *, falls: bool, samples: int, step: int) -> bool:
        """Take the value of an evaluation; returns whether it is the best. ``falls``: lower is better."""
        if not math.isnan(value) and (self.value is None or (value < self.value if falls else value > self.value)):
            self.value, self.samples, self.step = value, samples, step
            return True
        return False


class Evaluations:
    """The evaluations of a run.

    Args:
        best: the :attr:`state` in the checkpoint from which the run goes on; None for a new run.
    """

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, best: Mapping[str, Any] | None = None) -> None:
        self.all = open_evaluations(recipe, tokenizer)
        self.best = Best(recipe.keep_best) if recipe.keep_best else None
        if best and best["score"] == recipe.keep_best:
            self.best = Best(**best)

    @property
    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps."""
        return asdict(self.best) if self.best else None

    @property
    def kept(self) -> int | None:
        """The step of the best checkpoint, if there is one."""
        return self.best.step if self.best and self.best.value is not None else None

    def note(self, found: Evaluated) -> bool:
        """Take the scores of an evaluation; returns whether the best score was reached."""
        best = self.best
        if best is None or evaluation_of(best.score, [each.name for each in self.all]) != found.eval:
            return False
        score = score_of(best.score, found.eval) or found.metric
        if score not in found.scores:
            raise ValueError(
                f"keep_best = {best.score!r}: evaluation {found.eval} has no score {score!r}, but "
                f"{', '.join(found.scores)}: name one of them"
            )
        falls = lower_is_better(score)
        return best.notice(found.scores[score], falls=falls, samples=found.samples, step=found.step)


def evaluate(evaluation: Evaluation, step: TrainStep, samples: int, number: int) -> Evaluated:
    """Run an evaluation of the model of a step, after so many samples and steps. Collective."""
    began = time.perf_counter()
    sharded = is_sharded(step.recipe.parallel, step.ranks)
    ranks = dataclasses.replace(ALONE, device=step.ranks.device) if sharded else step.ranks
    low = step.dtype == torch.bfloat16
    try:
        with (
            averaged(step),
            runnable(step.model),
            torch.autocast(step.ranks.device.type, torch.bfloat16, enabled=low),
            torch.compiler.set_stance("force_eager"),  # prompts have many lengths
        ):
            asked = step.objective.evaluated(sharded)
            results = [evaluator.run(asked, ranks) for evaluator in evaluation.evaluators]
    except (ValueError, OSError) as error:
        raise ValueError(f"evaluation {evaluation.name} at sample {samples}: {error}") from error
    return Evaluated(
        samples=samples,
        step=number,
        eval=evaluation.name,
        metric=evaluation.metric,
        n=cast(Measured | Embedded, results[-1]).n,
        scores={name: value for result in results for name, value in result.scores.summary.items()},
        precision=DTYPES[step.dtype],
        seconds=time.perf_counter() - began,
    )


def open_evaluations(recipe: Recipe, tokenizer: Tokenizer) -> list[Evaluation]:
    """Open the data of every evaluation of a recipe."""
    tools, kind = open_tools(recipe, tokenizer), objectives()[recipe.objective]
    opened = []
    for number, spec in enumerate(recipe.evals):
        try:
            opened.append(kind.open_evaluation(spec, recipe, tools))
        except (FileNotFoundError, ValueError) as error:
            known = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise known(f"evals.{number}: {error}") from error
    return opened


def describe_evaluations(recipe: Recipe, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """A line of text about each evaluation, with the score that ``keep_best`` names."""
    kept = evaluation_of(recipe.keep_best, [each.name for each in evaluations])
    for each in evaluations:
        size = f"{each.n:,}" if each.n else "all"
        line = f"evaluation {each.name}: {size} samples, every {each.every:,} of the run; {each.metric} counts"
        score = score_of(recipe.keep_best, each.name) or each.metric
        yield f"{line}; the model with the best {score} is kept" if each.name == kept else line


def lower_is_better(score: str) -> bool:
    """Whether a score is better when it is lower: a loss, or an error rate."""
    return score == LOSS or is_error(score)


def evaluation_of(score: str, names: Sequence[str]) -> str | None:
    """The evaluation that a score ``NAME`` or ``NAME/SCORE`` belongs to: of several the longest name."""
    return max((n for n in names if score == n or score.startswith(f"{n}/")), key=len, default=None)


def score_of(score: str, name: str) -> str:
    """``SCORE`` of ``NAME/SCORE``, or "" of ``NAME``, where ``name`` is the evaluation."""
    return score.removeprefix(name).removeprefix("/")
