"""Tokenizers of T5's bundle: golden ids, and unchanged sentinels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import T5Tokenizer

from openpali.architectures.tokenizer import read_tokenizer
from openpali.text.tokenizer import Tokenizer, spm

from . import checkpoints

# what T5's vocabulary gives, as seqio encodes (without end token); transformers#24565 on text after sentinels
GOLDEN = {
    "<extra_id_0>. Hello": [32099, 5, 8774],
    "Hello <extra_id_0>.": [8774, 32099, 5],
    "translate English to German: Hello world": [13959, 1566, 12, 2968, 10, 8774, 296],
    "<extra_id_1> the <extra_id_99>": [32098, 8, 32000],
    "  Hello   world ": [8774, 296],
    "": [],
}


def test_ids_equal_golden_ids(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(checkpoints.t5_proto())
    tokenizer, known = read_tokenizer(tmp_path)
    assert known == 32_100
    assert tokenizer.vocab_size == 32_100 + 3 + 128
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
    assert {text: tokenizer.encode(text) for text in GOLDEN} == GOLDEN
    assert tokenizer.encode("Hello <mask_token0> <mask_token127>")[1:] == [32_103, 32_230]
    assert tokenizer.decode([32_099, 5, 8774, 1, 0]) == "<extra_id_0>. Hello"


def test_sentinels_within_the_model_stay(tmp_path: Path) -> None:
    """mT5's file has its hundred already."""
    extended = Tokenizer.convert(checkpoints.small_proto()).proto
    model = spm.ModelProto.FromString(extended)
    pieces = [piece.piece for piece in model.pieces]
    del model.pieces[pieces.index("▁[R]") :]
    (tmp_path / "spiece.model").write_bytes(model.SerializeToString())
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 0}')
    tokenizer, known = read_tokenizer(tmp_path)
    assert known == pieces.index("▁<extra_id_0>") + 1 == tokenizer.sentinel_id(0) + 1
    assert tokenizer.sentinel_id(99) == known - 100


@pytest.mark.parametrize("how", ["extra_ids", "additional_special_tokens", "added_tokens_decoder"])
def test_the_number_of_sentinels_follows_the_checkpoint(how: str, tmp_path: Path) -> None:
    """umT5 has 300: the first is the last id; with only 100, it would be another row of the embedding."""
    proto = checkpoints.small_proto()
    pieces = len(spm.ModelProto.FromString(proto).pieces)
    folder = tmp_path
    (folder / "spiece.model").write_bytes(proto)
    tokens = [f"<extra_id_{k}>" for k in range(300)]
    config: dict[str, Any] = {
        "extra_ids": {"extra_ids": 300},
        "additional_special_tokens": {"additional_special_tokens": tokens},
        "added_tokens_decoder": {
            "added_tokens_decoder": {str(pieces + 299 - k): {"content": t} for k, t in enumerate(tokens)}
        },
    }[how]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer, known = read_tokenizer(folder)
    assert known == pieces + 300
    assert tokenizer.sentinel_id(0) == known - 1
    assert tokenizer.sentinel_id(299) == pieces
    assert tokenizer.mode_id("[R]") == known


def test_sentinels_that_would_move_are_named(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(checkpoints.small_proto())
    tokens = {"7": {"content": "<extra_id_0>"}, "9": {"content": "<extra_id_1>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": tokens}))
    with pytest.raises(ValueError, match=r"would change their ids: <extra_id_0> 7 -> \d+, <extra_id_1> 9 -> \d+"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("how", ["spiece.model and tokenizer.json", "added_tokens.json"])
def test_tokens_added_to_the_vocabulary_keep_their_ids(how: str, tmp_path: Path) -> None:
    """As those of a T5 that was fine-tuned with tokens of its own."""
    folder, proto = tmp_path / "t5", checkpoints.t5_proto()
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "spiece.model").write_bytes(proto)
    theirs = T5Tokenizer.from_pretrained(tmp_path / "slow", extra_ids=100)
    theirs.add_tokens(["<hl>", "\n"])
    if how == "added_tokens.json":
        folder.mkdir()
        (folder / how).write_text(json.dumps({"\n": 32_101, "<hl>": 32_100}))
    else:
        theirs.save_pretrained(folder)
    (folder / "spiece.model").write_bytes(proto)
    tokenizer, known = read_tokenizer(folder)
    assert (known, tokenizer.vocab_size) == (32_102, 32_102 + 3 + 128)
    text, space = "Hello <hl> world<hl>\n <extra_id_0>", tokenizer.piece_id("▁")
    assert [i for i in tokenizer.encode(text) if i != space] == [
        i for i in theirs(text).input_ids[:-1] if i != space
    ]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert {text: tokenizer.encode(text) for text in GOLDEN} == GOLDEN


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tokenizer(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"spiece.model: "):
        read_tokenizer(tmp_path)
