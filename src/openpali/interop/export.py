"""Export to checkpoints of transformers' own classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from openpali.architectures.facts import Facts
from openpali.interop.paligemma import write_paligemma
from openpali.interop.preprocessor import FILE, Inexpressible, describe_preprocess, warn_inexpressible
from openpali.interop.siglip import write_siglip, write_vit
from openpali.interop.t5 import write_t5
from openpali.interop.t5gemma2 import write_t5gemma2
from openpali.model.pali import PaliModelConfig
from openpali.model.paligemma import PaliGemmaConfig
from openpali.model.siglip import SigLIPConfig
from openpali.model.t5gemma2 import T5Gemma2Config
from openpali.text.tokenizer import GEMMA3_PIECES, Tokenizer
from openpali.weights.format import ModelFolder
from openpali.weights.tensors import write_tensors

__all__ = ["Inexpressible", "export"]


def export(source: ModelFolder, out: Path) -> list[Path]:
    """Write a SigLIP as `SiglipModel`, the halves of a PaLI as `SiglipVisionModel` and T5, the others as a whole.

    The others are PaliGemma and T5Gemma 2. T5 with a bias in each layer is written as umT5. Of a PaLI, the
    projection is left out; ``interop.transformers`` opens it as a whole. A warning (:class:`Inexpressible`) says
    what transformers does otherwise.

    Args:
        source: the model.
        out: folder to write; the halves of a PaLI go into ``vision`` and ``text`` within it.

    Returns:
        The folders written. :func:`openpali.interop.parts.assemble` reads them again.

    Raises:
        ValueError: it is another kind of model, or its images are not square.
    """
    weights, config = source.weights(), source.config
    if isinstance(config, SigLIPConfig):
        texts = _siglip_tokenizer(source.tokenizer, source.facts, config.text.length)
        processor = {**describe_preprocess(source.preprocess), "tokenizer_config.json": texts}
        _write(out, *write_siglip(weights, config), processor)
        source.tokenizer.save(out / "spiece.model")
        return [out]
    if isinstance(config, PaliGemmaConfig):
        processor = {
            **describe_preprocess(source.preprocess),
            **_gemma_tokenizer(source.tokenizer, "PaliGemmaProcessor", image_token="<image>"),
        }
        processor[FILE]["image_seq_length"] = config.vision.grid[0] ** 2
        _write(out, *write_paligemma(weights, config), processor)
        source.tokenizer.save(out / "tokenizer.model")
        return [out]
    if isinstance(config, T5Gemma2Config):
        rows, columns = config.vision.grid
        tokens = {"image_token": "<image_soft_token>", "boi_token": GEMMA3_PIECES[0], "eoi_token": GEMMA3_PIECES[1]}
        processor = {
            **describe_preprocess(source.preprocess, "Gemma3ImageProcessor"),
            **_gemma_tokenizer(source.tokenizer, "Gemma3Processor", **tokens),
            "processor_config.json": {
                "processor_class": "Gemma3Processor",
                "image_seq_length": rows * columns // config.pool**2,
            },
        }
        _write(out, *write_t5gemma2(weights, config), processor)
        source.tokenizer.save(out / "tokenizer.model")
        return [out]
    if not isinstance(config, PaliModelConfig):
        raise ValueError(
            f"{source.folder} is a {source.kind}: only siglip, pali, paligemma and t5gemma2 can be exported to "
            "transformers"
        )
    vit = {key.removeprefix("vit."): value for key, value in weights.items() if key.startswith("vit.")}
    text = {key.removeprefix("text."): value for key, value in weights.items() if key.startswith("text.")}
    _write(out / "vision", *write_vit(vit, config.vision), describe_preprocess(source.preprocess))
    _write(out / "text", *write_t5(text, config.text), {"tokenizer_config.json": _t5_tokenizer(source.tokenizer)})
    source.tokenizer.save(out / "text" / "spiece.model")
    return [out / "vision", out / "text"]


def _write(folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    write_tensors(folder, weights)
    for name, content in {"config.json": config, **more}.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _siglip_tokenizer(tokenizer: Tokenizer, facts: Facts, length: int) -> dict[str, Any]:
    """What makes transformers' tokenizer normalise and pad texts as ours, as far as it can, and tells convert."""
    wording = facts.normalisation
    if wording != "canonical":
        warn_inexpressible(
            "transformers' SiglipTokenizer removes punctuation, which this model's texts keep: leave it out there, "
            "or embed texts with OpenPaLI"
        )
    pad, eos, unk = tokenizer.pieces([tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id])
    return {
        "tokenizer_class": "SiglipTokenizer",
        "do_lower_case": wording != "as is",
        "wording": wording,
        "model_max_length": length,
        "pad_token": eos if facts.padding == "eos" else pad,
        "eos_token": eos,
        "unk_token": unk,
    }


def _gemma_tokenizer(tokenizer: Tokenizer, processor: str, **image_tokens: str) -> dict[str, Any]:
    """All special tokens are pieces of the SentencePiece model, except what stands for a visual token."""
    ids = {"pad_token": tokenizer.pad_id, "eos_token": tokenizer.eos_id, "bos_token": tokenizer.bos_id}
    described = {
        "tokenizer_class": "GemmaTokenizer",
        "processor_class": processor,
        "add_bos_token": processor != "PaliGemmaProcessor",  # which adds it itself
        **dict(zip(ids, tokenizer.pieces(ids.values()), strict=True)),
        "extra_special_tokens": image_tokens,
    }
    return {"tokenizer_config.json": described}


def _t5_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """All special tokens are pieces of the SentencePiece model, so ``extra_ids`` is 0."""
    pad, eos, unk = tokenizer.pieces([tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id])
    return {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "pad_token": pad, "eos_token": eos, "unk_token": unk}
