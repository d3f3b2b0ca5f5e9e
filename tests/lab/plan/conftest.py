"""Plans are made where the stand-in vocabulary is; measurements come from benchmarks/planner.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))


@pytest.fixture(autouse=True)
def _home(world_with_vocabulary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(world_with_vocabulary))
