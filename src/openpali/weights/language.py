"""The language model of a reader of lines: the folder ``language`` of its model, by ``openpali calibrate``."""

from __future__ import annotations

from pathlib import Path

import torch

from openpali.tensors import MappedTensors, write_tensors
from openpali.text.language import LanguageModel
from openpali.weights.files import LANGUAGE


def read_language(folder: Path) -> LanguageModel | None:
    """The language model in a model folder; None if it has none."""
    if not (folder / LANGUAGE).is_dir():
        return None
    tensors = MappedTensors(folder / LANGUAGE)
    log_probs, backoffs = (tensors[name].float().numpy() for name in ("log_probs", "backoffs"))
    return LanguageModel(tensors["ngrams"].numpy(), log_probs, backoffs)


def write_language(folder: Path, language: LanguageModel) -> None:
    """Store the language model of a reader in its folder, its probabilities as fp16."""
    write_tensors(
        folder / LANGUAGE,
        {
            "ngrams": torch.from_numpy(language.ngrams),
            "log_probs": torch.from_numpy(language.log_probs).half(),
            "backoffs": torch.from_numpy(language.backoffs).half(),
        },
    )
