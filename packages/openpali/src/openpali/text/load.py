"""Tokenizers from their files."""

from __future__ import annotations

from pathlib import Path

from openpali.text.tokenizer import Tokenizer


def load_tokenizer(source: str | Path | bytes) -> Tokenizer:
    """Read a tokenizer from a file, or from the file's bytes: a SentencePiece model.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is of another kind.
    """
    if isinstance(source, bytes):
        return Tokenizer(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"no tokenizer file {path}")
    try:
        return load_tokenizer(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
