"""Many clients at once, good and bad: every request is accounted for, and memory stays flat.

A short form in CI; ``make soak-serve`` sends 20,000 requests from 32 clients to ``openpali serve`` with nano.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from requests_to import chat, data_url, service_of, serving, serving_nano

from openpali.infer.pali import Pali
from openpali.serve.limits import Limits

REQUESTS = int(os.environ.get("OPENPALI_SERVE_REQUESTS", "0"))  # 0: the short form
CLIENTS = 32 if REQUESTS else 8
FLAT = 1.05  # memory at the end, over that after a quarter of the requests
GONE = "gone"
ASK = "Answer in en: what? <extra_id_0>"


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def request(number: int) -> tuple[str, dict[str, Any], str]:
    """The path, the body and the kind of a request; one in four is bad, or its client goes away."""
    rng = np.random.default_rng(number)
    image = data_url(np.random.default_rng(rng.integers(20)).integers(0, 256, (48, 64, 3), np.uint8))
    options: dict[str, Any] = {"max_tokens": int(rng.integers(1, 24)), "temperature": float(rng.integers(2)) / 2}
    good = chat(ASK, image, **options)
    kind = rng.choice(
        ["chat", "stream", "detect", "caption", "models", "bad", "leaves", "breaks"],
        p=[0.3, 0.2, 0.1, 0.1, 0.05, 0.1, 0.05, 0.1],
    )
    match kind:
        case "stream":
            return "/v1/chat/completions", {**good, "stream": True}, kind
        case "detect":
            return "/v1/detect", {"image": image, "name": "cat"}, kind
        case "caption":
            return "/v1/caption", {"image": image}, kind
        case "models":
            return "/v1/models", {}, kind
        case "bad":
            worse: list[dict[str, Any]] = [
                {**good, "tools": [{}]},
                chat(ASK, image[:-40], **options),
                chat("word " * 900, image),
                {"messages": [], **options},
                {**good, "temperature": -1.0},
            ]
            return "/v1/chat/completions", worse[int(rng.integers(len(worse)))], kind
        case "leaves" | "breaks":
            return "/v1/chat/completions", {**good, "max_tokens": 60, "stream": kind == "breaks"}, kind
    return "/v1/chat/completions", good, kind


def send(url: str, numbers: Sequence[int]) -> Counter[str]:
    """Send requests, one after another; counts the answers by path and status."""
    found: Counter[str] = Counter()
    host, port = url.removeprefix("http://").split(":")
    with httpx.Client(base_url=url, timeout=300) as client:
        for number in numbers:
            path, body, kind = request(number)
            if kind == "models":
                status = str(client.get(path).status_code)
            elif kind in ("leaves", "breaks"):
                data = json.dumps(body).encode()
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                with socket.create_connection((host, int(port)), timeout=300) as connection:
                    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
                    if kind == "breaks":
                        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
                status = GONE
            elif kind == "stream":
                with client.stream("POST", path, json=body) as answer:
                    *_, last = (line for line in answer.iter_lines() if line)
                    assert last == "data: [DONE]"
                    status = str(answer.status_code)
            else:
                answer = client.post(path, json=body)
                status = str(answer.status_code)
                assert (status == "400") == (kind == "bad"), answer.text
            found[f"{path} {status}"] += 1
    return found


def counted(url: str) -> tuple[Counter[str], Counter[str]]:
    """The server's own counts, of requests by path and status and of texts by how they ended, once it rests."""
    while True:
        text = httpx.get(f"{url}/metrics", timeout=60).text
        if "openpali_used_slots 0.0" in text and "openpali_waiting_requests 0.0" in text:
            break
        time.sleep(0.05)
    pattern = r'openpali_http_requests_total\{path="(/v1[^"]*)",status="(\d+)"\} (\d+)'
    requests = Counter({f"{path} {status}": int(n) for path, status, n in re.findall(pattern, text)})
    ended = Counter({how: int(n) for how, n in re.findall(r'generations_total\{how="(\w+)"\} (\d+)', text)})
    return requests, ended


def soak(url: str, count: int, pid: int | None = None) -> None:
    sizes, told = list[int](), Counter[str]()
    rounds = 8 if pid else 1
    with ThreadPoolExecutor(CLIENTS) as pool:
        for start in range(rounds):
            numbers = range(start, count, rounds)
            for found in pool.map(lambda i, some: send(url, some[i::CLIENTS]), range(CLIENTS), [numbers] * CLIENTS):
                told += found
            sizes += [resident(pid)] if pid else []
    gone = sum(n for name, n in told.items() if name.endswith(GONE))
    until = time.monotonic() + 60
    requests, ended = counted(url)
    while requests.total() < count and time.monotonic() < until:  # some have gone without a word
        time.sleep(0.1)
        requests, ended = counted(url)
    assert requests.total() == told.total() == count, (requests, told)
    for name, n in told.items():
        if not name.endswith((GONE, " 200")):
            assert requests[name] == n, (name, requests, told)
    chats = [f"/v1/chat/completions {status}" for status in ("200", "499")]
    assert sum(requests[name] for name in chats) == told[chats[0]] + gone
    assert not [name for name in requests if name.split()[1][0] == "5"]
    texts = sum(n for name, n in told.items() if name.endswith(" 200") and "models" not in name)
    assert set(ended) <= {"answered", "Cancelled"}
    assert texts <= ended["answered"] <= ended.total() <= texts + gone
    assert requests[chats[1]] > 0, "some are given up before they are queued, others while they are answered"
    assert httpx.get(f"{url}/health/ready").status_code == 200
    if pid:
        print(f"{count} requests: {dict(told)}; texts {dict(ended)}; MiB {[size >> 20 for size in sizes]}")
        assert sizes[-1] <= FLAT * sizes[1]


def test_every_request_is_accounted_for(pali: Pali) -> None:
    if REQUESTS:
        with serving_nano() as (url, pid):
            soak(url, REQUESTS, pid)
    else:
        with serving(service_of(pali, Limits())) as url:
            soak(url, 100)
