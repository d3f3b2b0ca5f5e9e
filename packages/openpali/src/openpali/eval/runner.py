"""Run a benchmark on a model from a folder, and write its score card."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from openpali.data.sources.base import Source
from openpali.distributed import ALONE, Ranks
from openpali.eval.benchmark import (
    SEED,
    Advance,
    AnswerBenchmark,
    Benchmark,
    EncoderBenchmark,
    PageBenchmark,
    SeenSamples,
    unwatched,
)
from openpali.eval.breakdown import intervals_of, languages_of, slices_of, worst_of
from openpali.eval.calibrate import confidence_scores, judged_pages
from openpali.eval.cards import Card, Json, make_card, preprocessing_of, task_options
from openpali.eval.evaluators import AnswerEvaluator, EmbeddingEvaluator, once
from openpali.eval.ocr import OcrEngine, WithOcr
from openpali.eval.pages import PageAnswers, WholePageEvaluator
from openpali.eval.predictions import PredictionsFile
from openpali.eval.provenance import hash_model, hash_samples
from openpali.infer.components import component_types
from openpali.infer.pali import Pali
from openpali.infer.pipeline import BATCH
from openpali.metrics.bootstrap import cluster_interval
from openpali.metrics.calibration import expected_calibration_error
from openpali.metrics.scores import Scores
from openpali.rng import generator
from openpali.tasks.base import Task
from openpali.tasks.registry import open_task
from openpali.tasks.scoring import Answered
from openpali.weights.files import BUNDLE


@dataclass(frozen=True)
class Run:
    """A finished run: its card and answers."""

    card: Card
    rows: Sequence[Answered]  # every answer, in order of index; none for benchmarks of embeddings
    scores: Scores
    # source, task: the samples and the task, to read the samples again
    source: Source | None = None
    task: Task | None = None


def run(
    benchmark: Benchmark,
    pali: Pali,
    data: Path,
    *,
    limit: int | None = None,
    batch: int = BATCH,
    predictions: Path | None = None,
    ocr: OcrEngine | None = None,
    ranks: Ranks = ALONE,
    watch: Advance = unwatched,
) -> Run:
    """Run a benchmark on its first ``limit`` samples; probes train on as many. Collective: call it on every rank.

    Answers do not depend on ``batch``, on the number of ranks, or on whether the run was killed and resumed.

    Args:
        data: the data root.
        predictions: file to append answers to; samples whose answers it contains are skipped.
        ocr: reads the text in images, which is then part of the prompt.
        ranks: the processes that share the work; all return the same result.
        watch: called on rank 0 whenever samples are done.

    Raises:
        FileNotFoundError, ValueError: the data is missing or cannot be read, the model lacks a part, or
            ``predictions`` belongs to another run.
    """
    how = _How(data, limit, ranks, watch)
    if isinstance(benchmark, AnswerBenchmark):
        return _run_answers(benchmark, pali, how, batch, predictions, ocr)
    if predictions or ocr:
        raise ValueError(f"benchmark {benchmark.name} has no prompts, and no answers one by one: leave both out")
    if isinstance(benchmark, PageBenchmark):
        return _run_pages(benchmark, pali, how)
    assert isinstance(benchmark, EncoderBenchmark)
    return _run_encoder(benchmark, pali, how)


class _How(NamedTuple):
    """What every kind of benchmark is run with; see :func:`run`."""

    data: Path
    limit: int | None
    ranks: Ranks
    watch: Advance


def _parts_of(benchmark: AnswerBenchmark, pali: Pali) -> tuple[tuple[str, ...], str]:
    """The parts that may answer a benchmark, and the one whose prompts and confidence its card describes."""
    parts, own = pali.parts_for(benchmark.task), benchmark.part
    if own not in pali.parts:
        return parts, parts[0]
    if own in component_types():  # asked beside the others, even if the bundle itself may not ask it
        return (parts if own in parts else (*parts, own)), parts[0]
    return (parts if own in parts else (own,)), own


def _run_answers(
    benchmark: AnswerBenchmark, pali: Pali, how: _How, batch: int, predictions: Path | None, ocr: OcrEngine | None
) -> Run:
    began = time.perf_counter()
    source = benchmark.open(how.data)
    parts, part = _parts_of(benchmark, pali)
    pipeline = pali.pipeline(part) if pali.component(part).decodes else None
    writer = pipeline or pali.writer(benchmark.task)
    trained = writer.task(benchmark.task, warn=pipeline is not None) if writer else open_task(benchmark.task)
    calibrated = pali.is_calibrated(part, benchmark.task)
    asked = " or ".join(parts) if (pali.folder / BUNDLE).is_file() else None  # a single model has no other
    task = benchmark.task_for(trained, ocr=ocr is not None)
    if ocr:
        fits = writer.fits if writer else lambda prompt: True
        source = WithOcr(source, ocr, lambda example: fits(task.write(example, generator(SEED, 0)).prompt))
    decoding = asdict(writer.decoding_for(task, benchmark.decoding)) if writer else {}
    precision = writer.precision if writer else pali.dtype
    model = once(how.ranks, lambda: hash_model(pali, pali.parts if component_types().keys() & set(parts) else ()))
    prompt = {"task": task.name, "options": task_options(task), "ocr": ocr.name if ocr else None}
    settings: Json = {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "model": model,
        "part": asked,
        "engine": pali.engine,
        "dtype": precision,
        **prompt,
        "decoding": decoding,
    }
    file = PredictionsFile(predictions, settings) if predictions else None
    evaluator = AnswerEvaluator.of(
        benchmark,
        source,
        task,
        limit=how.limit,
        batch=batch,
        predictions=file,
        watch=how.watch,
        claims=calibrated,
    )
    alone = pipeline if len(parts) == 1 else None
    answers = evaluator.run(alone or pali, how.ranks)  # as users ask
    rows, scores = answers.rows, answers.scores
    if calibrated:
        scores = Scores({**scores.summary, **confidence_scores(rows, task)}, scores.per_sample)
    pixels = [line.pixels for line in answers.lines]
    untrained = pipeline.reservation(task.name) if pipeline else ""
    worst = worst_of(rows, scores, benchmark.metric)
    card = make_card(
        benchmark,
        pali,
        scores,
        n=len(rows),
        model=model,
        part=asked,
        precision=precision,
        data={"root": str(how.data), "hash": hash_samples(rows, pixels), "of": len(source), "seed": benchmark.seed},
        intervals=intervals_of(rows, scores),
        slices=slices_of(rows, scores, benchmark.metric, languages_of(rows, task)),
        prompt={**prompt, "first": rows[0].prompt},
        preprocessing=preprocessing_of(pali, part),
        note="; ".join(filter(None, (untrained, answers.reservation))),
        decoding=decoding,
        worst=[_shown(rows[i], benchmark.metric, scores.per_sample[benchmark.metric][i]) for i in worst],
        predictions=str(predictions or ""),
        seconds=time.perf_counter() - began,
    )
    return Run(card, rows, scores, source, task)


def _run_encoder(benchmark: EncoderBenchmark, pali: Pali, how: _How) -> Run:
    began = time.perf_counter()
    found = EmbeddingEvaluator(benchmark, how.data, how.limit, how.watch).run(pali, how.ranks)
    card = make_card(
        benchmark,
        pali,
        found.scores,
        n=found.n,
        model=once(how.ranks, lambda: hash_model(pali, benchmark.parts)),
        precision=pali.dtype,
        data={
            "root": str(how.data),
            "hash": found.data,
            "of": found.of,
            **found.trained_on(),
            "seed": benchmark.seed,
        },
        intervals=intervals_of((), found.scores),
        limited=found.limits(),
        prompt=dict(found.prompt),
        preprocessing=dict(found.preprocessing) or {"siglip": preprocessing_of(pali, "siglip")},
        seconds=time.perf_counter() - began,
    )
    return Run(card, (), found.scores)


def _run_pages(benchmark: PageBenchmark, pali: Pali, how: _How) -> Run:
    began = time.perf_counter()
    pali.load(benchmark.part)  # before any page is asked, since the model may lack it
    source = benchmark.open(how.data)
    evaluator = WholePageEvaluator(benchmark.name, source, how.limit, how.watch)
    pages = evaluator.run(benchmark.answer(pali), how.ranks)

    def score(some: Sequence[PageAnswers]) -> Scores:
        return benchmark.score([page.found for page in some], [page.true for page in some])

    def intervals(some: Sequence[PageAnswers], scores: Scores) -> dict[str, tuple[float, float]]:
        clusters = [benchmark.cluster(page.key) for page in some]
        return {name: cluster_interval(counts, clusters) for name, counts in scores.counts.items()}

    scores = score(pages)
    within = intervals(pages, scores)
    if benchmark.task and pali.is_calibrated(benchmark.part, benchmark.task):
        confidences, right = judged_pages(benchmark, pages)
        if confidences:
            ece = expected_calibration_error(confidences, right)
            scores = Scores({**scores.summary, "ece": ece}, scores.per_sample)
    seen, slices = SeenSamples(), {}
    for page in pages:
        seen.texts(page.key, page.pixels, *(thing.name for thing in page.true))
    for kind, pattern in benchmark.kinds.items():
        if some := [page for page in pages if re.search(pattern, page.key)]:
            part = score(some)
            interval = intervals(some, part).get(benchmark.metric)
            slices[kind] = {"n": len(some), "value": part.summary[benchmark.metric], "interval": interval}
    card = make_card(
        benchmark,
        pali,
        scores,
        n=len(pages),
        model=once(how.ranks, lambda: hash_model(pali, benchmark.parts)),
        precision=pali.dtype,
        data={"root": str(how.data), "hash": seen.hash, "of": len(source)},
        intervals=within,
        slices=slices,
        preprocessing={},
        seconds=time.perf_counter() - began,
    )
    return Run(card, (), scores)


def _shown(row: Answered, metric: str, value: float) -> Json:
    return {k: v for k, v in row.as_json().items() if k != "values"} | {metric: value}
