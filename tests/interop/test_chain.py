"""A public checkpoint, from the hub to a server that finds things: each step a command, on tiny random models."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from openpali.architectures.pali import assemble
from openpali.architectures.t5gemma2.architecture import IMAGE_PIECES
from openpali.home import home
from openpali.serve.server import Server
from openpali.weights.convert import write_stored
from openpali.weights.format import open_model

from . import checkpoints
from .hub_endpoint import hub_of

RUN = Server.run
BOX = [0, 0, 4, 4]  # of images of 8 x 8
RECIPE = """
name = "mine"
objective = "sequence"
batch = 2
workers = 0
precision = "fp32"
max_target = 40
keep_best = "mine/iou"

[model]
init = {{ "" = "hf://org/{name}" }}
lora = {{ rank = 8 }}

[optimizer]
name = "adamw"
lr = {lr}
schedule = "constant"

[[phases]]
samples = {samples}
size = {size}

[[phases.mixture]]
source = "mine.jsonl"
task = "detect"

[[evals]]
name = "mine"
source = "mine.jsonl"
task = "detect"
every = {samples}
"""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints as transformers writes them, with Gemma's vocabularies, and a PaLI from a SigLIP 2 and a T5."""
    root = tmp_path_factory.mktemp("repos")
    checkpoints.paligemma(root / "org" / "paligemma2", vocab_size=1600)
    (root / "org" / "paligemma2" / "tokenizer.model").write_bytes(checkpoints.gemma_proto())
    checkpoints.t5gemma2(root / "org" / "t5gemma2", vocab_size=400, image_token=340)
    proto = checkpoints.gemma_proto(*IMAGE_PIECES, "\n\n")
    (root / "org" / "t5gemma2" / "tokenizer.model").write_bytes(proto)
    checkpoints.siglip2_files(root / "siglip2")
    checkpoints.t5(root / "t5", vocab_size=700)
    (root / "t5" / "spiece.model").write_bytes(checkpoints.small_proto())
    write_stored(assemble(root / "siglip2", root / "t5"), root / "org" / "pali")
    return root


@pytest.fixture(autouse=True)
def workplace(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub, and two images with a square in the same place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("openpali.reports.curves.draw_curves", lambda *_: None)
    monkeypatch.setattr("openpali.reports.samples.draw_samples", lambda *_: None)
    with Path("mine.jsonl").open("w") as file:
        for shade in (90, 200):
            pixels = np.full((8, 8, 3), shade, np.uint8)
            pixels[0:4, 0:4] = 255
            Image.fromarray(pixels).save(f"{shade}.png")
            found = [{"name": "star", "box": BOX}]
            file.write(json.dumps({"images": [f"{shade}.png"], "objects": found}) + "\n")
    with hub_of(repositories, tmp_path):
        yield


def served(ask: Callable[[httpx.Client], None]) -> Callable[..., None]:
    """In the place of the method that serves: do so in a thread while a client asks."""

    def serve(server: Server, sockets: list[socket.socket]) -> None:
        thread = threading.Thread(target=RUN, args=[server, sockets])
        thread.start()
        host, port = sockets[0].getsockname()
        try:
            with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
                ask(client)
        finally:
            server.should_exit = True
            thread.join()

    return serve


@pytest.mark.parametrize(
    ("name", "size", "lr", "samples"),
    [
        pytest.param("paligemma2", 8, 1e-2, 80, marks=pytest.mark.slow),
        pytest.param("t5gemma2", 16, 2e-2, 80, marks=pytest.mark.slow),
        ("pali", 12, 2e-2, 80),
    ],
)
def test_from_the_hub_to_the_server(
    openpali, name: str, size: int, lr: float, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are random and frozen, and the adapter still learns the only answer there is."""

    def serve(ask: Callable[[httpx.Client], None], *arguments: object) -> None:
        monkeypatch.setattr(Server, "run", served(ask))
        openpali("serve", "--port", 0, *arguments)

    hub = f"hf://org/{name}"
    assert "no problems found" in openpali("data", "validate", "mine.jsonl", "--task", "detect", "--model", hub)
    Path("mine.toml").write_text(RECIPE.format(name=name, size=size, lr=lr, samples=samples))
    openpali("train", "mine.toml")
    logged = (home() / "runs" / "mine" / "metrics.jsonl").read_text().splitlines()
    before, *_, after = [line["scores"] for line in map(json.loads, logged) if "eval" in line]
    assert (before["f1@0.5"], after["f1@0.5"]) == (0, 1)
    openpali("export", "mine/best", "--format", "openpali", "--out", "merged")
    openpali("quantize", "merged", "--out", "small")
    assert open_model(Path("small")).int8
    asked = {"image": data_url("90.png"), "name": "star"}
    expected = json.loads(openpali("predict", "90.png", "--task", "detect", "star", "--model", "small", "--json"))

    def ask(client: httpx.Client) -> None:
        found = client.post("/v1/detect", json=asked).json()
        assert (found["model"], found["text"]) == ("small", expected["text"])
        assert found["objects"] == expected["objects"]
        [thing] = found["objects"]
        assert thing["name"] == "star"
        assert thing["box"] == pytest.approx(BOX, abs=0.01)

    serve(ask, "--model", "small")

    def choose(client: httpx.Client) -> None:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [f"org/{name}", "mine"]
        adapted = client.post("/v1/detect", json={**asked, "model": "mine"}).json()
        assert (adapted["text"], client.post("/v1/detect", json=asked).json()["objects"]) == (expected["text"], [])

    serve(choose, "--model", hub, "--adapter", "mine=mine/best")


def data_url(file: str) -> str:
    return f"data:image/png;base64,{base64.b64encode(Path(file).read_bytes()).decode()}"
