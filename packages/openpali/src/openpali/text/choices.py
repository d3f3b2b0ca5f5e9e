"""Answers that must be one of given texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openpali.text.tokenizer import Tokenizer


class Choices:
    """The tokens that may come next in an answer that must be one of given texts.

    Args:
        texts: at least one.
        tokenizer: of the model that answers.
    """

    def __init__(self, texts: Iterable[str], tokenizer: Tokenizer) -> None:
        self._next: dict[tuple[int, ...], list[int]] = {}
        self._texts: dict[tuple[int, ...], str] = {}
        for text in texts:
            ids = [*tokenizer.encode(text), tokenizer.eos_id]
            self._texts.setdefault(tuple(ids[:-1]), text)
            for length, token in enumerate(ids):
                following = self._next.setdefault(tuple(ids[:length]), [])
                if token not in following:
                    following.append(token)

    def __call__(self, ids: Sequence[int]) -> Sequence[int]:
        """Ids of the tokens that may follow ``ids``, the beginning of one of the texts; EOS ends a text."""
        return self._next[tuple(ids)]

    def text(self, ids: Sequence[int]) -> str | None:
        """The text with these ids as it was given: a tokenizer that normalises would decode another; None: none."""
        return self._texts.get(tuple(ids))
