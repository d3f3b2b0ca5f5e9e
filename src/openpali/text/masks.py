"""Mask codes as text: 16 integers from 0 to 127 <-> "<mask_token81> ... <mask_token10>" (PaLI-3 section 4.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from openpali.text.tokenizer import MASK_TOKENS

CODES_PER_MASK = 16
_TOKEN = re.compile(r"<mask_token([0-9]{1,3})>")
MASK_PATTERN = re.compile(rf"(?:<mask_token[0-9]{{1,3}}>\s*){{{CODES_PER_MASK}}}")
"""One complete mask in a text."""


def encode_mask_codes(codes: Sequence[int]) -> str:
    """Write the 16 codes of one mask.

    Raises:
        ValueError: ``codes`` is not 16 numbers from 0 to 127.
    """
    _check(codes)
    return " ".join(f"<mask_token{code}>" for code in codes)


def decode_mask_codes(text: str) -> list[int]:
    """Read a text that is exactly the 16 codes of one mask.

    Raises:
        ValueError: the text is not 16 mask tokens.
    """
    codes = [int(code) for code in _TOKEN.findall(text)]
    _check(codes)
    if rest := _TOKEN.sub("", text).strip():
        raise ValueError(f"{rest!r} is not a mask token")
    return codes


def _check(codes: Sequence[int]) -> None:
    if len(codes) != CODES_PER_MASK:
        raise ValueError(f"a mask is {CODES_PER_MASK} mask tokens, not {len(codes)}")
    for code in codes:
        if not 0 <= code < MASK_TOKENS:
            raise ValueError(f"there is no <mask_token{code}>: codes go from 0 to {MASK_TOKENS - 1}")
