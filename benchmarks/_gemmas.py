"""transformers' side of benchmarks of PaliGemma and T5Gemma 2."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from openpali.architectures.paligemma import PaliGemmaConfig, write_paligemma
from openpali.architectures.registry import build
from openpali.architectures.t5gemma2.architecture import write_t5gemma2
from openpali.architectures.t5gemma2.network import T5Gemma2Config


def their_config(config: PaliGemmaConfig | T5Gemma2Config) -> Any:
    """transformers' configuration of a shape."""
    with torch.device("meta"):
        weights = build(config).state_dict()
    if isinstance(config, PaliGemmaConfig):
        return transformers.PaliGemmaConfig.from_dict(write_paligemma(weights, config)[1])
    return transformers.T5Gemma2Config.from_dict(write_t5gemma2(weights, config)[1])
