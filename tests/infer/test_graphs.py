"""Recorded steps. What a GPU records here is a trace of torch's operators on the same tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_rows import arrive
from tiny_models import DECODINGS, check_same, inputs, tiny
from torch.fx.experimental.proxy_tensor import make_fx

from openpali.infer.engines import graphs
from openpali.infer.engines.graphs import GraphedModel, Step
from openpali.infer.generate import Decoding, generate
from openpali.model import t5
from openpali.model.init import init_weights
from openpali.model.pali import VisionLanguageModel
from tiny_gemma import KINDS

MODELS: dict[str, Callable[[], VisionLanguageModel]] = {"pali": lambda: tiny(0), **KINDS}


def trace(step: Step) -> Step:
    """The operators of a step on its tensors, as a graph of a GPU would have them: no Python, no other shapes."""
    graph = make_fx(step)()
    return lambda: graph()


def make(name: str) -> VisionLanguageModel:
    torch.manual_seed(0)
    return init_weights(MODELS[name]()).eval()


@pytest.mark.parametrize("name", MODELS)
def test_rows_that_come_and_go_get_the_texts_that_they_get_alone(name: str) -> None:
    record = trace if name == "pali" else lambda step: step  # a trace of each would take long
    assert arrive(GraphedModel(make(name), record), 0, drops=True) > 3


@pytest.mark.parametrize("name", MODELS)
def test_texts_that_outgrow_their_bucket_are_those_of_the_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t5, "ROOM", 8)
    monkeypatch.setattr(graphs, "POSITIONS", 8)
    twice = Decoding(max_tokens=12, temperature=1.0, samples=2)
    model, batch = make(name), inputs(0)
    graphed = GraphedModel(model, trace)
    ours, theirs = (generate(each, *batch, twice, eos_id=-1) for each in (graphed, model))
    assert {each.bucket.text for each in graphed.recordings} == {8, 16}
    for rows in zip(ours, theirs, strict=True):
        for first, second in zip(*rows, strict=True):
            check_same(first, second)


def test_what_was_recorded_serves_the_next_batch() -> None:
    model, batch = GraphedModel(tiny(0), trace), inputs(0)
    for decoding in (DECODINGS["beams"], Decoding(max_tokens=100, max_repeats=None)):
        model.recordings.clear()
        generate(model, *batch, decoding)
        first = list(model.recordings)
        assert not any(each.used for each in first)
        generate(model, *batch, decoding)
        assert model.recordings == first


def test_few_recordings_wait_for_a_use() -> None:
    model = GraphedModel(tiny(0), lambda step: step)
    for rows in (1, 2, 4, 8, 16, 32, 64):
        generate(model, *inputs(0, rows), Decoding(max_tokens=2))
    assert len(model.recordings) == graphs.UNUSED + 1


def test_two_batches_at_once_have_a_recording_each() -> None:
    model, memories = GraphedModel(tiny(0), trace), [tiny(0).encode(*inputs(seed)) for seed in (0, 1)]
    memories[1] = memories[1]._replace(mask=None)  # all of it is real
    caches = [model.start(memory, 8) for memory in memories]
    ids = torch.randint(2, 14, (3, 5, 1), generator=torch.Generator().manual_seed(2))
    turns = [[model.step(each, cache).clone() for cache in caches] for each in ids]
    for i, memory in enumerate(memories):
        cache = model.model.start(memory, 8)
        for each, turn in zip(ids, turns, strict=True):
            torch.testing.assert_close(turn[i], model.model.step(each, cache), rtol=0, atol=1e-5)
