"""Images behind URLs: only of hosts that are allowed, after each redirect too."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from openpali.serve import media
from openpali.serve.errors import ApiError
from openpali.serve.limits import Limits
from openpali.serve.media import Media


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        where = {
            "/elsewhere": "http://other.example/",
            "/loop": "/loop",
            "/moved": "/image?size=1",
            "/file": "file:///etc",
            "/nowhere": "http://[/",
        }
        if self.path in where:
            self.send_response(302)
            self.send_header("Location", where[self.path])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none" else 200)
        self.end_headers()
        if self.path != "/slow":
            self.wfile.write(b"pixels" * 10)
            return
        with contextlib.suppress(OSError):
            for _ in range(100):
                self.wfile.write(b"0")
                self.wfile.flush()
                time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The address of a server of images."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_only_what_is_allowed_is_fetched(base: str) -> None:
    reader = Media(Limits(media=100), ["127.0.0.1"])
    assert reader.fetch(f"{base}/image", "image") == b"pixels" * 10
    assert reader.fetch(f"{base}/moved", "image").startswith(b"pixels")
    assert reader.fetch(f"{base}/image 猫?size=ü", "image").startswith(b"pixels")
    for url, message in (
        ("http://other.example/image", "does not fetch images from there"),
        ("http://127.0.0.1@other.example/image", "does not fetch images from there"),
        (base.replace("http", "ftp"), "does not fetch images from there"),
        (f"{base}/elsewhere", "does not fetch images from there"),
        (f"{base}/file", "could not be fetched"),
        (f"{base}/loop", "could not be fetched"),
        (f"{base}/none", "could not be fetched"),
        ("http://127.0.0.1:1/image", "could not be fetched"),
        ("http://127.0.0.1:x/image", "could not be fetched"),
        (f"{base}/nowhere", "no URL|could not be fetched"),
        ("http://[/", "is no URL"),
    ):
        with pytest.raises(ApiError, match=message) as refused:
            reader.fetch(url, "image")
        assert refused.value.status_code == 400
    with pytest.raises(ApiError) as refused:
        Media(Limits(media=50), ["127.0.0.1"]).fetch(f"{base}/image", "image")
    assert refused.value.status_code == 413


def test_a_host_that_sends_byte_by_byte_is_cut_off(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.setattr(media, "SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(ApiError, match="could not be fetched"):
        Media(Limits(media=1000), ["127.0.0.1"]).fetch(f"{base}/slow", "image")
    assert time.monotonic() - began < 3


def test_a_pdf_file_is_told_from_images() -> None:
    with pytest.raises(ApiError, match="is a PDF file"):
        Media(Limits()).decode(b"%PDF-1.4 and so on", "image")
