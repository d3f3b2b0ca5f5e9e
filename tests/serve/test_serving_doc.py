"""Every command of docs/serving.md runs, against a server that is a process of its own and ends as it should.

Those that need a Ray cluster are run by the tests in ``cluster/``.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from PIL import Image as PILImage
from requests_to import chat, make_adapter

from openpali.cli.main import main
from openpali.serve.server import Server, listen
from openpali.tasks.example import Image

TEXT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
CLUSTER = re.search(r"^## On a cluster$.*?^(?=## )", TEXT, re.S | re.M)
assert CLUSTER is not None
HERE = TEXT.replace(CLUSTER.group(), "")
BASH = [line for block in re.findall(r"```bash\n(.*?)```", HERE, re.S) for line in block.splitlines()]
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bundle: Path, images: Sequence[Image]) -> Path:
    """A working folder with the model, the adapter and the image that the page names."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "nano").symlink_to(bundle)
    make_adapter(bundle / "pali", folder / "mine-lora" / "best", 1)
    for name in ("photo.png", "screen.png"):
        PILImage.fromarray(images[0]).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def process(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    [command] = [line for line in BASH if line == "openpali serve"]
    arguments = [
        *shlex.split(command)[1:],
        "--model",
        str(folder / "nano"),
        "--port",
        str(port),
        "--engine",
        "torch",
    ]
    process = subprocess.Popen([sys.executable, "-m", "openpali", *arguments], stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready").status_code == 200:
                break
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    yield url, process
    process.kill()


def test_commands_run(process: tuple[str, subprocess.Popen[str]], folder: Path) -> None:
    others = [line for line in BASH if "openpali serve" not in line and not line.startswith("pip ")]
    assert len([line for line in others if line.startswith("curl ")]) >= 8
    for line in others:
        done = subprocess.run(
            ["bash", "-euc", line.replace(ADDRESS, process[0])], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, (line, done.stderr)
        if line.startswith("curl ") and "/metrics" not in line:
            assert "error" not in json.loads(done.stdout), (line, done.stdout)


@pytest.mark.parametrize("block", PYTHON, ids=["client", "scheduler", "load"])
def test_python_runs(
    block: str,
    process: tuple[str, subprocess.Popen[str]],
    folder: Path,
    shipped: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(block.replace(ADDRESS, process[0]), "serving.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("line", [line for line in BASH if "openpali serve --" in line])
def test_other_ways_to_start(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where the server would listen."""
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr("openpali.serve.server.listen", lambda *given: (started.append(given), ([], "http://x"))[1])
    monkeypatch.setattr("openpali.serve.server.Server.run", lambda *_: None)
    monkeypatch.chdir(folder)
    before, _, command = line.rpartition("openpali serve")
    for setting in before.split():
        monkeypatch.setenv(*setting.split("=", 1))
    monkeypatch.setattr(
        sys,
        "argv",
        ["openpali", "serve", *shlex.split(command), "--model", str(folder / "nano"), "--engine", "torch"],
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert started == [("0.0.0.0" if "0.0.0.0" in line else "127.0.0.1", 8000)]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://x:8000", "http://x:8000"),
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("http://[::]:8000", "http://[::1]:8000"),
    ],
)
def test_the_page_is_opened_on_request(
    openpali, folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    opened: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("webbrowser.open", opened.put)
    monkeypatch.setattr("openpali.serve.server.listen", lambda *_: ([], url))
    monkeypatch.setattr(Server, "run", lambda *_: None)
    openpali("serve", "--model", folder / "nano", "--open")
    assert opened.get(timeout=60) == shown


def test_a_failed_engine_is_an_exit_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(server: Server, _: object) -> None:
        server._service.scheduler.failure = "RuntimeError: the device is lost"

    monkeypatch.setattr(Server, "run", run)
    monkeypatch.setattr(sys, "argv", ["openpali", "serve", "--port", "0", "--model", str(folder / "nano")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    [found], url = listen("127.0.0.1", 0)
    with found:
        port = found.getsockname()[1]
        assert url == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}: .*: choose another --host or --port"):
            listen("127.0.0.1", port)


def test_options_of_the_page_exist() -> None:
    import inspect

    from openpali.cli.predict import predict
    from openpali.cli.serve import serve

    named = {name.removeprefix("--").replace("-", "_") for name in re.findall(r"--[a-z][a-z-]+", TEXT)}
    others = {"model_args", "tasks", "rm", "open"}  # of lmms-eval and podman; serve's `opens`
    known = {*inspect.signature(serve).parameters, *inspect.signature(predict).parameters, "input"}
    assert named - others <= known


def test_at_the_end_it_finishes_what_it_accepted(process: tuple[str, subprocess.Popen[str]]) -> None:
    """The last test of the file: it ends the server."""
    url, server = process
    found: list[httpx.Response] = []

    def ask() -> None:
        body = chat("what?", max_tokens=400, temperature=2, seed=1)
        found.append(httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120))

    client = threading.Thread(target=ask)
    client.start()
    while "openpali_used_slots 1.0" not in httpx.get(f"{url}/metrics").text and client.is_alive():
        time.sleep(0.005)
    server.send_signal(signal.SIGTERM)
    client.join()
    assert found[0].status_code == 200
    assert found[0].json()["usage"]["completion_tokens"] > 0
    assert server.wait(60) == 0
    assert server.stderr is not None
    assert "Traceback" not in server.stderr.read()
