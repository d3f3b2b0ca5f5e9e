"""The card that is uploaded with a model: where it comes from, how it was trained, what it scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openpali.weights.format import ModelFolder
from openpali.weights.hub import SCHEME


def start_of(model: ModelFolder) -> str:
    """The name of the model that an adapter changes, or that a run started from; empty if there is none."""
    return model.adapter.base if model.adapter else model.facts.start


def model_card(model: ModelFolder, licence: str, scores: Sequence[Path]) -> str:
    """Markdown with the hub's metadata.

    Args:
        licence: of the weights, as the hub names it ("gemma", "apache-2.0"); that of the start weights applies.
        scores: score cards, as ``openpali eval --json`` writes them.
    """
    recipe, start = model.facts.recipe, start_of(model)
    lines = ["---", f"license: {licence}", "library_name: openpali", "pipeline_tag: image-text-to-text"]
    if start.startswith(SCHEME):
        lines.append(f"base_model: {start.removeprefix(SCHEME).partition('@')[0]}")
    lines += ["---", "", f"# {model.facts.run or model.folder.name}", ""]
    kind = "A LoRA adapter" if model.adapter else f"A {model.kind}"
    samples = model.facts.samples
    lines.append(f"{kind} of OpenPaLI{'' if samples is None else f', {samples:,} samples'}.")
    if start:
        lines.append(f"It starts from `{start}`, whose licence applies to these weights, too.")
    if cards := [_read(path) for path in scores]:
        lines += ["", "## Scores", ""]
        for card in cards:
            lines += ["```json", json.dumps(card, indent=1, ensure_ascii=False), "```"]
    if recipe:
        lines += ["", "## Recipe", "", "```json", json.dumps(recipe, indent=1, ensure_ascii=False), "```"]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no score card: give what `openpali eval --json` writes") from error
