"""Recipes and runs that take a second, for the tests in this folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from openpali.data.sources.registry import open_source
from openpali.train.checkpoint import checkpoints, read_state
from openpali.train.load import parse_recipe
from openpali.train.recipe import OptimizerSpec, Recipe
from openpali.train.trainer import Trainer
from openpali.weights.format import open_model

OBJECTIVES: dict[str, dict[str, Any]] = {
    "siglip": {
        "model": {"bias": -2.0},
        "source": {"source": "nano/single", "task": "contrastive"},
    },
    "classify": {"source": {"source": "nano/single", "task": "classify"}, "label_smoothing": 0.1},
    "sequence": {
        "source": {"source": "nano/single", "task": "caption"},
        "z_loss": 1e-4,
        "label_smoothing": 0.1,
    },
    "mask_vqvae": {
        "source": {"source": "nano/scene", "task": "refseg", "options": {"min_objects": 1, "max_objects": 2}},
    },
    "find": {"source": {"source": "pages/tiny"}, "size": 96},
    "elements": {"source": {"source": "pages/tiny"}, "size": 32},
    "read": {"source": {"source": "pages/tiny"}, "size": "32x192", "pieces": 3},
}


# targets of many lengths, so that the two means differ, and micro-batches differ
VARIED = [{"source": "nano/scene", "task": "object_vqa"}, {"source": "nano/scene", "task": "detect"}]


def parallel_recipe(objective: str, mean: str, **changes: Any) -> Recipe:
    """Three steps, for micro-batches and ranks; ``mean`` is the recipe's ``loss_mean``, if it has one."""
    changes = {"phases__0__samples": 12} | changes
    if objective == "sequence":
        changes = {"max_prompt": 160, "max_target": 160, "loss_mean": mean} | changes
        if not {"phases", "phases__0__mixture"} & changes.keys():
            changes["phases__0__mixture"] = VARIED
    return make_recipe(objective, **changes)


def make_recipe(objective: str = "sequence", /, **changes: Any) -> Recipe:
    """Six steps of four samples with the pico preset; ``changes`` are recipe keys, with ``__`` for dots."""
    base = {key: value for key, value in OBJECTIVES[objective].items() if key not in ("model", "source", "size")}
    size = OBJECTIVES[objective].get("size", 72)
    raw: dict[str, Any] = {
        "name": f"tiny/{objective}",
        "objective": objective,
        "batch": 4,
        "workers": 0,
        "precision": "fp32",
        "model": {"preset": "pico", "tokenizer": "nano-vocabulary", **OBJECTIVES[objective].get("model", {})},
        "optimizer": {"lr": 1e-3, "schedule": "constant"},
        "phases": [{"samples": 24, "size": size, "mixture": [OBJECTIVES[objective]["source"]]}],
        **base,
    }
    raw = copy.deepcopy(raw)
    for key, value in changes.items():
        *parents, last = key.split("__")
        node: Any = raw
        for parent in parents:
            node = node[int(parent)] if isinstance(node, list) else node[parent]
        node[int(last) if isinstance(node, list) else last] = value
    return parse_recipe(raw)


def losses_of(trainer: Trainer, extra: str = "") -> list[float]:
    """A list that receives every loss while the trainer trains, or one of the further values."""
    seen: list[float] = []
    objective = trainer.objective
    original = objective.losses

    def spy(*args: Any) -> Any:
        losses = original(*args)
        seen.append((losses.extra[extra] if extra else losses.total).item())
        return losses

    objective.losses = spy  # type: ignore[method-assign]
    return seen


class Killed(BaseException):
    """A BaseException, so that nothing catches it, as nothing catches a kill."""


def kill_at(trainer: Trainer, step: int) -> None:
    """Make the trainer die in the middle of ``step`` (counted from 1)."""
    original = trainer.optimizer.step

    def die(*args: Any) -> Any:
        if trainer.step + 1 == step:
            raise Killed
        return original(*args)

    trainer.optimizer.step = die  # type: ignore[method-assign]


def train_and_kill(trainer: Trainer, step: int) -> None:
    """Train until it dies in the middle of ``step``."""
    kill_at(trainer, step)
    with pytest.raises(Killed):
        trainer.train()


def tensors_of(run: Path) -> dict[str, Tensor]:
    """Weights and optimizer of the newest checkpoint."""
    [file] = checkpoints(run)[-1].glob("*.safetensors")  # of one rank
    return load_file(file)


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The reports of a run, without values that depend on the clock and the process."""
    timed = {"samples_per_second", "data_wait", "memory", "seconds"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def assert_same_run(run: Path, other: Path) -> None:
    """Bit for bit: weights, optimizer, counters, reports, and the exported model."""
    assert_equal(tensors_of(run), tensors_of(other))
    assert read_state(checkpoints(run)[-1]) == read_state(checkpoints(other)[-1])
    assert metrics_of(run) == metrics_of(other)
    assert_equal(*(open_model(folder / "model").weights() for folder in (run, other)))


def assert_equal(ours: Mapping[Any, Tensor], theirs: Mapping[Any, Tensor]) -> None:
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def plain_sgd(model: nn.Module, spec: OptimizerSpec, _: object = None) -> torch.optim.Optimizer:
    """Replaces Adam, which turns gradients that are only rounding (of a key's bias) into full steps."""
    learning = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD([{"params": learning, "lr": spec.lr, "peak_lr": spec.lr}], lr=spec.lr)


def break_samples(patch: pytest.MonkeyPatch, source: str, broken: Callable[[int], bool]) -> None:
    """Let samples of a source be bad, by their index."""
    kind = type(open_source(source, {}))
    whole = kind.__getitem__

    def read(self: Any, index: int) -> Any:
        if broken(index):
            raise ValueError(f"image {index} is broken")
        return whole(self, index)

    patch.setattr(kind, "__getitem__", read)


def write_captions(folder: Path, captions: Sequence[str], side: int = 72) -> Path:
    """A file of captions, each of a square image of its own, in a new folder."""
    folder.mkdir(exist_ok=True)
    lines = []
    for number, caption in enumerate(captions):
        Image.new("RGB", (side, side), (10 * number, 0, 99)).save(folder / f"{number}.png")
        lines.append(json.dumps({"images": [f"{number}.png"], "captions": {"en": [caption]}}) + "\n")
    (folder / "captions.jsonl").write_text("".join(lines))
    return folder / "captions.jsonl"
