"""Fit the confidence of a model's answers, on samples that no training has seen and that no benchmark scores.

``openpali calibrate`` stores the result with the model, as a fact of each part: task -> temperature and offset. A
model folder that training writes has none: other weights have another confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from openpali.eval.datasets.base import AnswerBenchmark, Benchmark
from openpali.eval.evaluators import AnswerEvaluator, Watch, unwatched
from openpali.infer.pali import Pali
from openpali.infer.pipeline import BATCH
from openpali.metrics.calibration import Calibration, auroc, expected_calibration_error, fit_calibration
from openpali.metrics.scores import mean
from openpali.tasks.base import Task
from openpali.tasks.scoring import CLAIMS, Answered
from openpali.weights.format import add_facts, open_model


@dataclass(frozen=True)
class Fitted:
    """The calibration of a task of a part.

    Attributes:
        claims: number of texts, or of objects, that it was fitted on.
        right: share of them that is right.
    """

    part: str
    task: str
    calibration: Calibration
    claims: int
    right: float


def calibrate(
    benchmarks: Sequence[Benchmark],
    pali: Pali,
    data: Path,
    *,
    limit: int | None = None,
    batch: int = BATCH,
    watch: Callable[[Benchmark], Watch] = lambda benchmark: unwatched,
) -> Iterator[Fitted]:
    """Fit and store the confidence of a model, for each benchmark that has samples for it and a part to answer.

    Args:
        pali: from a folder that can be written. It does not know the new confidence itself: open it again.
        data: the data root.
        limit: fit on the first ``limit`` samples of each benchmark.

    Raises:
        FileNotFoundError, ValueError: samples cannot be read, or the log-probabilities of the answers do not tell
            right from wrong.
        OSError: the folder cannot be written.
    """
    for benchmark in benchmarks:
        if not isinstance(benchmark, AnswerBenchmark) or benchmark.calibration is None:
            continue
        part = benchmark.part or pali.by_task.get(benchmark.task, ("pali",))[0]
        if part not in pali.parts:
            continue
        pipeline = pali.pipeline(part)
        task = benchmark.task_for(pipeline)
        source = benchmark.calibration(data)
        evaluator = AnswerEvaluator.of(benchmark, source, task, limit=limit, batch=batch, watch=watch(benchmark))
        log_probs, right = judged(evaluator.run(pipeline).rows, task)
        calibration = fit_calibration(log_probs, right, offset=task.coordinates)
        folder = pali.parts[part]
        known = {**open_model(folder).calibrations, task.name: calibration}
        add_facts(folder, calibration={name: asdict(each) for name, each in known.items()})
        yield Fitted(part, task.name, calibration, len(right), mean([float(each) for each in right]))


def confidence_scores(rows: Sequence[Answered], task: Task, calibration: Calibration) -> dict[str, float]:
    """How well confidence fits: ``ece``, and ``confidence_auroc`` if some claims are right and some are wrong.

    Empty if no answer makes a claim.
    """
    log_probs, right = judged(rows, task)
    if not right:
        return {}
    sure = [calibration.confidence(log_prob) for log_prob in log_probs]
    scores = {"ece": expected_calibration_error(sure, right)}
    if len(set(right)) == 2:
        wrong, correct = (
            [each for each, hit in zip(sure, right, strict=True) if hit == side] for side in (False, True)
        )
        scores["confidence_auroc"] = auroc(wrong, correct)
    return scores


def judged(rows: Sequence[Answered], task: Task) -> tuple[list[float], list[bool]]:
    """The log-probability of each claim of each answer, and whether it is right."""
    pairs = [pair for row in rows for pair in zip(row.values[CLAIMS], task.right_claims(row), strict=False)]
    return [log_prob for log_prob, _ in pairs], [right for _, right in pairs]
