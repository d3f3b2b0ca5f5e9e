"""Makes the tiny models importable for every test of generation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_models import tiny

from openpali.infer.engines.openvino import OpenVinoPali


@pytest.fixture(scope="session")
def compiled() -> OpenVinoPali:
    """A tiny model through OpenVINO, compiled once."""
    return OpenVinoPali(tiny(0), precision="fp32")
