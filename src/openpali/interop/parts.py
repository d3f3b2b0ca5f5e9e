"""A PaLI from a public image encoder and a public language model, as PaLI-3 starts before its first stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from openpali.architectures.facts import Facts
from openpali.data.pipeline.encode import Wording
from openpali.interop.big_vision import read_npz
from openpali.interop.names import read_json
from openpali.interop.preprocessor import read_preprocess
from openpali.interop.siglip import ImageEncoder, read_siglip
from openpali.interop.t5 import HeadPolicy, LanguageModel, read_t5
from openpali.interop.tokenizer import content_of, read_tokenizer
from openpali.model.init import materialise
from openpali.model.pali import PaliModel, PaliModelConfig
from openpali.model.siglip import SigLIPConfig
from openpali.model.vit import ViTConfig, resample_positions
from openpali.text.tokenizer import Tokenizer
from openpali.weights.format import write_model


@dataclass(frozen=True)
class Parts:
    """The parts read from checkpoints, and ``facts`` recorded about them. ``text`` is None for a SigLIP alone."""

    vision: ImageEncoder
    text: LanguageModel | None
    facts: Facts

    def describe(self) -> list[str]:
        """Lines of text about adopted and new parts."""
        v, positions, words = self.vision, self.facts.positions, self.facts.vocabulary
        size = " x ".join(str(side) for side in v.image_size)
        towers = "image encoder" + (" and text tower" if v.text else "") + (", MAP head" if v.has_pool else "")
        lines = [f"{towers}: {len(v.weights)} tensors, {v.vision.depth} layers of {v.vision.width}, {size} pixels"]
        if v.dropped:
            lines.append(f"left out: {', '.join(v.dropped)}")
        if v.image_size != v.vision.image_size:
            whole = " x ".join(str(side) for side in v.vision.image_size)
            lines.append(f"of {size} pixels, whole patches cover {whole}")
        if self.text is not None:
            t = self.text.config
            lines.append(
                f"language model: {len(self.text.weights)} tensors, {t.encoder_layers} + {t.decoder_layers} layers "
                f"of {t.d_model}; its head is {self.text.head}"
            )
        lines.append(f"position embeddings: {positions['from']} -> {positions['to']}, {positions['method']}")
        lines.append(f"vocabulary: {words['adopted']} tokens adopted, {words['new']} new")
        return lines


def read_image_encoder(source: Path) -> ImageEncoder:
    """SigLIP from a transformers folder, or from a big_vision `.npz` file (or a folder with one).

    Raises:
        FileNotFoundError, ValueError: see :func:`read_siglip` and :func:`read_npz`.
    """
    if source.is_dir() and not (source / "config.json").is_file():
        files = sorted(source.glob("*.npz"))
        if len(files) != 1:
            raise FileNotFoundError(f"no image encoder in {source}: neither config.json nor one .npz file")
        source = files[0]
    return read_npz(source) if source.suffix == ".npz" or source.is_file() else read_siglip(source)


def parse_head(text: str) -> HeadPolicy:
    """A head policy by name, see :func:`read_t5`.

    Raises:
        ValueError: there is no such policy.
    """
    if text not in get_args(HeadPolicy):
        raise ValueError(f"head {text!r} must be one of {', '.join(get_args(HeadPolicy))}")
    return cast(HeadPolicy, text)


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
    """Write a PaLI folder: the ViT, a new projection, and the encoder-decoder with an extended vocabulary.

    Args:
        vision: a source for :func:`read_image_encoder`; a MAP head and a text tower are read, checked and dropped.
        text: a T5-family checkpoint of transformers with its tokenizer.
        out: folder to write.
        size: height and width of images in pixels, multiples of the patch size; by default the ViT's.
            Position embeddings are resampled.
        head: see :func:`read_t5`.
        locations: number of location tokens to add to the vocabulary; with 0, coordinates are plain text.
        seed: of the projection and of the embeddings of new tokens.

    Raises:
        FileNotFoundError: a part does not exist.
        ValueError: a part does not fit, or the size is not a multiple of the patch size.
    """
    image, language = read_image_encoder(vision), read_t5(text, head)
    tokenizer, known = read_tokenizer(text, locations=locations)
    if known > language.config.vocab_size:
        raise ValueError(
            f"{text}: its tokenizer has {known} ids and its embedding {language.config.vocab_size} rows: "
            "put the tokenizer of this checkpoint beside it"
        )
    generator = torch.Generator().manual_seed(seed)
    vit = image.vit
    vit["positions"], placed = at_size(image.vision, vit["positions"], size)
    config = PaliModelConfig(
        replace(image.vision, grid=placed), replace(language.config, vocab_size=tokenizer.vocab_size)
    )
    texts = dict(language.weights)
    for name in ("embed.weight", "head.weight"):
        if name in texts:
            texts[name] = extend_rows(texts[name], known, tokenizer.vocab_size, generator)
    facts = Facts(
        parts={"vision": str(vision), "text": str(text), "head": language.head},
        vocabulary={"adopted": known, "new": tokenizer.vocab_size - known, "seed": seed},
        positions=describe_positions(image.vision.grid, placed),
    )
    weights = {
        **{f"vit.{key}": value for key, value in vit.items()},
        **{f"project.{key}": value for key, value in _new_projection(config, seed).items()},
        **{f"text.{key}": value for key, value in texts.items()},
    }
    preprocess = read_preprocess(vision, *config.vision.image_size)
    write_model(out, weights, config, preprocess=preprocess, tokenizer=tokenizer, facts=facts)
    return Parts(image, language, facts)


def adopt_siglip(vision: Path, out: Path, *, size: tuple[int, int] | None = None, seed: int = 0) -> Parts:
    """Write a SigLIP folder from a checkpoint with both towers and its tokenizer beside it.

    Args:
        vision, out, size: as for :func:`assemble`.
        seed: of the embeddings of special tokens, which are added to every tokenizer.

    Raises:
        FileNotFoundError, ValueError: as for :func:`assemble`; or the checkpoint has no text tower.
    """
    image = read_image_encoder(vision)
    if image.text is None:
        raise ValueError(f"{vision} has only an image encoder: give a language model to make a PaLI (--text)")
    beside = vision if vision.is_dir() else vision.parent
    tokenizer, known = read_tokenizer(beside)
    vit = image.vit
    vit["positions"], placed = at_size(image.vision, vit["positions"], size)
    known = min(known, image.text.vocab_size)
    config = SigLIPConfig(replace(image.vision, grid=placed), replace(image.text, vocab_size=tokenizer.vocab_size))
    weights = {**image.weights, **{f"vit.{key}": value for key, value in vit.items()}}
    generator = torch.Generator().manual_seed(seed)
    weights["text.embed.weight"] = extend_rows(weights["text.embed.weight"], known, tokenizer.vocab_size, generator)
    facts = Facts(
        parts={"vision": str(vision)},
        **_texts(beside, tokenizer),
        vocabulary={"adopted": known, "new": tokenizer.vocab_size - known, "seed": seed},
        positions=describe_positions(image.vision.grid, placed),
    )
    preprocess = read_preprocess(vision, *config.vision.image_size)
    write_model(out, weights, config, preprocess=preprocess, tokenizer=tokenizer, facts=facts)
    return Parts(image, None, facts)


def _texts(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """How a checkpoint's tokenizer normalises and pads texts, as facts of a model folder.

    What `openpali export` wrote says so, and the padding token that is named there. Otherwise, SigLIP 2, which has
    Gemma's tokenizer, reads lower case and pads with its own token; the first SigLIP pads with EOS, and its texts
    are "canonical" in transformers, as its tokenizer class does, "lower" in big_vision.
    """
    described = read_json(folder / "tokenizer_config.json")
    kind = described.get("tokenizer_class")
    second = not kind.startswith("SiglipTokenizer") if kind else tokenizer.bos_id >= 0
    wording: Wording = "canonical" if not second and (folder / "config.json").is_file() else "lower"
    if (said := described.get("wording")) in get_args(Wording):
        wording = cast(Wording, said)
    pad, eos = (content_of(described, f"{name}_token", "") for name in ("pad", "eos"))
    padded = pad != eos if pad and eos else second
    return {"wording": wording, "padding": "pad" if padded else "eos"}


def extend_rows(matrix_VD: Tensor, known: int, size: int, generator: torch.Generator) -> Tensor:
    """Keep the first ``known`` rows of an embedding or head and draw the others, ``[size, D]``.

    New rows are normal with the mean and standard deviation of each column of the known rows, so that a new token
    has neither a larger norm nor a higher probability than an average one.
    """
    rows = matrix_VD[:known].float()
    noise = torch.randn(size - known, rows.shape[1], generator=generator)
    new = rows.mean(0) + noise * rows.std(0)
    return torch.cat([matrix_VD[:known], new.to(matrix_VD.dtype)])


def _new_projection(config: PaliModelConfig, seed: int) -> dict[str, Tensor]:
    """The projection of a PaLI without layers, drawn from ``seed``."""
    hollow = PaliModelConfig(
        replace(config.vision, depth=0, grid=(1, 1)),
        replace(config.text, vocab_size=1, encoder_layers=0, decoder_layers=0),
    )
    with torch.device("meta"):
        model = PaliModel(hollow)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return materialise(model).project.state_dict()


def at_size(
    vision: ViTConfig, positions_ND: Tensor, size: tuple[int, int] | None
) -> tuple[Tensor, tuple[int, int]]:
    """A ViT's position embeddings for images of this size (height, width; None: as it was trained), and its grid.

    Raises:
        ValueError: the size is not a multiple of the patch size.
    """
    grid, patch = vision.grid, vision.patch_size
    if size is not None:
        if min(size) < patch or size[0] % patch or size[1] % patch:
            nearest = " x ".join(str(max(1, round(side / patch)) * patch) for side in size)
            raise ValueError(
                f"{size[0]} x {size[1]} pixels do not divide into patches of {patch}: use multiples of it, "
                f"as {nearest}"
            )
        grid = size[0] // patch, size[1] // patch
    return resample_positions(positions_ND, vision.grid, grid), grid


def describe_positions(old: tuple[int, int], new: tuple[int, int]) -> dict[str, Any]:
    """What a model folder records about its position embeddings: the grids, and how they were resampled."""
    method = "as trained" if old == new else "bilinear, corners aligned, no antialiasing"
    return {"method": method, "from": list(old), "to": list(new)}
