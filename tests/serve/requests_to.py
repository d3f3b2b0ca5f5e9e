"""A server in a thread, adapters for it, and what tests send to it."""

from __future__ import annotations

import base64
import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from PIL import Image as PILImage

from openpali.infer.pali import Pali
from openpali.model.lora import LoraConfig, add_lora, find_targets, lora_names
from openpali.serve.limits import ApiKey, Limits
from openpali.serve.media import Media
from openpali.serve.metrics import Metrics
from openpali.serve.scheduler import Scheduler
from openpali.serve.server import Server, listen
from openpali.serve.service import Service
from openpali.tasks.example import Image
from openpali.weights.adapters import Adapter, write_adapter
from openpali.weights.format import open_model

LIMITS = Limits(body=400_000, pixels=100_000, all_pixels=250_000, images=3, new_tokens=300, texts=8)


def data_url(image: Image) -> str:
    file = io.BytesIO()
    PILImage.fromarray(image).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def service_of(pali: Pali, limits: Limits = LIMITS, key: str | None = None, **options: Any) -> Service:
    metrics = Metrics()
    own = {name: options.pop(name) for name in ("history", "origins", "hosts", "adapters") if name in options}
    scheduler = Scheduler(pali, finished=metrics.finished, **options)
    metrics.watch(scheduler)
    return Service(scheduler, "tiny", limits, Media(limits), metrics, ApiKey(key), **own)


@contextmanager
def serving(service: Service, drain: float = 5) -> Iterator[str]:
    """The address of a server that runs within the block."""
    server = Server(service, drain)
    sockets, url = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=[sockets])
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving_nano(*options: str) -> Iterator[tuple[str, int]]:
    """The address of a server of the shipped model in a process of its own, and its id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "openpali", "serve", "--port", str(port), *options])
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{url}/health/ready").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None
                time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        assert process.wait(60) == 0


def make_adapter(base: Path, folder: Path, seed: int, targets: Sequence[str] = ("text",)) -> Path:
    """An adapter that changes answers."""
    with torch.device("meta"):
        model = open_model(base).model()
    config = LoraConfig(2, 4.0, find_targets(model, targets))
    add_lora(model, config)
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: model.get_parameter(name).shape for name in sorted(lora_names(model))}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    folder.mkdir(parents=True)
    write_adapter(folder, Adapter(str(base), config, tensors))
    return folder


def chat(text: str, *urls: str, **options: Any) -> dict[str, Any]:
    """The body of a chat of one message."""
    parts: list[Any] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"messages": [{"role": "user", "content": parts}], **options}
