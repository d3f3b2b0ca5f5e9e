"""Detection by the patches of an image encoder, through the server: of one alone, and of one beside a decoder."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from requests_to import chat, service_of, serving

from openpali.infer.pali import Pali
from openpali.tasks.example import Image, Object


@pytest.fixture(scope="module")
def alone(detecting: Path) -> Pali:
    return Pali.from_pretrained(detecting.parent / "siglip")


@pytest.fixture(scope="module")
def client(alone: Pali) -> Iterator[httpx.Client]:
    with serving(service_of(alone)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def beside(detecting: Path) -> Iterator[httpx.Client]:
    with serving(service_of(Pali(detecting))) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def expected(alone: Pali, images: Sequence[Image]) -> Sequence[Object]:
    [found] = alone.detect([images[0]], ["dog"])
    assert found
    return found


def check(found: dict[str, Any], expected: Sequence[Object]) -> None:
    things = found["objects"]
    assert [thing["name"] for thing in things] == ["dog"] * len(expected)
    assert [thing["confidence"] for thing in things] == pytest.approx([each.confidence for each in expected])
    for thing, each in zip(things, expected, strict=True):
        assert thing["box"] == pytest.approx(each.box, abs=1e-3)


def test_an_encoder_alone_detects(
    client: httpx.Client, beside: httpx.Client, encoded: Sequence[str], expected: Sequence[Object]
) -> None:
    body: Any = {"image": encoded[0], "name": "dog"}
    found = client.post("/v1/detect", json=body).raise_for_status().json()
    check(found, expected)
    file = base64.b64decode(encoded[0].partition(",")[2])
    form = client.post("/v1/detect", data={"name": "dog"}, files={"image": ("dog.png", file)})
    assert form.json() == found
    assert client.post("/v1/detect", json={**body, "fast": True}).json() == found
    decoded = beside.post("/v1/detect", json=body).raise_for_status().json()
    assert found.keys() == decoded.keys()
    for options in ({}, {"logprobs": True, "stop": "x", "temperature": 1, "n": 2}):
        answer = client.post("/v1/chat/completions", json=chat("dog", encoded[0], task="detect", **options))
        for choice in answer.raise_for_status().json()["choices"]:
            assert choice["message"]["content"] == found["text"]
            check(choice["openpali"], expected)
    stream = client.post("/v1/chat/completions", json=chat("detect: dog", encoded[0], stream=True)).text
    assert found["text"] in stream
    assert stream.endswith("data: [DONE]\n\n")


def test_an_encoder_beside_a_decoder_is_asked_with_fast(
    beside: httpx.Client, detecting: Path, images: Sequence[Image], encoded: Sequence[str]
) -> None:
    pali = Pali(detecting)
    for fast in (True, False):
        found = beside.post("/v1/detect", json={"image": encoded[0], "name": "dog", "fast": fast}).json()
        [prediction] = pali.predict([[images[0]]], ["detect: dog"], part="siglip" if fast else None)
        assert found["text"] == prediction.answer.text
        assert len(found["objects"]) == len(prediction.answer.objects)
        assert (found["usage"]["completion_tokens"] == 0) == fast


def test_what_an_encoder_is_not_offered_for(client: httpx.Client, encoded: Sequence[str], bundle: Path) -> None:
    [model] = client.get("/v1/models").json()["data"]
    described = model["openpali"]
    assert [task["name"] for task in described["tasks"]] == ["detect"]
    assert {name: described[name] for name in ("takes_prompts", "reads_pages", "embeds")} == {
        "takes_prompts": False,
        "reads_pages": False,
        "embeds": True,
    }
    asked: list[tuple[str, Any]] = [
        ("/v1/caption", {"image": encoded[0]}),
        ("/v1/ocr", {"image": encoded[0]}),
        ("/v1/read", {"image": encoded[0]}),
        ("/v1/segment", {"image": encoded[0], "expression": "the dog"}),
        ("/v1/chat/completions", chat("what is it?", encoded[0])),
        ("/v1/completions", {"prompt": "what?", "images": [encoded[0]]}),
    ]
    for path, body in asked:
        answer = client.post(path, json=body)
        assert answer.status_code == 400, answer.text
        told = answer.json()["error"]["message"]
        assert "the model tiny has no part" in told
        assert "for detect, embeddings, similarity" in told
    with serving(service_of(Pali(bundle / "siglip"))) as url:
        told = httpx.post(f"{url}/v1/detect", json={"image": encoded[0], "name": "dog"}, timeout=60).json()
    assert "it has siglip, for embeddings, similarity" in told["error"]["message"]


def test_fast_needs_sides(bundle: Path, encoded: Sequence[str]) -> None:
    body: Any = {"image": encoded[0], "name": "dog", "fast": True}
    for folder, told in ((bundle, "sides = 1.0"), (bundle / "pali", "the model tiny has no part 'siglip'")):
        with serving(service_of(Pali(folder))) as url:
            answer = httpx.post(f"{url}/v1/detect", json=body, timeout=60)
        assert answer.status_code == 400
        assert told in answer.json()["error"]["message"]


def test_notes_hold_no_folders(beside: httpx.Client, encoded: Sequence[str], detecting: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pali, "_unknown_names", lambda pali, *_: f"{pali.name} does not know it")
        found = beside.post("/v1/detect", json={"image": encoded[0], "name": "dog"}).json()
    assert found["note"] == "tiny does not know it"
