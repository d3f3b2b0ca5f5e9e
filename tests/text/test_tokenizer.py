import pickle

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as spm

from openpali.text.load import load_tokenizer
from openpali.text.tokenizer import MODES, Tokenizer, extend_proto, special_pieces

from .conftest import train_small

TEXTS = [
    "",
    " ",
    "  two leading, two inside  and two trailing  ",
    "lines\nand\ttabs\r\n",
    "{braces} [brackets] <angles> \\ ~ `",
    "é é ﬁ Å ﷺ",  # composed and decomposed: nothing is normalised
    "नमस्ते ภาษาไทย العربية עברית አማርኛ 日本語 한국어 🐎👩‍👩‍👧",
    "▁",
    "a▁b",
    "▁ leading and trailing ▁",
    "<0x41> </s> <pad> <unk>",
    "\0\ufeff\u200b\u3000",
]


def t5_like() -> bytes:
    """A stand-in for T5's vocabulary: 32,000 pieces, "." at 5 and "▁Hello" at 8774, normalised text."""
    trained = Tokenizer.train(["hello world"] * 10, 1000)
    model = spm.ModelProto.FromString(trained.proto)
    del model.pieces[:]
    piece = spm.ModelProto.SentencePiece
    for index in range(32_000):
        match index:
            case 0 | 1:
                model.pieces.add(piece=("<pad>", "</s>")[index], type=piece.CONTROL)
            case 2:
                model.pieces.add(piece="<unk>", type=piece.UNKNOWN)
            case _:
                text = {3: "▁", 5: ".", 6: "a", 7: "b", 8774: "▁Hello"}.get(index, f"unused{index}")
                model.pieces.add(piece=text, score=-1.0, type=piece.NORMAL)
    model.trainer_spec.byte_fallback = False
    model.normalizer_spec.name = "nmt_nfkc"
    model.normalizer_spec.remove_extra_whitespaces = True
    return model.SerializeToString()


@pytest.mark.parametrize("text", TEXTS)
def test_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.roundtrips(text)
    assert tokenizer.lost(text) == ""


@given(st.text())
def test_every_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.one_of(st.text(), st.text("▁ a.<>\n0_é", max_size=12)))
def test_spelling_gives_each_character_its_own_tokens(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.spell(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) >= len(text)
    pieces = tokenizer.pieces(tokenizer.spell("Small horse"))
    assert all(len(piece) == 1 or piece.startswith("<0x") for piece in pieces)


@given(st.text("▁ a.<>\n0_", max_size=12), st.integers(0, 127), st.text("▁ a.<>\n0_", max_size=12))
def test_special_tokens_within_text_round_trip(tokenizer: Tokenizer, before: str, k: int, after: str) -> None:
    for special in (f"<mask_token{k}>", f"<extra_id_{k % 100}>", "[R]"):
        text = before + special + after
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_converted_ids_equal_t5() -> None:
    tokenizer = Tokenizer.convert(t5_like())
    assert tokenizer.encode("<extra_id_0>. Hello") == [32099, 5, 8774]
    assert tokenizer.sentinel_id(99) == 32000
    assert tokenizer.mode_id("[R]") == 32100
    assert tokenizer.encode("<mask_token0>") == [32103]
    assert tokenizer.decode([32099, 5, 8774, 1, 0]) == "<extra_id_0>. Hello"


def test_converted_vocabularies_report_lost_characters() -> None:
    tokenizer = Tokenizer.convert(t5_like())
    assert tokenizer.roundtrips("Hello a.")
    assert not tokenizer.roundtrips("Hello\na")
    assert tokenizer.lost("Hello\na z") == "\nz"


def test_lone_surrogates_are_reported(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError):
        tokenizer.encode("a\ud800b")
    assert not tokenizer.roundtrips("a\ud800b")
    assert tokenizer.lost("a\ud800b") == "\ud800"


def test_extending_twice_changes_nothing(tokenizer: Tokenizer) -> None:
    assert extend_proto(tokenizer.proto, special_pieces()) == tokenizer.proto
    with_locations = extend_proto(tokenizer.proto, special_pieces(locations=1024))
    assert extend_proto(with_locations, special_pieces(locations=1024)) == with_locations
    larger = Tokenizer(with_locations)
    assert larger.vocab_size == tokenizer.vocab_size + 1024
    assert larger.encode("Hello <extra_id_7>") == tokenizer.encode("Hello <extra_id_7>")
    assert len(larger.encode("<loc0000><loc1023>")) == 3  # the space in front is a piece


def test_special_ids_follow_t5(tokenizer: Tokenizer) -> None:
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
    assert tokenizer.vocab_size == 1050
    assert tokenizer.sentinel_ids == tuple(tokenizer.sentinel_id(k) for k in range(100))
    assert tokenizer.sentinel_id(0) - tokenizer.sentinel_id(99) == 99


@pytest.mark.parametrize(
    ("text", "specials"),
    [
        ("<mask_token3> <mask_token127>", ["<mask_token3>", "<mask_token127>"]),
        ("348 543 <mask_token81>.", ["<mask_token81>"]),
        ("a <extra_id_0>, b <extra_id_1>", ["<extra_id_0>", "<extra_id_1>"]),
        ("[R] text [S] [X]", ["[R]", "[S]", "[X]"]),
        ("glued<mask_token3>", []),
        ("<extra_id_100> <mask_token128>", []),
    ],
)
def test_specials_are_one_piece_after_a_space(tokenizer: Tokenizer, text: str, specials: list[str]) -> None:
    ids = tokenizer.encode(text)
    first = min(tokenizer.sentinel_ids)
    assert [tokenizer.decode([i]) for i in ids if i >= first] == specials
    assert tokenizer.decode(ids) == text


def test_decode_skips_ids_without_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("A dog")
    assert tokenizer.decode([0, *ids, 10**6, -1, 1, 0, 0]) == "A dog"


def test_numbers_are_one_piece_after_a_space(tokenizer: Tokenizer) -> None:
    for number in range(100):
        ids = tokenizer.encode(f"{number} dog {number}")
        assert ids[0] == ids[-1]
        assert tokenizer.pieces(ids)[0] == f"▁{number}"
    numbers = " ".join(map(str, range(1000)))
    assert len(tokenizer.encode(numbers)) == 100 + 2 * 900
    assert tokenizer.decode(tokenizer.encode(numbers)) == numbers


def test_capitals_are_spelled(tokenizer: Tokenizer) -> None:
    for word in ("USA", "UNESCO", "HORSE", "СССР", "ΑΛΟΓΟ"):
        assert "".join(tokenizer.pieces(tokenizer.encode(word))) == f"▁{word}"
    pieces = tokenizer.pieces(range(min(tokenizer.sentinel_ids)))
    long = [p for p in pieces if sum(c.isupper() for c in p) > 1 and not p.startswith("<0x")]
    assert long == []


def test_common_words_are_one_piece(tokenizer: Tokenizer) -> None:
    for word in ("Generate", "Answer", "detect", "question", "image", "the", "none"):
        assert tokenizer.pieces(tokenizer.encode(word)) == [f"▁{word}"]


def test_training_is_deterministic(tokenizer: Tokenizer) -> None:
    assert train_small().proto == tokenizer.proto


def test_little_text_gives_a_small_vocabulary() -> None:
    tokenizer = Tokenizer.train(["a small red horse"], 5000)
    assert tokenizer.vocab_size < 700
    assert tokenizer.roundtrips("a small red horse: 12 34 <extra_id_0>")


def test_tokenizers_round_trip_through_files_and_pickles(tokenizer: Tokenizer, tmp_path) -> None:
    path = tmp_path / "text.model"
    tokenizer.save(path)
    sentencepiece.SentencePieceProcessor(model_file=str(path))  # any reader of SentencePiece can
    for copy in (load_tokenizer(path), load_tokenizer(tokenizer.proto), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.encode("A▁dog <mask_token3>") == tokenizer.encode("A▁dog <mask_token3>")
        assert copy.vocab_size == tokenizer.vocab_size


def test_bad_input_is_refused(tokenizer: Tokenizer, tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path / "absent.model")
    for junk in (b"", b"no tokenizer at all"):
        (tmp_path / "junk.model").write_bytes(junk)
        with pytest.raises(ValueError, match=r"junk\.model: not a SentencePiece model"):
            load_tokenizer(tmp_path / "junk.model")
    with pytest.raises(ValueError, match="convert"):
        Tokenizer(t5_like())
    with pytest.raises(ValueError):
        tokenizer.sentinel_id(100)
    with pytest.raises(ValueError):
        tokenizer.mode_id("[Q]")
    assert len({tokenizer.mode_id(mode) for mode in MODES}) == 3
    with pytest.raises(ValueError):
        Tokenizer.train(["too little room for bytes and numbers"], 300 + 231)
    with pytest.raises(ValueError):
        Tokenizer.train([], 1000 + 231)
    with pytest.raises(ValueError):
        Tokenizer.train(["too little room"], 200)
