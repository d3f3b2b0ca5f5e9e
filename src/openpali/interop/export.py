"""Export to checkpoints of transformers' own classes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from openpali.data.media.images import FILTERS, Preprocess
from openpali.data.pipeline.encode import Wording
from openpali.interop.paligemma import write_paligemma
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

_SIGLIP = "SiglipImageProcessor"
_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers


class Inexpressible(UserWarning):
    """Something of a model that transformers' own classes do otherwise."""


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
        texts = _siglip_tokenizer(source.tokenizer, source.wording, config.text.length)
        processor = {**_preprocessor(source.preprocess), "tokenizer_config.json": texts}
        _write(out, *write_siglip(weights, config), processor)
        source.tokenizer.save(out / "spiece.model")
        return [out]
    if isinstance(config, PaliGemmaConfig):
        processor = {
            **_preprocessor(source.preprocess),
            **_gemma_tokenizer(source.tokenizer, "PaliGemmaProcessor", image_token="<image>"),
        }
        processor["preprocessor_config.json"]["image_seq_length"] = config.vision.grid[0] ** 2
        _write(out, *write_paligemma(weights, config), processor)
        source.tokenizer.save(out / "tokenizer.model")
        return [out]
    if isinstance(config, T5Gemma2Config):
        rows, columns = config.vision.grid
        tokens = {"image_token": "<image_soft_token>", "boi_token": GEMMA3_PIECES[0], "eoi_token": GEMMA3_PIECES[1]}
        processor = {
            **_preprocessor(source.preprocess, "Gemma3ImageProcessor"),
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
    _write(out / "vision", *write_vit(vit, config.vision), _preprocessor(source.preprocess))
    _write(out / "text", *write_t5(text, config.text), {"tokenizer_config.json": _t5_tokenizer(source.tokenizer)})
    source.tokenizer.save(out / "text" / "spiece.model")
    return [out / "vision", out / "text"]


def _write(folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    write_tensors(folder, weights)
    for name, content in {"config.json": config, **more}.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _preprocessor(preprocess: Preprocess | None, kind: str = _SIGLIP) -> dict[str, Any]:
    if preprocess is None:
        return {}
    height, width, (mode, antialias) = preprocess.height, preprocess.width, FILTERS[preprocess.filter]
    side = {"height": height, "width": width}
    size: dict[str, Any] = {"size": side}
    if not antialias:
        _warn(
            "transformers resizes images with antialiasing, and this model's are resized without: give it images "
            f"of {height} x {width} pixels, resized by OpenPaLI's Preprocess"
        )
    if preprocess.policy == "pad" and kind == _SIGLIP:
        # It pads at the right and bottom, after it normalises: with 0, which is our grey.
        size = {"size": {"max_height": height, "max_width": width}, "do_pad": True, "pad_size": side}
    elif preprocess.policy == "pad":
        _warn(
            f"transformers' {kind} squashes images, and this model's keep their proportions: pad them to a square "
            "first, with grey at the right and bottom"
        )
    described = {
        "image_processor_type": kind,
        **size,
        "resample": _RESAMPLE[mode],
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    return {"preprocessor_config.json": described}


def _warn(message: str) -> None:
    warnings.warn(message, Inexpressible, stacklevel=4)


def _siglip_tokenizer(tokenizer: Tokenizer, wording: Wording, length: int) -> dict[str, Any]:
    """What makes transformers' tokenizer normalise texts as ours, as far as it can, and tells ``convert`` how."""
    if wording != "canonical":
        _warn(
            "transformers' SiglipTokenizer removes punctuation, which this model's texts keep: leave it out there, "
            "or embed texts with OpenPaLI"
        )
    eos, unk = tokenizer.pieces([tokenizer.eos_id, tokenizer.unk_id])
    return {
        "tokenizer_class": "SiglipTokenizer",
        "do_lower_case": wording != "as is",
        "wording": wording,
        "model_max_length": length,
        "pad_token": eos,
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
