"""Tokenizers of recipes: a file, or a vocabulary built on this machine."""

from __future__ import annotations

from pathlib import Path

from openpali.data.build import data_folder
from openpali.text.tokenizer import Tokenizer


def open_tokenizer(name: str) -> Tokenizer:
    """A tokenizer by path of its file, or by name of a built data set that holds ``tokenizer.model``.

    Raises:
        FileNotFoundError: neither is there.
    """
    path = Path(name)
    return Tokenizer.load(path if path.is_file() else data_folder(name) / "tokenizer.model")
