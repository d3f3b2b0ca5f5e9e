"""The fixed rule, by hash, that decides what is held out from training."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "heldout"]


def is_heldout(*parts: str) -> bool:
    """Whether the thing named by ``parts`` is held out; true for a fixed tenth of them.

    The rule: SHA-256 of ``"openpali-world"`` and the parts, joined by the unit separator U+001F, in UTF-8; the
    first 8 bytes, big-endian, modulo 10, are 0. The first part is the kind of thing:

    - ``("pair", a, b)``: two names, sorted, that never share a training scene;
    - ``("expression", template, name)``: a referring expression never used in training;
    - ``("word", word)``: a lower-case word of two letters or more never written in training;
    - ``("line", text)``: a line of a document, or a printed line, never written in training;
    - ``("pdf", file)``: a document of the data set ``pages`` that is for decisions while training;
    - ``("font", family)``: a family of fonts in which no line is printed in training;
    - ``("motion", name, direction)``: a movement never shown in training;
    - ``("background", id)``: a background never used in training.
    """
    digest = hashlib.sha256("\x1f".join(("openpali-world", *parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10 == 0
