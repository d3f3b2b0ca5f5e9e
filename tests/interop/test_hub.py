"""``hf://`` against a small local endpoint with the hub's layout: cut connections, 401, 404, offline."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from openpali.cli.main import main
from openpali.infer.pali import Pali
from openpali.weights.family import open_tokenizer
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali.weights.hub import parse, pinned

from . import checkpoints

COMMIT = "a" * 40
WEIGHTS = "model.safetensors"


class Endpoint(BaseHTTPRequestHandler):
    """Serves ``repos/ORG/NAME``. ``org/gated`` answers 401, and what is not there 404."""

    root: Path
    seen: list[str]
    cut: dict[str, int]  # how often the body of a file ends halfway
    spoil = False

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        self.seen.append(f"POST {self.path}")
        self._send(401, b"{}", {"X-Error-Code": "Unauthorized"})

    def _answer(self, body: bool) -> None:
        self.seen.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if api else parts[:2])
        folder = self.root / repository
        if not folder.is_dir():
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        files = sorted(path for path in folder.iterdir())
        if api and parts[4] == "revision":
            if parts[5] not in ("main", "v1", COMMIT):
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return self._json({"id": repository, "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files]})
        if api:
            return self._json([self._entry(file) for file in files])
        if "gated" in repository:
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        file = folder / parts[-1]
        data, entry = file.read_bytes(), self._entry(file)
        if self.spoil and file.name == WEIGHTS:
            data = bytes(len(data))
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        half = None
        if body and self.cut.get(file.name, 0) > 0:
            self.cut[file.name] -= 1
            half = len(data) // 2
        self._send(206 if first else 200, data[first:], headers, body=body, stop=half)

    @staticmethod
    def _entry(file: Path) -> dict[str, Any]:
        data = file.read_bytes()
        entry: dict[str, Any] = {"type": "file", "path": file.name, "size": len(data)}
        entry["oid"] = hashlib.sha1(data).hexdigest()
        if file.suffix == ".safetensors":
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
        return entry

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], *, body: bool = True, stop: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data[:stop])


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repos")
    for name in ("org/pg", "org/gated"):
        checkpoints.paligemma(root / name, vocab_size=1600)
        (root / name / "tokenizer.model").write_bytes(checkpoints.gemma_proto())
        (root / name / "pytorch_model.bin").write_bytes(b"a pickle")
    return root


@pytest.fixture
def endpoint(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Endpoint]]:
    handler = type("Handler", (Endpoint,), {"root": repositories, "seen": [], "cut": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
    yield handler
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once_and_adopted(endpoint: type[Endpoint], tmp_path: Path, monkeypatch) -> None:
    """Through a connection that is cut twice; without the pickle; from the cache when offline."""
    endpoint.cut[WEIGHTS] = 2
    folder = find_model("hf://org/pg")
    assert (open_model(folder).kind, folder.name) == ("paligemma", COMMIT)
    assert [line for line in endpoint.seen if line.startswith("GET") and WEIGHTS in line][2:]  # three tries
    assert not any("pytorch_model.bin" in line for line in endpoint.seen)
    assert find_model("hf://org/pg@v1") == folder
    assert pinned("hf://org/pg") == f"hf://org/pg@{COMMIT}"
    assert Pali.from_pretrained("hf://org/pg").dialect == "paligemma"
    assert open_tokenizer("hf://org/pg").vocab_size == open_model(folder).tokenizer.vocab_size
    endpoint.seen.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model("hf://org/pg") == folder
    with pytest.raises(FileNotFoundError, match="unset HF_HUB_OFFLINE"):
        find_model("hf://org/other")
    assert endpoint.seen == []


def test_what_is_wrong_is_said_in_a_sentence(endpoint: type[Endpoint]) -> None:
    with pytest.raises(PermissionError, match=r"gated: accept its conditions at http.*org/gated, .* set HF_TOKEN"):
        find_model("hf://org/gated")
    with pytest.raises(FileNotFoundError, match=r"there is no http.*/org/none, or it is private"):
        find_model("hf://org/none")
    with pytest.raises(FileNotFoundError, match="has no revision 'v9'"):
        find_model("hf://org/pg@v9")
    with pytest.raises(ValueError, match="write hf://ORG/NAME"):
        parse("hf://pg")


def test_a_file_that_is_not_the_hubs_is_deleted(endpoint: type[Endpoint], monkeypatch) -> None:
    monkeypatch.setattr(endpoint, "spoil", True)
    with pytest.raises(OSError, match="not what the hub says"):
        find_model("hf://org/pg")
    monkeypatch.setattr(endpoint, "spoil", False)
    assert open_model(find_model("hf://org/pg")).kind == "paligemma"


def openpali(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str | None:
    monkeypatch.setattr(sys, "argv", ["openpali", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return str(end.value.code) if end.value.code else None


def test_push_shows_first_and_names_a_missing_token(
    endpoint: type[Endpoint], repositories: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    folder = find_model("hf://org/pg")
    (tmp_path / "card.json").write_text('{"cider": 12.5}')
    endpoint.seen.clear()
    arguments = ["push", folder, "hf://me/mine", "--license", "gemma", "--scores", tmp_path / "card.json"]
    assert openpali(monkeypatch, *arguments) is None
    printed = capsys.readouterr().out
    assert "license: gemma" in printed
    assert '"cider": 12.5' in printed
    assert "model.safetensors  " in printed
    assert "nothing was uploaded" in printed
    assert endpoint.seen == []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert "no token that may write there" in (openpali(monkeypatch, *arguments, "--upload") or "")
