"""The API on a Ray cluster: it grows under load, and a replica that dies loses no request."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ray_processes import documented, processes, wait_for
from requests_to import chat

from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.tasks.example import Image

DEPLOY = Path(__file__).parents[2] / "deploy" / "ray.yaml"
KEY = {"Authorization": "Bearer secret"}
ORIGIN = "https://page.example"
REPLICA = "ServeReplica:openpali:Model"
REQUESTS, CLIENTS, LENGTH = 72, 12, 40


@pytest.fixture(scope="module")
def url(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of ``deploy/ray.yaml`` with the tiny model, on another port, and quicker to grow."""
    folder = tmp_path_factory.mktemp("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = yaml.safe_load(DEPLOY.read_text("utf-8"))
    config["http_options"]["port"] = port
    [application] = config["applications"]
    (folder / "key").write_text("secret\n")
    application["args"] |= {"model": str(bundle), "api_key_file": str(folder / "key"), "allow_origin": [ORIGIN]}
    model = application["deployments"][0]
    model["autoscaling_config"] |= {"max_replicas": 2, "target_ongoing_requests": 2}
    model["autoscaling_config"] |= {"upscale_delay_s": 1, "downscale_delay_s": 600}
    (folder / "ray.yaml").write_text(yaml.safe_dump(config))
    program, run, file = documented("RAY_USAGE_STATS_ENABLED=0 serve run")
    assert file == "deploy/ray.yaml"
    process = subprocess.Popen([Path(sys.executable).with_name(program), run, folder / "ray.yaml"])
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/health/ready", timeout=60).status_code == 200
        return False

    wait_for(ready, "server")
    yield url
    process.send_signal(signal.SIGINT)
    process.wait(60)


def ask(number: int) -> str:
    return f"Answer in en: what is {number}? <extra_id_0>"


def body_of(number: int, encoded: Sequence[str], stream: bool = False) -> dict[str, Any]:
    return chat(ask(number), encoded[number % 5], max_tokens=LENGTH, stream=stream)


def events_of(text: str) -> list[Any]:
    """The events of a stream, without its end."""
    *events, last = (line[6:] for line in text.splitlines() if line)
    assert last == "[DONE]"
    return [json.loads(each) for each in events]


def post(url: str, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{url}{path}", json=body, headers=KEY, timeout=300)


def test_answers_are_those_of_the_model(
    url: str, pali: Pali, images: Sequence[Image], encoded: Sequence[str]
) -> None:
    [expected] = pali.predict([[images[1]]], [ask(1)], decoding=Decoding(max_tokens=LENGTH))
    whole = post(url, "/v1/chat/completions", body_of(1, encoded)).json()
    assert whole["choices"][0]["message"]["content"] == expected.answer.text
    streamed = events_of(post(url, "/v1/chat/completions", body_of(1, encoded, stream=True)).text)
    assert "".join(each["choices"][0]["delta"]["content"] for each in streamed) == expected.answer.text
    assert len(streamed) > 4
    task = pali.task("detect")
    [boxes] = pali.predict([[images[2]]], ["detect: cat"], task=task)
    found = post(url, "/v1/detect", {"image": encoded[2], "name": "cat"}).json()
    assert [each["box"] for each in found["objects"]] == [list(each.box) for each in boxes.answer.objects]
    assert httpx.get(f"{url}/").status_code == httpx.get(f"{url}/docs").status_code == 200


def test_the_door_refuses_as_the_server_does(url: str, encoded: Sequence[str]) -> None:
    assert httpx.post(f"{url}/v1/detect", json={}).status_code == 401
    bad = post(url, "/v1/detect", {"image": encoded[0]})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "name")
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    asks["Access-Control-Request-Headers"] = "authorization"
    assert httpx.options(f"{url}/v1/detect", headers=asks).headers["access-control-allow-origin"] == ORIGIN
    answer = httpx.get(f"{url}/v1/models", headers={**KEY, "Origin": ORIGIN})
    assert answer.headers.get_list("access-control-allow-origin") == [ORIGIN]


def metric(url: str, name: str, label: str = "") -> dict[str, float]:
    """The values of a metric, by replica."""
    text = httpx.get(f"{url}/metrics", headers=KEY, timeout=60).text
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{") and label in line]
    return {line.partition('replica="')[2].partition('"')[0]: float(line.split()[-1]) for line in lines}


def test_a_client_that_goes_away_frees_its_slots(url: str, encoded: Sequence[str]) -> None:
    body = chat(ask(0), encoded[0], max_tokens=1000, temperature=2, seed=1, stream=True)
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=KEY, timeout=60) as answer:
        lines = answer.iter_lines()
        for _ in range(5):
            next(lines)
    wait_for(lambda: metric(url, "openpali_generations_total", "Cancelled"), "end of the request", 20)
    assert set(metric(url, "openpali_used_slots").values()) == {0.0}


def test_a_replica_that_dies_under_load_loses_no_request(
    url: str, pali: Pali, images: Sequence[Image], encoded: Sequence[str]
) -> None:
    """First there is one replica, then the load makes it two; one of them is killed."""
    expected = [
        pali.predict([[images[i % 5]]], [ask(i)], decoding=Decoding(max_tokens=LENGTH))[0].answer.text
        for i in range(REQUESTS)
    ]
    resting = threading.Event()

    def load(number: int) -> None:
        while not resting.is_set():
            post(url, "/v1/chat/completions", body_of(number, encoded)).raise_for_status()

    with ThreadPoolExecutor(CLIENTS) as clients:
        for number in range(CLIENTS):
            clients.submit(load, number)
        wait_for(lambda: len(metric(url, "openpali_slots")) == 2, "second replica")
        resting.set()
    before, killed = processes(REPLICA), threading.Event()
    assert len(before) == 2
    done = Counter[str]()

    def send(number: int) -> tuple[str, str]:
        """What came of a request: the text, or the code of an error."""
        stream = number % 2 == 1
        answer = post(url, "/v1/chat/completions", body_of(number, encoded, stream))
        done["all"] += 1
        if done["all"] >= REQUESTS // 3 and not killed.is_set():
            killed.set()
            os.kill(before[0], signal.SIGKILL)
        if stream and answer.status_code == 200:
            events = events_of(answer.text)
            if "error" in events[-1]:
                return "error", events[-1]["error"]["code"]
            return "text", "".join(each["choices"][0]["delta"]["content"] for each in events)
        found = answer.json()
        if answer.status_code != 200:
            return "error", found["error"]["code"]
        return "text", found["choices"][0]["message"]["content"]

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(send, range(REQUESTS)))
    told = [code for kind, code in answers if kind == "error"]
    print(f"{REQUESTS - len(told)} of {REQUESTS} answers whole, {len(told)} ended in an error that says so")
    assert set(told) <= {"replica_lost"}
    assert len(told) < CLIENTS
    for (kind, text), right in zip(answers, expected, strict=True):
        assert kind == "error" or text == right
    wait_for(lambda: len(set(processes(REPLICA)) - {before[0]}) == 2, "replica in place of the one that died")
