"""Tokenizers of public checkpoints.

SentencePiece models, and the `tokenizer.json` that transformers makes of T5's, become our single-file tokenizer
with the same ids. T5's sentinels, and tokens that were added after them, keep the ids the model was trained with;
mode, mask and location tokens follow. The Gemmas have their own.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openpali.architectures.rules import read_json
from openpali.mistakes import reason
from openpali.text.tokenizer import BYTE, SENTINELS, Tokenizer, extend_proto, special_pieces, spm

_MODELS = ("spiece.model", "sentencepiece.model", "tokenizer.model")
_SENTINEL = re.compile(r"▁?<extra_id_(\d+)>")
_TYPES = spm.ModelProto.SentencePiece


def read_tokenizer(folder: Path, *, locations: int = 0) -> tuple[Tokenizer, int]:
    """The tokenizer of a checkpoint, extended by the tokens PaLI needs.

    Args:
        folder: holds a SentencePiece model (``spiece.model``, ``sentencepiece.model``, ``tokenizer.model``) or a
            ``tokenizer.json``; the former is preferred. The other files, if present, say how many sentinels follow
            (umT5 has 300), and which tokens were added to the vocabulary: unlike in transformers, a space before
            one of those is a token of its own.
        locations: number of location tokens to add.

    Returns:
        The tokenizer, and how many of its ids the checkpoint knows; all later ids are new.
    """
    config = read_json(folder / "tokenizer_config.json")
    path = next((folder / name for name in _MODELS if (folder / name).is_file()), None)
    if path is not None:
        proto = path.read_bytes()
    elif (folder / "tokenizer.json").is_file():
        path = folder / "tokenizer.json"
        proto = to_sentencepiece(read_json(path), config, str(path))
    else:
        raise FileNotFoundError(f"no tokenizer in {folder}: neither {', '.join(_MODELS)} nor tokenizer.json")
    added = _added_tokens(folder, config)
    declared = _sentinels(config, added)
    count = max(declared, default=SENTINELS - 1) + 1
    try:
        first = len(spm.ModelProto.FromString(extend_proto(proto, ())).pieces)
        others = {i: token for i, token in added.items() if i >= first and not _SENTINEL.fullmatch(token)}
        own = extend_proto(proto, [*special_pieces(sentinels=count)[:count], *(others[i] for i in sorted(others))])
        tokenizer = Tokenizer.convert(own, sentinels=count, locations=locations)
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


def to_sentencepiece(described: Mapping[str, Any], config: Mapping[str, Any], name: str) -> bytes:
    """A serialized SentencePiece model with the pieces, scores and normalisation of a ``tokenizer.json``.

    Args:
        described: the content of ``tokenizer.json``.
        config: the content of ``tokenizer_config.json``, which names pad and EOS; empty if there is none.
        name: name of the file in error messages.
    """
    try:
        model = described["model"]
        if model["type"] != "Unigram":
            raise ValueError(
                f"a {model['type']} model: T5's family has unigram models; give its SentencePiece model"
            )
        pieces = _pieces(described)
        unknown = model["unk_id"]
        ids = {piece: i for i, (piece, _) in enumerate(pieces)}
        pad, eos = content_of(config, "pad_token", "<pad>"), content_of(config, "eos_token", "</s>")
        proto = spm.ModelProto()
        trainer = proto.trainer_spec
        trainer.model_type = spm.TrainerSpec.UNIGRAM
        trainer.vocab_size = len(pieces)
        trainer.byte_fallback = bool(model.get("byte_fallback"))
        trainer.unk_id, trainer.pad_id, trainer.eos_id, trainer.bos_id = unknown, ids[pad], ids[eos], -1
        trainer.unk_piece, trainer.pad_piece, trainer.eos_piece = pieces[unknown][0], pad, eos
        _normalise_alike(described, proto.normalizer_spec)
        for i, (piece, score) in enumerate(pieces):
            kind = _TYPES.NORMAL
            if i == unknown:
                kind = _TYPES.UNKNOWN
            elif piece in (pad, eos):
                kind = _TYPES.CONTROL
            elif trainer.byte_fallback and BYTE.fullmatch(piece):
                kind = _TYPES.BYTE
            elif found := _SENTINEL.fullmatch(piece):
                kind, piece = _TYPES.USER_DEFINED, f"▁<extra_id_{found[1]}>"
            elif i >= len(model["vocab"]):
                kind = _TYPES.USER_DEFINED
            proto.pieces.add(piece=piece, score=score, type=kind)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be read: {reason(error)}") from error
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def _pieces(described: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Pieces and scores in id order, including those added after training."""
    pieces = [(str(piece), float(score)) for piece, score in described["model"]["vocab"]]
    added = sorted((token["id"], token["content"]) for token in described.get("added_tokens") or [])
    for i, content in added:
        if i > len(pieces):
            raise ValueError(f"its added token {content} has id {i}, and there are unused ids before it")
        if i == len(pieces):
            pieces.append((content, 0.0))
    return pieces


def _normalise_alike(described: Mapping[str, Any], spec: Any) -> None:
    """Fill SentencePiece's ``NormalizerSpec``."""
    spec.name = "converted"
    spec.add_dummy_prefix = spec.remove_extra_whitespaces = spec.escape_whitespaces = True
    for step in _flat(described.get("normalizer"), "normalizers"):
        if step["type"] == "Precompiled":
            spec.precompiled_charsmap = base64.b64decode(step["precompiled_charsmap"])
        elif step["type"] not in ("Replace", "Strip"):  # Replace and Strip handle repeated and outer spaces
            raise ValueError(f"its normalisation has a step {step['type']!r}")
    for step in _flat(described.get("pre_tokenizer"), "pretokenizers"):
        if step["type"] == "Metaspace":
            prefix = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            spec.add_dummy_prefix = prefix != "never"
        elif step["type"] != "WhitespaceSplit":
            raise ValueError(f"its pre-tokenizer has a step {step['type']!r}")


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


def _flat(step: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    if step is None:
        return []
    return list(step[key]) if step["type"] == "Sequence" else [step]


def content_of(config: Mapping[str, Any], key: str, default: str) -> str:
    """The text of a special token that ``tokenizer_config.json`` names, in any of its forms."""
    token = config.get(key) or default
    return str(token["content"]) if isinstance(token, dict) else str(token)
