"""Images behind URLs: only of hosts that are allowed, and only from public addresses, after each redirect too."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from openpali.serve import media
from openpali.serve.errors import ApiError
from openpali.serve.limits import Limits
from openpali.serve.media import Media, is_public

PRIVATE = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"]
PRIVATE += ["::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "2002:7f00:1::", "224.0.0.1"]
PRIVATE += ["::7f00:1", "64:ff9b::7f00:1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


def test_public_addresses() -> None:
    assert all(map(is_public, ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]))


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        where = {
            "/inside": "http://inside.example/",
            "/loop": "/loop",
            "/moved": "/image?size=1",
            "/file": "file:///etc",
            "/nowhere": "http://[/",
        }
        if self.path.startswith("/slow"):
            if self.path == "/slow/moved":
                time.sleep(0.2)
                self.send_response(302)
                self.send_header("Location", "/slow/body")
                self.end_headers()
                return
            if self.path in ("/slow/body", "/slow/chunks"):
                self.send_response(200)
                if self.path == "/slow/chunks":
                    self.send_header("Transfer-Encoding", "chunked")
                    self.send_header("Connection", "close")
                self.end_headers()
            for _ in range(100):
                self.wfile.write(b"0")
                self.wfile.flush()
                time.sleep(0.05)
            self.server.finished = True  # type: ignore[attr-defined]
            return
        if self.path in where:
            self.send_response(302)
            self.send_header("Location", where[self.path])
            self.end_headers()
            return
        self.send_response(200 if self.path.startswith("/image") else 404)
        self.end_headers()
        self.wfile.write(b"pixels" * 10 + self.headers["Host"].encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that is reached under any name, and looks public unless its name says otherwise."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known: dict[str, Sequence[str]] = {"public.example": ["127.0.0.1"], "mixed.example": ["127.0.0.1", "10.0.0.1"]}
    monkeypatch.setattr(media, "resolve", lambda host, port: known.get(host, ["10.0.0.1"]))
    monkeypatch.setattr(media, "is_public", lambda address: address == "127.0.0.1")
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_only_what_is_allowed_is_fetched(port: int) -> None:
    reader = Media(Limits(media=100), ["public.example", "Inside.example", "mixed.example"])
    base = f"http://public.example:{port}"
    assert reader.fetch(f"{base}/image", "image") == b"pixels" * 10 + f"public.example:{port}".encode()
    assert reader.fetch(f"{base}/moved", "image").startswith(b"pixels")
    assert reader.fetch(f"{base}/image 猫?size=ü", "image").startswith(b"pixels")
    for url, message in (
        (f"http://other.example:{port}/image", "does not fetch images from there"),
        (f"http://public.example@other.example:{port}/image", "does not fetch images from there"),
        (f"ftp://public.example:{port}/image", "does not fetch images from there"),
        (f"{base}/inside", "no public address"),  # its host is allowed
        (f"{base}/file", "does not fetch images from there"),
        (f"http://mixed.example:{port}/image", "no public address"),
        (f"{base}/loop", "more than 3 redirects"),
        (f"{base}/nowhere", "redirects to no URL"),
        (f"{base}/none", "answered with status 404"),
        ("http://public.example:1/image", "could not be fetched"),
        ("http://[/", "is no URL"),
    ):
        with pytest.raises(ApiError, match=message) as refused:
            reader.fetch(url, "image")
        assert refused.value.status_code == 400
    with pytest.raises(ApiError) as refused:
        Media(Limits(media=50), ["public.example"]).fetch(f"{base}/image", "image")
    assert refused.value.status_code == 413


@pytest.mark.parametrize("path", ["/slow", "/slow/body", "/slow/chunks", "/slow/moved"])
def test_a_host_that_sends_byte_by_byte_is_cut_off(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(media, "resolve", lambda host, port: ["127.0.0.1"])
    monkeypatch.setattr(media, "is_public", lambda address: True)
    monkeypatch.setattr(media, "SECONDS", 0.3)
    reader = Media(Limits(media=1000), ["public.example"])
    with pytest.raises(ApiError, match="could not be fetched"):
        reader.fetch(f"http://public.example:{server.server_address[1]}{path}", "image")
    assert not hasattr(server, "finished")
    server.shutdown()
    server.server_close()


def test_a_pdf_file_is_told_from_images() -> None:
    with pytest.raises(ApiError, match="is a PDF file"):
        Media(Limits()).decode(b"%PDF-1.4 and so on", "image")
