"""A PaLI from a public image encoder and a public language model: what PaLI-3 does before its first stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openpali.bundle import write_bundle
from openpali.data.images import Preprocess
from openpali.interop.big_vision import read_npz
from openpali.interop.siglip import ImageEncoder, read_siglip
from openpali.interop.t5 import HeadPolicy, LanguageModel, read_t5
from openpali.interop.tokenizer import read_tokenizer
from openpali.model.pali import Pali, PaliConfig
from openpali.model.vit import ViTConfig, resample_positions


@dataclass(frozen=True)
class Parts:
    """Both halves as they were read; ``facts`` is what is recorded of how they were put together."""

    vision: ImageEncoder
    text: LanguageModel
    facts: dict[str, Any]


def read_image_encoder(source: Path) -> ImageEncoder:
    """SigLIP from a folder of transformers, or from a `.npz` file of big_vision (or a folder with one).

    Raises:
        FileNotFoundError, ValueError: see :func:`read_siglip` and :func:`read_npz`.
    """
    if source.is_dir() and not (source / "config.json").is_file():
        files = sorted(source.glob("*.npz"))
        if len(files) != 1:
            raise FileNotFoundError(f"no image encoder in {source}: neither config.json nor one .npz file")
        source = files[0]
    return read_npz(source) if source.suffix == ".npz" or source.is_file() else read_siglip(source)


def assemble(
    vision: Path,
    text: Path,
    out: Path,
    *,
    size: tuple[int, int] | None = None,
    head: HeadPolicy = "auto",
    locations: int = 0,
    seed: int = 0,
) -> Parts:
    """Write a PaLI folder: the ViT, a fresh projection, the encoder-decoder with an extended vocabulary.

    Args:
        vision: what :func:`read_image_encoder` takes; a MAP head and a text tower are read, checked and left out.
        text: a T5-family checkpoint of transformers with its tokenizer.
        out: folder to write.
        size: height and width of pictures in pixels, multiples of the patch; by default as the ViT was trained.
            Position embeddings are resampled to it.
        head: see :func:`read_t5`.
        locations: location tokens to add to the vocabulary; coordinates are plain text without.
        seed: of the projection and of the rows of new tokens.

    Raises:
        FileNotFoundError, ValueError: a part is not there, does not fit (all tensors are listed), or the size is
            no multiple of the patch.
    """
    image, language = read_image_encoder(vision), read_t5(text, head)
    tokenizer, known = read_tokenizer(text, locations=locations)
    if known > language.config.vocab_size:
        raise ValueError(
            f"{text}: its tokenizer has {known} ids and its embedding {language.config.vocab_size} rows: "
            "they do not belong together"
        )
    grid = _grid(image.vision, size)
    generator = torch.Generator().manual_seed(seed)
    config = PaliConfig(replace(image.vision, grid=grid), replace(language.config, vocab_size=tokenizer.vocab_size))
    vit = image.vit
    vit["positions"] = resample_positions(vit["positions"], image.vision.grid, grid)
    texts = dict(language.weights)
    for name in ("embed.weight", "head.weight"):
        if name in texts:
            texts[name] = extend_rows(texts[name], known, tokenizer.vocab_size, generator)
    facts = {
        "parts": {"vision": str(vision), "text": str(text), "head": language.head},
        "vocabulary": {"adopted": known, "new": tokenizer.vocab_size - known, "seed": seed},
        "positions": {
            "method": "bilinear, corners aligned, no antialiasing" if grid != image.vision.grid else "as trained",
            "from": list(image.vision.grid),
            "to": list(grid),
        },
    }
    write_bundle(
        out,
        {
            **{f"vit.{key}": value for key, value in vit.items()},
            **{f"project.{key}": value for key, value in _fresh_projection(config, seed).items()},
            **{f"text.{key}": value for key, value in texts.items()},
        },
        config,
        preprocess=Preprocess(*config.vision.image_size),
        tokenizer=tokenizer,
        facts=facts,
    )
    return Parts(image, language, facts)


def extend_rows(matrix_VD: Tensor, known: int, size: int, generator: torch.Generator) -> Tensor:
    """Keep the first ``known`` rows of an embedding or head and draw the others up to ``size``, ``[size, D]``.

    New rows are normal with the mean and spread that each column has over the known ones, so that a new token is
    neither louder nor likelier than an average one.
    """
    rows = matrix_VD[:known].float()
    noise = torch.randn(size - known, rows.shape[1], generator=generator)
    fresh = rows.mean(0) + noise * rows.std(0)
    return torch.cat([matrix_VD[:known], fresh.to(matrix_VD.dtype)])


def _fresh_projection(config: PaliConfig, seed: int) -> dict[str, Tensor]:
    """As :class:`Pali` initialises it."""
    hollow = PaliConfig(
        replace(config.vision, depth=0, grid=(1, 1)),
        replace(config.text, vocab_size=1, encoder_layers=0, decoder_layers=0),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Pali(hollow).project.state_dict()


def _grid(vision: ViTConfig, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        return vision.grid
    patch = vision.patch_size
    if min(size) < patch or size[0] % patch or size[1] % patch:
        nearest = " x ".join(str(max(1, round(side / patch)) * patch) for side in size)
        raise ValueError(
            f"{size[0]} x {size[1]} pixels do not divide into patches of {patch}: take multiples of it, "
            f"as {nearest}"
        )
    return size[0] // patch, size[1] // patch
