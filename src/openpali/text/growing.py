"""The text of tokens that are written one after another, without decoding all of them each time."""

from __future__ import annotations

from collections.abc import Sequence

from openpali.text.tokenizer import Tokenizer

BROKEN = "\ufffd"  # stands for the first bytes of a character
CONTEXT = 16  # tokens before those that are decoded: more than the bytes of a character


def text_after(tokenizer: Tokenizer, before: Sequence[int], ids: Sequence[int]) -> str:
    """What ``ids`` add to the text of the ids ``before`` them."""
    context = before[-CONTEXT:]
    return tokenizer.decode([*context, *ids])[len(tokenizer.decode(context)) :]


class GrowingText:
    """The text of ids to which others are added."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._text = ""
        self._count = 0  # of ids whose text is ``_text``

    def of(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, which begin with those of the last call."""
        text = self._text + text_after(self._tokenizer, ids[: self._count], ids[self._count :])
        if not text.endswith(BROKEN):
            self._text, self._count = text, len(ids)
        return text
