"""The mask VQ-VAE, and the published one from big_vision's `vae-oid.npz`.

Names and layouts are torch's; the modules are at the same places as in big_vision's two files `segmentation.py`
(encoder in `pp/proj`, decoder in `evaluators/proj`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from openpali.architectures.base import Architecture, Stored
from openpali.architectures.facts import Facts
from openpali.architectures.halves.big_vision import read_arrays
from openpali.architectures.rules import Rule, read, skeleton
from openpali.architectures.siglip import PRESETS as SIGLIP
from openpali.model.mask_vqvae import MaskVQVAE, MaskVQVAEConfig

_CODEBOOK = "_vq_vae._embedding"
_WIDTH = "decoder.0.weight"
_STRIDED = [f"encoder.{2 * i}.weight" for i in range(4)]
_AVERAGES = ("code_count", "code_sum")  # of training, which the file does not have


def read_mask_codec(path: Path) -> tuple[MaskVQVAEConfig, dict[str, Tensor]]:
    """The shape and the weights of :class:`openpali.model.mask_vqvae.MaskVQVAE`; training could go on from them."""
    arrays = read_arrays(path)
    if missing := [name for name in (_CODEBOOK, _WIDTH, *_STRIDED) if name not in arrays]:
        raise ValueError(f"{path} is no mask VQ-VAE of big_vision: it has no {', no '.join(missing)}")
    codebook = arrays[_CODEBOOK]
    arrays = {key: value for key, value in arrays.items() if key == _CODEBOOK or not key.startswith("_vq_vae.")}
    config = MaskVQVAEConfig(
        codes=codebook.shape[0],
        code_dim=codebook.shape[-1],
        width=len(arrays[_WIDTH]),
        encoder=tuple(len(arrays[name]) for name in _STRIDED),
    )
    ours = {key: value for key, value in skeleton(lambda: MaskVQVAE(config)).items() if key not in _AVERAGES}
    names = {key: key.replace(".layers.", ".net.") for key in ours} | {"codebook": _CODEBOOK}
    weights = read([Rule((key,), (names[key],)) for key in ours], ours, arrays, str(path))
    return config, {**weights, "code_count": torch.ones(config.codes), "code_sum": weights["codebook"].clone()}


class MaskVQVAEArchitecture(Architecture[MaskVQVAEConfig]):
    """Masks as tokens and back."""

    kind = "mask_vqvae"
    config = MaskVQVAEConfig
    presets = {
        **dict.fromkeys(SIGLIP, MaskVQVAEConfig()),
        "pico": MaskVQVAEConfig(code_dim=8, width=16),
        **dict.fromkeys(("nano", "nano-deep"), MaskVQVAEConfig(width=64, code_dim=32)),
    }

    def build(self, config: MaskVQVAEConfig) -> nn.Module:
        return MaskVQVAE(config)

    def read(self, source: Path) -> Stored[MaskVQVAEConfig]:
        config, weights = read_mask_codec(source)
        about = f"mask VQ-VAE: {config.codes} codes of {config.code_dim}, {config.width} channels"
        return Stored(config, weights, facts=Facts(parts={"masks": str(source)}), about=[about])
