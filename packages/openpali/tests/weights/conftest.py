from __future__ import annotations

import pytest

from openpali.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a red circle", "a blue star"] * 10, 700)
