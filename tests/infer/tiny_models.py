"""Models and inputs small enough to check by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openpali.architectures.pali import PaliModel, PaliModelConfig
from openpali.infer.generate import Decoding, Generation
from openpali.model.init import init_weights
from openpali.model.t5 import T5Config
from openpali.model.vit import ViTConfig


def tiny(seed: int, vocab: int = 14, peak: float = 3.0) -> PaliModel:
    """A model of random weights, sure enough of its tokens that rounding decides nothing."""
    torch.manual_seed(seed)
    vision = ViTConfig(patch_size=4, grid=(2, 2), width=16, depth=1, mlp_dim=16, heads=2)
    text = T5Config(
        vocab_size=vocab,
        d_model=16,
        d_head=8,
        heads=2,
        d_ff=24,
        encoder_layers=2,
        decoder_layers=2,
        activation="gelu",
    )
    model = init_weights(PaliModel(PaliModelConfig(vision, text))).eval()
    with torch.no_grad():
        model.text.head.weight.mul_(peak)
    return model


def inputs(seed: int, rows: int = 5, vocab: int = 14) -> tuple[Tensor, Tensor, Tensor]:
    """Images of up to 2 frames, prompts of different lengths, padded, and numbers of frames."""
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (rows, 2, 8, 8, 3), generator=g, dtype=torch.uint8)
    prompt = torch.randint(2, vocab, (rows, 6), generator=g)
    prompt[torch.arange(6) >= torch.randint(1, 7, (rows, 1), generator=g)] = 0
    return images, prompt, torch.randint(1, 3, (rows,), generator=g)


def row(batch: tuple[Tensor, Tensor, Tensor], i: int) -> tuple[Tensor, Tensor]:
    """Row ``i`` alone, without its padding."""
    images, prompt, frames = batch
    return images[i : i + 1, : frames[i]], prompt[i : i + 1, : (prompt[i] != 0).sum()]


def check_same(ours: Generation, theirs: Generation) -> None:
    assert (ours.ids, ours.finish_reason) == (theirs.ids, theirs.finish_reason)
    assert ours.log_probs == pytest.approx(theirs.log_probs, abs=1e-4)
    assert ours.score == pytest.approx(theirs.score, abs=1e-4)


DECODINGS = {
    "greedy": Decoding(max_tokens=12),
    "beams": Decoding(max_tokens=12, beams=3),
    "n-best": Decoding(max_tokens=12, beams=4, samples=3),
    "no repeats": Decoding(max_tokens=12, beams=3, no_repeat_ngram_size=2),
    "sampling": Decoding(max_tokens=12, temperature=1.0, seed=7),
    "best of n": Decoding(max_tokens=12, temperature=2.0, top_p=0.95, samples=4),
}
