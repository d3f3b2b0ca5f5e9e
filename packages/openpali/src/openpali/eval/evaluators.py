"""Evaluators measure a model in memory, like big_vision's ``evaluators/``.

    evaluator = AnswerEvaluator("questions", source, task, limit=100)
    scores = evaluator.run(pipeline).scores

An evaluator is built once and runs on any pipeline, as often as needed: on a model in training, or on a model from
a folder (:mod:`openpali.eval.runner`). It keeps the model's mode and does not use torch's global random state.

``run`` is collective: every rank calls it, and all get the same result, which depends neither on the number of
ranks nor on the batch size. Ranks exchange answers and numbers, never the model: each needs all of it, or asks a
sharded one in lockstep with the others (:mod:`openpali.train.evals`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from openpali.data.media.images import image_hash
from openpali.data.pipeline.mixture import ENDLESS
from openpali.data.sources.base import Source
from openpali.distributed import ALONE, Ranks
from openpali.eval.benchmark import (
    SEED,
    Advance,
    AnswerBenchmark,
    Embedded,
    EncoderBenchmark,
    Encoders,
    Measure,
    unwatched,
)
from openpali.eval.predictions import Line, PredictionsFile
from openpali.infer.batches import cut, windows
from openpali.infer.generate import Decoding, Generation
from openpali.infer.pali import Pali
from openpali.infer.pipeline import BATCH, Pipeline, Prediction, PromptTooLong, frames_of
from openpali.messages import shorten
from openpali.metrics.scores import Scores
from openpali.rng import generator
from openpali.tasks.base import Sample, Task
from openpali.tasks.example import Example, Size
from openpali.tasks.scoring import CLAIMS, CONFIDENCES, UNASKED, Answered, Score
from openpali.text.tokenizer import Tokenizer
from openpali.weights.files import MAIN

T = TypeVar("T")
P_contra = TypeVar("P_contra", contravariant=True)


class LongPrompts(UserWarning):
    """Prompts are too long for the model."""


class Result(Protocol):
    """The result of an evaluator."""

    @property
    def scores(self) -> Scores:
        """Scores by name, the same on every rank."""
        ...


class Evaluator(Protocol[P_contra]):
    """Measures a pipeline, on one rank or on several together."""

    @property
    def name(self) -> str:
        """Name of the scores in logs."""
        ...

    def run(self, pipeline: P_contra, ranks: Ranks = ALONE) -> Result:
        """Evaluate. Collective: call it on every rank.

        Raises:
            FileNotFoundError, ValueError: a sample cannot be read or answered, on any of the ranks.
        """
        ...


@dataclass(frozen=True)
class Measured:
    """Scores of ``n`` samples or pages."""

    scores: Scores
    n: int


@dataclass(frozen=True)
class Answers:
    """Answers with their scores; ``lines`` are in the order of the samples."""

    scores: Scores
    lines: Sequence[Line]

    @property
    def rows(self) -> list[Answered]:
        return [line.answered for line in self.lines]

    @property
    def reservation(self) -> str:
        """A sentence if prompts are too long for the model; else empty."""
        unasked, n = sum(UNASKED in row.values for row in self.rows), len(self.lines)
        return f"{unasked} of {n} prompts are too long for the model, and count as empty answers" if unasked else ""


@dataclass(frozen=True)
class AnswerEvaluator:
    """Asks a pipeline about each sample and scores its answers.

    A prompt that is too long for the model has an empty answer, with a warning (:class:`LongPrompts`). If all are
    too long, that is an error.
    """

    name: str  # name of the scores in logs
    source: Source  # the samples
    task: Task  # writes prompts, parses answers and measures them
    decoding: Decoding | None = None  # by default greedy, up to the length of the task's longest answer
    scorer: Score | None = None  # scores the answers, if the task does not
    # values of an example that such a scorer needs, besides those that the task measures
    measure: Measure | None = None
    limit: int | None = None  # evaluate only the first limit samples
    batch: int = BATCH  # number of samples per batch
    # file to append answers to; samples whose answers it contains are skipped
    predictions: PredictionsFile | None = None
    watch: Advance = unwatched  # called on rank 0 whenever samples are done
    claims: bool = False  # keep the log-probability and the confidence of each claim of an answer

    @classmethod
    def of(cls, benchmark: AnswerBenchmark, source: Source, task: Task, **rest: Any) -> AnswerEvaluator:
        """The evaluator of a benchmark.

        Args:
            source: the benchmark's samples, see :attr:`AnswerBenchmark.open`.
            task: the benchmark's, see :meth:`AnswerBenchmark.task_for`.
            rest: limit, batch, predictions, watch and claims.
        """
        own = (benchmark.decoding, benchmark.scorer, benchmark.measure)
        return cls(benchmark.name, source, task, *own, **rest)

    def score(self, rows: Sequence[Answered]) -> Scores:
        """The scores of answers, in any order."""
        return (self.scorer or self.task.score)(rows)

    def run(self, pipeline: Pipeline | Pali, ranks: Ranks = ALONE) -> Answers:
        n, file = count(self.source, self.limit), self.predictions
        known = once(ranks, lambda: file.go_on() if file else [])
        lines = {line.answered.index: line for line in known if line.answered.index < n}
        gather(ranks, lambda: self._check_known(lines, n, ranks))
        watch = self.watch if ranks.rank == 0 else unwatched
        watch(len(lines), n)
        mine = self._answers(pipeline, n, frozenset(lines), ranks)
        while any(gathered := gather(ranks, lambda: next(mine, []))):
            fresh = [line for each in gathered for line in each]
            if file:
                once(ranks, partial(file.write, fresh))
            lines |= {line.answered.index: line for line in fresh}
            watch(len(lines), n)
        ordered = [lines[i] for i in range(n)]
        refused = [line.answered.values[UNASKED] for line in ordered if UNASKED in line.answered.values]
        if refused and len(refused) == n:
            raise ValueError(f"no prompt of {self.name} fits into this model: {refused[0]}")
        answers = Answers(self.score([line.answered for line in ordered]), ordered)
        if answers.reservation and ranks.rank == 0:
            warnings.warn(f"{self.name}: {answers.reservation}", LongPrompts, stacklevel=2)
        return answers

    def _answers(
        self, pipeline: Pipeline | Pali, n: int, known: frozenset[int], ranks: Ranks
    ) -> Iterator[list[Line]]:
        """This rank's answers, batch by batch, without the known ones."""
        for chunk in batches(self.source, self.task, n, self.batch, ranks, known):
            lines = self._ask(pipeline, chunk)
            yield [line for line in lines if line.answered.index not in known]

    def _ask(self, pipeline: Pipeline | Pali, chunk: Sequence[AskedSample]) -> list[Line]:
        try:
            found = pipeline.predict(
                [frames_of(asked.example) for asked in chunk],
                [asked.sample.prompt for asked in chunk],
                task=self.task,
                decoding=self.decoding,
                batch=len(chunk),
            )
        except PromptTooLong as error:
            if len(chunk) == 1:
                return [self._unasked(pipeline, chunk[0], error)]
            half = len(chunk) // 2  # samples are sorted by length: most of a batch is still asked together
            return [*self._ask(pipeline, chunk[:half]), *self._ask(pipeline, chunk[half:])]
        except ValueError as error:
            longest = max(chunk, key=lambda asked: len(asked.sample.prompt)).example.key
            raise ValueError(f"{error} (of {len(chunk)} samples, {longest} has the longest prompt)") from error
        return [
            self._line(asked, prediction, pipeline.tokenizer_for(prediction.part))
            for asked, prediction in zip(chunk, found, strict=True)
        ]

    def _unasked(self, pipeline: Pipeline | Pali, asked: AskedSample, error: PromptTooLong) -> Line:
        """The empty answer to a prompt that the model does not take."""
        answer = self.task.parse("", _size(asked.example))
        empty = Prediction(asked.sample.prompt, answer, Generation([], [], 0.0, "length"), part=MAIN)
        line = self._line(asked, empty, pipeline.tokenizer_for(empty.part))
        values = {**line.answered.values, UNASKED: str(error)}
        return replace(line, answered=replace(line.answered, values=values))

    def _line(self, asked: AskedSample, prediction: Prediction, tokenizer: Tokenizer) -> Line:
        """The answer with the measurements that scoring needs, made while the image is in memory."""
        answered = measured(asked, self.task, prediction, tokenizer)
        if self.claims:
            claims = (
                self.task.claims(prediction.generation, tokenizer, asked.sample.prompt)
                if prediction.generation.complete
                else []
            )
            values = {CLAIMS: claims, CONFIDENCES: prediction.answer.confidences}
            answered = replace(answered, values={**answered.values, **values})
        if self.measure:
            answered = replace(answered, values={**answered.values, **self.measure(asked.example)})
        return Line(answered, _pixels(asked.example))

    def _check_known(self, lines: Mapping[int, Line], n: int, ranks: Ranks) -> None:
        """Compare the first and last known answer of each of this rank's windows with the current sample."""
        for window in windows(n, self.batch)[ranks.rank :: ranks.world]:
            known = [i for i in window if i in lines]
            for i in sorted({*known[:1], *known[-1:]}):
                example, line = self.source[i], lines[i]
                sample, row = self.task.write(example, generator(SEED, i)), line.answered
                facts = {
                    "key": (row.key, example.key),
                    "prompt": (row.prompt, sample.prompt),
                    "references": (list(row.references), list(sample.references)),
                    "pixels": (line.pixels, _pixels(example)),
                }
                for fact, (then, now) in facts.items():
                    if then != now:
                        assert self.predictions is not None
                        raise ValueError(
                            f"{self.predictions.path} holds answers about other data: the {fact} of sample {i} of "
                            f"{self.name} was {shorten(repr(then), 80)}, now it is {shorten(repr(now), 80)}; "
                            "name another file, or delete this one"
                        )


@dataclass(frozen=True)
class LossEvaluator:
    """Mean negative log-likelihood per target token, EOS included, of the references that a task writes."""

    name: str  # name of the scores in logs
    # source, task, limit, batch: see AnswerEvaluator
    source: Source
    task: Task
    limit: int | None = None
    batch: int = BATCH

    def run(self, pipeline: Pipeline, ranks: Ranks = ALONE) -> Measured:
        n = count(self.source, self.limit)

        def mine() -> list[float]:
            return [
                loss
                for chunk in batches(self.source, self.task, n, self.batch, ranks)
                for row in pipeline.token_losses(
                    [asked.example.images for asked in chunk], [asked.sample for asked in chunk], batch=len(chunk)
                )
                for loss in row
            ]

        losses = [loss for each in gather(ranks, mine) for loss in each]
        total = math.fsum(losses)  # exact: the order, and so the number of ranks, changes nothing
        return Measured(Scores({"loss": total / len(losses)}), n)


@dataclass(frozen=True)
class EmbeddingEvaluator:
    """Runs a benchmark of embeddings or features on rank 0, while the others wait."""

    benchmark: EncoderBenchmark  # the images and texts to embed, and how to score them
    data: Path  # the data root
    limit: int | None = None  # evaluate only the first limit samples
    watch: Advance = unwatched  # called on rank 0 whenever samples are done

    @property
    def name(self) -> str:
        return self.benchmark.name

    def run(self, pipeline: Encoders, ranks: Ranks = ALONE) -> Embedded:
        return once(ranks, lambda: self.benchmark.run(pipeline, self.data, self.limit, self.watch))


@dataclass(frozen=True)
class AskedSample:
    """A sample on its way to the model, and its index in the source."""

    index: int
    example: Example
    sample: Sample


def measured(asked: AskedSample, task: Task, prediction: Prediction, tokenizer: Tokenizer) -> Answered:
    """An answer with what its task measures, ready to be scored."""
    example, sample, answer = asked.example, asked.sample, prediction.answer
    values = task.measure(example, sample, answer, prediction.generation, tokenizer)
    kind = example.question_kind or sample.kind
    references = tuple(sample.references)
    return Answered(asked.index, example.key, sample.prompt, answer.text, references, kind, dict(values))


def batches(
    source: Source, task: Task, n: int, batch: int, ranks: Ranks, known: frozenset[int] = frozenset()
) -> Iterator[Sequence[AskedSample]]:
    """This rank's share of the first ``n`` samples, in batches, without batches whose answers are all known.

    Each window belongs to one rank (:mod:`openpali.infer.batches`). So batches depend neither on the rank nor on
    the answers that are known.
    """
    for window in windows(n, batch)[ranks.rank :: ranks.world]:
        if known.issuperset(window):
            continue
        asked = [
            AskedSample(i, example, task.write(example, generator(SEED, i)))
            for i in window
            for example in [source[i]]
        ]
        for chunk in cut(asked, batch, lambda each: (len(each.example.images), len(each.sample.prompt))):
            if not known.issuperset(each.index for each in chunk):
                yield chunk


def count(source: Source, limit: int | None) -> int:
    """How many samples are evaluated.

    Raises:
        ValueError: all of a source that has no end, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    n = len(source) if limit is None else min(limit, len(source))
    if n >= ENDLESS:
        raise ValueError("a source that generates samples without end cannot be evaluated whole: set a limit")
    return n


def once(ranks: Ranks, make: Callable[[], T]) -> T:
    """Call ``make`` on rank 0 and return its value on all ranks. Collective."""
    return cast(T, gather(ranks, lambda: make() if ranks.rank == 0 else None)[0])


def gather(ranks: Ranks, make: Callable[[], T]) -> list[T]:
    """What ``make`` returns on each rank. Collective: if it raises on one rank, all ranks raise the same error."""
    try:
        made: T | Exception = make()
    except (ValueError, OSError) as error:
        made = error
    gathered = ranks.gather(made)
    for each in gathered:
        if isinstance(each, Exception):
            raise each
    return cast("list[T]", gathered)


def _size(example: Example) -> Size:
    """What the coordinates of an answer refer to; answers about text alone have none."""
    return example.size if example.images else Size(1, 1)


def _pixels(example: Example) -> str:
    return " ".join(map(image_hash, example.images))
