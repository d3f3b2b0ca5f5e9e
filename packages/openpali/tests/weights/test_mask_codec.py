"""The mask VQ-VAE of a model folder."""

from __future__ import annotations

import pytest
import torch

from openpali.weights.mask_codec import open_mask_codec
from weights.folders import write


def test_mask_codec(tmp_path) -> None:
    codec = open_mask_codec(write(tmp_path / "masks", "mask_vqvae"))
    mask = torch.zeros(64, 64).numpy()
    mask[10:30, 20:40] = 1
    codes = codec.encode(mask)
    assert len(codes) == 16
    assert all(0 <= code < 128 for code in codes)
    decoded = codec.decode(codes)
    assert decoded.shape == (64, 64)
    with torch.autocast("cpu", torch.bfloat16):  # as evaluations in training compute
        assert codec.encode(mask) == codes
        assert (codec.decode(codes) == decoded).all()
    with pytest.raises(ValueError):
        open_mask_codec(write(tmp_path / "other", "classifier"))
