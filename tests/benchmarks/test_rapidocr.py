"""RapidOCR itself, with the models of its wheel and no network: ``make test-ocr``, not part of ``make test``."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from openpali_lab.benchmarks.ocr import Cached, open_ocr

from .test_ocr import sign


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Cached:
    def refuse(*anything: object) -> None:
        raise AssertionError("opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    engine = open_ocr("rapidocr")
    assert isinstance(engine, Cached)
    return engine


def test_it_reads(engine: Cached) -> None:
    assert engine.name.startswith("rapidocr 3.")
    assert "HELLO WORLD 42" in engine.read(sign("HELLO WORLD 42"), "k")


@pytest.mark.parametrize("shape", [(60, 80), (1, 1), (1, 300), (300, 1)])
def test_images_without_text_have_none(engine: Cached, shape: tuple[int, int]) -> None:
    # Without a limit to its shape the last one takes minutes.
    assert engine.read(np.full((*shape, 3), 255, np.uint8), "k") == ""
