"""Byte-level byte-pair encoding, as GPT-2 has it and BART and RoBERTa after it.

A text is cut into words, the UTF-8 bytes of each are merged into pieces, the earliest merge of the table first. The
whole tokenizer is one JSON object, the `tokenizer.json` of the library `tokenizers`, in which each byte has a
printable character.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

from openpali.mistakes import reason
from openpali.text.tokenizer import Tokenizer

ROLES: Mapping[str, str] = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}
"""Role -> token, in BART's vocabularies; the file does not say which is which."""
_REQUIRED = {"add_prefix_space": False, "use_regex": True}
_SEPARATORS = r"\x1c-\x1f"  # white space for Python, but not for Unicode
_SPACE = rf"[^\S{_SEPARATORS}]"
_CACHED = 1 << 15  # words whose pieces are not looked for again


class BytePairTokenizer(Tokenizer):
    """A tokenizer from the bytes of a `tokenizer.json`; attributes as in :class:`Tokenizer`."""

    def __init__(self, proto: bytes) -> None:
        """"""
        self.proto = proto
        try:
            self.described: dict[str, Any] = json.loads(proto)
            model, cutter = self.described["model"], self.described["pre_tokenizer"]
            kinds = model["type"], cutter["type"], self.described.get("normalizer")
            if kinds != ("BPE", "ByteLevel", None) or any(cutter.get(k, v) != v for k, v in _REQUIRED.items()):
                raise ValueError("only byte-level BPE without a normaliser and a prefix can be read")
            self._ids: dict[str, int] = dict(model["vocab"])
            merges = (tuple(each.split(" ")) if isinstance(each, str) else tuple(each) for each in model["merges"])
            self._ranks = {pair: rank for rank, pair in enumerate(merges)}
            added = {token["content"]: token for token in self.described.get("added_tokens") or []}
            self._ids |= {content: token["id"] for content, token in added.items()}
            pad, bos, eos, unk = (self._ids[piece] for piece in ROLES.values())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a tokenizer.json of BART's kind: {reason(error)}") from error
        self.pad_id, self.bos_id, self.eos_id, self.unk_id = pad, bos, eos, unk
        self.vocab_size = max(self._ids.values()) + 1
        characters = {character: byte for byte, character in _characters().items()}
        self._bytes_of = {
            i: piece.encode() if piece in added else bytes(characters[c] for c in piece)
            for piece, i in self._ids.items()
        }
        self._specials = re.compile(
            "|".join(_found_in_texts(added[piece]) for piece in sorted(added, key=len, reverse=True)) or r"(?!)"
        )
        self._merged = lru_cache(_CACHED)(self._merge)

    def extended(self, pieces: Iterable[str]) -> BytePairTokenizer:
        """The tokenizer with more special tokens, those that it lacks; ids that it has are kept."""
        missing = [piece for piece in pieces if piece not in self._ids]
        if not missing:
            return self
        plain = {"special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
        more = [{"id": i, "content": piece, **plain} for i, piece in enumerate(missing, self.vocab_size)]
        added = [*(self.described.get("added_tokens") or []), *more]
        return BytePairTokenizer(json.dumps({**self.described, "added_tokens": added}).encode())

    def spell(self, text: str) -> list[int]:
        return [token for character in text for token in self.encode(character)]

    def decode(self, ids: Iterable[int]) -> str:
        skipped = (self.pad_id, self.eos_id, self.bos_id)
        kept = (self._bytes_of.get(int(i), b"") for i in ids if i not in skipped)
        return b"".join(kept).decode(errors="replace")

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [self._bytes_of.get(int(i), b"<%d>" % i).decode(errors="replace") for i in ids]

    def bytes_of(self, token: int) -> bytes | None:
        """"""
        own = self._bytes_of.get(token, b"")
        with suppress(UnicodeDecodeError):
            own.decode()
            return None
        return own

    def _encode(self, text: str) -> list[int]:
        found, start = [], 0
        for match in self._specials.finditer(text):
            found += [*self._words(text[start : match.start()]), self._ids[match[0].strip()]]
            start = match.end()
        return [*found, *self._words(text[start:])]

    def _words(self, text: str) -> list[int]:
        characters = _characters()
        words = ("".join(characters[byte] for byte in word.encode()) for word in _word().findall(text))
        return [token for word in words for token in self._merged(word)]

    def _merge(self, word: str) -> Sequence[int]:
        """Ids of the pieces of a word, which is written in the characters of its bytes."""
        parts = [*word]
        while len(parts) > 1:
            pairs = [*pairwise(parts)]
            first = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if first not in self._ranks:
                break
            merged, i = [], 0
            while i < len(parts):
                whole = i < len(pairs) and pairs[i] == first
                merged.append("".join(first) if whole else parts[i])
                i += 2 if whole else 1
            parts = merged
        return [self._ids.get(part, self.unk_id) for part in parts]

    def _id(self, piece: str) -> int | None:
        return self._ids.get(piece)


def _found_in_texts(token: Mapping[str, Any]) -> str:
    """The pattern of a special token, which may take the white space beside it."""
    before, after = (f"{_SPACE}*" if token.get(side) else "" for side in ("lstrip", "rstrip"))
    return f"{before}{re.escape(token['content'])}{after}"


@cache
def _characters() -> Mapping[int, str]:
    """The printable character of each byte: itself, or the next one from U+0100 on."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in own)
    return {**{byte: chr(byte) for byte in own}, **{byte: chr(0x100 + i) for i, byte in enumerate(others)}}


@cache
def _word() -> re.Pattern[str]:
    r"""A word, with the space before it: letters, digits, or others; ``\p{L}`` and ``\p{N}`` for :mod:`re`."""
    codes = range(sys.maxunicode + 1)
    numbers = "".join(chr(code) for code in codes if unicodedata.category(chr(code)) in ("Nl", "No"))
    letter, digit, other = rf"[^\W\d_{numbers}]", rf"[\d{numbers}]", rf"(?:[^\s\w]|[_{_SEPARATORS}])"
    return re.compile(
        rf"'(?:[stmd]|re|ve|ll)| ?{letter}+| ?{digit}+| ?{other}+|{_SPACE}+(?![\S{_SEPARATORS}])|{_SPACE}+"
    )
