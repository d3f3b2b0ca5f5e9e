"""The characters that a reader of lines can write."""

from __future__ import annotations

import unicodedata

_RANGES = (
    (0x20, 0x7E),  # ASCII
    (0xA1, 0xAC),  # Latin-1, without its soft hyphen
    (0xAE, 0xFF),
    (0x100, 0x17F),  # Latin Extended-A
    (0x192, 0x192),
    (0x1A0, 0x1A1),
    (0x1AF, 0x1B0),
    (0x1CD, 0x1DC),
    (0x1E6, 0x1E7),
    (0x218, 0x21B),
    (0x259, 0x259),
    (0x384, 0x38A),  # Greek
    (0x38C, 0x38C),
    (0x38E, 0x3A1),
    (0x3A3, 0x3CE),
    (0x400, 0x45F),  # Cyrillic
    (0x462, 0x463),
    (0x490, 0x493),
    (0x496, 0x497),
    (0x49A, 0x49B),
    (0x4A2, 0x4A3),
    (0x4AE, 0x4B3),
    (0x4BA, 0x4BB),
    (0x4D8, 0x4D9),
    (0x4E8, 0x4E9),
    (0x1E80, 0x1E85),
    (0x1E9E, 0x1E9E),
    (0x1EA0, 0x1EF9),  # Vietnamese
)
_SIGNS = "‐‑–—―‘’‚“”„†‡•…‰′″‹›⁄€₤₽₹₺₿№℃™Ωℓ←↑→↓↔⇒⇐⌘⌥⇧∂∆∏∑−√∞∫≈≠≤≥◊■□▪▲►▼◄○●★☆☐☑✓✔✕✖×÷αβγδ"

CHARACTERS: tuple[str, ...] = tuple(
    dict.fromkeys([chr(code) for first, last in _RANGES for code in range(first, last + 1)] + list(_SIGNS))
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
_INDEX = {character: number for number, character in enumerate(CHARACTERS, 1)}


def plain(text: str) -> str:
    """``text`` as a reader writes it: composed (NFC), ligatures as letters, one code for signs that look alike."""
    return "".join(_SAME.get(c, c) for c in unicodedata.normalize("NFC", text))


def numbers_of(text: str) -> list[int] | None:
    """The numbers of a text's characters in :data:`CHARACTERS`, from 1 on; None if it has another character."""
    numbers = [_INDEX.get(character, 0) for character in plain(text)]
    return numbers if all(numbers) else None
