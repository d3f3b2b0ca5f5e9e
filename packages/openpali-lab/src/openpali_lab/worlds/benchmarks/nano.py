"""Benchmarks of the synthetic worlds (held-out renderings, words, pairs, expressions, motions), and easy-VQA.

The sets are pure functions of :data:`~openpali.eval.benchmark.SEED`, made on demand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import SEEDS, AnswerBenchmark, Benchmark, Embedded, EncoderBenchmark
from openpali.eval.splits import EvalSplit
from openpali_lab.worlds.benchmarks.embeddings import places, retrieval, same_thing
from openpali_lab.worlds.benchmarks.places import TEST, by_position, by_size, names, relations
from openpali_lab.worlds.benchmarks.samples import (
    CALIBRATION_SIZE,
    SIZE,
    Composed,
    Spread,
    in_one_language,
    mirrored,
    of_one_name,
    told,
)
from openpali_lab.worlds.benchmarks.scorers import answers, by_novelty, captions, reading, shows_novel_pair


def world_benchmarks(world: str, split: EvalSplit = "heldout") -> list[Benchmark]:
    """The benchmarks of a world, on the samples that cards are of or on those of development."""
    return [*_encoder_benchmarks(world, split), *_answer_benchmarks(world, split)]


def _encoder_benchmarks(world: str, split: EvalSplit) -> list[EncoderBenchmark]:
    seed = SEEDS[split]

    def encoder(
        name: str, title: str, size: int, metric: str, run: Callable[..., Embedded], *asked: Any
    ) -> EncoderBenchmark:
        return EncoderBenchmark(
            name=f"{world}/{name}",
            title=f"{title} ({world} world)",
            split=told(split, size),
            metric=metric,
            run=partial(run, world, *asked, seed),
            seed=seed,
        )

    return [
        encoder(
            "retrieval",
            "Captions of known things on unseen backgrounds, retrieved by image",
            SIZE,
            "r@1/mean",
            retrieval,
        ),
        encoder("same", "The same thing found in other images", SIZE, "r@1", same_thing),
        encoder("places", "Names of objects from one patch token", TEST, "acc", places, "scene", names(by_size)),
        encoder("letters", "Letters from one patch token", TEST, "acc", places, "word", names(by_position)),
        encoder(
            "relations",
            "Where one object is from another, from their two patch tokens",
            TEST,
            "acc",
            places,
            "scene",
            relations,
        ),
    ]


def _answer_benchmarks(world: str, split: EvalSplit) -> list[AnswerBenchmark]:
    seed = SEEDS[split]

    def answer(name: str, title: str, source: Composed, **rest: Any) -> AnswerBenchmark:
        source = dataclasses.replace(source, seed=seed)
        return AnswerBenchmark(
            name=f"{world}/{name}",
            title=f"{title} ({world} world)",
            split=told(split, source.size),
            seed=seed,
            test=split == "heldout",
            open=lambda root: source,
            calibration=lambda root: source.for_calibration(),
            **rest,
        )

    return [
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


EASY_VQA = AnswerBenchmark(
    name="easy-vqa",
    title="easy-VQA",
    split="test",
    test=True,
    metric="acc",
    home="the package easy-vqa; `openpali data build easy-vqa` fetches it",
    open=lambda root: open_source("easy-vqa", {"split": "test"}),
    # The part is trained on all that is not the test set. Mirrored images are new to it: the things are anywhere.
    calibration=lambda root: Spread(open_source("easy-vqa", {"split": "train"}), CALIBRATION_SIZE, mirrored),
    task="vqa",
    scorer=answers,
    part="easy_vqa",
)
