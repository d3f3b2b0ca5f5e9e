"""Byte-level BPE: ids and texts of the library `tokenizers`."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers import Tokenizer as Reference
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from openpali.text.byte_pairs import BytePairTokenizer
from openpali.text.choices import Choices
from openpali.text.growing import GrowingText
from openpali.text.load import load_tokenizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
TEXTS = ["Locate the dog in the image.", "it's 12 o'clock, they'll see", "der Hund läuft", "赤い馬です。"] * 3


def _reference() -> Reference:
    made = Reference(BPE())
    made.pre_tokenizer, made.decoder = ByteLevel(add_prefix_space=False), Decoder()
    trainer = BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    made.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False), "<loc_1>", "<loc_12>"])
    return made


REFERENCE = _reference()
TOKENIZER = BytePairTokenizer(REFERENCE.to_str().encode())
PARTS = [
    *SPECIAL,
    "<mask>",
    "<loc_1>",
    "<loc_12>",
    "<loc_3>",
    " ",
    "  ",
    "\n",
    "\t",
    "it's",
    "I'LL",
    "they'll",
    "'",
    "_",
]
PARTS += ["²", "½", "Ⅳ", "٣", "12", "一", "e\u0301", "the dog", " in", "läuft", "赤い", "👍🏽", "\u00a0", "\u2028"]
PARTS += ["\x1c", "\x1f"]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=5), max_size=8).map("".join))
def test_ids_and_texts_are_those_of_tokenizers(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert ids == REFERENCE.encode(text, add_special_tokens=False).ids
    kept = [i for i in ids if i not in (TOKENIZER.pad_id, TOKENIZER.bos_id, TOKENIZER.eos_id)]
    assert TOKENIZER.decode(ids) == REFERENCE.decode(kept, skip_special_tokens=False)


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    plain = text.replace("<", "")
    assert TOKENIZER.decode(TOKENIZER.encode(plain)) == TOKENIZER.decode(TOKENIZER.spell(plain)) == plain
    assert len(TOKENIZER.spell(plain)) >= len(plain)
    assert TOKENIZER.lost(plain) == ""


def test_it_is_a_tokenizer_like_others() -> None:
    assert (TOKENIZER.bos_id, TOKENIZER.pad_id, TOKENIZER.eos_id, TOKENIZER.unk_id) == (0, 1, 2, 3)
    assert TOKENIZER.vocab_size == REFERENCE.get_vocab_size()
    assert isinstance(load_tokenizer(TOKENIZER.proto), BytePairTokenizer)
    again = pickle.loads(pickle.dumps(TOKENIZER))
    assert again.encode("the dog") == TOKENIZER.encode("the dog")
    assert TOKENIZER.pieces([TOKENIZER.piece_id("<loc_12>"), 10**6]) == ["<loc_12>", "<1000000>"]
    assert TOKENIZER.sentinel_ids == ()
    with pytest.raises(ValueError, match="<loc_3>"):
        TOKENIZER.piece_id("<loc_3>")
    with pytest.raises(ValueError, match="Unicode"):
        TOKENIZER.encode("\ud800")
    ids = TOKENIZER.encode("赤い dog")
    growing = GrowingText(TOKENIZER)
    assert [growing.of(ids[: i + 1]) for i in range(len(ids))][-1] == "赤い dog"
    choices = Choices(["the dog", "the cat"], TOKENIZER)
    assert set(choices(TOKENIZER.encode("the"))) == {TOKENIZER.encode(" dog")[0], TOKENIZER.encode(" cat")[0]}


def test_special_tokens_are_added_behind_the_others() -> None:
    more = TOKENIZER.extended(["<loc_1>", "<loc_3>", "<sep>"])
    first = TOKENIZER.vocab_size
    assert more.encode("dog<loc_1><loc_3><sep>") == [
        *TOKENIZER.encode("dog<loc_1>"),
        first,
        first + 1,
    ]
    assert more.extended(["<loc_3>"]) is more
    assert Reference.from_str(more.proto.decode()).token_to_id("<sep>") == first + 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "Unigram", "vocab": []}},
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []},
    ],
)
def test_other_kinds_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a tokenizer"):
        BytePairTokenizer(json.dumps({**TOKENIZER.described, **change}).encode())
