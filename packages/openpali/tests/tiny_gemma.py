"""PaliGemma, with Gemma 1 and 2, and T5Gemma 2, as small as they can be."""

from __future__ import annotations

import dataclasses

from openpali.architectures.paligemma import PaliGemmaConfig, PaliGemmaModel
from openpali.architectures.t5gemma2.network import T5Gemma2Config, T5Gemma2Model
from openpali.model.gemma import GemmaConfig
from openpali.model.vit import ViTConfig

GEMMA = GemmaConfig(
    vocab_size=50, d_model=16, d_head=8, heads=4, kv_heads=2, d_ff=24, layers=3, query_scalar=8, rope_base=100.0
)
GEMMA2 = dataclasses.replace(GEMMA, post_norms=True, score_cap=2.0, logit_cap=3.0, window=3)
VISION = ViTConfig(patch_size=4, grid=(2, 2), width=8, depth=1, mlp_dim=8, heads=2)
GEMMA3 = dataclasses.replace(
    GEMMA, post_norms=True, window=3, period=3, qk_norms=True, near_base=20.0, rope_factor=2.0
)
KINDS = {
    "gemma": lambda: PaliGemmaModel(PaliGemmaConfig(VISION, GEMMA, bos=2, separator=3)),
    "gemma2": lambda: PaliGemmaModel(PaliGemmaConfig(VISION, GEMMA2, bos=2, separator=3)),
    "t5gemma2": lambda: T5Gemma2Model(T5Gemma2Config(VISION, GEMMA3, GEMMA3, 2, 2, (4, 5), (6, 4))),
}
