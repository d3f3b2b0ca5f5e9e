"""Mask codes as text: 16 integers from 0 to 127 <-> "<mask_token81> ... <mask_token10>" (PaLI-3 section 4.2), or
"<seg081>...<seg010>" in other dialects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from openpali.text.tokenizer import MASK_TOKENS

CODES_PER_MASK = 16
ANY_MASK_TOKEN = r"<(?:mask_token|seg)[0-9]+>"
"""Matches a mask token of any dialect."""


@dataclass(frozen=True)
class MaskText:
    """Writes and reads the codes of masks as text."""

    name: str = "<mask_token"  # beginning of each token
    digits: int = 1  # fewest of a token's number
    joiner: str = " "  # between tokens

    def encode(self, codes: Sequence[int]) -> str:
        """Write the 16 codes of one mask."""
        self._check(codes)
        return self.joiner.join(f"{self.name}{code:0{self.digits}d}>" for code in codes)

    def decode(self, text: str) -> list[int]:
        """Read a text that is exactly the 16 codes of one mask.

        Raises:
            ValueError: the text is not 16 mask tokens.
        """
        codes = [int(code) for code in self._token.findall(text)]
        self._check(codes)
        if rest := self._token.sub("", text).strip():
            raise ValueError(f"{rest!r} is not a mask token")
        return codes

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """One complete mask in a text."""
        return re.compile(rf"(?:{self.name}[0-9]{{{self.digits},3}}>\s*){{{CODES_PER_MASK}}}")

    @cached_property
    def _token(self) -> re.Pattern[str]:
        return re.compile(rf"{self.name}([0-9]{{{self.digits},3}})>")

    def _check(self, codes: Sequence[int]) -> None:
        if len(codes) != CODES_PER_MASK:
            raise ValueError(f"a mask is {CODES_PER_MASK} mask tokens, not {len(codes)}")
        for code in codes:
            if not 0 <= code < MASK_TOKENS:
                raise ValueError(f"there is no {self.name}{code}>: codes go from 0 to {MASK_TOKENS - 1}")
