"""Text that grows is that of all its tokens, and the work for it grows no faster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.text.growing import CONTEXT, GrowingText, stop_at, text_after
from openpali.text.tokenizer import Tokenizer


@given(text=st.text(max_size=30), data=st.data())
def test_it_is_the_text_of_all_tokens(tokenizer: Tokenizer, text: str, data: st.DataObject) -> None:
    odd = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=8))  # also halves of characters
    ids = [*tokenizer.encode(text), *odd, *tokenizer.encode(text)]
    growing = GrowingText(tokenizer)
    for i, token in enumerate(ids):
        before, after = tokenizer.decode(ids[:i]), tokenizer.decode(ids[: i + 1])
        assert growing.of(ids[: i + 1]) == after
        assert text_after(tokenizer, ids[:i], [token]) == after[len(before) :]


def test_few_tokens_are_decoded_each_time(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, lengths = tokenizer.encode("a cat " * 100), []
    decode = Tokenizer.decode
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: lengths.append(len(ids)) or decode(self, ids))
    growing = GrowingText(tokenizer)
    for i in range(len(ids)):
        growing.of(ids[: i + 1])
    assert max(lengths) == CONTEXT + 1


@given(text=st.text(max_size=30), data=st.data())
def test_a_text_stops_where_the_whole_text_holds_a_stop(
    tokenizer: Tokenizer, text: str, data: st.DataObject
) -> None:
    odd = data.draw(st.lists(st.integers(3, tokenizer.vocab_size - 1), min_size=1, max_size=8))
    ids = [*tokenizer.encode("a cat " * 9), *tokenizer.encode(text), *odd]
    whole = tokenizer.decode(ids)
    start = data.draw(st.integers(0, len(whole) - 1))
    stops = [whole[start : start + data.draw(st.integers(1, 5))], "never"]
    stop = stop_at(tokenizer, stops)
    held = [any(each in tokenizer.decode(ids[:n]) for each in stops) for n in range(1, len(ids) + 1)]
    first = held.index(True) + 1 if True in held else len(ids)
    assert [stop(ids[:n]) for n in range(1, first + 1)] == held[:first]


def test_stops_look_at_few_tokens(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, lengths = tokenizer.encode("a cat " * 100), []
    decode = Tokenizer.decode
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: lengths.append(len(ids)) or decode(self, ids))
    stop = stop_at(tokenizer, ["dog"])
    assert not any(stop(ids[: i + 1]) for i in range(len(ids)))
    assert max(lengths) == 4 * len("dog") + 2 * CONTEXT
