"""What the model never sees in training, decided once and for all by a hash; and where randomness comes from."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

Split = Literal["train", "heldout"]


def is_heldout(*parts: str) -> bool:
    """Whether the thing named by ``parts`` is held out: true for a fixed tenth of all things.

    The rule: SHA-256 of ``"openpali-world"`` and the parts, joined by the unit separator U+001F, in UTF-8; the
    first 8 bytes, big-endian, modulo 10, are 0. The first part says what kind of thing it is:

    - ``("pair", a, b)``: two names, sorted, that never share a training scene;
    - ``("expression", template, name)``: a referring expression never used in training;
    - ``("word", word)``: a lower-case word of two letters or more never written in training;
    - ``("line", text)``: a line of a document never written in training;
    - ``("motion", name, direction)``: a movement never shown in training;
    - ``("background", id)``: a background never used in training.
    """
    digest = hashlib.sha256("\x1f".join(("openpali-world", *parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10 == 0


def generator(*parts: object, index: int = 0) -> np.random.Generator:
    """Random numbers that are a pure function of ``parts`` and ``index`` (Philox: one counter range per index)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    key = int.from_bytes(digest[:16], "big")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, index]))
