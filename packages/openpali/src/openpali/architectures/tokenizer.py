"""Tokenizers of public checkpoints.

SentencePiece models become our single-file tokenizer with the same ids. T5's sentinels, and tokens that were added
after them, keep the ids the model was trained with; mode, mask and location tokens follow. The Gemmas have theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openpali.architectures.rules import read_json
from openpali.text.tokenizer import SENTINELS, Tokenizer, extend_proto, special_pieces, spm

_MODELS = ("spiece.model", "sentencepiece.model", "tokenizer.model")
_SENTINEL = re.compile(r"▁?<extra_id_(\d+)>")
_TYPES = spm.ModelProto.SentencePiece


def read_tokenizer(folder: Path) -> tuple[Tokenizer, int]:
    """The tokenizer of a checkpoint, extended by the tokens PaLI needs.

    Args:
        folder: holds a SentencePiece model (``spiece.model``, ``sentencepiece.model``, ``tokenizer.model``).
            Files of transformers beside it say how many sentinels follow (umT5 has 300), and which tokens were
            added to the vocabulary: unlike in transformers, a space before one of those is a token of its own.

    Returns:
        The tokenizer, and how many of its ids the checkpoint knows; all later ids are new.
    """
    config = read_json(folder / "tokenizer_config.json")
    path = next((folder / name for name in _MODELS if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"no tokenizer in {folder}: put its SentencePiece model there ({', '.join(_MODELS)}), or that of the "
            "model that it was tuned from"
        )
    proto = path.read_bytes()
    added = _added_tokens(folder, config)
    declared = _sentinels(config, added)
    count = max(declared, default=SENTINELS - 1) + 1
    try:
        first = len(spm.ModelProto.FromString(extend_proto(proto, ())).pieces)
        others = {i: token for i, token in added.items() if i >= first and not _SENTINEL.fullmatch(token)}
        own = extend_proto(proto, [*special_pieces(sentinels=count)[:count], *(others[i] for i in sorted(others))])
        tokenizer = Tokenizer.convert(own, sentinels=count)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    named = {i: f"▁<extra_id_{k}>" for k, i in declared.items() if i is not None} | others
    if moved := {i: token for i, token in named.items() if tokenizer.piece_id(token) != i}:
        listed = ", ".join(f"{t.removeprefix('▁')} {i} -> {tokenizer.piece_id(t)}" for i, t in moved.items())
        raise ValueError(f"{path}: added tokens would change their ids: {listed}")
    return tokenizer, len(spm.ModelProto.FromString(own).pieces)


def require_rows(source: Path, ids: int, rows: int) -> None:
    """Check that the embedding of a checkpoint has a row for each id of the tokenizer beside it."""
    if ids > rows:
        raise ValueError(
            f"{source}: its tokenizer has {ids} ids and its embedding {rows} rows: put the tokenizer of this "
            "checkpoint beside it"
        )


def read_gemma_tokenizer(folder: Path, convert: Callable[[bytes], Tokenizer]) -> Tokenizer:
    """A tokenizer of Gemma's vocabulary, made by ``convert`` of a SentencePiece model."""
    named = (*_MODELS, *sorted((path.name for path in folder.glob("*_tokenizer.model")), reverse=True))
    path = next((folder / name for name in named if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no tokenizer in {folder}: put Gemma's SentencePiece model there, {_MODELS[-1]}")
    try:
        tokenizer = convert(path.read_bytes())
        tokenizer.piece_id("\n")
        if tokenizer.bos_id < 0:
            raise ValueError("the vocabulary has no begin token")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return tokenizer


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[int, str]:
    """Id -> token that was added to a vocabulary, in any of the files that transformers writes."""
    added = {int(i): token for token, i in read_json(folder / "added_tokens.json").items()}
    added |= {int(i): token["content"] for i, token in (config.get("added_tokens_decoder") or {}).items()}
    listed = read_json(folder / "tokenizer.json").get("added_tokens") or []
    return added | {token["id"]: token["content"] for token in listed}


def _sentinels(config: Mapping[str, Any], added: Mapping[int, str]) -> dict[int, int | None]:
    """Sentinel -> its id, or None if the configuration names it without one."""
    named: dict[int, int | None] = {}
    listed = [*(config.get("additional_special_tokens") or []), *(config.get("extra_special_tokens") or [])]
    for token in listed:
        content = token.get("content", "") if isinstance(token, dict) else str(token)
        if found := _SENTINEL.fullmatch(content):
            named[int(found[1])] = None
    named |= dict.fromkeys(range(int(config.get("extra_ids") or 0)))
    return named | {int(found[1]): i for i, token in added.items() if (found := _SENTINEL.fullmatch(token))}


def describe_tokenizer(tokenizer: Tokenizer, kind: str, **more: Any) -> dict[str, Any]:
    """The description of transformers' tokenizer of class ``kind``, with ``more`` settings: all special tokens are
    pieces of the SentencePiece model."""
    ids = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "eos", "bos", "unk")}
    named = {f"{name}_token": tokenizer.pieces([i])[0] for name, i in ids.items() if i >= 0}
    return {"tokenizer_class": kind, **named, **more}


def content_of(config: Mapping[str, Any], key: str, default: str) -> str:
    """The text of a special token that ``tokenizer_config.json`` names, in any of its forms."""
    token = config.get(key) or default
    return str(token["content"]) if isinstance(token, dict) else str(token)
