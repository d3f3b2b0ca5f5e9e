"""Shapes whose memory is predicted and measured: of every objective, with what is frozen, checkpointed and cut."""

from __future__ import annotations

from typing import Any

from openpali.train.recipe import Recipe

SINGLE = {"source": "nano/single", "task": "caption"}
SHAPES: dict[str, tuple[int, dict[str, Any]]] = {  # name -> ranks, what differs from a sequence of the nano preset
    "siglip": (1, {"objective": "siglip", "batch": 32}),
    "classes": (1, {"objective": "classify", "batch": 64}),
    "sequence": (1, {"batch": 12}),
    "frozen, larger pictures": (1, {"batch": 8, "size": 180, "frozen": ["vit"]}),
    "micro-batches, Muon and QK-clip": (1, {"batch": 24, "micro": 3, "optimizer": "muon", "qk_clip": 3.0}),
    "checkpointing": (1, {"batch": 32, "checkpointing": "full"}),
    "selective, and Adafactor": (1, {"batch": 16, "checkpointing": "selective", "optimizer": "adafactor"}),
    "text, and an average": (1, {"batch": 16, "task": "denoise", "frozen": ["vit", "project"], "ema": 0.9}),
    "whole on 2": (2, {"batch": 16}),
    "cut over 3": (3, {"batch": 48, "shard": "full"}),
    "cut over 2 of 4, and an average": (4, {"batch": 64, "shard": "hybrid", "ema": 0.9}),
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
            "precision": wanted.pop("precision", "fp32"),
            "ema": wanted.pop("ema", 0.0),
            "max_prompt": 32,
            "max_target": 32,
            "model": {
                "preset": wanted.pop("preset", "nano"),
                "tokenizer": "nowhere",
                "frozen": wanted.pop("frozen", []),
            },
            "optimizer": {
                "lr": 1e-3,
                "name": wanted.pop("optimizer", "adamw"),
                "qk_clip": wanted.pop("qk_clip", 0.0),
            },
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
