"""What people ask is what was measured: the answers of the server, from 32 clients, and those of `openpali predict
--input` and Python are those of `openpali eval`.

A short form in CI, with a tiny model and six sets. ``make served`` asks nano about every set that a card is of; so
many samples of each, and another engine:

    OPENPALI_SERVED_SAMPLES=100 OPENPALI_SERVED_ENGINE=openvino-int8 make served
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import httpx
import numpy as np
import pytest
from requests_to import chat, data_url, service_of, serving, serving_nano

from openpali.data.sources.base import Source
from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import Run, run
from openpali.eval.suites import find_suite
from openpali.home import home
from openpali.infer.bulk import Request, object_as_json, replies
from openpali.infer.engines.registry import EngineName
from openpali.infer.pali import Pali
from openpali.serve.limits import Limits
from openpali.tasks.base import Task
from openpali.tasks.example import Example
from openpali.tasks.scoring import Answered

SAMPLES = os.environ.get("OPENPALI_SERVED_SAMPLES", "")  # of each set; "all"; "": the short form
ENGINE = cast(EngineName, os.environ.get("OPENPALI_SERVED_ENGINE", "torch"))
CLIENTS = 32
SETS = [f"nano/{name}" for name in ("caption", "ocr", "vqa", "detect", "refseg", "video")]
if SAMPLES:
    SETS = [each.name for each in find_suite("nano") if isinstance(each, AnswerBenchmark)]
LIMIT = {"": 6, "all": None}[SAMPLES] if SAMPLES in ("", "all") else int(SAMPLES)


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> Pali:
    return Pali.from_pretrained("nano", ENGINE) if SAMPLES else request.getfixturevalue("pali")


@pytest.fixture(scope="module")
def url(model: Pali) -> Iterator[str]:
    if SAMPLES:
        with serving_nano("--engine", ENGINE) as (address, _):
            yield address
    else:
        with serving(service_of(model, Limits())) as address:
            yield address


@pytest.fixture(scope="module")
def done(model: Pali) -> dict[str, Run]:
    """Runs of the evaluation, by the name of the set."""
    found = {}
    for name in SETS:
        benchmark = find_benchmark(name)
        found[name] = run(benchmark, model, home() / "data", limit=LIMIT)
        print(f"{name}: {benchmark.metric} {found[name].scores.summary[benchmark.metric]}", flush=True)
    return found


def answer(client: httpx.Client, name: str, row: Answered, example: Example) -> dict[str, Any]:
    """What the server answers to the prompt of an evaluation."""
    urls = [data_url(image) for image in example.images]
    if name == "nano/refseg":  # its prompt is that of detection
        body = {"image": urls[0], "expression": row.prompt.removeprefix("detect: ")}
        found = client.post("/v1/segment", json=body).raise_for_status().json()
        assert found["prompt"] == row.prompt
        return dict(found)
    benchmark = cast(AnswerBenchmark, find_benchmark(name))
    limits = {"max_tokens": benchmark.decoding.max_tokens} if benchmark.decoding else {}
    body = chat(row.prompt, *urls, **limits)
    [choice] = client.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"]
    return {"text": choice["message"]["content"], **choice["openpali"]}


def test_served_equals_evaluated(done: dict[str, Run], url: str) -> None:
    """All sets at once, in random order, so that requests of every kind are each other's neighbours."""
    asked = [(name, row) for name in SETS for row in done[name].rows]
    np.random.default_rng(0).shuffle(asked)  # type: ignore[arg-type]  # a list, in place

    def differs(each: tuple[str, Answered]) -> tuple[str, str, str] | None:
        """The name of the set and both answers, if they are two."""
        name, row = each
        example, task = cast(Source, done[name].source)[row.index], cast(Task, done[name].task)
        found = answer(client, name, row, example)
        things = [object_as_json(thing) for thing in task.parse(row.text, example.size, prompt=row.prompt).objects]
        told = [(thing["name"], thing["box"], thing["mask"]) for thing in found["objects"]]
        same = found["text"] == row.text and told == [(each["name"], each["box"], each["mask"]) for each in things]
        return None if same else (name, row.text, found["text"])

    with httpx.Client(base_url=url, timeout=300) as client, ThreadPoolExecutor(CLIENTS) as clients:
        differing = [found for found in clients.map(differs, asked) if found]
    print(f"{len(asked)} answers through the server, {len(differing)} differ", flush=True)
    assert not differing


@pytest.mark.parametrize("name", SETS)
def test_asked_equals_evaluated(model: Pali, done: dict[str, Run], name: str) -> None:
    """One by one, as `openpali predict IMAGE PROMPT`, and all together in Python."""
    source, rows = cast(Source, done[name].source), done[name].rows
    segment = name == "nano/refseg"  # its prompt is that of detection
    wanted = [(row.prompt, row.text) for row in rows]
    for row, (prompt, text) in zip(rows, wanted, strict=True):
        request = Request("refseg", prompt.removeprefix("detect: ")) if segment else Request(text=prompt)
        [[reply]] = replies(model, [source[row.index]], request)
        assert reply.prediction
        assert (reply.prediction.prompt, reply.prediction.answer.text) == (prompt, text)
    frames, task = [source[row.index].images for row in rows], model.task("refseg") if segment else None
    python = model.predict(frames, [row.prompt for row in rows], task=task)
    assert [(each.prompt, each.answer.text) for each in python] == wanted
