"""Export to checkpoints of transformers' own classes."""

from __future__ import annotations

import json
from pathlib import Path

from openpali.architectures.base import Stored
from openpali.architectures.registry import architecture_of
from openpali.tensors import write_tensors
from openpali.weights.format import ModelFolder


def export(source: ModelFolder, out: Path) -> list[Path]:
    """Write a model as a checkpoint of transformers; the halves of a PaLI as two, in ``vision`` and ``text``.

    A warning (:class:`openpali.architectures.preprocessor.Inexpressible`) says what transformers does otherwise.

    Returns:
        The folders written.
    """
    tokenizer = source.tokenizer if source.has_tokenizer else None
    model = Stored(source.config, source.weights(), source.preprocess, tokenizer, source.facts)
    parts = architecture_of(source.config).write(model)
    for name, part in parts.items():
        write_tensors(out / name, part.weights)
        for file, content in part.files.items():
            (out / name / file).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        if tokenizer and part.tokenizer:
            tokenizer.save(out / name / part.tokenizer)
    return [out / name for name in parts]
