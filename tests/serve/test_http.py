"""The API, as clients see it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import mimetypes
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import openai
import pytest
import torch
from PIL import Image as PILImage
from requests_to import LIMITS, chat, data_url, service_of, serving

from openpali.infer.generate import Decoding, Generation, Written
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Prediction
from openpali.serve.answers import log_probs, own
from openpali.serve.errors import ApiError
from openpali.serve.http import create_app
from openpali.serve.limits import Limits
from openpali.serve.media import LONGEST, Media
from openpali.serve.options import Options
from openpali.serve.scheduler import Scheduler
from openpali.serve.server import Server, listen
from openpali.serve.service import DECODES, FETCHES, WAITING, ApiQuestion, Service
from openpali.serve.tickets import Cancelled, Failed, QueueFull
from openpali.tasks.base import Answer
from openpali.tasks.example import Box, Image, Object
from openpali.weights.ood import OodDetector
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.files import pages_of

ASK = "Answer in en: what? <extra_id_0>"


@pytest.fixture(scope="module")
def service(pali: Pali) -> Service:
    return service_of(pali, slots=8)


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with serving(service) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with httpx.Client(base_url=url, timeout=120) as client:
        yield client


def events(client: Any, body: dict[str, Any]) -> list[Any]:
    found = []
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                assert line.startswith("data: ")
                found.append(line[6:])
    assert found.pop() == "[DONE]"
    return [json.loads(each) for each in found]


def text_of(tokens: Sequence[Any]) -> str:
    """The text of tokens, of which some are bytes; a byte that is part of no character is U+FFFD."""
    spelt = bytes(byte for token in tokens for byte in token["bytes"])
    return re.sub("[\udc80-\udcff]", "\ufffd", spelt.decode(errors="surrogateescape"))


def tokens_of(stream: Sequence[Any]) -> list[Any]:
    """The log-probabilities that the events of a stream hold."""
    found = [each["choices"][0]["logprobs"] for each in stream]
    return [token for each in found if each for token in each["content"]]


def test_an_answer_is_that_of_the_model(
    client: Any, pali: Pali, images: Sequence[Image], encoded: Sequence[str]
) -> None:
    [expected] = pali.predict([[images[0]]], [ASK], decoding=Decoding(max_tokens=12))
    body = chat(ASK, encoded[0], max_tokens=12, logprobs=True, model="tiny", top_p=1, temperature=0, user="me")
    body |= dict.fromkeys(("seed", "n", "stream", "stop"))  # null
    body |= {"store": False, "metadata": {}, "tools": [], "tool_choice": "none", "parallel_tool_calls": True}
    body |= {"service_tier": "auto"}
    body["messages"][0]["content"][1]["image_url"]["detail"] = "high"
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    [choice] = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.answer.text}
    assert choice["finish_reason"] == {"eos": "stop"}.get(expected.generation.finish_reason, "length")
    assert choice["openpali"]["score"] == pytest.approx(expected.generation.score, abs=1e-4)
    values = [each["logprob"] for each in choice["logprobs"]["content"]]
    assert values == pytest.approx(expected.generation.log_probs[: len(expected.generation.ids)], abs=1e-4)
    assert text_of(choice["logprobs"]["content"]).strip() == expected.answer.text
    prompt = 36 + len(pali.pipeline().tokenizer.encode(ASK))  # of patches, and of text
    written = len(expected.generation.log_probs)
    assert found["usage"] == {
        "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written
    }  # fmt: skip


def test_a_stream_is_the_answer_in_pieces(client: Any, encoded: Sequence[str]) -> None:
    body = chat(ASK, encoded[1], max_tokens=30, logprobs=True)
    whole = client.post("/v1/chat/completions", json=body).json()
    found = events(client, body)
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [each["choices"][0]["delta"]["content"] for each in found]
    assert "".join(deltas) == whole["choices"][0]["message"]["content"]
    assert len([each for each in deltas if each]) > 3
    last = found[-1]
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert last["usage"] == whole["usage"]
    assert tokens_of(found) == whole["choices"][0]["logprobs"]["content"]
    apart = events(client, {**body, "stream_options": {"include_usage": True}})
    assert (apart[-1]["choices"], apart[-1]["usage"]) == ([], whole["usage"])
    assert "usage" not in apart[-2]
    text = whole["choices"][0]["message"]["content"]
    for stop in (text[len(text) // 2 :][:4], text[2:60]):  # the second is longer than what stands before it
        stopped = events(client, {**body, "stop": stop})
        cut = "".join(each["choices"][0]["delta"]["content"] for each in stopped)
        assert cut == text[: text.index(stop)].strip()
        assert stopped[-1]["choices"][0]["finish_reason"] == "stop"
        [choice] = client.post("/v1/chat/completions", json={**body, "stop": stop}).json()["choices"]
        tokens = choice["logprobs"]["content"]
        assert tokens_of(stopped) == tokens
        assert len(text_of(tokens[:-1]).strip()) < len(cut) <= len(text_of(tokens)), "it ends where it is cut"


def test_plain_words_are_a_question(client: Any, pali: Pali, encoded: Sequence[str]) -> None:
    def ask(text: str, **options: Any) -> tuple[str, bool]:
        """The prompt, and whether the note says more than that the model was not trained on its task."""
        body = chat(text, encoded[0], max_tokens=4, **options)
        whole = client.post("/v1/chat/completions", json=body).json()["choices"][0]["openpali"]
        streamed = events(client, body)[-1]["choices"][0]["openpali"]
        assert (whole["prompt"], whole["note"]) == (streamed["prompt"], streamed["note"])
        untrained = pali.reservation(pali.recognise(whole["prompt"]))
        assert "not trained on" in untrained
        assert whole["note"].startswith(untrained)
        return whole["prompt"], whole["note"] != untrained

    assert ask("what is this?") == ("Answer in en: what is this? <extra_id_0>", True)
    assert ask("was?", lang="de") == ("Answer in de: was? <extra_id_0>", True)
    assert ask("what is this?", raw=True) == ("what is this?", False)
    assert ask(ASK) == (ASK, False)
    assert ask("what?", task="vqa") == (ASK, False)
    assert ask("caption this", task="caption") == ("Generate the alt_text in en at 0: <extra_id_0>", True)
    plain = client.post("/v1/completions", json={"prompt": "what?", "max_tokens": 4}).json()["choices"][0][
        "openpali"
    ]
    assert (plain["prompt"], plain["note"]) == ("what?", pali.reservation("vqa"))


def test_chat_that_asks_nothing_about_an_image(
    client: Any, pali: Pali, encoded: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pali, "names", ["red apple"])
    monkeypatch.setattr(pali, "about", "It knows drawings.")
    for images in ((), encoded[:1]):
        body = chat("Who is the president of France?", *images)
        [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
        assert pali.about in choice["message"]["content"]
        assert (choice["finish_reason"], choice["openpali"]["confidence"]) == ("stop", None)
        assert text_of_events(events(client, body)) == choice["message"]["content"]
    read = client.post("/v1/ocr", json={"image": encoded[2]}).json()["text"]
    [choice] = client.post("/v1/chat/completions", json=chat("Read the text", encoded[2])).json()["choices"]
    assert choice["message"]["content"] == read


def text_of_events(stream: Sequence[Any]) -> str:
    return "".join(choice["delta"].get("content", "") for each in stream for choice in each["choices"])


def test_a_stream_of_several_answers_holds_what_they_hold(client: Any, encoded: Sequence[str]) -> None:
    body = chat(ASK, encoded[1], max_tokens=9, n=2, temperature=1, seed=3, logprobs=True)
    whole = client.post("/v1/chat/completions", json=body).json()["choices"]
    found = [each["choices"][0] for each in events(client, body)]
    for choice in whole:
        mine = [each for each in found if each["index"] == choice["index"]]
        assert mine[0]["delta"]["role"] == "assistant"
        assert "".join(each["delta"]["content"] for each in mine) == choice["message"]["content"]
        assert [t for each in mine if each["logprobs"] for t in each["logprobs"]["content"]] == (
            choice["logprobs"]["content"]
        )


def test_the_likeliest_tokens_at_each_place(client: Any, pali: Pali, encoded: Sequence[str]) -> None:
    body = chat(ASK, encoded[1], max_tokens=6, logprobs=True, top_logprobs=3)
    [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
    places = choice["logprobs"]["content"]
    for place in places:
        top = place["top_logprobs"]
        assert len(top) == 3
        assert top[0] == {name: place[name] for name in ("token", "logprob", "bytes")}, "greedy takes the likeliest"
        assert [each["logprob"] for each in top] == sorted((each["logprob"] for each in top), reverse=True)
        assert all(each["bytes"] for each in top)
    streamed = [each["choices"][0]["logprobs"] for each in events(client, body)]
    assert [place for each in streamed if each for place in each["content"]] == places
    ids = (tokenizer := pali.pipeline().tokenizer).encode("a 🦄!")
    found = log_probs(tokenizer, Written(ids, [-1.0] * len(ids)), 0, len(ids))
    assert text_of(found) == "a 🦄!"
    assert "<0xF0>" in [each["token"] for each in found]
    plain = {"prompt": ASK, "max_tokens": 4, "temperature": 1, "seed": 2, "logprobs": 2}
    [choice] = client.post("/v1/completions", json=plain).json()["choices"]
    found = choice["logprobs"]
    for token, value, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert top[token] == value, "the token is there, however unlikely"
        assert 2 <= len(top) <= 3


def test_an_image_that_the_model_does_not_know(
    pali: Pali, encoded: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = chat(ASK, encoded[4], max_tokens=4)
    for limit, ood in ((None, None), (1e-6, True), (1e6, False)):
        if limit is not None:
            d = 2 * pali.pipeline().model.vit.config.width
            known = OodDetector(torch.ones(d), torch.eye(d), torch.ones(1, d), torch.tensor(limit))
            for part in ("pali", "refseg"):
                monkeypatch.setattr(pali.pipeline(part), "ood", known)
        with serving(service_of(pali)) as url:
            own = httpx.post(f"{url}/v1/segment", json={"image": encoded[4], "expression": "it"}, timeout=60).json()
            whole = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]["openpali"]
            with httpx.Client(base_url=url, timeout=60) as fresh:
                streamed = events(fresh, body)[-1]["choices"][0]["openpali"]
        for found in (own, whole, streamed):
            assert found["out_of_distribution"] is ood
            assert (found["ood_score"] is None) == (ood is None)


@pytest.mark.parametrize(("text", "told"), [("what is it?", True), (ASK, False)])
def test_an_answer_to_a_question_says_that_it_cannot_be_trusted(
    pali: Pali, encoded: Sequence[str], monkeypatch: pytest.MonkeyPatch, text: str, told: bool
) -> None:
    d = 2 * pali.pipeline().model.vit.config.width
    known = OodDetector(torch.ones(d), torch.eye(d), torch.ones(1, d), torch.tensor(1e-6))
    monkeypatch.setattr(pali.pipeline("pali"), "ood", known)
    body = chat(text, encoded[4], max_tokens=4)
    with serving(service_of(pali)) as url, httpx.Client(base_url=url, timeout=60) as fresh:
        [choice] = fresh.post("/v1/chat/completions", json=body).json()["choices"]
        streamed = events(fresh, body)
    assert choice["openpali"]["out_of_distribution"] is True
    assert ("out of the distribution" in choice["message"]["content"]) is told
    assert text_of_events(streamed) == choice["message"]["content"]


def test_the_openai_client(url: str, pali: Pali, images: Sequence[Image], encoded: Sequence[str]) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as api:
        [expected] = pali.predict([[images[2]]], [ASK], decoding=Decoding(max_tokens=10))
        answer = api.chat.completions.create(model="tiny", max_tokens=10, **chat(ASK, encoded[2]))
        assert answer.choices[0].message.content == expected.answer.text
        stream = api.chat.completions.create(model="tiny", max_tokens=10, stream=True, **chat(ASK, encoded[2]))
        assert "".join(each.choices[0].delta.content for each in stream) == expected.answer.text
        sampled = [
            api.chat.completions.create(
                model="tiny", n=2, temperature=1, seed=3, max_tokens=8, **chat(ASK, encoded[2])
            )
            for _ in range(2)
        ]
        texts = [[choice.message.content for choice in each.choices] for each in sampled]
        assert len(texts[0]) == 2
        assert texts[0] == texts[1]
        plain = api.completions.create(model="tiny", prompt=ASK, max_tokens=6, logprobs=0)
        [words] = pali.predict([[]], [ASK], decoding=Decoding(max_tokens=6))
        assert plain.choices[0].text == words.answer.text
        assert [each.id for each in api.models.list()] == ["tiny"]
        vectors = api.embeddings.create(model="tiny", input=["a cat", "a dog"])
        np.testing.assert_allclose(
            [each.embedding for each in vectors.data], pali.embed_text(["a cat", "a dog"]), atol=1e-5
        )
        with pytest.raises(openai.NotFoundError):
            api.chat.completions.create(model="gpt-4", **chat(ASK, encoded[2]))
        with pytest.raises(openai.BadRequestError, match="frequency_penalty"):
            api.chat.completions.create(model="tiny", frequency_penalty=0.5, **chat(ASK, encoded[2]))


def png(image: Image) -> bytes:
    return base64.b64decode(data_url(image).partition(",")[2])


def jpeg(image: Image) -> bytes:
    file = io.BytesIO()
    PILImage.fromarray(image).save(file, "jpeg")
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "task", "fields", "text"),
    [
        ("/v1/caption", "caption", {"lang": "de"}, ""),
        ("/v1/ocr", "ocr", {}, ""),
        ("/v1/detect", "detect", {"name": "horse"}, "horse"),
        ("/v1/segment", "refseg", {"expression": "the horse", "mask_format": "png"}, "the horse"),
    ],
)
def test_our_own_endpoints_take_json_and_forms(
    client: Any,
    pali: Pali,
    images: Sequence[Image],
    encoded: Sequence[str],
    path: str,
    task: str,
    fields: Any,
    text: str,
) -> None:
    opened = pali.task(task)
    prompt = pali.write_prompt(opened, text, fields.get("lang", "en"))
    [expected] = pali.predict([[images[3]]], [prompt], task=opened)
    found = client.post(path, json={"image": encoded[3], **fields})
    assert found.status_code == 200, found.text
    form = client.post(path, data=fields, files={"image": ("cat.png", png(images[3]))})
    assert found.json() == form.json()
    answer = found.json()
    assert (answer["prompt"], answer["text"]) == (prompt, expected.answer.text)
    assert answer["size"] == list(images[3].shape[:2])
    assert [each["box"] for each in answer["objects"]] == [list(each.box) for each in expected.answer.objects]


def test_elements_of_screens_are_found(
    client: Any, pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = client.post("/v1/detect", json={"image": data_url(images[0]), "name": "button"})
    assert found.status_code == 200, found.text
    [expected] = pali.detect([images[0]], ["button"])
    assert expected
    assert [thing["box"] for thing in found.json()["objects"]] == [list(thing.box) for thing in expected]
    asked = {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": data_url(images[0])}},
            {"type": "text", "text": "detect: button"},
        ],
    }
    chat = client.post("/v1/chat/completions", json={"model": "tiny", "messages": [asked]})
    assert chat.status_code == 200, chat.text
    assert chat.json()["choices"][0]["message"]["content"] == found.json()["text"]
    streamed = client.post("/v1/chat/completions", json={"model": "tiny", "messages": [asked], "stream": True})
    assert found.json()["text"][:20] in streamed.text
    monkeypatch.setattr(pali, "names", ["horse"])
    unknown = client.post("/v1/detect", json={"image": data_url(images[0]), "name": "xylophone"})
    assert "xylophone" in (unknown.json()["note"] or "")


def test_an_answer_without_a_decoder_counts_and_is_not_given_to_nobody(
    service: Service, images: Sequence[Image]
) -> None:
    held = threading.Event()
    service.scheduler.run_aside(held.wait)
    ticket, gone = (service.scheduler.submit([images[0]], "detect: button") for _ in range(2))
    assert service.scheduler.waiting == 2
    gone.cancel()
    held.set()
    assert ticket.predictions()
    assert 0 < ticket.submitted <= ticket.started <= ticket.first_token <= ticket.finished
    with pytest.raises(Cancelled):
        gone.predictions()
    assert gone.started == service.scheduler.waiting == 0


def test_what_is_wrong_with_a_question_for_a_part_without_a_decoder_is_told(
    client: Any, pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, status in ((ValueError("too small"), 400), (KeyError("roles"), 500)):
        monkeypatch.setattr(pali.component("elements"), "answer", Mock(side_effect=error))
        found = client.post("/v1/detect", json={"image": data_url(images[0]), "name": "button"})
        assert found.status_code == status


def test_each_of_several_answers_is_that_of_a_part_without_a_decoder(client: Any, images: Sequence[Image]) -> None:
    body = chat("detect: button", data_url(images[0]), n=2, temperature=1)
    choices = client.post("/v1/chat/completions", json=body).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert choices[0]["message"] == choices[1]["message"]
    text = choices[0]["message"]["content"]
    [stopped] = client.post("/v1/chat/completions", json={**body, "n": 1, "stop": text[2:4]}).json()["choices"]
    assert stopped["message"]["content"] == text[: text.index(text[2:4])]
    streamed = client.post("/v1/chat/completions", json={**body, "stream": True}).text
    assert streamed.count('"finish_reason":"stop"') == 2 or streamed.count('"finish_reason": "stop"') == 2


def test_requests_that_hold_large_images_are_limited(
    pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(pali)
    held = threading.Event()
    scheduler.run_aside(held.wait)
    try:
        ticket = scheduler.submit([images[0]], "detect: button")
        assert ticket.held == images[0].nbytes
        assert scheduler.submit([images[0]], ASK).held == 0  # resized
        monkeypatch.setattr("openpali.serve.scheduler.HELD", images[0].nbytes - 1)
        with pytest.raises(QueueFull, match="images of other requests"):
            scheduler.submit([images[0]], ASK)
    finally:
        held.set()
    scheduler.close()
    scheduler.run()
    assert ticket.predictions()


def test_lines_are_read_by_the_part_that_reads_pages(
    client: Any, pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pali, "by_task", {**pali.by_task, "ocr": ("pali", "reader")})
    for image in (images[0][:32], images[0]):  # one line; and a page, of which the other part is asked, too
        found = client.post("/v1/ocr", json={"image": data_url(image)})
        assert found.status_code == 200, found.text
        assert found.json()["text"] == pali.read([image])[0]


@pytest.mark.parametrize("sure", [True, False])
def test_a_page_is_read_only_if_no_part_before_is_sure(
    client: Any, pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch, sure: bool
) -> None:
    answer = Mock(wraps=pali.component("reader").answer)
    monkeypatch.setattr(pali.component("reader"), "answer", answer)
    monkeypatch.setattr(pali, "by_task", {**pali.by_task, "ocr": ("pali", "reader")})
    monkeypatch.setattr(pali, "is_calibrated", lambda part, task: True)
    monkeypatch.setattr("openpali.infer.routing.SETTLES", 0.0 if sure else 2.0)
    assert client.post("/v1/ocr", json={"image": data_url(images[4])}).status_code == 200
    assert answer.call_count == (not sure)


def test_pages_are_read_whole(client: Any, pali: Pali, images: Sequence[Image]) -> None:
    found = client.post("/v1/read", json={"image": data_url(images[0])})
    assert found.status_code == 200, found.text
    assert client.post("/v1/read", files={"image": ("page.png", png(images[0]))}).json() == found.json()
    expected = reader_of_bundle(pali).read_page(images[0])
    assert [line["text"] for line in found.json()["lines"]] == [line.text for line in expected]
    assert [found.json()[side] for side in ("height", "width")] == list(images[0].shape[:2])
    assert [line["block"] for line in found.json()["lines"]] == [line.block for line in expected]
    boxes = [word["box"] for line in found.json()["lines"] for word in line["words"]]
    assert boxes == [[round(edge, 1) for edge in word.box] for line in expected for word in line.words]


def pdf(pages: Sequence[Image]) -> bytes:
    first, *others = map(PILImage.fromarray, pages)
    first.save(file := io.BytesIO(), "pdf", save_all=True, append_images=others, resolution=72)
    return file.getvalue()


def test_every_page_of_a_pdf_file_is_read(client: Any, pali: Pali, images: Sequence[Image], tmp_path: Path) -> None:
    (tmp_path / "pages.pdf").write_bytes(pdf(images[:2]))
    found = client.post("/v1/read", files={"image": ("pages.pdf", pdf(images[:2]))})
    assert found.status_code == 200, found.text
    url = f"data:application/pdf;base64,{base64.b64encode(pdf(images[:2])).decode()}"
    assert client.post("/v1/read", json={"image": url}).json() == found.json()
    expected = [reader_of_bundle(pali).read_page(page()) for page in pages_of(tmp_path / "pages.pdf", 144)]
    told = found.json()["pages"]
    assert [page["page"] for page in told] == [1, 2]
    assert [page["text"].split("\n") for page in told] == [[line.text for line in lines] for lines in expected]
    assert found.json()["text"] == "\n\n".join(page["text"] for page in told)
    assert [(page["height"], page["width"]) for page in told] == [
        (2 * image.shape[0], 2 * image.shape[1]) for image in images[:2]
    ]
    answer = client.post("/v1/caption", files={"image": ("pages.pdf", pdf(images[:1]))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")


@pytest.mark.parametrize(
    ("pages", "size", "status", "code"),
    [(4, 20, 413, "too_many_pages"), (1, 300, 400, "invalid_image"), (3, 155, 413, "image_too_large")],
)
def test_long_and_large_pdf_files_are_refused(pali: Pali, pages: int, size: int, status: int, code: str) -> None:
    data = pdf([np.zeros((size, size, 3), np.uint8)] * pages)
    with serving(service_of(pali, replace(LIMITS, pages=3))) as url:
        answer = httpx.post(f"{url}/v1/read", files={"image": ("a.pdf", data)}, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_masks_are_run_lengths_or_a_png(pali: Pali) -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    thing = Object("cat", Box(1, 2, 3, 5), mask)
    prediction = Prediction("?", Answer("", [thing]), Generation([], [], 0.0, "eos"))
    assert own(prediction)["objects"][0]["mask"]["size"] == [4, 6]
    drawn = own(prediction, "png")["objects"][0]["mask"]
    seen = np.array(PILImage.open(io.BytesIO(base64.b64decode(drawn.partition(",")[2]))))
    np.testing.assert_array_equal(seen > 0, mask)


def test_embeddings_and_similarities(
    client: Any, pali: Pali, images: Sequence[Image], encoded: Sequence[str]
) -> None:
    found = client.post("/v1/embeddings", json={"input": "A CAT", "images": encoded[:2]}).json()
    got = np.array([each["embedding"] for each in found["data"]])
    np.testing.assert_allclose(got[:1], pali.embed_text(["a cat"]), atol=1e-5)
    np.testing.assert_allclose(got[1:], pali.embed_image(images[:2]), atol=1e-5)
    tokens = len(pali.embedding.tokenizer.encode("a cat")) + 2 * 36  # patches
    assert found["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    files: list[Any] = [("input", (None, "a cat")), ("input", (None, "b")), ("images", ("1.png", png(images[0])))]
    form = client.post("/v1/embeddings", files=files).json()
    assert len(form["data"]) == 3
    np.testing.assert_allclose(form["data"][0]["embedding"], got[0], atol=1e-5)
    matched = client.post("/v1/similarity", json={"images": encoded[:2], "texts": ["a cat", "b", "c"]}).json()
    np.testing.assert_allclose(matched["similarity"], pali.similarity(images[:2], ["a cat", "b", "c"]), atol=1e-5)


def test_the_model_tells_what_it_can_be_asked(client: Any, pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    [model] = client.get("/v1/models").json()["data"]
    tasks = {each.pop("name"): each for each in model["openpali"]["tasks"]}
    assert list(tasks) == ["caption", "vqa", "detect", "refseg", "ocr"]
    assert tasks["detect"] == {"takes": "names", "names_language": False, "note": ""}
    assert tasks["caption"]["names_language"]
    assert model["openpali"]["about"] == pali.about
    assert "not trained on task caption" in tasks["caption"]["note"]
    assert (model["openpali"]["languages"], model["openpali"]["max_images"]) == (["en", "de", "fr", "ja"], 3)

    assert model["openpali"]["reads_pages"] is True
    monkeypatch.setattr(pali, "parts", {name: path for name, path in pali.parts.items() if name != "reader"})
    assert client.get("/v1/models").json()["data"][0]["openpali"]["reads_pages"] is False

    def lacks(*_: object) -> str:
        raise ValueError("no such part")

    monkeypatch.setattr(pali, "parts_for", lacks)
    assert service_of(pali).model(None).tasks == []


SHARP = {"type": "image_url", "image_url": {"url": "x", "detail": "sharp"}}
LARGE = [data_url(np.zeros((300, 300, 3), np.uint8))] * 3
BAD: list[tuple[str, Any, int, str]] = [
    ("/v1/chat/completions", chat("a", colour=1), 400, "colour: Extra inputs are not permitted"),
    ("/v1/chat/completions", chat("", task="caption"), 400, "about an image"),
    ("/v1/chat/completions", chat("a", temperature="hot"), 400, "temperature"),
    ("/v1/chat/completions", chat("a", temperature=-1), 400, "temperature"),
    ("/v1/chat/completions", chat("a", n=2), 400, "n above 1 needs a temperature"),
    ("/v1/chat/completions", chat("a", n=9, temperature=1), 400, "9 beams or samples, more than"),
    ("/v1/chat/completions", chat("a", max_tokens=301), 400, "max_tokens is 301, but this server generates 300"),
    ("/v1/chat/completions", chat("a", max_completion_tokens=301), 400, "max_completion_tokens is 301"),
    ("/v1/chat/completions", chat("a", top_logprobs=2), 400, "top_logprobs needs logprobs"),
    ("/v1/chat/completions", chat("a", logprobs=True, top_logprobs=21), 400, "top_logprobs"),
    ("/v1/completions", {"prompt": "a", "logprobs": 6}, 400, "logprobs"),
    ("/v1/chat/completions", chat(" "), 400, "no text"),
    ("/v1/chat/completions", chat("word " * 600), 400, "shorten it"),
    ("/v1/chat/completions", chat("how many" + " " * 20_000 + "a"), 413, "20,009 characters: send at most 20,000"),
    ("/v1/chat/completions", chat("a", task="sing"), 400, "unknown task 'sing'"),
    ("/v1/chat/completions", chat(ASK, lang="de"), 400, "leave out the language"),
    ("/v1/chat/completions", chat("a", lang="xx"), 400, "does not answer in 'xx'"),
    ("/v1/chat/completions", chat("a", raw=True, task="vqa"), 400, "which a task would write"),
    ("/v1/chat/completions", chat("a", "data:image/png;base64,!!"), 400, "is not in base64"),
    ("/v1/chat/completions", chat("a", "data:image/png,abc"), 400, "is no data URL"),
    ("/v1/chat/completions", chat("a", "data:;base64,YWJj"), 400, "is not an image"),
    ("/v1/chat/completions", chat("a", "file:///etc/passwd"), 400, "does not fetch images from there"),
    ("/v1/chat/completions", chat("a", "http://127.0.0.1/"), 400, "does not fetch images from there"),
    ("/v1/chat/completions", chat("a", *["data:;base64,"] * 4), 400, "4 images: send at most 3"),
    ("/v1/chat/completions", {"messages": []}, 400, "messages"),
    ("/v1/chat/completions", [], 400, "the body"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "images": ["x"]}]},
        400,
        "messages.0.user.images: Extra inputs",
    ),
    ("/v1/chat/completions", {"messages": [{"role": "tool", "content": "a"}]}, 400, "of the tool, not of the user"),
    ("/v1/chat/completions", {"messages": [{"role": "judge", "content": "a"}]}, 400, "messages.0"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [SHARP]}]},
        400,
        "image_url.detail: Input should be",
    ),
    ("/v1/chat/completions", chat("a", store=True), 400, "store: Input should be False"),
    ("/v1/chat/completions", chat("a", tools=[{"type": "function"}]), 400, "tools: List should have at most 0"),
    ("/v1/similarity", {"images": LARGE, "texts": ["a"]}, 413, "up to images[2] have more than 250,000 pixels"),
    ("/v1/embeddings", {"images": LARGE}, 413, "send smaller ones"),
    ("/v1/chat/completions", chat("a", *LARGE), 413, "send smaller ones"),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": "a"}]}, 400, "not of the user"),
    ("/v1/completions", {"prompt": "a", "echo": True}, 400, "echo: Extra inputs"),
    ("/v1/detect", {"image": "data:;base64,YWJj"}, 400, "name: Field required"),
    ("/v1/embeddings", {}, 400, "give 1 to 8 texts and images, not 0"),
    ("/v1/embeddings", {"input": ["a"] * 9}, 400, "not 9"),
    ("/v1/embeddings", {"input": ["a", "cat " * 99]}, 400, "tokens that this model reads: shorten it"),
    ("/v1/similarity", {"images": LARGE[:1], "texts": ["cat " * 99]}, 400, "the text 'cat cat cat"),
    ("/v1/nothing", {}, 404, "POST /v1/nothing: Not Found"),
    ("/health/live", {}, 405, "Method Not Allowed"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), BAD)
def test_errors_say_what_is_wrong(client: Any, path: str, body: Any, status: int, message: str) -> None:
    answer = client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (
        status,
        "not_found_error" if status == 404 else "invalid_request_error",
    )
    assert message in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in answer.text
    assert "/tmp" not in answer.text


def test_bodies_that_are_no_json(client: Any) -> None:
    for content, kind, status in (
        (b"{", "application/json", 400),
        (b"[" * 15_000, "application/json", 400),
        (b"a=1", "text/plain", 415),
        (b"--", "multipart/form-data", 400),
        (b'{"image": "\\ud800"}', "application/json", 400),
    ):
        answer = client.post("/v1/detect", content=content, headers={"Content-Type": kind})
        assert (answer.status_code, set(answer.json())) == (status, {"error"})
    twice = client.post("/v1/detect", files=[(name, (None, "cat")) for name in ("name", "image", "name")])
    assert (twice.status_code, twice.json()["error"]["param"]) == (400, "name")


MESSAGES = '"messages": [{"role": "user", "content": "x"}]'
KEYS = [f'"k{number}": 1' for number in range(9_000)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (f"{{{MESSAGES}, {', '.join(KEYS)}}}", 400),
        (f"{{{MESSAGES}, {', '.join(KEYS[:90])}}}", 400),
        ('{"messages": [' + "1, " * 19_000 + "1]}", 400),
        (f"[{'[], ' * 300_000}1]", 413),
        ("{" + MESSAGES + ', "' + "k" * 1_000_000 + '": 1}', 400),
        ('{"messages": [{"role": "' + "r" * 1_000_000 + '"}]}', 400),
        ("{" + MESSAGES + ', "task": "' + "t" * 1_000_000 + '"}', 400),
    ],
    ids=["many keys", "keys", "wrong elements", "many arrays", "a long key", "a long role", "a long task"],
)
def test_a_hostile_body_holds_up_no_other_request(pali: Pali, body: str, status: int) -> None:
    stalls, ended = [0.0], threading.Event()
    with serving(service_of(pali, Limits())) as url, httpx.Client(base_url=url, timeout=60) as client:

        def watch() -> None:
            with httpx.Client(base_url=url, timeout=60) as probe:
                while not ended.is_set():
                    began = time.perf_counter()
                    probe.get("/health/live")
                    stalls.append(time.perf_counter() - began)

        watching = threading.Thread(target=watch)
        watching.start()
        began = time.perf_counter()
        answer = client.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
        seconds = time.perf_counter() - began
        ended.set()
        watching.join()
    assert answer.status_code == status
    assert len(answer.content) < 2000
    assert max(stalls) < 1  # .1 s on a machine that does nothing else
    assert seconds < 2


def test_bombs_and_long_bodies_are_refused(client: Any, images: Sequence[Image]) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6)))
    for data in (bomb, png(np.zeros((400, 400, 3), np.uint8))):
        answer = client.post("/v1/caption", files={"image": ("x.png", data)})
        assert answer.status_code == 413
        assert "pixels" in answer.json()["error"]["message"]
    strip = png(np.zeros((1, LONGEST + 1, 3), np.uint8))  # of few pixels and many pieces
    with pytest.raises(ApiError, match="a side of more than"):
        Media(Limits()).decode(strip, "image")
    assert client.post("/v1/caption", files={"image": ("x.png", png(images[0])[:-40])}).status_code == 400
    long = b" " * (LIMITS.body + 1)
    headers = {"Content-Type": "application/json"}
    assert client.post("/v1/caption", content=long, headers=headers).status_code == 413
    pieces = (long[i : i + 50_000] for i in range(0, len(long), 50_000))  # without its length
    answer = client.post("/v1/caption", content=pieces, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_mutated_images_are_answered_or_refused(pali: Pali, images: Sequence[Image]) -> None:
    rng, seen = np.random.default_rng(0), set()
    whole = [png(images[0]), jpeg(images[1])]
    with serving(service_of(pali, Limits(new_tokens=1))) as url, httpx.Client(base_url=url, timeout=60) as client:
        for i in range(60):
            data = bytearray(whole[i % 2])
            for at in rng.integers(len(data), size=1 + i % 5):
                data[at] = rng.integers(256)
            data = data[: rng.integers(len(data))] if i % 7 == 0 else data
            answer = client.post("/v1/caption", files={"image": ("x", bytes(data))})
            seen.add(answer.status_code)
            assert answer.status_code == 200 or answer.json()["error"]["param"] == "image"
        assert client.get("/health/ready").status_code == 200
    assert seen <= {200, 400, 413}
    assert len(seen) > 1


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def post(path: str, body: bytes, length: int | None = None) -> bytes:
    """A request as it is sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def until_closed(connection: socket.socket, dribble: bytes = b"") -> bytes:
    """What comes until the server closes the connection, while ``dribble`` is sent again and again."""
    found = b""
    connection.settimeout(0.1)
    while True:
        try:
            if dribble:
                connection.sendall(dribble)
            if not (data := connection.recv(1000)):
                return found
            found += data
        except TimeoutError:
            continue
        except OSError:  # the server does not read any more
            return found


def test_a_half_closed_connection_frees_its_slots_and_harms_no_other(
    url: str, client: Any, service: Service, encoded: Sequence[str]
) -> None:
    body = json.dumps(chat(ASK, encoded[0], max_tokens=300, temperature=2, seed=1)).encode()
    with connect(url) as connection:
        connection.sendall(post("/v1/chat/completions", body))
        connection.shutdown(socket.SHUT_WR)
        assert until_closed(connection) == b""
        while service.scheduler.used or service.scheduler.waiting:
            time.sleep(0.005)
    assert 'generations_total{how="Cancelled"}' in service.metrics.text().decode()
    assert client.get("/health/ready").status_code == 200


def test_every_example_of_the_document_runs(client: Any) -> None:
    document = client.get("/openapi.json").json()
    ran = 0
    for path, methods in document["paths"].items():
        if "post" in methods:
            [reference] = {each["schema"]["$ref"] for each in methods["post"]["requestBody"]["content"].values()}
            schema = document["components"]["schemas"][reference.rpartition("/")[2]]
            for example in schema["examples"]:
                assert client.post(path, json=example).status_code == 200, path
                ran += 1
    assert ran == 9


def test_the_documentation_needs_no_other_server(client: Any) -> None:
    page = client.get("/docs").text
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(links) >= 3
    assert all(link.startswith("/") for link in links)
    for link in links:
        assert client.get(link).status_code == 200, link
    assert "https://" not in page


def test_the_page_is_compared_with_its_copy_and_its_modules_run(direct: Any, pali: Pali) -> None:
    mimetypes.add_type("text/plain", ".js")  # as the registry of Windows may say
    client = direct(service_of(pali))
    for path, kind in (("/", "text/html"), ("/page/app.js", "text/javascript"), ("/page/page.css", "text/css")):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-type"].startswith(kind)


def test_health_and_metrics(client: Any, service: Service) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    text = client.get("/metrics").text
    for line in (
        'openpali_generations_total{how="answered"}',
        "openpali_waiting_requests 0.0",
        "openpali_slots 8.0",
    ):
        assert line in text
    hits = next(line for line in text.splitlines() if line.startswith("openpali_image_cache_hits_total"))
    assert float(hits.split()[1]) == service.scheduler.features.hits > 0
    assert 'openpali_http_requests_total{path="/health/live",status="200"}' in text


def slow_down(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each step take 50 ms more."""
    turn = service.scheduler.turn
    monkeypatch.setattr(service.scheduler, "turn", lambda: (time.sleep(0.05), turn())[1])


def test_what_is_not_finished_in_time_is_told_so(pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_of(pali)
    slow_down(service, monkeypatch)
    body, found = chat(ASK, max_tokens=300, temperature=2, seed=1), list[httpx.Response]()

    def ask(stream: bool) -> None:
        found.append(httpx.post(f"{url}/v1/chat/completions", json={**body, "stream": stream}, timeout=60))

    with ThreadPoolExecutor() as clients:
        with serving(service, drain=0.2) as url:
            for stream in (True, False):
                clients.submit(ask, stream)
            while service.scheduler.used < 2:
                time.sleep(0.005)
            began = time.monotonic()
        assert time.monotonic() - began < 2, "the time to drain, and a step"
    assert sorted(each.status_code for each in found) == [200, 503], "a stream has begun"
    assert all('"the server is stopping"' in each.text for each in found)


def test_work_aside_that_has_not_begun_is_told_so(direct: Any, pali: Pali, images: Sequence[Image]) -> None:
    service = service_of(pali)
    service.scheduler.give_up()
    for path, body in (("/v1/embeddings", {"input": "a"}), ("/v1/read", {"image": data_url(images[0])})):
        answer = direct(service).post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


def test_an_answer_that_cannot_be_read_harms_no_other(
    pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(pali)
    bad, good = (scheduler.submit([image], ASK, decoding=Decoding(3)) for image in images[:2])
    monkeypatch.setattr(bad, "try_next", Mock(side_effect=KeyError("roles")))
    while scheduler.turn():
        pass
    with pytest.raises(Failed):
        bad.predictions(0)
    assert good.predictions(0)


def test_what_takes_too_long_is_given_up(pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_of(pali, Limits(seconds=0.3))
    slow_down(service, monkeypatch)
    with serving(service) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=chat(ASK, max_tokens=300, temperature=2, seed=1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_an_engine_that_fails_ends_the_server(pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the device is lost")

    service = service_of(pali)
    monkeypatch.setattr(service.scheduler, "_admit", fail)
    sockets, url = listen("127.0.0.1", 0)
    thread = threading.Thread(target=Server(service, drain=5).run, args=[sockets])
    thread.start()
    answer = httpx.post(f"{url}/v1/chat/completions", json=chat(ASK), timeout=60)
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the engine has failed")
    thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def direct(pali: Pali) -> Any:
    """A client of an application whose scheduler rests."""

    def open_client(service: Service) -> Any:
        return httpx.Client(transport=_Transport(create_app(service)), base_url="http://localhost")

    return open_client


class _Transport(httpx.BaseTransport):
    def __init__(self, app: Any) -> None:
        self.app = app

    def handle_request(self, request: Any) -> Any:
        async def send() -> Any:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app), base_url="http://localhost"
            ) as client:
                return await client.request(
                    request.method, request.url, content=request.read(), headers=request.headers
                )

        found = asyncio.run(send())
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)


def test_a_full_queue_and_a_failed_engine(direct: Any, pali: Pali, images: Sequence[Image]) -> None:
    service = service_of(pali, queue=1)
    service.scheduler.submit([images[0]], ASK)
    client = direct(service)
    answer = client.post("/v1/chat/completions", json=chat(ASK))
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(answer.headers["retry-after"]) >= 1
    service.scheduler.failure = "RuntimeError: at /home/me"
    answer = client.post("/v1/chat/completions", json=chat(ASK))
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    ready = client.get("/health/ready")
    assert (ready.status_code, "/home" in ready.text) == (503, False)
    assert client.get("/health/live").status_code == 200


def test_few_calls_for_embeddings_wait(direct: Any, pali: Pali) -> None:
    service = service_of(pali)
    service._waiting = WAITING
    answer = direct(service).post("/v1/embeddings", json={"input": "a"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    service._waiting = WAITING - 1
    assert direct(service).post("/v1/embeddings", json={"input": "a"}).status_code == 200
    assert service._waiting == WAITING - 1


def test_what_nobody_waits_for_is_not_computed(pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has gone away, and one whose time is up, while another call is under way."""
    service, under_way = service_of(pali, Limits(seconds=1)), threading.Event()
    embed = Mock(wraps=pali.embed_text)
    monkeypatch.setattr(pali, "embed_text", embed)
    with serving(service) as url:
        other = service.scheduler.run_aside(under_way.wait)
        with connect(url) as gone:
            gone.sendall(post("/v1/embeddings", b'{"input": "a"}'))
            while not service._waiting:
                time.sleep(0.001)
        late = httpx.post(f"{url}/v1/embeddings", json={"input": "b"}, timeout=60)
        while service._waiting:  # its answer may be there before it has left the queue
            time.sleep(0.001)
        under_way.set()
        other.result()
        assert httpx.post(f"{url}/v1/embeddings", json={"input": "c"}, timeout=60).status_code == 200
        assert service._waiting == 0
        assert 'path="/v1/embeddings",status="499"} 1.0' in service.metrics.text().decode()
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    embed.assert_called_once_with(["c"])


def test_calls_that_the_end_cuts_off_are_told_so(pali: Pali) -> None:
    """uvicorn cancels what goes on beyond the time to drain."""
    service, under_way = service_of(pali), threading.Event()
    with ThreadPoolExecutor() as clients, serving(service, drain=0.1) as url:
        service.scheduler.run_aside(lambda: under_way.wait(10))
        answer = clients.submit(httpx.post, f"{url}/v1/embeddings", json={"input": "a"}, timeout=60)
        while not service._waiting:
            time.sleep(0.001)
        threading.Timer(1, under_way.set).start()
    assert (answer.result().status_code, answer.result().json()["error"]["code"]) == (503, "unavailable")


def test_slow_hosts_hold_few_threads(
    pali: Pali, images: Sequence[Image], encoded: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, fetched, go = service_of(pali), list[str](), threading.Event()
    file = png(images[0])
    monkeypatch.setattr(service.media, "fetch", lambda url, param: (fetched.append(url), go.wait(), file)[2])

    def ask(url: str) -> httpx.Response:
        return httpx.post(f"{address}/v1/caption", json={"image": url}, timeout=60)

    with serving(service) as address, ThreadPoolExecutor(FETCHES + 1) as clients:
        slow = [clients.submit(ask, "http://slow.example") for _ in range(FETCHES + 1)]
        try:
            while len(fetched) < FETCHES:
                time.sleep(0.001)
            assert ask(encoded[0]).status_code == 200
            assert len(fetched) == FETCHES
        finally:
            go.set()  # or threads would outlive a failure
        assert [each.result().status_code for each in slow] == [200] * len(slow)


def test_few_images_are_decoded_at_a_time(
    pali: Pali, encoded: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, decoding, most = service_of(pali), list[int](), list[int]()
    decode = service.media.decode

    def slow(data: bytes, param: str) -> Image:
        decoding.append(1)
        most.append(len(decoding))
        time.sleep(0.01)
        decoding.pop()
        return decode(data, param)

    monkeypatch.setattr(service.media, "decode", slow)

    async def ask() -> None:
        asked = ApiQuestion(service.model(None), ASK, [(encoded[0], "image")])
        await asyncio.gather(*(service.submit(asked) for _ in range(3 * DECODES)))

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert len(most) == 3 * DECODES
    assert 1 < max(most) <= DECODES


def test_a_mistake_of_the_server_is_counted(direct: Any, pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_of(pali)
    monkeypatch.setattr(Service, "model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # which httpx hands on; a server answers 500
        direct(service).post("/v1/chat/completions", json=chat(ASK))
    assert 'path="/v1/chat/completions",status="500"} 1.0' in service.metrics.text().decode()


def test_a_key_opens_all_but_health(direct: Any, pali: Pali, tmp_path: Path) -> None:
    client = direct(service_of(pali, key="secret\n"))
    assert client.get("/health/ready").status_code == 200
    for header in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic secret"},
        {"Authorization": "secret"},
    ):
        for path in ("/v1/models", "/metrics", "/docs/x", "/pages"):
            answer = client.get(path, headers=header)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert client.get("/docs").status_code == 200
    assert client.get("/openapi.json").json()["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    with pytest.raises(ValueError):
        service_of(pali, key=" ")
    with pytest.raises(ValueError):
        Options(api_key="a", api_key_file=Path("b")).key()
    (tmp_path / "p0.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"--api-key-file .*p0\.png holds no text in UTF-8"):
        Options(api_key_file=tmp_path / "p0.png").key()
    for host in ("https://example.org", "example.org:8080", ""):
        for option in ("allow_media", "allow_host"):
            with pytest.raises(ValueError, match=option):
                Options(**{option: [host]})
    for origin in ("https://example.org/", "example.org", "https://Example.org", "https://me@example.org", ""):
        with pytest.raises(ValueError, match="allow_origin"):
            Options(allow_origin=[origin])
    assert Options(allow_origin=["*", "null", "http://[::1]:80"], allow_host=["A.b"]).allow_host == ["a.b"]
    assert Options(adapters={"a": "b"}, engine="auto").shared_engine == "torch"
    assert Options(engine="auto").shared_engine == "auto"
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfsecret\r\n")  # as Notepad writes it
    assert Options(api_key_file=tmp_path / "key").secret() == "secret\n"
    client = direct(service_of(pali, key="clé à part, ключ à"))
    for secret, status in (("clé à part, ключ à", 200), ("clé à part", 401)):
        header = {"Authorization": f"Bearer {secret}".encode()}
        assert client.get("/v1/models", headers=header).status_code == status


def test_a_name_that_leads_here_reads_no_answers(direct: Any, pali: Pali) -> None:
    client = direct(service_of(pali, hosts=["pali.example"]))
    hosts = ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3", "Pali.example:80")
    for path in ("/v1/models", "/", "/health/live", "/metrics"):
        for host in hosts:
            assert client.get(path, headers={"Host": host}).status_code == 200
        for host in (
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::",
        ):
            answer = client.get(path, headers={"Host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host_not_allowed")
    assert direct(service_of(pali, key="secret")).get("/", headers={"Host": "pali.example"}).status_code == 200


def test_a_page_of_an_allowed_origin_reads_the_answers_of_a_server_with_a_key(direct: Any, pali: Pali) -> None:
    client = direct(service_of(pali, key="secret", origins=["https://page.example"]))
    origin = {"Origin": "https://page.example"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    preflight = client.options("/v1/chat/completions", headers={**origin, **asks})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    for headers, status in ((origin, 401), ({**origin, "Authorization": "Bearer secret"}, 200)):
        answer = client.get("/v1/models", headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, origin["Origin"])
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
    other = client.options("/v1/chat/completions", headers={"Origin": "https://other.example", **asks})
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers


def test_the_last_turn_of_a_chat(pali: Pali, images: Sequence[Image], encoded: Sequence[str]) -> None:
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "be kind"},
        *chat("what?", encoded[0])["messages"],
        *chat("and this?", encoded[1])["messages"],
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "content": "a horse"},
        {"role": "user", "content": ASK},
    ]
    body = {"messages": turns, "max_tokens": 9}
    with serving(service_of(pali)) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert answer.headers["x-openpali-history"] == "last-turn; 5 earlier messages ignored"
    [expected] = pali.predict([[images[1]]], [ASK], decoding=Decoding(max_tokens=9))
    assert answer.json()["choices"][0]["message"]["content"] == expected.answer.text
    with serving(service_of(pali, history="refuse")) as url:
        refused = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "history_not_supported")
