"""Text <-> token ids, on a SentencePiece unigram model with T5's conventions.

Ids 0, 1, 2 are pad, end and unknown, as in T5. Special tokens are USER_DEFINED pieces inside the SentencePiece
model, so that one file is the whole tokenizer. Like T5's sentinels, special tokens except location tokens include
the space before them ("▁<extra_id_0>" is one piece): they are recognised at the start of a text and after a space.
Directly after another character, they are tokenized like any other text.

Vocabularies of other architectures have a begin token, too, and special tokens of their own.

Vocabularies trained here are lossless: ``decode(encode(s)) == s`` for every text, see :func:`train_proto`.
Converted vocabularies (T5, mT5) keep their own normalisation; :meth:`Tokenizer.lost` says what they lose.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sentencepiece
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2

spm: Any = sentencepiece_model_pb2  # generated code, opaque to mypy

SENTINELS = 100
MASK_TOKENS = 128
MODES = ("[R]", "[S]", "[X]")
LARGEST_NUMBER = 99
"""Numbers up to this one are a single piece after a space, in vocabularies trained here."""

_SPACE = "▁"  # SentencePiece's character for a space
BYTE = re.compile("<0x([0-9A-F]{2})>")  # a piece that is one byte
_SPACE_BYTES = tuple(f"<0x{byte:02X}>" for byte in _SPACE.encode())
_PIECE = spm.ModelProto.SentencePiece


def special_pieces(*, sentinels: int = SENTINELS, locations: int = 0) -> list[str]:
    """The special pieces in id order: sentinels (``<extra_id_0>`` last, as in T5), modes, masks, locations."""
    return [
        *(f"{_SPACE}<extra_id_{k}>" for k in reversed(range(sentinels))),
        *(f"{_SPACE}{mode}" for mode in MODES),
        *(f"{_SPACE}<mask_token{k}>" for k in range(MASK_TOKENS)),
        *(f"<loc{k:04d}>" for k in range(locations)),
    ]


def extend_proto(proto: bytes, pieces: Iterable[str]) -> bytes:
    """Append special ``pieces`` that a serialized SentencePiece model lacks; existing ids are kept.

    Idempotent.
    """
    try:
        model = spm.ModelProto.FromString(proto)
    except DecodeError as error:
        raise ValueError("not a SentencePiece model") from error
    present = {piece.piece for piece in model.pieces}
    for piece in pieces:
        if piece not in present:
            model.pieces.add(piece=piece, score=0.0, type=_PIECE.USER_DEFINED)
    extended: bytes = model.SerializeToString(deterministic=True)
    return extended


def mark_special(proto: bytes, pieces: Sequence[str]) -> bytes:
    """The model, which reads ``pieces`` that it has for itself as special tokens in texts."""
    model = spm.ModelProto.FromString(extend_proto(proto, ()))
    found = [piece for piece in model.pieces if piece.piece in pieces]
    if len(found) != len(pieces):
        raise ValueError(f"the vocabulary has no tokens {' and '.join(pieces)}")
    for piece in found:
        piece.type = _PIECE.USER_DEFINED
    marked: bytes = model.SerializeToString(deterministic=True)
    return marked


def train_proto(texts: Iterable[str], vocab_size: int, *, required_chars: str = "") -> bytes:
    """Train a lossless unigram model of at most ``vocab_size`` pieces; returns it serialized, without specials.

    There are fewer pieces only if the texts do not yield more.

    Lossless: normalisation is the identity, white space is kept, and characters outside the vocabulary become byte
    pieces. Digits may be merged, and "▁0" .. "▁99" are always pieces, for coordinates in plain text. Characters in
    ``required_chars`` become pieces even if they are rare. Deterministic.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line for text in texts for line in text.splitlines() if line.strip()),
            model_writer=model,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            model_type="unigram",
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            split_digits=False,
            character_coverage=0.9995,
            required_chars=required_chars,
            user_defined_symbols=[f"{_SPACE}{number}" for number in range(LARGEST_NUMBER + 1)],
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,  # several threads could round sums differently
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]  # without the position in SentencePiece's source
        raise ValueError(f"no vocabulary of {vocab_size} pieces, special tokens aside: {reason}") from error
    return model.getvalue()


class Tokenizer:
    """A SentencePiece model with sentinels, mode and mask tokens (and location tokens, if it has them).

    Attributes:
        proto: the serialized SentencePiece model, which is the whole tokenizer.
        pad_id, eos_id, unk_id: 0, 1 and 2 in T5's and in our vocabularies.
        bos_id: of the begin token, -1 if there is none, as in these.
        vocab_size: number of ids.
    """

    def __init__(self, proto: bytes) -> None:
        """"""
        if not proto:
            raise ValueError("not a SentencePiece model: it is empty")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except RuntimeError as error:
            raise ValueError("not a SentencePiece model") from error
        self.proto = proto
        self.pad_id: int = self._processor.pad_id()
        self.eos_id: int = self._processor.eos_id()
        self.unk_id: int = self._processor.unk_id()
        self.bos_id: int = self._processor.bos_id()
        self.vocab_size: int = self._processor.get_piece_size()
        if self.pad_id < 0 or self.eos_id < 0:
            raise ValueError("the SentencePiece model has no pad or no end-of-sentence piece")
        if not any(
            piece.type == _PIECE.USER_DEFINED for piece in reversed(spm.ModelProto.FromString(proto).pieces)
        ):
            raise ValueError("the SentencePiece model has no special tokens; read it with Tokenizer.convert")
        self._bytes = [self._id(piece) for piece in _SPACE_BYTES]

    @classmethod
    def convert(cls, proto: bytes, *, sentinels: int = SENTINELS, locations: int = 0) -> Tokenizer:
        """A tokenizer from a plain SentencePiece model (T5's, mT5's), with our special pieces."""
        return cls(extend_proto(proto, special_pieces(sentinels=sentinels, locations=locations)))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        required_chars: str = "",
        sentinels: int = SENTINELS,
        locations: int = 0,
    ) -> Tokenizer:
        """Train a lossless vocabulary (:func:`train_proto`) of at most ``vocab_size`` ids, specials included."""
        specials = len(special_pieces(sentinels=sentinels, locations=locations))
        if vocab_size <= specials:
            raise ValueError(f"vocab_size {vocab_size} leaves no room beside {specials} special tokens: raise it")
        proto = train_proto(texts, vocab_size - specials, required_chars=required_chars)
        return cls.convert(proto, sentinels=sentinels, locations=locations)

    def save(self, path: str | Path) -> None:
        """Write the SentencePiece model to a file."""
        Path(path).write_bytes(self.proto)

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, without end token.

        Raises:
            ValueError: ``text`` has an unpaired surrogate, so it is not valid Unicode.
        """
        try:
            return self._encode(text)
        except (
            RuntimeError,
            TypeError,
            UnicodeEncodeError,
        ) as error:  # which of them depends on the version of sentencepiece
            raise ValueError(f"not valid Unicode text: {text!r}") from error

    def spell(self, text: str) -> list[int]:
        """Token ids of ``text``, one for each character, or its bytes if the vocabulary lacks it.

        Without end token; :meth:`decode` gives ``text`` back wherever it does so after :meth:`encode`.
        """
        _ = self.encode(text)  # checks it
        written = f" {text}" if text.startswith(" ") else text  # decoding drops the first space
        return [token for character in written for token in self._spelled(character)]

    def _spelled(self, character: str) -> list[int]:
        if character == _SPACE and None not in self._bytes:
            return [byte for byte in self._bytes if byte is not None]
        one = self._id(_SPACE if character == " " else character)
        return list(self._inner.encode(character)) if one is None else [one]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; pad, begin, end and ids outside the vocabulary are skipped."""
        skipped = (self.pad_id, self.eos_id, self.bos_id)
        kept = [int(i) for i in ids if 0 <= i < self.vocab_size and i not in skipped]
        return str(self._processor.decode(kept))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id, for display; ids outside the vocabulary give ``<id>``."""
        return [self._processor.id_to_piece(int(i)) if 0 <= i < self.vocab_size else f"<{i}>" for i in ids]

    def bytes_of(self, token: int) -> bytes | None:
        """The bytes of a token that is a part of a character; None: it is text."""
        [piece] = self.pieces([token])
        byte = BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else None

    def roundtrips(self, text: str) -> bool:
        """Whether ``decode(encode(text)) == text``."""
        try:
            return self.decode(self.encode(text)) == text
        except ValueError:
            return False

    def lost(self, text: str) -> str:
        """The characters of ``text`` that :meth:`decode` does not give back, each once, in order of appearance."""
        encodable = text.encode(errors="ignore").decode()
        missing = Counter(text) - Counter(self.decode(self.encode(encodable)))
        return "".join(character for character in dict.fromkeys(text) if character in missing)

    def piece_id(self, piece: str) -> int:
        """Id of a piece, with its space before it if it has one.

        Raises:
            ValueError: the vocabulary does not have it.
        """
        found = self._id(piece)
        if found is None:
            raise ValueError(f"the vocabulary has no token {piece!r}")
        return found

    def sentinel_id(self, k: int) -> int:
        """Id of ``<extra_id_k>``."""
        return self._special(f"<extra_id_{k}>")

    def mode_id(self, mode: str) -> int:
        """Id of a UL2 mode token: ``[R]``, ``[S]`` or ``[X]``."""
        return self._special(mode)

    @cached_property
    def sentinel_ids(self) -> Sequence[int]:
        """Ids of all sentinels: ``<extra_id_0>``, ``<extra_id_1>``, ..."""
        ids: list[int] = []
        while (found := self._id(f"{_SPACE}<extra_id_{len(ids)}>")) is not None:
            ids.append(found)
        return tuple(ids)

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        return type(self), (self.proto,)

    def _encode(self, text: str) -> list[int]:
        if _SPACE not in text or None in self._bytes:
            return list(self._processor.encode(text))
        # SentencePiece cannot distinguish this character from a space: write it as byte pieces.
        head, *tail = text.split(_SPACE)
        ids = list(self._processor.encode(head))
        for part in tail:
            ids.extend(byte for byte in self._bytes if byte is not None)
            ids.extend(self._inner.encode(part))
        return ids

    @cached_property
    def _inner(self) -> sentencepiece.SentencePieceProcessor:
        """The same model without the dummy space in front, for the middle of a text."""
        model = spm.ModelProto.FromString(self.proto)
        model.normalizer_spec.add_dummy_prefix = False
        return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())

    def _id(self, piece: str) -> int | None:
        found: int = self._processor.piece_to_id(piece)
        return found if self._processor.id_to_piece(found) == piece else None

    def _special(self, token: str) -> int:
        try:
            return self.piece_id(_SPACE + token)
        except ValueError as error:
            raise ValueError(f"the vocabulary has no token {token}") from error
