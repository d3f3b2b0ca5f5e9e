"""One form of each character, and those that a reader of lines can write."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

# ASCII; Latin-1 without its soft hyphen; Latin Extended; Greek; Cyrillic; Vietnamese
_RANGES = (
    "20-7e a1-ac ae-ff 100-17f 192-192 1a0-1a1 1af-1b0 1cd-1dc 1e6-1e7 218-21b 259-259 384-38a 38c-38c 38e-3a1 "
    "3a3-3ce 400-45f 462-463 490-493 496-497 49a-49b 4a2-4a3 4ae-4b3 4ba-4bb 4d8-4d9 4e8-4e9 1e80-1e85 1e9e-1e9e "
    "1ea0-1ef9"
)
_SIGNS = "‐‑–—―‘’‚“”„†‡•…‰′″‹›⁄€₤₽₹₺₿№℃™Ωℓ←↑→↓↔⇒⇐⌘⌥⇧∂∆∏∑−√∞∫≈≠≤≥◊■□▪▲►▼◄○●★☆☐☑✓✔✕✖×÷αβγδ"

_ENDS = ([int(end, 16) for end in part.split("-")] for part in _RANGES.split())
CHARACTERS: tuple[str, ...] = tuple(
    dict.fromkeys([chr(code) for first, last in _ENDS for code in range(first, last + 1)] + list(_SIGNS))
)
"""Latin, Greek and Cyrillic letters, digits, punctuation and common signs; the first is the space."""

_SAME = {
    "‐": "-",
    "‑": "-",
    "\u00a0": " ",
    "ﬁ": "fi",
    "ﬂ": "fl",
    "ﬀ": "ff",
    "ﬃ": "ffi",
    "ﬄ": "ffl",
    "µ": "μ",
    "Ω": "Ω",
    "∆": "Δ",
}


def composed(text: str) -> str:
    """``text`` in NFC, as all texts of users are: "é" is one character, however it was typed."""
    return unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    """``text`` as a reader writes it: composed (NFC), ligatures as letters, one code for signs that look alike."""
    return "".join(_SAME.get(c, c) for c in composed(text))


def numbers_of(text: str, characters: Sequence[str] = CHARACTERS) -> list[int] | None:
    """The numbers of a text's characters among those of a reader, from 1 on; None if it has another character."""
    index = _index(tuple(characters))
    numbers = [index.get(character, 0) for character in plain(text)]
    return numbers if all(numbers) else None


@lru_cache(maxsize=8)
def _index(characters: tuple[str, ...]) -> dict[str, int]:
    return {character: number for number, character in enumerate(characters, 1)}
