"""Small model folders to test with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from openpali.architectures.classifier import ClassifierConfig
from openpali.architectures.facts import Facts
from openpali.architectures.mask_vqvae import MaskVQVAEArchitecture
from openpali.architectures.pali import PRESETS
from openpali.architectures.registry import build
from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.data.media.images import Preprocess
from openpali.model.init import materialise
from openpali.text.tokenizer import Tokenizer
from openpali.weights.write import write_model

PICO = PRESETS["pico"]
CONFIGS = {
    "siglip": dataclasses.replace(SIGLIP["pico"], bias=-3.0),
    "classifier": ClassifierConfig(PICO.vision, ("a", "b", "ç")),
    "pali": dataclasses.replace(PICO, text=dataclasses.replace(PICO.text, dropout=0.25)),
    "mask_vqvae": MaskVQVAEArchitecture.presets["pico"],
}


def write(folder: Path, kind: str, tokenizer: Tokenizer | None = None, seed: int = 0, **facts: object) -> Path:
    torch.manual_seed(seed)
    config = CONFIGS[kind]
    preprocess = None if kind == "mask_vqvae" else Preprocess(72, 72)
    weights = materialise(build(config)).state_dict()
    write_model(folder, weights, config, preprocess=preprocess, tokenizer=tokenizer, facts=Facts(**facts))
    return folder
