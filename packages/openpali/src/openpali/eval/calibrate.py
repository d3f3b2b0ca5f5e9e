"""Fit the confidence of a model's answers, and its detector of out-of-distribution images.

The samples are drawn by neither training nor a benchmark.

``openpali calibrate`` stores them with each part of the model: temperatures and offsets as a fact, the others as
:mod:`openpali.weights.ood`. A model folder that training writes has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from openpali.data.media.images import image_hash
from openpali.data.sources.base import Source, spread
from openpali.eval.benchmark import SEED, Advance, AnswerBenchmark, Benchmark, PageBenchmark, unwatched
from openpali.eval.evaluators import AnswerEvaluator, count
from openpali.eval.pages import PageAnswers, WholePageEvaluator
from openpali.infer.batches import chunked
from openpali.infer.components import Component, ImageEncoder
from openpali.infer.pali import Pali
from openpali.infer.pipeline import BATCH, Pipeline, frames_of
from openpali.metrics.boxes import Detection, right_boxes
from openpali.metrics.calibration import TINY, Calibration, auroc, expected_calibration_error, fit_calibration
from openpali.metrics.scores import mean
from openpali.rng import generator
from openpali.tasks.base import Task
from openpali.tasks.detect import Detect
from openpali.tasks.example import Image
from openpali.tasks.scoring import CLAIMS, CONFIDENCES, Answered
from openpali.weights.files import SIGLIP
from openpali.weights.format import add_facts, open_model
from openpali.weights.ood import CENTRES, fit_ood, write_ood

OOD_IMAGES = 600  # samples of each benchmark
FRAME_STRIDE = 4

_Chosen = tuple[Source, Sequence[int]]  # samples by their indices


@dataclass(frozen=True)
class Fitted:
    """The calibration of a task of a part."""

    part: str
    task: str
    calibration: Calibration
    claims: int  # number of texts, or of objects, that it was fitted on
    right: float  # share of them that is right


def calibrate(
    benchmarks: Sequence[Benchmark],
    pali: Pali,
    data: Path,
    *,
    limit: int | None = None,
    batch: int = BATCH,
    watch: Callable[[str], Advance] = lambda name: unwatched,
) -> Iterator[Fitted]:
    """Fit and store the confidence of a model, for each benchmark that has samples for it and a part to answer.

    Args:
        pali: from a folder that can be written. It does not know the new confidence itself: open it again.
        data: the data root.
        limit: fit on the first ``limit`` samples of each benchmark.
    """
    for benchmark, part, source in _fitting(benchmarks, pali, data):
        if not pali.component(part).decodes:
            continue  # patches are fitted below, by calibrate_patches
        pipeline = pali.pipeline(part)
        task = benchmark.task_for(pipeline.task(benchmark.task))
        evaluator = AnswerEvaluator.of(
            benchmark, source, task, limit=limit, batch=batch, watch=watch(benchmark.name), claims=True
        )
        log_probs, right = judged(evaluator.run(pipeline).rows, task)
        if not right:
            raise ValueError(
                f"{pali.name} finds nothing in the samples of {task.name}: no confidence can be fitted"
            )
        yield _fit(pali, part, task.name, log_probs, right, offset=task.alternatives)
    for page_benchmark in benchmarks:
        if (
            isinstance(page_benchmark, PageBenchmark)
            and page_benchmark.calibration
            and page_benchmark.part in pali.parts
        ):
            yield _calibrate_pages(page_benchmark, pali, page_benchmark.calibration(data), limit, watch)
    if SIGLIP in pali.parts and open_model(pali.parts[SIGLIP]).has_sides:
        for benchmark, _, source in _fitting(benchmarks, pali, data):
            if benchmark.task == Detect.name:
                yield calibrate_patches(benchmark, pali, source, limit, watch(benchmark.name))


def fit_first(benchmarks: Sequence[Benchmark], pali: Pali) -> Iterator[str]:
    """Fit and store what the fit of :func:`calibrate` depends on: see :attr:`PageBenchmark.fit`.

    Args:
        pali: as for :func:`calibrate`.
    """
    for benchmark in benchmarks:
        if isinstance(benchmark, PageBenchmark) and benchmark.fit and benchmark.part in pali.parts:
            yield benchmark.fit(pali)


def _calibrate_pages(
    benchmark: PageBenchmark, pali: Pali, source: Source, limit: int | None, watch: Callable[[str], Advance]
) -> Fitted:
    """Fit the confidence of a part that finds things, by what is right of them."""
    raw = Pali(pali.folder, dtype=pali.dtype, device=pali.device)
    raw.uncalibrated = benchmark.part
    pages = WholePageEvaluator(benchmark.name, source, limit, watch(benchmark.name)).run(benchmark.answer(raw))
    confidences, right = judged_pages(benchmark, pages)
    roles = [thing.name for page in pages for thing in page.found] if benchmark.task == Detect.name else ()
    return _fit(pali, benchmark.part, benchmark.task, _logs(confidences), right, names=roles)


def calibrate_patches(
    benchmark: AnswerBenchmark, pali: Pali, source: Source, limit: int | None = None, watch: Advance = unwatched
) -> Fitted:
    """Fit and store the confidence in boxes that patches of the image encoder find.

    Args:
        benchmark: of detection.
        pali, limit: as for :func:`calibrate`.
        source: the samples.
    """
    own, total = pali.task(benchmark.task, warn=False), count(source, limit)
    task = cast(Detect, benchmark.task_for(own))
    encoder = cast(ImageEncoder, pali.component(SIGLIP))
    confidences: list[float] = []
    right: list[bool] = []
    for index in range(total):
        example = source[index]
        names = task.names_in(task.write(example, generator(SEED, index)).prompt)
        image = frames_of(example)[0]
        found = encoder.detector.find(image, names)
        confidences += [thing.score for thing in found]
        right += right_boxes(found, [Detection(thing.name, thing.box) for thing in task.shown(example, names)])
        watch(index + 1, total)
    if not right:
        raise ValueError(
            f"the patches of {pali.name} find nothing in {total} images, so no confidence can be fitted"
        )
    return _fit(pali, SIGLIP, task.name, _logs(confidences), right)


def _logs(probabilities: Sequence[float]) -> list[float]:
    return [math.log(max(each, TINY)) for each in probabilities]


def _fit(
    pali: Pali,
    part: str,
    task: str,
    log_probs: Sequence[float],
    right: Sequence[bool],
    *,
    offset: bool = True,
    names: Sequence[str] = (),
) -> Fitted:
    """Fit the confidence of a part in its answers to a task, and store it beside that of other tasks."""
    calibration, folder = fit_calibration(log_probs, right, offset=offset, names=names), pali.parts[part]
    add_facts(folder, calibration={**open_model(folder).facts.calibration, task: calibration})
    return Fitted(part, task, calibration, len(right), mean([float(each) for each in right]))


def calibrate_ood(
    benchmarks: Sequence[Benchmark],
    pali: Pali,
    data: Path,
    *,
    limit: int = OOD_IMAGES,
    trained_on: Source | None = None,
) -> Iterator[tuple[str, int]]:
    """Fit and store the OOD detector of each part, on the images of the benchmarks' samples for fitting.

    Args:
        pali, data: as for :func:`calibrate`.
        limit: fit on this many samples of each benchmark; a quarter as many others set the limit of the score.
        trained_on: fit on ``limit`` of these samples instead; those for fitting only set the limit of the score.

    Returns:
        Each part and how many images it was fitted on; parts with fewer than :data:`CENTRES` are left out. That
        of pages stands with the part that describes them.
    """
    sources: dict[str, list[Source]] = {}
    for _, part, source in _fitting(benchmarks, pali, data):
        if pali.component(part).decodes:
            sources.setdefault(part, []).append(source)
    for part, own in sources.items():
        if trained_on is None:
            # evenly spaced, since samples may be in the order of their classes; every fifth is held out
            chosen = [spread(len(source), limit + limit // 4) for source in own]
            known: list[_Chosen] = [
                (source, [i for place, i in enumerate(some) if place % 5 != 4])
                for source, some in zip(own, chosen, strict=True)
            ]
            others: list[_Chosen] = [(source, some[4::5]) for source, some in zip(own, chosen, strict=True)]
        else:
            known = [(trained_on, spread(len(trained_on), limit))]
            others = [(source, spread(len(source), limit)) for source in own]
        seen: set[str] = set()
        learnt, held_out = (_features(side, pali.pipeline(part), seen) for side in (known, others))
        yield from _fit_ood(pali, part, learnt, held_out)
    for benchmark in benchmarks:
        if not isinstance(benchmark, PageBenchmark) or (part := benchmark.described_by) not in pali.parts:
            continue
        if benchmark.learnt and benchmark.calibration:
            both = benchmark.learnt(data), [benchmark.calibration(data)]
            (learnt, kinds), (held_out, _) = (_page_features(pali.component(part), some, limit) for some in both)
            yield from _fit_ood(pali, part, learnt, held_out, kinds)


def _page_features(component: Component, sources: Sequence[Source], limit: int) -> tuple[Tensor, Tensor]:
    """Features of about ``limit`` pages, equally many of each source but one at least, ``[N, 2 D]``; and the number
    of the source of each."""
    each = max(1, limit // max(1, len(sources)))
    chosen = [(number, i) for number, source in enumerate(sources) for i in spread(len(source), each)]
    rows = [component.features(sources[number][i].images[0]) for number, i in chosen]
    return torch.stack(rows) if rows else torch.empty(0, 0), torch.tensor([number for number, _ in chosen])


def _fit_ood(
    pali: Pali, part: str, learnt: Tensor, held_out: Tensor, kinds: Tensor | None = None
) -> Iterator[tuple[str, int]]:
    """Fit and store the detector of a part, unless there are too few images."""
    if len(learnt) >= CENTRES and len(held_out):
        write_ood(pali.parts[part], fit_ood(learnt, held_out, kinds))
        yield part, len(learnt)


def _features(samples: Sequence[_Chosen], pipeline: Pipeline, seen: set[str]) -> Tensor:
    """Features ``[N, D]`` of the images of samples, but for those whose hashes are in ``seen``, to which it adds.

    Several samples may ask about one image, and a limit that is fitted to images that were learnt is too low.
    """
    rows = []
    for source, own in samples:
        for some in chunked(own, BATCH):
            images = {image_hash(image): image for i in some for image in _frames(source, i)}
            if new := [image for key, image in images.items() if key not in seen]:
                rows.append(pipeline.describe(new))
            seen.update(images)
    return torch.cat(rows) if rows else torch.empty(0, 0)


def _frames(source: Source, index: int) -> Sequence[Image]:
    """Every ``FRAME_STRIDE``-th frame of a sample, since neighbours are nearly equal; none of one that cannot be
    read."""
    with suppress(ValueError, OSError):
        return source[index].images[::FRAME_STRIDE]
    return ()


def _fitting(
    benchmarks: Sequence[Benchmark], pali: Pali, data: Path
) -> Iterator[tuple[AnswerBenchmark, str, Source]]:
    """The benchmarks that a model can be fitted on, with its part that answers and the samples for fitting."""
    for benchmark in benchmarks:
        if isinstance(benchmark, AnswerBenchmark) and benchmark.calibration is not None:
            part = fitted_part(benchmark, pali)
            if part in pali.parts:
                yield benchmark, part, benchmark.calibration(data)


def fitted_part(benchmark: AnswerBenchmark, pali: Pali) -> str:
    """The part whose confidence is fitted on a benchmark's samples for that; the model may lack it."""
    return benchmark.fits or benchmark.part or pali.listed_for(benchmark.task)[0]


def confidence_scores(rows: Sequence[Answered], task: Task) -> dict[str, float]:
    """How well confidence fits: ``ece``, and ``confidence_auroc`` if some claims are right and some are wrong.

    Empty if no answer makes a claim.
    """
    confidences, right = judged(rows, task, CONFIDENCES)
    if not right:
        return {}
    scores = {"ece": expected_calibration_error(confidences, right)}
    if len(set(right)) == 2:
        wrong, correct = (
            [each for each, hit in zip(confidences, right, strict=True) if hit == side] for side in (False, True)
        )
        scores["confidence_auroc"] = auroc(wrong, correct)
    return scores


def judged_pages(benchmark: PageBenchmark, pages: Sequence[PageAnswers]) -> tuple[list[float], list[bool]]:
    """The confidence of each thing that is found on pages, and whether it is right; none without confidences."""
    if benchmark.right is None:
        return [], []
    confidences = [thing.score for page in pages for thing in page.found]
    return confidences, [hit for page in pages for hit in benchmark.right(page.found, page.true)]


def judged(rows: Sequence[Answered], task: Task, value: str = CLAIMS) -> tuple[list[float], list[bool]]:
    """The log-probability, or another value, of each claim of each answer, and whether it is right."""
    pairs = [pair for row in rows for pair in zip(row.values[value], task.right_claims(row), strict=False)]
    return [log_prob for log_prob, _ in pairs], [right for _, right in pairs]
