"""How a checkpoint of transformers resizes images: the configuration of its image processor, both ways."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openpali.architectures.rules import read_json, require_settings
from openpali.data.media.images import FILTERS, Preprocess
from openpali.data.media.native import AnyPreprocess, NativePreprocess

SIGLIP = "SiglipImageProcessor"
NAFLEX = "Siglip2ImageProcessor"
NAFLEX_TOKENS = 256  # transformers' default
FILE = "preprocessor_config.json"
_WITHIN = "processor_config.json"  # since transformers 5 a processor's, with that of images in it
_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers
_VALUES = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
_FIXED = {"do_center_crop": False, "do_pan_and_scan": False}


class Inexpressible(UserWarning):
    """A property of a model that the classes of transformers do not have."""


def read_preprocess(source: Path, height: int, width: int) -> Preprocess:
    """How a checkpoint's images are resized to ``height`` x ``width`` pixels.

    Args:
        source: the checkpoint. A file, or a folder that does not say how, has our default.
    """
    where, given = _read(source)
    if not given:
        return Preprocess(height, width)
    size, pads = given.get("size", {}), bool(given.get("do_pad"))
    shape = {"height", "width"} if not pads else {"max_height", "max_width"}
    if isinstance(size, dict) and size and set(size) != shape:
        raise ValueError(f"{where} has size = {size}, which keeps proportions: only height and width can be read")
    usual = (
        "bilinear"
        if given.get("image_processor_type", "").startswith((NAFLEX, "Gemma3ImageProcessor"))
        else "bicubic"
    )
    return Preprocess(height, width, "pad" if pads else "squash", _filter(given, usual, where))


def read_native(source: Path, patch: int) -> NativePreprocess:
    """How the images of a NaFlex checkpoint with patches of so many pixels are resized.

    Args:
        source: the checkpoint, a folder; one that does not say how has transformers' default.
    """
    where, given = _read(source)
    require_settings(given, {"patch_size": patch}, str(where))
    return NativePreprocess(patch, given.get("max_num_patches", NAFLEX_TOKENS), _filter(given, "bilinear", where))


def _read(source: Path) -> tuple[Path, dict[str, Any]]:
    """The file that says how images are resized, and what it says; empty if it is not there."""
    where = source / FILE
    if not (described := read_json(where)):
        where = source / _WITHIN
        described = read_json(where).get("image_processor") or {}
    given = {key: value for key, value in described.items() if value is not None}
    for key in ("image_mean", "image_std"):
        if isinstance(given.get(key), float):
            given[key] = [given[key]] * 3
    require_settings(given, {**_FIXED, **_VALUES}, str(where))
    return where, given


def _filter(given: Mapping[str, Any], usual: str, where: Path) -> str:
    """The filter that a file names; ``usual`` is transformers' default."""
    modes = {number: mode for mode, number in _RESAMPLE.items()}
    if (number := given.get("resample", _RESAMPLE[usual])) not in modes:
        raise ValueError(f"{where} has resample = {number!r}: only 2 (bilinear) and 3 (bicubic) can be read")
    how = modes[number], bool(given.get("antialias", True))
    name = next((name for name, each in FILTERS.items() if each == how), None)
    if name is None:
        raise ValueError(f"{where} resizes {how[0]} without antialiasing: only bilinear can be read")
    return name


def describe_preprocess(preprocess: AnyPreprocess | None, kind: str = SIGLIP) -> dict[str, Any]:
    """The files of an image processor of class ``kind``, by name. Warns of what it does otherwise."""
    if preprocess is None:
        return {}
    mode, antialias = FILTERS[preprocess.filter]
    described: dict[str, Any] = {"resample": _RESAMPLE[mode], **_VALUES}
    if not antialias:
        warn_inexpressible(
            "transformers resizes images with antialiasing, and this model's are resized without: resize them with "
            "OpenPaLI's Preprocess"
        )
        described["antialias"] = False  # for read_preprocess and read_native
    if isinstance(preprocess, NativePreprocess):
        size = {"patch_size": preprocess.patch, "max_num_patches": preprocess.tokens}
        return {FILE: {"image_processor_type": NAFLEX, **size, **described}}
    side = {"height": preprocess.height, "width": preprocess.width}
    described["size"] = side
    if preprocess.policy == "pad" and kind == SIGLIP:
        # It pads at the right and bottom, after it normalises: with 0, which is our grey.
        most = {f"max_{name}": pixels for name, pixels in side.items()}
        described |= {"size": most, "do_pad": True, "pad_size": side}
    elif preprocess.policy == "pad":
        warn_inexpressible(
            f"transformers' {kind} squashes images, and this model's keep their proportions: pad them to a square "
            "first, with grey at the right and bottom"
        )
    return {FILE: {"image_processor_type": kind, **described}}


def warn_inexpressible(message: str) -> None:
    """Warn (:class:`Inexpressible`) whoever exports a model."""
    warnings.warn(message, Inexpressible, stacklevel=4)
