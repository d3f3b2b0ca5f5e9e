"""One benchmark, run into a score card: resumable, over one process or several."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch

from openpali.data.sources.base import Source
from openpali.distributed import Ranks
from openpali.eval.cards import (
    Card,
    Json,
    hash_model,
    hash_samples,
    intervals_of,
    make_card,
    preprocessing_of,
    slices_of,
    task_options,
    worst_of,
)
from openpali.eval.datasets.base import SEED, AnswerBenchmark, Benchmark, EncoderBenchmark
from openpali.eval.ocr import OcrEngine, WithOcr, image_hash
from openpali.eval.predictions import Line, PredictionsFile
from openpali.infer.pali import BATCH, Pali
from openpali.metrics.scores import Scores
from openpali.rng import generator
from openpali.tasks.base import Sample, Task
from openpali.tasks.example import Example
from openpali.tasks.scoring import Answered

T = TypeVar("T")

WINDOW = 4  # batches among which samples are sorted by length
PATIENCE = 20  # the running score may take a twentieth of the time

Watch = Callable[[int, int, Mapping[str, float]], None]
"""Called with how many samples are done, of how many, and the scores so far (empty where there are none yet)."""

ALONE = Ranks(0, 1, torch.device("cpu"))
PATIENCE_OF_RANKS = timedelta(days=7)  # the first one embeds a whole data set while the others wait


@dataclass(frozen=True)
class Run:
    """A finished run: the card, and what it was made of.

    Attributes:
        rows: every answer, in order of index; none for benchmarks of embeddings.
        source, task: to look at the samples again.
    """

    card: Card
    rows: Sequence[Answered]
    scores: Scores
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
    watch: Watch = lambda done, total, scores: None,
) -> Run:
    """Run a benchmark on its first ``limit`` samples.

    Answers depend neither on ``batch`` nor on the number of processes, nor on a kill in between: batches are cut
    from the sequence of samples alone, and each is answered by one process.

    Args:
        data: the data root.
        predictions: answers are kept here, and those that are there already are not asked for again.
        ocr: reads the pictures; the prompt then holds the text.
        ranks: the processes that share the work; all of them return the same.
        watch: called on rank 0 whenever samples are done.

    Raises:
        FileNotFoundError, ValueError: the data is not there or cannot be read, the model lacks a part, or
            ``predictions`` is of another run.
    """
    if batch < 1:
        raise ValueError(f"--batch-size must be at least 1, not {batch}")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit} leaves no samples")
    if isinstance(benchmark, AnswerBenchmark):
        return _run_answers(benchmark, pali, data, limit, batch, predictions, ocr, ranks, watch)
    assert isinstance(benchmark, EncoderBenchmark)
    if predictions or ocr:
        raise ValueError(f"benchmark {benchmark.name} compares embeddings: it has no answers, and no prompts")
    return _once(ranks, lambda: _run_encoder(benchmark, pali, data, limit, watch))


def _run_answers(
    benchmark: AnswerBenchmark,
    pali: Pali,
    data: Path,
    limit: int | None,
    batch: int,
    predictions: Path | None,
    ocr: OcrEngine | None,
    ranks: Ranks,
    watch: Watch,
) -> Run:
    began = time.perf_counter()
    source = benchmark.open(data)
    task = benchmark.task_for(pali, ocr=ocr is not None)
    part = benchmark.part if benchmark.part in pali.parts else pali.by_task.get(task.name, "pali")
    if ocr:
        source = WithOcr(
            source, ocr, lambda example: pali.fits(task.write(example, generator(SEED, 0)).prompt, part)
        )
    n = len(source) if limit is None else min(limit, len(source))
    model = _once(ranks, lambda: hash_model(pali))
    prompt = {"task": task.name, "options": task_options(task), "ocr": ocr.name if ocr else None}
    decoding = asdict(benchmark.decoding)
    answerer = {"model": model, "engine": pali.engine, "dtype": pali.dtype}
    same = {"benchmark": benchmark.name, "split": benchmark.split, **answerer, **prompt, "decoding": decoding}
    file = PredictionsFile(predictions, same) if predictions else None
    known = _once(ranks, lambda: file.resume() if file else [])
    lines = {line.answered.index: line for line in known if line.answered.index < n}
    _gather(ranks, lambda: _check_known(benchmark, source, task, lines, n, batch, predictions, ranks))

    progress = _Progress(benchmark, n, watch if ranks.rank == 0 else lambda done, total, scores: None)
    progress.show([line.answered for line in lines.values()])
    mine = _answers(benchmark, pali, part, source, task, n, batch, frozenset(lines), ranks)
    while any(gathered := _gather(ranks, lambda: next(mine, []))):
        fresh = [line for each in gathered for line in each]
        if file:
            _once(ranks, partial(file.append, fresh))
        lines |= {line.answered.index: line for line in fresh}
        progress.show([line.answered for line in lines.values()])

    rows = [lines[i].answered for i in range(n)]
    scores = benchmark.score(rows)
    pixels = [lines[i].pixels for i in range(n)]
    worst = worst_of(rows, scores, benchmark.metric)
    card = make_card(
        benchmark,
        pali,
        scores,
        n=n,
        model=model,
        data={"root": str(data), "hash": hash_samples(rows, pixels), "of": len(source), "seed": SEED},
        intervals=intervals_of(rows, scores),
        slices=slices_of(rows, scores, benchmark.metric),
        prompt={**prompt, "first": rows[0].prompt},
        preprocessing=preprocessing_of(pali, part),
        decoding=decoding,
        worst=[_shown(rows[i], benchmark.metric, scores.per_sample[benchmark.metric][i]) for i in worst],
        predictions=str(predictions or ""),
        seconds=time.perf_counter() - began,
    )
    return Run(card, rows, scores, source, task)


def _check_known(
    benchmark: AnswerBenchmark,
    source: Source,
    task: Task,
    lines: Mapping[int, Line],
    n: int,
    batch: int,
    predictions: Path | None,
    ranks: Ranks,
) -> None:
    """The first and the last known answer of each window of this rank are about the samples that are there now.

    Raises:
        ValueError: one is not.
    """
    for window in _windows(n, batch)[ranks.rank :: ranks.world]:
        known = [i for i in window if i in lines]
        for i in sorted({*known[:1], *known[-1:]}):
            example, line = source[i], lines[i]
            sample, row = task.write(example, generator(SEED, i)), line.answered
            facts = {
                "key": (row.key, example.key),
                "prompt": (row.prompt, sample.prompt),
                "references": (list(row.references), list(sample.references)),
                "pixels": (line.pixels, _pixels(example)),
            }
            for name, (then, now) in facts.items():
                if then != now:
                    raise ValueError(
                        f"{predictions} holds answers about other data: the {name} of sample {i} of "
                        f"{benchmark.name} "
                        f"was {_short(then)}, now it is {_short(now)}; name another file, or delete this one"
                    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _pixels(example: Example) -> str:
    return " ".join(map(image_hash, example.images))


def _windows(n: int, batch: int) -> list[range]:
    return [range(start, min(start + WINDOW * batch, n)) for start in range(0, n, WINDOW * batch)]


def _shown(row: Answered, metric: str, value: float) -> Json:
    return {k: v for k, v in row.as_json().items() if k != "values"} | {metric: value}


def _run_encoder(benchmark: EncoderBenchmark, pali: Pali, data: Path, limit: int | None, watch: Watch) -> Run:
    """Embeddings of everything at once."""
    began = time.perf_counter()
    torch.manual_seed(0)
    found = benchmark.run(pali, data, limit, lambda done, total: watch(done, total, {}))
    card = make_card(
        benchmark,
        pali,
        found.scores,
        n=found.n,
        model=hash_model(pali),
        data={"root": str(data), "hash": found.data, "of": found.of, "seed": SEED},
        intervals=intervals_of((), found.scores),
        prompt=dict(found.prompt),
        preprocessing=dict(found.preprocessing) or {"siglip": preprocessing_of(pali, "siglip")},
        seconds=time.perf_counter() - began,
    )
    return Run(card, (), found.scores)


def _answers(
    benchmark: AnswerBenchmark,
    pali: Pali,
    part: str,
    source: Source,
    task: Task,
    n: int,
    batch: int,
    known: frozenset[int],
    ranks: Ranks,
) -> Iterator[list[Line]]:
    """The answers of this rank, batch by batch, without those that are known.

    Every window of ``WINDOW * batch`` samples belongs to one rank, and is sorted by frames and length of prompt
    into batches. So a batch is the same whoever answers it, and whatever was answered before.
    """
    for window in _windows(n, batch)[ranks.rank :: ranks.world]:
        if known.issuperset(window):
            continue
        asked = [(i, example, task.write(example, generator(SEED, i))) for i in window for example in [source[i]]]
        asked.sort(key=lambda each: (len(each[1].images), len(each[2].prompt)))
        for start in range(0, len(asked), batch):
            chunk = asked[start : start + batch]
            if known.issuperset(i for i, _, _ in chunk):
                continue
            lines = _ask(benchmark, pali, part, task, chunk)
            yield [line for line in lines if line.answered.index not in known]


def _ask(
    benchmark: AnswerBenchmark, pali: Pali, part: str, task: Task, chunk: Sequence[tuple[int, Example, Sample]]
) -> list[Line]:
    found = pali.predict(
        [example.images for _, example, _ in chunk],
        [sample.prompt for _, _, sample in chunk],
        task=task,
        part=part,
        decoding=benchmark.decoding,
        batch=len(chunk),
    )
    lines, tokenizer = [], pali.tokenizer(part)
    for (i, example, sample), prediction in zip(chunk, found, strict=True):
        lines.append(Line(benchmark.judge(i, example, sample, prediction, task, tokenizer), _pixels(example)))
    return lines


class _Progress:
    """Shows how far a run is, and its score so far where that costs little."""

    def __init__(self, benchmark: AnswerBenchmark, total: int, watch: Watch) -> None:
        self.benchmark, self.total, self.watch = benchmark, total, watch
        self.scores: Mapping[str, float] = {}
        self.next = 0.0

    def show(self, rows: Sequence[Answered]) -> None:
        began = time.perf_counter()
        if rows and (began >= self.next or len(rows) == self.total):
            with warnings.catch_warnings(), suppress(ValueError):  # too few samples for the score, so far
                warnings.simplefilter("ignore")
                self.scores = self.benchmark.score(rows).summary
            ended = time.perf_counter()
            self.next = ended + PATIENCE * (ended - began)
        self.watch(len(rows), self.total, self.scores)


def _once(ranks: Ranks, make: Callable[[], T]) -> T:
    """What rank 0 makes, on all ranks."""
    return cast(T, _gather(ranks, lambda: make() if ranks.rank == 0 else None)[0])


def _gather(ranks: Ranks, make: Callable[[], T]) -> list[T]:
    """What each rank makes. If one cannot, all raise its error: none waits for the others in vain."""
    try:
        made: T | Exception = make()
    except (ValueError, OSError) as error:
        made = error
    gathered = ranks.gather(made)
    for each in gathered:
        if isinstance(each, Exception):
            raise each
    return cast("list[T]", gathered)
