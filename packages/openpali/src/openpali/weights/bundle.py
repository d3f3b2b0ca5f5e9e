"""Tokenizers by name, and bundles: several models that answer together."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from openpali.architectures.registry import architecture_of
from openpali.extensions import added
from openpali.home import data_folder
from openpali.mistakes import reason
from openpali.text.load import load_tokenizer
from openpali.text.tokenizer import Tokenizer
from openpali.weights.bundle_config import BundleConfig
from openpali.weights.files import ADAPTER, BUNDLE, MAIN, MASKS, SIGLIP, TOKENIZER
from openpali.weights.find import candidates, find_model, name_of
from openpali.weights.format import ModelFolder, copy_fitted, open_model
from openpali.weights.hub import SCHEME
from openpali.weights.write import write_model


def open_tokenizer(name: str) -> Tokenizer:
    """A tokenizer by the path of its file, by a model's name (as :func:`find_model` takes it), or by the name of a
    built vocabulary (``nano-vocabulary``). That of a bundle is its main part's.

    Raises:
        FileNotFoundError: none of these exists.
    """
    if not name.startswith(SCHEME) and Path(name).is_file():
        return load_tokenizer(name)
    for folder in (main_part(each) for each in candidates(name)):
        if (folder / TOKENIZER).is_file():
            return load_tokenizer(folder / TOKENIZER)
        if (folder / ADAPTER).is_file():
            return open_model(folder).tokenizer
    if name in (built := added("datasets")) and (path := data_folder(name) / TOKENIZER).is_file():
        return load_tokenizer(path)
    raise FileNotFoundError(
        f"no tokenizer {name!r}: give its file, a model folder or finished run that has one, or a built vocabulary "
        f"({', '.join(each for each in built if each.endswith('-vocabulary'))})"
    )


def mask_codec_of(folder: Path) -> str:
    """The mask VQ-VAE that belongs to a model, as :func:`find_model` takes it; empty if there is none.

    Of a bundle, and of each of its models, it is the bundle's; of a run, and of PEFT's adapters to it, the one that
    its recipe names, if that is here.
    """
    for place in (folder, folder.parent):
        if (place / BUNDLE).is_file():
            parts = open_bundle(place).parts
            if MASKS in parts and folder in (place, *parts.values()):
                return name_of(parts[MASKS])
    if (folder / BUNDLE).is_file():
        return ""
    model = open_model(folder)
    named = (model if model.facts.recipe else model.base or model).facts.masks
    try:
        return named if named and find_model(named) else ""
    except (OSError, ValueError):  # it is not here, or a hub does not give it: only masks need it
        return ""


def open_bundle(folder: Path) -> BundleConfig:
    """Read the ``bundle.json`` of a folder; a single model is a bundle of one part."""
    path = folder / BUNDLE
    if not path.is_file():
        model = open_model(folder)
        return BundleConfig(parts={MAIN if model.answers else model.kind: folder})
    try:
        read = BundleConfig.model_validate_json(path.read_bytes())
        if outside := [part for part in read.parts.values() if part.name != str(part)]:
            raise ValueError(f"{str(outside[0])!r} is no folder in it")
    except ValueError as error:
        raise ValueError(f"{path} is no description of a bundle ({reason(error)})") from error
    return read.model_copy(update={"parts": {name: folder / part for name, part in read.parts.items()}})


def main_part(folder: Path) -> Path:
    """The part of a bundle that is asked in text; a single model, and a bundle without one, as it is."""
    return open_bundle(folder).parts.get(MAIN, folder) if (folder / BUNDLE).is_file() else folder


def pack_bundle(description: Path, folder: Path) -> dict[str, int]:
    """Pack finished runs into a bundle, in bf16; returns the bytes of each part's weights.

    ``description`` is a TOML file: ``languages`` lists the codes of the languages it answers in, ``about`` says
    which images it knows, ``names`` lists the objects that it can find, ``[parts]`` maps part names to what
    :func:`find_model` takes, ``[tasks]`` task names to a part, or to several (:class:`BundleConfig`). Tensors that
    a part shares with "pali" are stored once.
    """
    origins, bundle = _read_description(description, folder)
    sources = {part: open_model(find_model(origin)) for part, origin in origins.items()}
    _check_sources(sources, bundle)
    main = _in_bf16(sources[MAIN].weights())
    sizes = {}
    for part, source in sources.items():
        weights = _in_bf16(source.weights())
        facts = source.lasting_facts  # it may belong to a bundle itself
        if part != MAIN and source.answers:
            shared = {k for k, v in weights.items() if k in main and torch.equal(v, main[k])}
            weights = {k: v for k, v in weights.items() if k not in shared}
            if shared:
                facts = facts.but(base=MAIN)
        write_model(
            folder / part,
            weights,
            source.config,
            preprocess=source.preprocess,
            tokenizer=source.tokenizer if architecture_of(source.config).vocabulary(source.config) else None,
            facts=facts,
        )
        copy_fitted(source.folder, folder / part)
        sizes[part] = sum(weight.nbytes for weight in weights.values())
    bundle.write(folder)
    return sizes


def _check_sources(sources: Mapping[str, ModelFolder], bundle: BundleConfig) -> None:
    """Refuse an image encoder that cannot detect what it is listed for, and to overwrite what is read."""
    encoder = sources.get(SIGLIP)
    if encoder and any(SIGLIP in parts for parts in bundle.tasks.values()) and not encoder.has_sides:
        raise ValueError(f"{encoder.folder} was trained without sides and cannot detect: leave it out of [tasks]")
    written = [folder.resolve() for folder in bundle.parts.values()]
    for read in chain(*(source.folders for source in sources.values())):
        if read.resolve() in written:
            raise ValueError(f"{read} is read for the bundle and would be overwritten: choose another --out")


def _read_description(path: Path, folder: Path) -> tuple[dict[str, str], BundleConfig]:
    """The models of the parts, and the bundle that they become in a folder."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give a TOML file that names the parts of the bundle")
    try:
        described = tomllib.loads(path.read_text("utf-8"))
        origins = TypeAdapter(dict[str, str]).validate_python(described.get("parts"))
        if MAIN not in origins:
            raise KeyError(MAIN)
        return origins, BundleConfig(**described | {"parts": {part: folder / part for part in origins}})
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} must have [parts] with a pali ({reason(error)})") from error


def _in_bf16(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.to(torch.bfloat16) for key, value in weights.items()}
