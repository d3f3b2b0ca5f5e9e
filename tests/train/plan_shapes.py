"""Shapes whose memory is predicted and measured: of every objective, with what is frozen, checkpointed and cut."""

from __future__ import annotations

from typing import Any

from openpali.train.recipe import Recipe

SINGLE = {"source": "nano/single", "task": "caption"}
SHAPES: dict[str, tuple[int, dict[str, Any]]] = {  # name -> ranks, what differs from a sequence of the nano preset
    "siglip": (1, {"objective": "siglip", "batch": 32}),
    "sequence": (1, {"batch": 12}),
    "frozen, larger pictures": (1, {"batch": 8, "size": 180, "frozen": ["vit"]}),
    "micro-batches and Muon": (1, {"batch": 24, "micro": 3, "optimizer": "muon"}),
    "checkpointing": (1, {"batch": 32, "checkpointing": "full"}),
    "selective, and Adafactor": (1, {"batch": 16, "checkpointing": "selective", "optimizer": "adafactor"}),
    "text": (1, {"batch": 16, "task": "denoise", "frozen": ["vit", "project"]}),
    "whole on 2": (2, {"batch": 16}),
    "cut over 2": (2, {"batch": 24, "shard": "full"}),
    "cut over 4": (4, {"batch": 64, "shard": "full"}),
}


def recipe_of(name: str) -> Recipe:
    """The recipe of a shape."""
    wanted = dict(SHAPES[name][1])
    task = wanted.pop("task", "caption")
    return Recipe.model_validate(
        {
            "name": name,
            "objective": wanted.pop("objective", "sequence"),
            "batch": wanted["batch"],
            "micro": wanted.pop("micro", 1),
            "precision": "fp32",
            "max_prompt": 32,
            "max_target": 32,
            "model": {
                "preset": wanted.pop("preset", "nano"),
                "tokenizer": "nowhere",
                "frozen": wanted.pop("frozen", []),
            },
            "optimizer": {"lr": 1e-3, "name": wanted.pop("optimizer", "adamw")},
            "parallel": {
                "shard": wanted.pop("shard", "none"),
                "checkpointing": wanted.pop("checkpointing", "none"),
            },
            "phases": [
                {
                    "samples": wanted.pop("batch"),
                    "size": wanted.pop("size", 72),
                    "mixture": [{"source": "nano/single", "task": task}],
                }
            ],
        }
    )
