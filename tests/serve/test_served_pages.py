"""What people read and find on screens is what was measured: the server, the command line and Python give the words
and elements of `openpali eval`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PILImage
from requests_to import data_url, service_of, serving
from typer.testing import CliRunner

from openpali.cli.main import app
from openpali.infer.pali import Pali
from openpali.tasks.example import Box, Example, Line, Word
from openpali_screen.evaluate import counted_words, elements_by, words_of
from openpali_screen.text import ReadWord

SCREEN = np.random.default_rng(3).integers(0, 256, (120, 200, 3), np.uint8)
EXAMPLE = Example("a", [SCREEN], lines=[Line([Word("x", Box(0, 0, 120, 200))])])


@pytest.fixture(scope="module")
def client(pali: Pali) -> Iterator[httpx.Client]:
    with serving(service_of(pali)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    path = tmp_path / "screen.png"
    PILImage.fromarray(SCREEN).save(path)
    return path


def command(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def post(client: httpx.Client, path: str, **body: str) -> dict[str, Any]:
    return dict(client.post(path, json={"image": data_url(SCREEN), **body}).raise_for_status().json())


def test_words_are_those_of_the_evaluation(pali: Pali, client: httpx.Client, bundle: Path, screen: Path) -> None:
    measured, _ = words_of(pali)(EXAMPLE)
    assert len(measured) > 3
    served, typed = post(client, "/v1/read"), command("read", screen, "--model", bundle, "--format", "json")
    assert served["lines"] == typed["lines"]
    words = [
        ReadWord(word["text"], Box(*word["box"]), word["confidence"])
        for line in served["lines"]
        for word in line["words"]
    ]
    found, _ = counted_words(EXAMPLE, words)
    assert [word.name for word in found] == [word.name for word in measured]
    for one, other in zip(found, measured, strict=True):
        assert one.box == pytest.approx(other.box, abs=0.051)  # as JSON rounds it


def test_elements_are_those_of_the_evaluation(pali: Pali, client: httpx.Client, bundle: Path, screen: Path) -> None:
    measured, _ = elements_by(pali)(EXAMPLE)
    roles = sorted({each.name for each in measured})
    assert "button" in roles
    for role in roles:
        wanted = [[*each.box] for each in measured if each.name == role]
        typed = command("predict", screen, role, "--task", "detect", "--model", bundle, "--json")
        for answer in (post(client, "/v1/detect", name=role), typed):
            assert boxes(answer["objects"]) == wanted
            assert {thing["role"] for thing in answer["objects"]} == {role}


def boxes(objects: Sequence[dict[str, Any]]) -> list[list[float]]:
    return [thing["box"] for thing in objects]
