"""Evaluators on a model in memory: one contract, on one rank or several, without a trace in training."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openpali.architectures.pali import PaliModel
from openpali.data.media.loader import MediaLoader
from openpali.data.sources.jsonl import JsonlSource
from openpali.distributed import Ranks
from openpali.eval.benchmark import SEED, AnswerBenchmark, EncoderBenchmark
from openpali.eval.evaluators import (
    ALONE,
    AnswerEvaluator,
    EmbeddingEvaluator,
    Evaluator,
    LossEvaluator,
)
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import run
from openpali.infer.generate import Decoding, Generation
from openpali.infer.pali import Pali
from openpali.infer.pipeline import EmbeddingPipeline, Pipeline
from openpali.rng import generator
from openpali.tasks.example import Example, Size
from openpali.tasks.registry import get_task
from openpali_lab.benchmarks.features import FeatureEncoder
from openpali_lab.worlds.benchmarks.samples import Composed
from openpali_lab.worlds.benchmarks.scorers import answers

SIZE = 14


class Questions:
    """Images of noise, and questions and answers of different lengths."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int, /) -> Example:
        noise = np.random.default_rng(index).integers(0, 256, (40, 40, 3), np.uint8)
        question, answer = " ".join(["what"] * (1 + index * 5 % 7)), " ".join(["yes"] * (1 + index % 3))
        return Example(f"q{index}", images=[noise], question=question, answers=[answer])


BENCHMARK = AnswerBenchmark(
    name="questions",
    title="Questions",
    split="all",
    metric="acc",
    open=lambda root: Questions(),
    task="vqa",
    decoding=Decoding(max_tokens=5),
    scorer=answers,
)


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


def live(pali: Pali) -> Pipeline:
    """The model as training has it: its own copy, in training mode, with dropout."""
    stored = pali.load("pali")[0]
    model = stored.model()
    assert isinstance(model, PaliModel)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    return Pipeline(model.train(), stored.tokenizer, stored.preprocess, options=stored.facts.tasks)


def evaluators() -> list[Evaluator[Pipeline]]:
    source, task = Questions(), get_task("vqa")
    return [
        AnswerEvaluator.of(BENCHMARK, source, task, batch=2),
        LossEvaluator("held-out", source, task, batch=2),
    ]


class ThreadRanks(Ranks):
    """Ranks as threads, which share ``given`` and a barrier."""

    barrier: threading.Barrier
    given: list[object]

    def gather(self, value: object) -> list[object]:
        self.given[self.rank] = value
        self.barrier.wait()
        gathered = list(self.given)
        self.barrier.wait()
        return gathered


def on_ranks(world: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What ``work`` returns or raises on each of several ranks."""
    found: list[Any] = [None] * world
    shared = type(
        "Shared", (ThreadRanks,), {"barrier": threading.Barrier(world, timeout=60), "given": [None] * world}
    )

    def start(rank: int) -> None:
        try:
            found[rank] = work(shared(rank, world, torch.device("cpu")))
        except ValueError as error:
            found[rank] = error

    threads = [threading.Thread(target=start, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("evaluator", evaluators(), ids=lambda each: each.name)
@pytest.mark.parametrize("world", [2, 3])
def test_every_rank_gets_the_scores_of_one(pali: Pali, evaluator: Evaluator[Pipeline], world: int) -> None:
    alone = evaluator.run(pali.pipeline(), ALONE)
    pipelines = [live(pali) for _ in range(world)]
    assert on_ranks(world, lambda ranks: evaluator.run(pipelines[ranks.rank], ranks)) == [alone] * world
    assert all(math.isfinite(value) for value in alone.scores.summary.values())


@pytest.mark.parametrize("evaluator", evaluators(), ids=lambda each: each.name)
def test_an_evaluation_leaves_no_trace_in_training(pali: Pali, evaluator: Evaluator[Pipeline]) -> None:
    """Two steps of training with dropout give the same weights with and without an evaluation in between."""

    def train(between: Callable[[Pipeline], Any]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        pipeline = live(pali)
        optimizer = torch.optim.SGD(pipeline.model.parameters(), lr=0.1)
        ids = torch.tensor([[5, 6, 7, 1]])
        for _ in range(2):
            optimizer.zero_grad()
            pipeline.model(torch.zeros(1, 1, 72, 72, 3), ids, ids).square().mean().backward()
            optimizer.step()
            between(pipeline)
        return pipeline.model.state_dict()

    without, with_it = train(lambda pipeline: None), train(evaluator.run)
    assert all(torch.equal(value, with_it[name]) for name, value in without.items())


def test_a_live_model_scores_what_its_folder_scores(pali: Pali, tmp_path: Path) -> None:
    done = run(BENCHMARK, pali, tmp_path, batch=3)
    evaluator = AnswerEvaluator.of(
        BENCHMARK, Questions(), BENCHMARK.task_for(live(pali).task(BENCHMARK.task)), batch=5
    )
    found = evaluator.run(live(pali))
    assert found.scores == done.scores
    assert found.rows == list(done.rows)
    assert evaluator.name == "questions"


def test_the_limit_takes_the_first_samples(pali: Pali) -> None:
    evaluator = AnswerEvaluator("first", Questions(), get_task("vqa"), limit=3)
    assert [row.key for row in evaluator.run(live(pali)).rows] == ["q0", "q1", "q2"]
    assert LossEvaluator("loss", Questions(), get_task("vqa"), limit=3).run(live(pali)).n == 3
    with pytest.raises(ValueError):
        LossEvaluator("loss", Questions(), get_task("vqa"), limit=0).run(live(pali))


def test_the_held_out_loss_is_the_mean_over_tokens(pali: Pali) -> None:
    """Not over samples: longer targets count more. Neither batch size nor padding matters."""
    task, source, pipeline = get_task("vqa"), Questions(), pali.pipeline()
    total, tokens = 0.0, 0
    for i in range(SIZE):
        sample = task.write(source[i], generator(SEED, i))
        length = len(pipeline.tokenizer.encode(sample.target)) + 1
        total += length * float(pipeline.log_perplexity([source[i].images], sample.prompt, [sample.target])[0, 0])
        tokens += length
    for batch in (1, 4, 32):
        found = LossEvaluator("loss", source, task, batch=batch).run(pipeline)
        assert found.n == SIZE
        assert found.scores.summary["loss"] == pytest.approx(total / tokens, rel=1e-5)


class Damaged(Questions):
    """A sample of the second rank cannot be read."""

    def __getitem__(self, index: int, /) -> Example:
        if index == 9:
            raise ValueError("image 9 is damaged")
        return super().__getitem__(index)


@pytest.mark.parametrize("evaluator", evaluators(), ids=lambda each: each.name)
def test_an_error_on_one_rank_is_raised_on_all(pali: Pali, evaluator: Any) -> None:
    damaged = replace(evaluator, source=Damaged())
    pipelines = [live(pali) for _ in range(2)]
    ends = on_ranks(2, lambda ranks: damaged.run(pipelines[ranks.rank], ranks))
    assert [str(end) for end in ends] == ["image 9 is damaged"] * 2


def test_masks_are_compared_at_the_size_of_the_file(pali: Pali, tmp_path: Path, monkeypatch: Any) -> None:
    """A large JPEG is decoded smaller."""
    Image.new("RGB", (576, 576)).save(tmp_path / "a.jpg")
    thing = {"name": "horse", "mask": [[90, 90, 400, 90, 400, 300, 90, 300]]}
    record = {"images": "a.jpg", "objects": [thing], "expression": "the horse", "referred": [0]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    source = JsonlSource(tmp_path / "a.jsonl", MediaLoader(min_size=Size(72, 72)))
    task, pipeline = pali.task("refseg"), live(pali)
    assert source[0].images[0].shape == (72, 72, 3)
    right = task.write(source[0], generator(SEED, 0)).target_ids(pipeline.tokenizer)
    generation = Generation(right, [0.0] * (len(right) + 1), 0.0, "eos")
    monkeypatch.setattr("openpali.infer.pipeline.write", lambda *_: [[generation]])
    assert AnswerEvaluator("masks", source, task).run(pipeline).scores.summary["box_accuracy@0.75"] == 1


def test_embeddings_are_scored_on_rank_0_for_all(pali: Pali, tmp_path: Path) -> None:
    benchmark = find_benchmark("nano/retrieval")
    assert isinstance(benchmark, EncoderBenchmark)
    seen: list[tuple[int, int]] = []
    evaluator = EmbeddingEvaluator(benchmark, tmp_path, 6, lambda done, total: seen.append((done, total)))
    random = torch.get_rng_state()
    both = on_ranks(2, lambda ranks: evaluator.run(pali, ranks))
    assert torch.equal(torch.get_rng_state(), random)
    assert both[0] == both[1] == evaluator.run(pali)
    assert both[0].n == 6
    assert len(seen) == 2 * seen[0][1], "only rank 0 works"


def test_worlds_are_sources_like_any_other(pali: Pali) -> None:
    source = Composed("nano", "scene", size=3)
    found = LossEvaluator("detect", source, pali.task("detect")).run(live(pali))
    assert found.n == 3


def test_probes_and_retrieval_run_on_a_siglip_in_training(pali: Pali, tmp_path: Path) -> None:
    stored = pali.load("siglip")[0]
    model: Any = stored.model().train()
    assert stored.preprocess is not None
    pipeline = EmbeddingPipeline(model, stored.tokenizer, stored.preprocess)
    benchmark = find_benchmark("nano/retrieval")
    assert isinstance(benchmark, EncoderBenchmark)
    evaluator = EmbeddingEvaluator(benchmark, tmp_path, 6)
    assert evaluator.run(pipeline) == evaluator.run(pali)
    images = [lambda i=i: Questions()[i].images[0] for i in range(3)]
    np.testing.assert_array_equal(
        FeatureEncoder(pipeline).features(images), FeatureEncoder(pali, "siglip").features(images)
    )
    with pytest.raises(ValueError):
        FeatureEncoder(pipeline, "pali")
    assert all(module.training for module in model.modules())
