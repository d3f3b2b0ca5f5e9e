"""Public checkpoints as model folders; the other way is in `weights/export.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from openpali.architectures.base import Stored, vision_of
from openpali.architectures.halves.t5 import is_t5
from openpali.architectures.mask_vqvae import MaskVQVAEArchitecture, is_mask_codec
from openpali.architectures.pali import assemble
from openpali.architectures.registry import architecture_for, architecture_of, find_dialect
from openpali.data.media.native import NativePreprocess
from openpali.mistakes import reason
from openpali.model.vit import resample_positions
from openpali.text.masks import CODES_PER_MASK
from openpali.weights.bundle_config import BundleConfig
from openpali.weights.files import MAIN, MASKS
from openpali.weights.write import POSITIONS, write_model


def convert(sources: Sequence[Path], out: Path, *, size: tuple[int, int] | None = None) -> Sequence[str]:
    """Write a model folder from checkpoints of other libraries; returns lines of text about it.

    Args:
        sources: one model, a folder of transformers or a file of big_vision, its tokenizer beside it; or two in any
            order: an image encoder and a language model of T5's family, which make a PaLI; or a model with tokens
            for masks and big_vision's ``vae-oid.npz``, which make a bundle.
        out: folder to write.
        size: as for :func:`write_stored`.
    """
    texts: list[Path] = []
    codecs: list[Path] = []
    others: list[Path] = []
    for source in sources:
        kind = codecs if is_mask_codec(source) else texts if is_t5(source) else others
        kind.append(source)
    if len(others) == len(texts) == 1 and not codecs:
        with _naming(sources):
            model = assemble(others[0], texts[0])
        return write_stored(model, out, size)
    if len(sources) == len(codecs) == 1:
        if size:
            raise ValueError(f"{codecs[0]} is a mask VQ-VAE, which has one size: leave out --size")
        return write_stored(MaskVQVAEArchitecture().read(codecs[0]), out)
    if texts or len(others) != 1 or len(codecs) > 1:
        raise ValueError(
            f"{' and '.join(map(str, sources))} make no model: give a whole one, with or without its mask VQ-VAE, "
            "or an image encoder and a language model"
        )
    with _naming(others):
        model = architecture_for(others[0]).read(others[0])
    if not codecs:
        return write_stored(model, out, size)
    written = find_dialect(model.facts.dialect).masks.encode([0] * CODES_PER_MASK)
    if model.tokenizer is None or len(model.tokenizer.encode(written)) != CODES_PER_MASK:
        raise ValueError(f"{others[0]} has no tokens for masks: leave out {codecs[0]}")
    codec = MaskVQVAEArchitecture().read(codecs[0])
    facts = model.facts.but(parts={**model.facts.parts, **codec.facts.parts})
    lines = [*write_stored(replace(model, facts=facts), out / MAIN, size), *write_stored(codec, out / MASKS)]
    BundleConfig(parts={part: out / part for part in (MAIN, MASKS)}).write(out)
    return lines


@contextmanager
def _naming(sources: Sequence[Path]) -> Iterator[None]:
    """Name the sources in errors of what is read from them."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, ValueError) and any(str(source) in str(error) for source in sources):
            raise
        raise ValueError(f"{' and '.join(map(str, sources))} cannot be read: {reason(error)}") from error


def write_stored(model: Stored[Any], out: Path, size: tuple[int, int] | None = None) -> Sequence[str]:
    """Write a model folder for images of ``size`` (height, width in pixels; None: its own); returns lines on it."""
    m = _resized(model, size)
    write_model(out, m.weights, m.config, preprocess=m.preprocess, tokenizer=m.tokenizer, facts=m.facts)
    return m.about


def _resized(model: Stored[Any], size: tuple[int, int] | None) -> Stored[Any]:
    """The model with position embeddings resampled for this size."""
    old = vision_of(model.config)
    if old is None:
        return model
    height, width = size or old.image_size
    architecture = architecture_of(model.config)
    tokens = architecture.visual_tokens(model.config, (height, width))
    if isinstance(model.preprocess, NativePreprocess):
        tokens = tokens if size else old.tokens
        return replace(
            model,
            config=replace(model.config, vision=replace(old, tokens=tokens)),
            preprocess=replace(model.preprocess, tokens=tokens),
            about=[*model.about, f"images keep their proportions: up to {tokens} patches"],
        )
    grid = height // old.patch_size, width // old.patch_size
    shown = f"{height} x {width} pixels, {tokens} tokens"
    resized = replace(
        model,
        config=replace(model.config, vision=replace(old, grid=grid)),
        preprocess=model.preprocess and replace(model.preprocess, height=height, width=width),
    )
    if POSITIONS not in model.weights:
        return replace(resized, about=[*model.about, f"images: {shown}"])
    method = "as trained" if grid == old.grid else "bilinear, corners aligned, no antialiasing"
    return replace(
        resized,
        weights={**model.weights, POSITIONS: resample_positions(model.weights[POSITIONS], old.grid, grid)},
        facts=resized.facts.but(positions={"method": method, "from": [*old.grid], "to": [*grid]}),
        about=[*model.about, f"position embeddings: {[*old.grid]} -> {[*grid]}, {method}: {shown}"],
    )
