"""How a checkpoint of transformers resizes images: the configuration of its image processor, both ways."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openpali.architectures.rules import read_json, require_settings
from openpali.data.media.images import FILTERS, Preprocess

SIGLIP = "SiglipImageProcessor"
FILE = "preprocessor_config.json"
_WITHIN = "processor_config.json"  # since transformers 5 a processor's, with that of images in it
_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers
_FIXED = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
    "do_pan_and_scan": False,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


class Inexpressible(UserWarning):
    """Something of a model that transformers' own classes do otherwise."""


def read_preprocess(source: Path, height: int, width: int) -> Preprocess:
    """How a checkpoint's images are resized to ``height`` x ``width`` pixels.

    Args:
        source: the checkpoint. A file, or a folder that does not say how, has our default.
    """
    where = source / FILE
    described: Mapping[str, Any] = read_json(where)
    if not described:
        where = source / _WITHIN
        described = read_json(where).get("image_processor") or {}
    if not described:
        return Preprocess(height, width)
    given = {key: value for key, value in described.items() if value is not None}
    for key in ("image_mean", "image_std"):
        if isinstance(given.get(key), float):
            given[key] = [given[key]] * 3
    size, pads = given.get("size", {}), bool(given.get("do_pad"))
    shape = {"height", "width"} if not pads else {"max_height", "max_width"}
    modes = {number: mode for mode, number in _RESAMPLE.items()}
    require_settings(given, _FIXED, str(where))
    if isinstance(size, dict) and size and set(size) != shape:
        raise ValueError(f"{where} has size = {size}, which keeps proportions: only height and width can be read")
    if (number := given.get("resample", 3)) not in modes:
        raise ValueError(f"{where} has resample = {number!r}: only 2 (bilinear) and 3 (bicubic) can be read")
    how = modes[number], bool(given.get("antialias", True))
    name = next((name for name, each in FILTERS.items() if each == how), None)
    if name is None:
        raise ValueError(f"{where} resizes {how[0]} without antialiasing: only bilinear can be read")
    return Preprocess(height, width, "pad" if pads else "squash", name)


def describe_preprocess(preprocess: Preprocess | None, kind: str = SIGLIP) -> dict[str, Any]:
    """The files of an image processor of class ``kind``, by name. Warns of what it does otherwise."""
    if preprocess is None:
        return {}
    height, width, (mode, antialias) = preprocess.height, preprocess.width, FILTERS[preprocess.filter]
    side = {"height": height, "width": width}
    size: dict[str, Any] = {"size": side}
    if not antialias:
        warn_inexpressible(
            "transformers resizes images with antialiasing, and this model's are resized without: give it images "
            f"of {height} x {width} pixels, resized by OpenPaLI's Preprocess"
        )
        size["antialias"] = False  # for read_preprocess
    if preprocess.policy == "pad" and kind == SIGLIP:
        # It pads at the right and bottom, after it normalises: with 0, which is our grey.
        size |= {"size": {"max_height": height, "max_width": width}, "do_pad": True, "pad_size": side}
    elif preprocess.policy == "pad":
        warn_inexpressible(
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
    return {FILE: described}


def warn_inexpressible(message: str) -> None:
    """Warn (:class:`Inexpressible`) whoever exports a model."""
    warnings.warn(message, Inexpressible, stacklevel=4)
