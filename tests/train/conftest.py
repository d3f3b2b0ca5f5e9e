"""Fixtures for tiny runs on the stand-in world and its vocabulary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from openpali.distributed import ALONE
from openpali.text.tokenizer import Tokenizer
from openpali.train.recipe import Recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer


@pytest.fixture(scope="session")
def tiny_home(world_with_vocabulary: Path) -> Path:
    """``OPENPALI_HOME`` with stand-ins for data sets."""
    return world_with_vocabulary


@pytest.fixture(autouse=True)
def _tiny(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPENPALI_HOME", str(tiny_home))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in runs of other processes, which must give the same bits
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tokenizer(tiny_home: Path) -> Tokenizer:
    return open_tokenizer("nano-vocabulary")


MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path, tokenizer: Tokenizer) -> MakeTrainer:
    """A trainer in ``tmp_path / run``, on one rank."""

    def make(recipe: Recipe, run: str = "run") -> Trainer:
        return Trainer(recipe, tmp_path / run, ALONE, tokenizer)

    return make
