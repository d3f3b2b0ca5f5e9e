"""A package of less than 150 lines adds a model, its training, data, scores, a command, answers and an endpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import toy_brightness
from openpali.distributed import ALONE
from openpali.eval.runner import run
from openpali.eval.suites import find_suite
from openpali.infer.pali import Pali
from openpali.serve.http import create_app
from openpali.train.load import parse_recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer, pack_bundle
from openpali_lab.documents.recipe_page import render
from openpali_lab.plan.planner import find_device, make_plan
from serve.requests_to import data_url, service_of

RECIPE: dict[str, Any] = {
    "name": "t/brightness",
    "objective": "brightness",
    "batch": 8,
    "workers": 0,
    "model": {"preset": "brightness", "tokenizer": "nano-vocabulary"},
    "optimizer": {"lr": 0.1},
    "phases": [{"samples": 800, "size": 16, "mixture": [{"source": "grey/all"}]}],
}


@pytest.fixture(scope="module", autouse=True)
def _installed(toy_package: None) -> None:
    """The package is found by its entry point."""


@pytest.fixture(scope="module")
def packed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a part that was trained as its recipe says."""
    folder = tmp_path_factory.mktemp("brightness")
    run = Trainer(parse_recipe(RECIPE), folder / "run", ALONE, open_tokenizer("nano-vocabulary")).train()
    (folder / "bundle.toml").write_text(f'[parts]\npali = "{bundle / "pali"}"\nbrightness = "{run}"\n')
    pack_bundle(folder / "bundle.toml", folder / "bundle")
    return folder / "bundle"


def test_it_learns_and_is_scored(packed: Path, tmp_path: Path) -> None:
    [benchmark] = find_suite("brightness")
    assert run(benchmark, Pali.from_pretrained(packed), tmp_path).card.scores["word_f1"] > 0.9


def test_it_is_planned_and_documented() -> None:
    plan = make_plan(parse_recipe({**RECIPE, "micro": 2}), find_device("h100", 2), 2)
    assert plan.fits
    assert [(phase.steps, phase.costs.rows) for phase in plan.phases] == [(100, 2)]
    assert '`objective = "brightness"`' in render()


def test_it_answers_what_it_can(packed: Path) -> None:
    pali, white = Pali.from_pretrained(packed), np.full((30, 30, 3), 255, np.uint8)
    bright, other = pali.predict([[white], [white]], ["how bright is it?", "what is it?"])
    assert bright.part == "brightness"
    assert float(bright.answer.text.strip("%")) == pytest.approx(100, abs=5)
    assert other.part == "pali"


def test_it_has_an_endpoint(packed: Path) -> None:
    with TestClient(create_app(service_of(Pali.from_pretrained(packed))), base_url="http://localhost") as client:
        image = data_url(np.full((8, 8, 3), 255, np.uint8))
        answer = client.post("/v1/brightness", json={"image": image})
        assert answer.status_code == 200, answer.text
        assert answer.json()["brightness"] == pytest.approx(1, abs=0.05)
        assert "BrightnessRequest" in client.get("/openapi.json").json()["components"]["schemas"]


def test_it_has_a_command(packed: Path) -> None:
    tests = Path(__file__).parent
    path = [str(tests / "toy"), str(tests)]
    code = f"import sys; sys.path[:0] = {path}\nfrom openpali.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "brightness", str(packed)], capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(1, abs=0.05), done.stderr


def test_it_is_short() -> None:
    assert len(Path(toy_brightness.__file__).read_text("utf-8").splitlines()) < 150
