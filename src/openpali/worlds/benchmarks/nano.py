"""Benchmarks of the synthetic worlds (held-out renderings, words, pairs, expressions, motions), and easy-VQA.

The sets are pure functions of :data:`~openpali.eval.benchmark.SEED`, made on demand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, wraps
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from openpali.benchmarks.features import FeatureEncoder
from openpali.data.sources.base import Source
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import (
    SEED,
    SEEDS,
    Advance,
    AnswerBenchmark,
    Benchmark,
    Embedded,
    EncoderBenchmark,
    Encoders,
    SeenSamples,
)
from openpali.eval.splits import EvalSplit
from openpali.metrics.caption import cider
from openpali.metrics.scores import Scores, macro_values, mean, mean_scores
from openpali.rng import generator
from openpali.tasks.example import Example
from openpali.tasks.ocr import Ocr
from openpali.tasks.scoring import Answered, Score, exact, references, texts, with_slices
from openpali.tasks.vqa import Vqa
from openpali.worlds.benchmarks.places import TEST, Ask, by_position, by_size, names, place_probe, relations
from openpali.worlds.compose import WorldSource
from openpali.worlds.splits import Split, is_heldout

V = TypeVar("V")

SIZE = 1000  # number of images or videos per benchmark


NOVEL = "novel"  # among the values of an answer: whether its sample shows what is held out
CALIBRATION_SEED = 41_991_0132  # of all sets that confidence is fitted on; used for nothing else
CALIBRATION_SIZE = 2 * SIZE


@dataclass(frozen=True)
class Composed:
    """The first images of a split of a world.

    Attributes:
        world, kind, options: see :class:`~openpali.worlds.compose.WorldSource`.
        view: turns an example and its index into the sample.
        size: number of images.
        split, seed: see :class:`~openpali.worlds.compose.WorldSource`; by default what evaluations score.
    """

    world: str
    kind: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    view: Callable[[Example, int], Example] = lambda example, index: example
    size: int = SIZE
    split: Split = "heldout"
    seed: int = SEED

    @cached_property
    def source(self) -> WorldSource:
        """The whole split."""
        return _split(self.world, self.kind, split=self.split, seed=self.seed, **self.options)

    def for_calibration(self) -> Composed:
        """Images of the training split, drawn with a seed that no training uses."""
        return dataclasses.replace(self, size=CALIBRATION_SIZE, split="train", seed=CALIBRATION_SEED)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Example:
        if not 0 <= index < self.size:
            raise IndexError(f"sample {index} of {self.size}")
        return self.view(self.source[index], index)


@dataclass(frozen=True)
class First:
    """The first examples of a source, each as ``view`` shows it."""

    source: Source
    size: int
    view: Callable[[Example], Example] = lambda example: example

    def __len__(self) -> int:
        return min(self.size, len(self.source))

    def __getitem__(self, index: int, /) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.view(self.source[index])


def mirrored(example: Example) -> Example:
    """The example with its images mirrored left to right, for questions in which no side matters."""
    return dataclasses.replace(example, images=[np.ascontiguousarray(image[:, ::-1]) for image in example.images])


def heldout(world: str, kind: str, seed: int = SEED, **options: Any) -> WorldSource:
    """The held-out split of a world, drawn with a seed of evaluations."""
    return _split(world, kind, split="heldout", seed=seed, **options)


def _split(world: str, kind: str, **options: Any) -> WorldSource:
    source: Source = open_source(f"{world}/{kind}", options)
    assert isinstance(source, WorldSource)
    return source


def retrieval(world: str, seed: int, model: Encoders, data: Path, limit: int | None, advance: Advance) -> Embedded:
    """Recall at 1 per language, from held-out renderings to captions; the caption of every stamp is a candidate."""
    source = heldout(world, "single", seed)
    stamps = source.world.stamps
    owner = {stamp.captions["en"]: i for i, stamp in enumerate(stamps)}
    examples = [source[i] for i in range(min(limit or SIZE, SIZE))]
    truth = np.array([owner[example.captions["en"][0]] for example in examples])
    seen = SeenSamples()
    images = model.embed_image([seen.image(example.images[0]) for example in examples])
    seen.texts(*truth, *([*stamp.captions.items()] for stamp in stamps))
    hits: dict[str, list[float]] = {}
    owners: dict[str, list[int]] = {}  # images with a caption in a language
    for done, lang in enumerate(source.world.languages):
        having = [i for i, stamp in enumerate(stamps) if lang in stamp.captions]
        texts = model.embed_text([stamps[i].captions[lang] for i in having])
        best = np.array(having)[(images @ texts.T).argmax(1)]
        asked = np.flatnonzero(np.isin(truth, having))
        if len(asked):
            hits[f"r@1/{lang}"] = (best == truth)[asked].astype(float).tolist()
            owners[f"r@1/{lang}"] = asked.tolist()
        advance(done + 1, len(source.world.languages))
    scores = {name: mean(values) for name, values in hits.items()}
    per_image = macro_values(len(examples), [(owners[name], values) for name, values in hits.items()])
    return Embedded(
        scores=Scores({**scores, "r@1/mean": mean(list(scores.values()))}, {**hits, "r@1/mean": per_image}),
        n=len(examples),
        of=SIZE,
        data=seen.hash,
        prompt={"text": "the caption alone", "languages": list(source.world.languages)},
    )


def same_thing(world: str, seed: int, model: Encoders, data: Path, limit: int | None, advance: Advance) -> Embedded:
    """Recall at 1, from held-out renderings to others: the most similar image shows the same thing.

    Similar is the cosine of mean patch tokens, less their mean over images.
    """
    source, seen = heldout(world, "single", seed), SeenSamples()
    count = min(limit or SIZE, SIZE)
    if count < 2:
        raise ValueError(f"limit must be at least 2, not {count}: an image is compared with others")
    examples = [source[i] for i in range(count)]
    encoder = FeatureEncoder(model, crop=False)
    loads = seen.images([partial(np.asarray, example.images[0]) for example in examples])
    features = encoder.features(loads, advance=lambda done: advance(done, count))
    names = np.array([example.objects[0].name for example in examples])
    seen.texts(*names)
    features -= features.mean(0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    similar = features @ features.T
    np.fill_diagonal(similar, -np.inf)
    scores = mean_scores({"r@1": (names[similar.argmax(1)] == names).astype(float).tolist()})
    return Embedded(scores=scores, n=count, of=SIZE, data=seen.hash, preprocessing=encoder.facts())


def places(
    world: str, kind: str, ask: Ask, seed: int, model: Encoders, data: Path, limit: int | None, advance: Advance
) -> Embedded:
    """The probe of single patch tokens, trained on images of a world and scored on held-out ones."""
    train = open_source(f"{world}/{kind}", {"split": "train", "seed": seed})
    return place_probe(train, heldout(world, kind, seed), ask, model, limit, advance)


def captions(rows: Sequence[Answered]) -> Scores:
    """Exact match of captions per language, and the mean over languages; CIDEr in English."""
    found = with_slices(exact)(rows)
    hits, kinds = found.per_sample["exact_match"], sorted({row.kind for row in rows})
    scores = {f"exact/{lang}": found.summary[f"exact_match/{lang}"] for lang in kinds}
    if english := [row for row in rows if row.kind == "en"]:
        scores["cider/en"] = cider(texts(english), references(english)).summary["cider"]
    scores["exact/mean"] = mean([scores[f"exact/{lang}"] for lang in kinds])
    return Scores(scores, {"exact/mean": hits})


def reading(rows: Sequence[Answered]) -> Scores:
    """Exact match of words, and the character error rate."""
    return _renamed(Ocr.score(rows), {"cer": "cer", "exact_match": "exact"})


def answers(rows: Sequence[Answered]) -> Scores:
    """Exact match of answers, over all questions and per kind of question."""
    return _renamed(Vqa.score(rows), {"exact_match": "acc"})


def by_novelty(score: Score, novel: str, known: str) -> Score:
    """A scorer that also scores apart the samples that show what is held out, and the others.

    Args:
        novel, known: names of the two slices; :data:`NOVEL` among the values of an answer says which is whose.
    """

    @wraps(score)
    def sliced(rows: Sequence[Answered]) -> Scores:
        whole = score(rows)
        summary, per_sample = dict(whole.summary), dict(whole.per_sample)
        for name, side in ((novel, True), (known, False)):
            if own := [row for row in rows if row.values.get(NOVEL) is side]:
                found = score(own)
                summary |= {f"{each}/{name}": value for each, value in found.summary.items() if "/" not in each}
                per_sample |= {f"{each}/{name}": values for each, values in found.per_sample.items()}
        return Scores(summary, per_sample)

    return sliced


def shows_novel_pair(example: Example) -> dict[str, bool]:
    """Whether two of its names never share an image in training."""
    names = sorted({thing.name for thing in example.objects})
    return {NOVEL: any(is_heldout("pair", *pair) for pair in combinations(names, 2))}


def in_one_language(example: Example, index: int) -> Example:
    """The example with the captions of one language; languages take turns by index."""
    languages = sorted(example.captions)
    lang = languages[index % len(languages)]
    return dataclasses.replace(example, captions={lang: example.captions[lang]}, lang=lang)


def of_one_name(example: Example, index: int) -> Example:
    """The example with only the objects of one name."""
    names = sorted({thing.name for thing in example.objects})
    name = names[int(generator(SEED, 1, index).integers(len(names)))]
    return dataclasses.replace(example, objects=[thing for thing in example.objects if thing.name == name])


def world_benchmarks(world: str, split: EvalSplit = "heldout") -> list[Benchmark]:
    """The benchmarks of a world, on the samples that cards are of or on those of development."""
    seed = SEEDS[split]

    def encoder(name: str, title: str, size: int, metric: str, run: Callable[..., Embedded]) -> EncoderBenchmark:
        return EncoderBenchmark(
            name=f"{world}/{name}",
            title=f"{title} ({world} world)",
            split=told(split, size),
            metric=metric,
            run=run,
            seed=seed,
        )

    def answer(name: str, title: str, source: Composed, **rest: Any) -> AnswerBenchmark:
        source = dataclasses.replace(source, seed=seed)
        return AnswerBenchmark(
            name=f"{world}/{name}",
            title=f"{title} ({world} world)",
            split=told(split, source.size),
            seed=seed,
            open=lambda root: source,
            calibration=lambda root: source.for_calibration(),
            **rest,
        )

    return [
        encoder(
            "retrieval",
            "Captions of known things on unseen backgrounds, retrieved by image",
            SIZE,
            "r@1/mean",
            partial(retrieval, world, seed),
        ),
        encoder("same", "The same thing found in other images", SIZE, "r@1", partial(same_thing, world, seed)),
        encoder(
            "places",
            "Names of objects from one patch token",
            TEST,
            "acc",
            partial(places, world, "scene", names(by_size), seed),
        ),
        encoder(
            "letters",
            "Letters from one patch token",
            TEST,
            "acc",
            partial(places, world, "word", names(by_position), seed),
        ),
        encoder(
            "relations",
            "Where one object is from another, from their two patch tokens",
            TEST,
            "acc",
            partial(places, world, "scene", relations, seed),
        ),
        answer(
            "caption",
            "Captions of known things on unseen backgrounds, to the letter",
            Composed(world, "single", view=in_one_language, size=10 * SIZE),
            task="caption",
            scorer=captions,
            metric="exact/mean",
        ),
        answer(
            "ocr",
            "Words that were never rendered in training",
            Composed(world, "word"),
            task="ocr",
            scorer=reading,
            metric="exact",
        ),
        answer(
            "vqa",
            "Questions about scenes, half of which show a pair that never met in training",
            Composed(world, "scene"),
            task="object_vqa",
            options={"kinds": ("count", "is", "where", "which")},
            scorer=by_novelty(answers, "unseen pair", "no unseen pair"),
            measure=shows_novel_pair,
            metric="acc",
        ),
        answer(
            "detect",
            "All instances of a name",
            Composed(world, "scene", view=of_one_name),
            task="detect",
            options={"max_names": 1, "absent": 0.0},
        ),
        answer(
            "refseg",
            "What an expression refers to",
            Composed(world, "scene", {"expressions": True}),
            task="refseg",
        ),
        answer(
            "video",
            "What moves, and where",
            Composed(world, "video"),
            task="video_qa",
            scorer=answers,
            metric="acc",
        ),
    ]


def told(split: EvalSplit, size: int) -> str:
    """The samples of a split, for a card."""
    return f"{'held out' if split == 'heldout' else 'development'}, {size:,} images"


EASY_VQA = AnswerBenchmark(
    name="easy-vqa",
    title="easy-VQA",
    split="test",
    metric="acc",
    home="the package easy-vqa; `openpali data build easy-vqa` fetches it",
    open=lambda root: open_source("easy-vqa", {"split": "test"}),
    # The part is trained on all that is not the test set. Mirrored images are new to it: the things are anywhere.
    calibration=lambda root: First(open_source("easy-vqa", {"split": "train"}), CALIBRATION_SIZE, mirrored),
    task="vqa",
    scorer=answers,
    part="easy_vqa",
)


def _renamed(scores: Scores, names: Mapping[str, str]) -> Scores:
    """A selection of the scores, with their slices, under the names in the cards of the worlds."""

    def renamed(values: Mapping[str, V]) -> dict[str, V]:
        parts = {name: name.partition("/") for name in values}
        return {names[m] + slash + kind: values[name] for name, (m, slash, kind) in parts.items() if m in names}

    return Scores(renamed(scores.summary), renamed(scores.per_sample))
