"""A tiny bundle, images, and a scheduler that is stepped by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from requests_to import data_url

from openpali.infer.pali import Pali
from openpali.tasks.example import Image


@pytest.fixture(scope="session")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


@pytest.fixture(scope="session")
def images() -> Sequence[Image]:
    """Five images of different sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (60 + 9 * i, 90 - 7 * i, 3), np.uint8) for i in range(5)]


@pytest.fixture(scope="session")
def encoded(images: Sequence[Image]) -> Sequence[str]:
    """The images as data URLs."""
    return [data_url(image) for image in images]
