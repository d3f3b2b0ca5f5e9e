import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.text.tokenizer import Tokenizer
from openpali_lab.worlds.vocabulary_texts import split_capitals, train_nano_vocabulary

from .conftest import CAPTIONS


def test_capitals_are_split() -> None:
    assert split_capitals("in the USA, iPhone, Ab") == "in the U S A, iPhone, Ab"


@given(st.text())
def test_no_capitals_stay_together(text: str) -> None:
    split = split_capitals(text)
    assert not any(a.isupper() and b.isupper() for a, b in pairwise(split))
    assert split.replace(" ", "") == text.replace(" ", "")


def test_favoured_languages_need_fewer_tokens() -> None:
    text = dict(CAPTIONS)["fr"]
    ordinary = train_nano_vocabulary(CAPTIONS * 5, vocab_size=1020, favoured=("en",), weight=50)
    favoured = train_nano_vocabulary(CAPTIONS * 5, vocab_size=1020, favoured=("fr",), weight=50)
    assert len(favoured.encode(text)) < len(ordinary.encode(text))


def test_given_texts_are_learned() -> None:
    plain = train_nano_vocabulary(CAPTIONS * 5, vocab_size=1040)
    taught = train_nano_vocabulary(CAPTIONS * 5, vocab_size=1040, texts=["hippopotamus"] * 20)
    assert len(taught.encode("hippopotamus")) == 1 < len(plain.encode("hippopotamus"))


def test_the_texts_are_those_that_nano_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, including prompts, as when the shipped vocabulary was made."""
    seen: list[str] = []
    monkeypatch.setattr(Tokenizer, "train", lambda lines, size, **rest: seen.extend(lines))
    train_nano_vocabulary(CAPTIONS, texts=["red horse"])
    assert len(seen) == 1785
    digest = hashlib.sha256("\n".join(seen).encode()).hexdigest()
    assert digest == "93eadae0a89895d1b8011b3c0108cdfe31075f2d33e8400d23dbe8ab87eaed52"
