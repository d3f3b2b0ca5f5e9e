"""The shipped graphs, as `openpali-screen` and Python run them, where neither torch nor OpenPaLI is."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openpali_screen import Screen, ScreenReader
from openpali_screen.runtime import open_networks

SCREEN = Path(__file__).parents[2] / "openpali" / "src" / "openpali" / "demo" / "screen.webp"
WITHOUT = "import sys; sys.modules['torch'] = sys.modules['openpali'] = sys.modules['scipy'] = None; "


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = WITHOUT + "from openpali_screen.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def reader() -> ScreenReader:
    return ScreenReader.open()


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    done = run(SCREEN, "--format", "json", "--marks", tmp_path / "marks.png")
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    words = [word["text"] for line in page["lines"] for word in line["words"]]
    assert {"Gentelella", "GENERAL", "Dashboards"} <= {*words}
    assert {"link", "icon", "list"} <= {node["role"] for node in page["elements"]}
    assert Image.open(tmp_path / "marks.png").width == page["width"]


def test_a_file_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    done = run(tmp_path / "broken.png", SCREEN, tmp_path / "none.png")
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert "none.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Gentelella" in done.stdout


def test_elements_are_found_and_pointed_at(reader: ScreenReader) -> None:
    screen = reader.screen(SCREEN)
    assert {"link", "icon", "button"} <= {thing.role for thing in screen.elements}
    docs = reader.point(SCREEN, "the Docs button")
    assert docs is not None
    assert "Docs" in docs.label
    found = Screen(screen).find("the Docs button")
    assert found is not None
    assert found.centre == docs.box.centre
    assert all(0 <= thing.confidence <= 1 for thing in screen.elements)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_an_image_is_a_file_its_bytes_or_its_pixels(reader: ScreenReader, tmp_path: Path) -> None:
    pixels = np.array(Image.open(SCREEN).convert("RGB"))[:200, :300]
    texts = reader.page(pixels).text
    assert reader.page(Image.fromarray(pixels)).text == texts
    (tmp_path / "part.png").write_bytes(data := png(pixels))
    trees = [
        str(Screen.open(each).tree())
        for each in (tmp_path / "part.png", data, pixels, Image.open(io.BytesIO(data)))
    ]
    assert len({*trees}) == 1
    assert "Gentelella" in trees[0]
    with pytest.raises(ValueError, match="uint8"):
        reader.page(pixels.astype(np.float32))  # type: ignore[arg-type]


def test_noise_is_no_page(reader: ScreenReader) -> None:
    assert reader.page(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).out_of_distribution


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        open_networks(tmp_path)
