"""The mask VQ-VAE of a model folder, as tasks use it: one mask at a time, as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from openpali.architectures.mask_vqvae import MaskVQVAE
from openpali.tasks.refseg import MaskCrop
from openpali.weights.format import open_model


class VQVAECodec:
    """Masks to codes and back, on the CPU in float32, also within an evaluation that computes in bf16."""

    def __init__(self, model: MaskVQVAE) -> None:
        self.model = model.eval()

    def encode(self, mask: MaskCrop) -> Sequence[int]:
        """``[64, 64]`` in 0..1 -> 16 codes."""
        with torch.autocast("cpu", enabled=False):
            codes: list[int] = self.model.encode(torch.from_numpy(mask)[None])[0].tolist()
        return codes

    def decode(self, codes: Sequence[int]) -> MaskCrop:
        """16 codes -> ``[64, 64]``, positive inside the object."""
        with torch.autocast("cpu", enabled=False):
            return self.model.decode(torch.tensor([list(codes)]))[0].numpy()


def open_mask_codec(folder: Path) -> VQVAECodec:
    model = open_model(folder).model()
    if not isinstance(model, MaskVQVAE):
        raise ValueError(f"{folder} is no mask VQ-VAE")
    return VQVAECodec(model)
