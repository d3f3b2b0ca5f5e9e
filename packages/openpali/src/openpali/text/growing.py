"""The text of tokens that are written one after another, without decoding all of them each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openpali.text.tokenizer import Tokenizer

BROKEN = "\ufffd"  # stands for the first bytes of a character
CONTEXT = 16  # tokens before those that are decoded: more than the bytes of a character


def text_after(tokenizer: Tokenizer, before: Sequence[int], ids: Sequence[int]) -> str:
    """What ``ids`` add to the text of the ids ``before`` them."""
    context = before[-CONTEXT:]
    return tokenizer.decode([*context, *ids])[len(tokenizer.decode(context)) :]


def stop_at(tokenizer: Tokenizer, stops: Sequence[str]) -> Callable[[list[int]], bool]:
    """Whether the text of ids holds one of ``stops``. It is asked after each id, and decodes only the last ones."""
    tail = 4 * max(map(len, stops)) + CONTEXT  # ids that hold a stop, even if each is one byte of a character

    def stop(ids: list[int]) -> bool:
        text = text_after(tokenizer, ids[:-tail], ids[-tail:])
        return any(each in text for each in stops)

    return stop


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
