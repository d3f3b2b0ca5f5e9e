"""The scheduler, turn by turn, without a thread: answers, order, limits and failures."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from openpali.data.media.images import Preprocess
from openpali.data.media.native import NativePreprocess
from openpali.infer.generate import Decoding, Rows, Written
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Features, Pipeline, Prediction
from openpali.model.init import init_weights
from openpali.serve.encoding import FeatureCache
from openpali.serve.scheduler import Scheduler
from openpali.serve.tickets import Cancelled, Failed, QueueFull, Ticket, Unavailable
from openpali.tasks.example import Image
from openpali.tasks.registry import open_task
from openpali.weights.ood import OodDetector
from tiny_gemma import KINDS

PROMPTS = [
    "detect: horse",
    "Generate the alt_text in en at 0: <extra_id_0>",
    "Answer in en: what? <extra_id_0>",
    "detect: red horse and blue cat and a very long name of a thing",
]
WAYS = [
    Decoding(max_tokens=14),
    Decoding(max_tokens=9, beams=3),
    Decoding(max_tokens=20, temperature=1.0, seed=5),
    Decoding(max_tokens=8, temperature=1.0, samples=2, seed=5),
]
SHORT = Decoding(max_tokens=4)


def check_same(got: Prediction, expected: Prediction) -> None:
    assert (got.prompt, got.answer.text) == (expected.prompt, expected.answer.text)
    assert [thing.box for thing in got.answer.objects] == [thing.box for thing in expected.answer.objects]
    assert got.generation.ids == expected.generation.ids
    assert got.generation.finish_reason == expected.generation.finish_reason
    assert got.generation.log_probs == pytest.approx(expected.generation.log_probs, abs=1e-4)


def serve_all(scheduler: Scheduler, requests: Sequence[tuple[Any, str, Decoding]], seed: int) -> list[Ticket]:
    """Requests arrive at random while others are answered."""
    rng, waiting, tickets = np.random.default_rng(seed), list(requests), []
    while waiting or scheduler.turn():
        for _ in range(min(len(waiting), int(rng.integers(3)))):
            frames, prompt, decoding = waiting.pop(0)
            tickets.append(scheduler.submit(frames, prompt, decoding=decoding))
        scheduler.turn()
        assert scheduler.used <= scheduler.slots
    return tickets


@pytest.mark.parametrize("seed", range(2))
def test_served_equals_predicted_whoever_the_neighbours_are(pali: Pali, images: Sequence[Image], seed: int) -> None:
    rng = np.random.default_rng(seed)
    requests = []
    for _ in range(24):
        frames = [images[i] for i in rng.integers(len(images), size=rng.choice([0, 1, 1, 1, 2]))]
        requests.append((frames, PROMPTS[int(rng.integers(4))], WAYS[int(rng.integers(4))]))
    scheduler = Scheduler(pali, slots=7, features=0 if seed else 2**20)
    tickets = serve_all(scheduler, requests, seed)
    for ticket, (frames, prompt, decoding) in zip(tickets, requests, strict=True):
        [expected] = pali.predict([frames], [prompt], decoding=decoding)
        got = ticket.predictions(0)
        assert len(got) == decoding.samples
        check_same(got[0], expected)
    assert scheduler.used == scheduler.waiting == 0
    assert (scheduler.features.hits > 0) == (not seed)


def test_so_it_is_through_openvino(bundle: Path, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    # a random model is sure of nothing
    monkeypatch.setattr("openpali.infer.engines.openvino.bf16_is_faster", lambda device: False)
    pali = Pali.from_pretrained(bundle, "openvino")
    requests = [([images[i % 3]], PROMPTS[i % 4], WAYS[(i // 2) % 3]) for i in range(9)]
    for ticket, (frames, prompt, decoding) in zip(
        serve_all(Scheduler(pali, slots=5), requests, 0), requests, strict=True
    ):
        check_same(ticket.predictions(0)[0], pali.predict([frames], [prompt], decoding=decoding)[0])


@pytest.mark.parametrize("bytes_", [0, 2**20], ids=["embedded again", "remembered"])
def test_so_it_is_with_images_in_their_own_proportions(native: Path, bytes_: int) -> None:
    """Those encoded together differ in length; the tokens that are counted, and kept, are those of real patches."""
    drawn = np.random.default_rng(0)
    images = [drawn.integers(0, 256, (*size, 3), np.uint8) for size in [(40, 160), (150, 30), (64, 64)]]
    pali = Pali.from_pretrained(native)
    requests = [([images[i] for i in some], PROMPTS[1], WAYS[0]) for some in ([0], [1], [2], [1], [0, 1], [2, 2])]
    requests.append(([images[0]], PROMPTS[0], WAYS[1]))
    scheduler = Scheduler(pali, slots=7, features=bytes_)
    tickets = [scheduler.submit(*request[:2], decoding=request[2]) for request in requests]
    while scheduler.turn():
        pass
    patches = {id(image): np.prod(NativePreprocess(12, 40).grid(image.shape[:2])) for image in images}
    for ticket, (frames, prompt, decoding) in zip(tickets, requests, strict=True):
        check_same(ticket.predictions(0)[0], pali.predict([frames], [prompt], decoding=decoding)[0])
        words = len(pali.pipeline().prompt_ids(prompt))
        assert ticket.now.read == sum(patches[id(image)] for image in frames) + words
    assert (scheduler.features.hits > 0) == (bytes_ > 0)


@pytest.mark.parametrize(
    ("kind", "others"),
    [("gemma", 2 * 4 + 2), ("t5gemma2", 2 * (1 + 4) + 1)],
    ids=["patches, BOS, separator", "pooled patches, four tokens around each image, BOS"],
)
def test_all_tokens_that_a_model_reads_are_counted(kind: str, others: int, images: Sequence[Image]) -> None:
    tokenizer: Any = SimpleNamespace(encode=lambda _: [7, 8, 9], decode=lambda _: "", pad_id=0, eos_id=1)
    pipeline = Pipeline(init_weights(KINDS[kind]()).eval(), tokenizer, Preprocess(8, 8))

    def rows(frames: Any, prompt: str, task: Any, part: str) -> Any:
        return {part: pipeline.row(frames, prompt, task)}

    pali: Any = SimpleNamespace(
        pipeline=lambda _: pipeline, rows=rows, component=lambda _: SimpleNamespace(decodes=True)
    )
    scheduler = Scheduler(pali)
    tickets = [
        scheduler.submit(images[:2], text, task=open_task("vqa"), part="any", decoding=Decoding(max_tokens=1))
        for text in ("what?", "where?")
    ]
    scheduler.turn()
    assert [ticket.now.read for ticket in tickets] == [3 + others] * 2


def test_requests_begin_in_order_and_as_many_as_there_are_slots(pali: Pali, images: Sequence[Image]) -> None:
    ended: list[Ticket] = []
    scheduler = Scheduler(pali, slots=3, encoded=2, finished=ended.append)
    wide = Decoding(max_tokens=6, beams=3)
    tickets = [scheduler.submit([images[0]], PROMPTS[0], decoding=d) for d in (SHORT, wide, SHORT, SHORT)]
    scheduler.turn()
    assert (scheduler.used, scheduler.waiting) == (1, 3)  # the wide one needs all slots, and nobody overtakes it
    seen = []
    while scheduler.turn():
        seen.append(scheduler.used)
    assert 3 in seen
    assert 2 in seen
    assert [t.started for t in tickets] == sorted(t.started for t in tickets)
    assert ended[:2] == tickets[:2]
    assert all(t.submitted <= t.started <= t.first_token <= t.finished for t in tickets)


def test_requests_of_similar_length_make_one_step_and_others_their_own(
    pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = pali.pipeline().model, []
    step = model.step
    monkeypatch.setattr(model, "step", lambda ids, cache: (sizes.append(len(ids)), step(ids, cache))[1])
    scheduler = Scheduler(pali)
    for frames in ([images[0]], [images[1]], []):  # 36 patches more, and the longer prompt
        scheduler.submit(frames, PROMPTS[0], part="pali", decoding=SHORT)
    scheduler.submit([images[0]], PROMPTS[3], part="pali", decoding=SHORT)
    scheduler.submit([images[0]], PROMPTS[0], part="pali", decoding=Decoding(max_tokens=4, beams=2))
    scheduler.turn()
    scheduler.turn()
    assert sizes[2:] == [3, 1, 2]


@pytest.mark.parametrize("bytes_", [0, 2**20], ids=["embedded again", "remembered"])
def test_served_ood_scores_are_those_of_predictions(
    pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch, bytes_: int
) -> None:
    pipeline = pali.pipeline()
    known = pipeline.describe([images[0]])
    d = known.shape[1]
    limit = pipeline.describe(images[1:2]).sub(known).norm() / 1.5  # so the mean of both is .75
    monkeypatch.setattr(pipeline, "ood", OodDetector(known[0], torch.eye(d), torch.zeros(1, d), limit))
    rows = [[images[0]], [images[1]], [images[0], images[1]], [], [images[1]]]
    expected = pali.predict(rows, [PROMPTS[0]] * 5, part="pali", decoding=SHORT)
    assert [each.out_of_distribution for each in expected] == [False, True, False, None, True]
    scheduler = Scheduler(pali, slots=1, features=bytes_)
    tickets = [scheduler.submit(row, PROMPTS[0], part="pali", decoding=SHORT) for row in rows]
    while scheduler.turn():
        pass
    for ticket, each in zip(tickets, expected, strict=True):
        got = ticket.predictions(0)[0].ood_score
        assert (got is None) == (each.ood_score is None)
        assert (got or 0) == pytest.approx(each.ood_score or 0, rel=1e-3, abs=1e-3)


def test_the_oldest_features_leave() -> None:
    cache, features = FeatureCache(3 * 4 * 8), Features(torch.ones(2, 4), torch.ones(8))
    keys = [("pali", str(i)) for i in range(5)]
    for key in keys[:3]:
        cache.put(key, features)
    assert cache.get(keys[0]) is not None
    cache.put(keys[3], features)
    assert [cache.get(key) is None for key in keys[:4]] == [False, True, False, False]
    assert (cache.size, cache.hits, cache.misses) == (96, 4, 1)
    cache.put(keys[4], Features(torch.ones(25), torch.ones(8)))  # more than there is room for
    assert cache.size == 96


def test_a_full_queue_refuses(pali: Pali, images: Sequence[Image]) -> None:
    scheduler = Scheduler(pali, slots=1, queue=2)
    for _ in range(2):
        scheduler.submit([images[0]], PROMPTS[0], decoding=SHORT)
    with pytest.raises(QueueFull):
        scheduler.submit([images[0]], PROMPTS[0], decoding=SHORT)
    with pytest.raises(QueueFull):
        scheduler.check_room()
    with pytest.raises(ValueError):
        Scheduler(pali, slots=1).submit([images[0]], PROMPTS[0], decoding=Decoding(beams=2))
    while scheduler.turn():
        pass
    scheduler.submit([images[0]], PROMPTS[0], decoding=SHORT)


def test_what_is_given_up_leaves_before_the_next_step(pali: Pali, images: Sequence[Image]) -> None:
    scheduler = Scheduler(pali, slots=2)
    long = Decoding(max_tokens=60, max_repeats=None)
    first, second, third = (scheduler.submit([images[0]], PROMPTS[i], decoding=long) for i in range(3))
    scheduler.turn()
    assert (scheduler.used, scheduler.waiting) == (2, 1)
    first.cancel()
    scheduler.turn()
    assert third.started
    with pytest.raises(Cancelled):
        first.predictions(0)
    second.cancel()
    while scheduler.turn():
        pass
    [expected] = pali.predict([[images[0]]], [PROMPTS[2]], decoding=long)
    check_same(third.predictions(0)[0], expected)


def test_the_text_ends_before_a_stop(pali: Pali, images: Sequence[Image]) -> None:
    [whole] = pali.predict([[images[0]]], [PROMPTS[0]], decoding=Decoding(max_tokens=12))
    text = whole.answer.text
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    scheduler, seen = Scheduler(pali), []
    ticket = scheduler.submit(
        [images[0]],
        PROMPTS[0],
        decoding=Decoding(max_tokens=12),
        stops=[stop, "never"],
        watch=lambda written: seen.append((len(written.ids), len(written.log_probs))),
    )
    while scheduler.turn():
        pass
    [got] = ticket.predictions(0)
    assert got.answer.text == text[: text.index(stop)].strip()
    assert got.generation.finish_reason == "stop"
    assert seen == [(n, n) for n in range(1, len(got.generation.ids) + 1)]


def assert_second_alone_fails(scheduler: Scheduler, tickets: Sequence[Ticket]) -> None:
    """Of three requests, for lack of memory."""
    while scheduler.turn():
        pass
    assert [len(t.predictions(0)) for t in (tickets[0], tickets[2])] == [1, 1]
    with pytest.raises(Failed, match="out of memory"):
        tickets[1].predictions(0)
    assert scheduler.accepting


def test_a_request_that_cannot_be_encoded_harms_no_other(
    pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pali.pipeline().model
    embed = model.encode_images

    def fail(pixels: Any) -> Any:
        if (pixels == 7).all(dim=(1, 2, 3, 4)).any():
            raise RuntimeError("out of memory")
        return embed(pixels)

    monkeypatch.setattr(model, "encode_images", fail)
    scheduler = Scheduler(pali)
    bad = np.full((72, 72, 3), 7, np.uint8)
    tickets = [scheduler.submit([image], PROMPTS[0], decoding=SHORT) for image in (images[0], bad, images[1])]
    assert_second_alone_fails(scheduler, tickets)


def test_a_request_whose_cache_does_not_fit_harms_no_other(
    pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Rows.begin

    def begin(rows: Rows, memory: Any, asks: Sequence[Any]) -> Any:
        if any(ask.decoding.max_tokens == 3 for ask in asks):
            raise RuntimeError("out of memory")
        return start(rows, memory, asks)

    monkeypatch.setattr(Rows, "begin", begin)
    scheduler = Scheduler(pali)
    decodings = [SHORT, replace(SHORT, max_tokens=3), SHORT]
    tickets = [scheduler.submit([images[0]], PROMPTS[0], decoding=each) for each in decodings]
    assert_second_alone_fails(scheduler, tickets)


def test_a_callback_that_raises_harms_no_request(pali: Pali, images: Sequence[Image]) -> None:
    seen, ended = [], []

    def watch(written: Written) -> None:
        seen.append(len(written.ids))
        raise RuntimeError("nobody reads this")

    def finished(ticket: Ticket) -> None:
        ended.append(ticket)
        raise RuntimeError("nobody counts this")

    scheduler = Scheduler(pali, finished=finished)
    tickets = [scheduler.submit([images[0]], PROMPTS[0], decoding=SHORT, watch=each) for each in (watch, None)]
    while scheduler.turn():
        pass
    assert scheduler.accepting
    assert (seen, ended) == ([1], tickets)
    watched, other = (ticket.predictions(0)[0].generation.ids for ticket in tickets)
    assert watched == other


def test_an_engine_that_fails_takes_no_more_requests(
    pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(pali.pipeline().model, "step", fail)
    scheduler = Scheduler(pali, slots=1)
    tickets = [scheduler.submit([images[0]], PROMPTS[0]) for _ in range(2)]
    with pytest.raises(RuntimeError):
        scheduler.turn()
    for ticket in tickets:
        with pytest.raises(Unavailable):
            ticket.predictions(0)
    assert "device is lost" in scheduler.failure
    with pytest.raises(Unavailable):
        scheduler.submit([images[0]], PROMPTS[0])


def test_what_was_accepted_is_finished_before_the_thread_ends(pali: Pali, images: Sequence[Image]) -> None:
    scheduler = Scheduler(pali, slots=2)
    with scheduler.running() as thread:
        tickets = [scheduler.submit([images[i]], PROMPTS[0], decoding=SHORT) for i in range(5)]
        assert tickets[0].predictions(60)
    assert not thread.is_alive()
    assert all(len(ticket.predictions(0)) == 1 for ticket in tickets)
    with pytest.raises(Unavailable):
        scheduler.submit([images[0]], PROMPTS[0])
    impatient = Scheduler(pali, slots=1)
    with impatient.running(drain=0):
        ticket = impatient.submit([images[0]], PROMPTS[0], decoding=Decoding(max_tokens=256, max_repeats=None))
    with pytest.raises(Unavailable):
        ticket.predictions(0)
    assert threading.active_count() < 20


def test_served_answers_to_classify_are_limited_to_its_labels(pali: Pali, images: Sequence[Image]) -> None:
    scheduler, task = Scheduler(pali), open_task("classify", {"labels": ["horse", "q17 zebra"]})
    ticket = scheduler.submit([images[0]], task.ask(), task=task)
    while scheduler.turn():
        pass
    [found] = ticket.predictions()
    assert found.answer.text in task.answer_set
    check_same(found, pali.predict([[images[0]]], [task.ask()], task=task)[0])
