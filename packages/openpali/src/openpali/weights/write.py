"""Writing a model folder: ``config.json``, tensors and, for models that take text, ``tokenizer.model``."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from openpali.architectures.facts import NOTHING, Facts
from openpali.architectures.registry import architecture_of
from openpali.data.media.native import AnyPreprocess
from openpali.tensors import write_tensors
from openpali.text.tokenizer import Tokenizer
from openpali.weights.adapters import Adapter, remove_adapter, write_adapter
from openpali.weights.files import BUNDLE, CONFIG, FITTED, TOKENIZER
from openpali.whole import write_whole

FORMAT = 1
POSITIONS = "vit.positions"


def check_hides_nothing(folder: Path) -> None:
    """Refuse a folder for a model that a bundle there would hide."""
    if (folder / BUNDLE).is_file():
        raise ValueError(f"{folder} holds a bundle of models, which would hide this one: choose another --out")


def write_model(
    folder: Path,
    weights: Mapping[str, Tensor] | Adapter,
    config: Any,
    *,
    preprocess: AnyPreprocess | None,
    tokenizer: Tokenizer | None,
    facts: Facts = NOTHING,
) -> None:
    """Write a model folder, or one with an adapter in the place of weights. ``facts`` is what else is recorded.

    Weights already there are replaced by new files: a run that started from the old ones still has them mapped.
    What was fitted to them goes: confidence, OOD detector, language model. So does an adapter.
    """
    check_hides_nothing(folder)
    if isinstance(weights, Adapter):
        write_adapter(folder, weights)
    else:
        write_tensors(folder, weights)
        remove_adapter(folder)
    for name in FITTED:
        shutil.rmtree(folder / name, ignore_errors=True)
    if tokenizer is not None:
        (folder / TOKENIZER).write_bytes(tokenizer.proto)
    elif (folder / CONFIG).is_file():  # of the model that is replaced
        (folder / TOKENIZER).unlink(missing_ok=True)
    describe(folder, config, preprocess, facts)


def describe(folder: Path, config: Any, preprocess: AnyPreprocess | None, facts: Facts) -> None:
    """Write ``config.json``, whole or not at all: a folder with one is a complete model."""
    known = architecture_of(config)
    described = {
        "format": FORMAT,
        "kind": known.kind,
        "config": dataclasses.asdict(config),
        "preprocess": None if preprocess is None else dataclasses.asdict(preprocess),
        "facts": facts.json_object(),
    }
    if known.model_type:
        described["model_type"] = known.model_type
    write_whole(folder / CONFIG, f"{json.dumps(described, indent=1, ensure_ascii=False)}\n".encode())
