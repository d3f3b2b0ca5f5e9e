"""Benchmarks: a data set with its protocol, and the paper's scores on it.

There are three kinds. An :class:`AnswerBenchmark` asks a model about samples one by one, an
:class:`EncoderBenchmark` compares embeddings of all samples, and a :class:`PageBenchmark` reads whole pages.
:mod:`openpali.eval.runner` runs each.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openpali.data.sources.base import Source
from openpali.data.sources.files import base_name
from openpali.data.sources.registry import open_source
from openpali.eval.splits import EvalSplit
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.infer.pipeline import EmbeddingPipeline
from openpali.metrics.boxes import Detection
from openpali.metrics.scores import Scores
from openpali.metrics.words import right_words, word_f1
from openpali.tasks.base import Task
from openpali.tasks.example import Example, Image
from openpali.tasks.registry import find_family, tasks_of
from openpali.tasks.scoring import Score

SEED = 23_101_3199  # of the held-out sets that score cards are of; used for nothing else
DEV_SEED = 62_918_0451  # of the development sets, on which decisions are taken while training
SEEDS: Mapping[EvalSplit, int] = {"heldout": SEED, "dev": DEV_SEED}
DEV = "@dev"  # ends the name of a benchmark on a development set

AnswerPage = Callable[[Example], tuple[list[Detection], list[Detection]]]
"""A page -> what is found on it, and what is there."""
Advance = Callable[[int, int], None]
"""Called with the number of samples done, and the total."""
Encoders = Pali | EmbeddingPipeline
"""What benchmarks of embeddings measure: a model from a folder, or one in memory."""
Open = Callable[[Path], Source]
Measure = Callable[[Example], Mapping[str, Any]]


def unwatched(done: int, total: int) -> None:
    """An :data:`Advance` that shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The description of a benchmark."""

    name: str  # name on the command line
    title: str  # title in reports
    split: str  # the samples that are scored
    metric: str  # name of the main score; for benchmarks of answers by default the task's
    # PaLI-3's number per score, in our units: fractions 0..1, CIDEr times 100. From memory of the paper's v2; empty
    # if it has none
    paper: Mapping[str, float] = field(default_factory=dict)
    paper_ocr: Mapping[str, float] = field(default_factory=dict)  # the same with OCR text in the prompt
    resolution: int | None = None  # side in pixels at which the paper evaluates; a checkpoint has its own
    frames: str = ""  # number of frames of a video and their stride; empty for images
    # files and folders that it reads, under the data root; none if the samples are synthetic
    layout: Sequence[str] = ()
    home: str = ""  # where to get these files
    note: str = ""  # differences between our score and the paper's, if any
    seed: int = SEED  # of samples that are made on demand
    # whether no decision may rest on its scores; each scoring is then recorded (openpali.eval.test_log)
    test: bool = False


@dataclass(frozen=True, kw_only=True)
class AnswerBenchmark(Benchmark):
    """A benchmark whose samples are answered one by one."""

    metric: str = ""

    # data root -> samples. Reads annotations at once, and images on demand. Raises FileNotFoundError or ValueError
    # with the missing file or field and where to get it
    open: Open
    task: str  # name of the task that writes the prompt and reads the answer
    # options of the task; they override those that the model was trained with
    options: Mapping[str, Any] = field(default_factory=dict)
    # the paper's, or big_vision's transfer configuration if the paper does not say; None: greedy, up to the longest
    # answer of the task in the model's dialect
    decoding: Decoding | None = None
    scorer: Score | None = None  # scores the answers instead of the task, if the benchmark has another protocol
    # values of an example that such a scorer needs, besides those that the task measures
    measure: Measure | None = None
    # the part of a bundle whose prompts are written and whose confidence is fitted. It is asked even if the bundle
    # lists it for no task. A part that reads pages takes no prompts: there, routing decides whether it answers
    part: str | None = None
    # the part whose confidence is fitted, where the bundle decides who answers; by default the part that is asked
    # first
    fits: str | None = None
    # data root -> similar samples, neither scored nor trained on, to fit the confidence of answers on; None: the
    # benchmark has none
    calibration: Open | None = None

    def __post_init__(self) -> None:
        if not self.metric:
            object.__setattr__(self, "metric", find_family(self.task).metric)

    @property
    def score(self) -> Score:
        """Answers, in any order -> scores."""
        return self.scorer or find_family(self.task).score

    def task_for(self, trained: Task, *, ocr: bool = False) -> Task:
        """The task as a model was trained on it, with this benchmark's options.

        Args:
            trained: see :meth:`openpali.infer.pipeline.Pipeline.task`.
            ocr: put the example's ``text`` into the prompt, see :mod:`openpali.eval.ocr`.
        """
        options = {**self.options, "ocr": True} if ocr else self.options
        if ocr and not trained.takes_ocr():
            raise ValueError(f"benchmark {self.name} takes no OCR text: task {self.task} has no place for it")
        return dataclasses.replace(trained, **options)


def own_benchmark(source: str, task: str = "", options: Mapping[str, Any] | None = None) -> AnswerBenchmark:
    """A benchmark of your own data, scored by its task.

    Args:
        source: a ``source`` as in recipes; also the name of the benchmark.
        task: name of the task; by default, the only task that fits the first sample.
        options: options of the source.
    """
    samples = open_source(source, dict(options or {}))
    if not task:
        tasks = tasks_of(samples[0])
        if len(tasks) != 1:
            raise ValueError(
                f"{source} does not tell its task: its first sample is for {' or '.join(tasks) or 'none'}; name "
                "one with --task"
            )
        [task] = tasks
    return AnswerBenchmark(
        name=source,
        title=f"{base_name(source)}: {task}",
        split="all",
        layout=(source,),
        open=lambda root: samples,
        calibration=lambda root: samples,
        task=task,
    )


class SeenSamples:
    """SHA-256 over images and texts, for score cards, updated while they are read."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def image(self, image: Image) -> Image:
        """Add an image (size and pixels) and return it."""
        self.texts(f"{image.shape[0]}x{image.shape[1]}")
        self._digest.update(image.tobytes())
        return image

    def images(self, loads: Sequence[Callable[[], Image]]) -> list[Callable[[], Image]]:
        """The same loaders; each adds its image when it is called."""
        return [lambda load=load: self.image(load()) for load in loads]  # type: ignore[misc]

    def texts(self, *texts: object) -> None:
        """Add captions, names or labels."""
        for text in texts:
            data = str(text).encode("utf-8", "surrogatepass")
            self._digest.update(len(data).to_bytes(8, "little") + data)

    @property
    def hash(self) -> str:
        """The hash of everything added so far, in hexadecimal digits."""
        return self._digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The scores of a benchmark of embeddings, and their inputs."""

    scores: Scores  # the scores, with per-image values if they exist
    # n, of: number of images scored, and in total
    n: int
    of: int
    # number of images that probes were trained on, and in total; without probes (0, 0)
    train: tuple[int, int] = (0, 0)
    # the scored images are compared with one another, so that fewer of them score higher or lower
    candidates: bool = False
    data: str  # hash of the inputs (SeenSamples): pixels, texts and labels, in order
    # the texts that were embedded: templates, the first of them, languages
    prompt: Mapping[str, Any] = field(default_factory=dict)
    # part -> preprocessing and pooling of its images; empty for the trained embeddings of the siglip part
    preprocessing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def trained_on(self) -> dict[str, int]:
        """For a score card: the images that probes were trained on; empty without probes."""
        return dict(zip(("train", "train_of"), self.train, strict=True)) if self.train[1] else {}

    def limits(self) -> str:
        """For a score card: a sentence if a limit left out candidates or images to train on; else empty."""
        train, of = self.train
        if train < of:
            changed = f"probes were trained on {train:,} of {of:,} images"
        elif self.candidates and self.n < self.of:
            changed = f"images were compared with {self.n:,} of {self.of:,}"
        else:
            return ""
        return f"Limited: {changed}, so scores cannot be compared with those of the whole set."


@dataclass(frozen=True, kw_only=True)
class EncoderBenchmark(Benchmark):
    """A benchmark of embeddings or features."""

    parts: Sequence[str] = ()  # of a bundle, that are asked; none: those that answer prompts, and their encoders
    # model, data root, limit (None: all), progress -> scores. The limit is on the images that are scored, and on
    # those that probes are trained on. Raises as AnswerBenchmark.open
    run: Callable[[Encoders, Path, int | None, Advance], Embedded]


@dataclass(frozen=True, kw_only=True)
class PageBenchmark(Benchmark):
    """A benchmark about whole screens and pages, such as their words: what is found must be right, and in place."""

    metric: str = "word_f1"

    open: Open  # as AnswerBenchmark.open; samples have what answer needs
    part: str  # of a bundle, that answers
    task: str = ""  # of which the confidence of part is; empty: what is found has none
    parts: Sequence[str]  # of a bundle, that an answer depends on
    answer: Callable[[Pali], AnswerPage]  # a model -> what answers about a page, and says what is there
    # whether each thing that is found on a page is right; None: what is found has no confidence
    right: Callable[[Sequence[Detection], Sequence[Detection]], list[bool]] | None = right_words
    calibration: Open | None = None  # opens the samples that confidence is fitted on; None: it is not
    # data root -> samples like those that were learned from, which an OOD detector is fitted on, equally many of
    # each source; the samples for calibration set its limit. None: no detector is fitted
    learnt: Callable[[Path], Sequence[Source]] | None = None
    described_by: str = ""  # the component of a bundle whose features that detector takes
    # fits and stores what else a model needs, before its confidence, and says what. None: nothing
    fit: Callable[[Pali], str] | None = None
    # name of a slice -> pattern (a regular expression) in the keys of its pages
    kinds: Mapping[str, str] = field(default_factory=dict)
    cluster: Callable[[str], str] = str  # key of a page -> what it is a view of; intervals draw whole clusters
    # of what is found on each page, and what is there
    score: Callable[[Sequence[Sequence[Detection]], Sequence[Sequence[Detection]]], Scores] = word_f1
