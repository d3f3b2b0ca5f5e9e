"""The wheels in ``dist/``, installed in an empty environment and used from an empty folder: ``make release``.

Not part of ``make test``: it downloads torch.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

import pytest

import openpali

DIST = Path(__file__).parents[2] / "dist"
pytestmark = pytest.mark.timeout(1800)  # the first test waits for the installation, which downloads torch


PACKAGES = ("openpali", "openpali_screen", "openpali_lab")


@pytest.fixture(scope="module")
def wheels() -> dict[str, Path]:
    return {name: next(DIST.glob(f"{name}-{openpali.__version__}-*.whl")) for name in PACKAGES}


@pytest.fixture(scope="module")
def environment(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheels, without extras."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install(folder, *map(str, wheels.values()))
    return folder


@pytest.fixture
def elsewhere(world_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment variables of a user who knows nothing of this repository, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    left = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return left | {"OPENPALI_HOME": str(world_home), "HOME": str(tmp_path)}


def install(environment: Path, *what: str) -> None:
    subprocess.run([environment / "bin/pip", "install", "-q", *what], check=True)


def run(environment: Path, elsewhere: Mapping[str, str], *arguments: str) -> str:
    """What ``openpali`` prints."""
    command = [environment / "bin/openpali", *arguments]
    return subprocess.run(command, env=elsewhere, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize(("name", "most"), [("openpali", 75e6), ("openpali_screen", 30e6), ("openpali_lab", 10e6)])
def test_they_are_small(wheels: dict[str, Path], name: str, most: float) -> None:
    assert wheels[name].stat().st_size < most


def test_the_reader_of_screens_needs_no_torch(wheels: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install(folder, str(wheels["openpali_screen"]))
    command = [folder / "bin/openpali-screen", str(Path(openpali.__file__).parent / "demo" / "screen.webp")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert "Gentelella" in done.stdout
    assert subprocess.run([folder / "bin/python", "-c", "import torch"]).returncode


def test_it_is_the_installed_package(environment: Path, elsewhere: Mapping[str, str]) -> None:
    assert run(environment, elsewhere, "--version").strip().endswith(openpali.__version__)
    command = [environment / "bin/python", "-c", "import openpali; print(openpali.__file__)"]
    found = subprocess.run(command, env=elsewhere, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert Path(found.strip()).is_relative_to(environment)


@pytest.mark.parametrize(("name", "least"), [("openpali", 300), ("openpali_screen", 40), ("openpali_lab", 180)])
def test_they_have_every_file_of_their_package(environment: Path, name: str, least: int) -> None:
    source = Path(cast(str, import_module(name).__file__)).parent
    listed = subprocess.run(
        ["git", "ls-files", "."], cwd=source, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    files = {*listed.split()} - {"recipes"}  # a link
    files |= {str(file.relative_to(source)) for file in (source / "recipes").rglob("*.toml")}
    [installed] = environment.glob(f"lib/python*/site-packages/{name}")
    assert len(files) > least
    assert [file for file in sorted(files) if not (installed / file).is_file()] == []


def test_the_demo_is_right(environment: Path, elsewhere: Mapping[str, str]) -> None:
    said = run(environment, elsewhere, "demo", "--out", "page.html")
    assert "of 16 right" in said
    assert int(said.split()[0]) >= 15  # three of the four screens at least
    assert Path("page.html").stat().st_size > 100_000


def test_an_image_is_captioned(environment: Path, elsewhere: Mapping[str, str]) -> None:
    [image, *_] = sorted(environment.glob("lib/python*/site-packages/openpali/demo/**/*.png"))
    answer = json.loads(run(environment, elsewhere, "predict", str(image), "--task", "caption", "--json"))
    assert answer["text"]


def test_nano_is_scored(environment: Path, elsewhere: Mapping[str, str]) -> None:
    run(environment, elsewhere, "eval", "--suite", "nano", "--limit", "4", "--out", "cards")
    assert len([*Path("cards").glob("**/*.json")]) >= 8


def test_a_recipe_is_written(environment: Path, elsewhere: Mapping[str, str]) -> None:
    assert "[[phases]]" in run(environment, elsewhere, "explain", "--source", "vqa")


def test_it_serves(wheels: dict[str, Path], environment: Path, elsewhere: Mapping[str, str]) -> None:
    install(environment, f"{wheels['openpali']}[serve]")
    command = [environment / "bin/openpali", "serve", "--port", "0"]
    with subprocess.Popen(command, env=elsewhere, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        for line in server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        assert found
        for path, part in {"/": "<html", "/v1/models": "nano", "/openapi.json": "/v1/read"}.items():
            with urllib.request.urlopen(f"{found[0]}{path}") as answer:
                assert part in answer.read().decode(), path
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
