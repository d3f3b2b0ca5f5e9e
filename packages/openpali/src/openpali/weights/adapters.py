"""LoRA adapters on disk, in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

An adapter names the model that it was trained on. PEFT loads it onto that model, as
``interop.transformers`` opens it.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from openpali.mistakes import reason
from openpali.model.lora import LoraConfig
from openpali.tensors import write_tensors
from openpali.weights.files import ADAPTER

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # of PEFT
_OURS = {"lora_A": "lora.down", "lora_B": "lora.up"}
_PLAIN = {"peft_type": "LORA", "bias": "none"}
_WITHOUT = (
    *("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out"),
    *("layer_replication", "alora_invocation_tokens", "arrow_config", "kasa_config", "use_bdlora"),
    "target_parameters",  # may name an embedding, of which only a merge would apply the change
)
_INIT = "init_lora_weights"
_INITS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")  # PEFT changes the base with all others


@dataclass(frozen=True)
class Adapter:
    """An adapter."""

    base: str  # the model that it was trained on, as openpali.weights.find.find_model takes it
    config: LoraConfig  # its layers, rank and scale
    tensors: Mapping[str, Tensor]  # by our names, LAYER.lora.down and LAYER.lora.up


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter, ours or PEFT's."""
    path = folder / ADAPTER
    try:
        described = json.loads(path.read_text("utf-8"))
        base = described["base_model_name_or_path"]
        rank, alpha = int(described["r"]), float(described["lora_alpha"])
        other = [key for key in _WITHOUT if described.get(key)]
        other += [key for key, value in _PLAIN.items() if described.get(key, value) != value]
        other += [_INIT] if described.get(_INIT, True) not in _INITS else []
        stored = load_file(folder / WEIGHTS)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise ValueError(f"{path} and {WEIGHTS} are no adapter that can be read ({reason(error)})") from error
    if other:
        raise ValueError(
            f"{path} has {other[0]} = {described[other[0]]!r}: only plain LoRA is supported; merge it with PEFT's "
            "merge_and_unload, and save the whole model"
        )
    if not base:
        raise ValueError(f"{path} names no base_model_name_or_path: write the model that it was trained on there")
    tensors = {_our_name(key): value for key, value in stored.items()}
    if strange := [key for key in tensors if ".lora." not in key]:
        raise ValueError(f"{folder / WEIGHTS} has {strange[0]}: only LoRA of linear layers is supported")
    targets = dict.fromkeys(key.rpartition(".lora.")[0] for key in tensors)
    return Adapter(base, LoraConfig(rank, alpha, list(targets), described.get("lora_dropout", 0.0)), tensors)


def write_adapter(folder: Path, adapter: Adapter) -> None:
    """Write an adapter; files that are there are replaced, and those of a whole model go."""
    write_tensors(folder, {_their_name(key): value for key, value in adapter.tensors.items()}, name=WEIGHTS)
    described = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": adapter.base,
        "r": adapter.config.rank,
        "lora_alpha": adapter.config.alpha,
        "lora_dropout": adapter.config.dropout,
        "target_modules": list(adapter.config.targets),
        "bias": "none",
        "inference_mode": True,
    }
    (folder / ADAPTER).write_text(json.dumps(described, indent=1) + "\n", "utf-8")


def remove_adapter(folder: Path) -> None:
    """Remove the files of an adapter from a folder, if it has any."""
    for name in (ADAPTER, WEIGHTS):
        (folder / name).unlink(missing_ok=True)


def require_layers(adapter: Adapter, tensors: Container[str]) -> None:
    """Check that a model, of which these are the names of tensors, has the layers that an adapter changes."""
    if unknown := [name for name in adapter.config.targets if f"{name}.weight" not in tensors]:
        raise ValueError(
            f"the adapter of {adapter.base} changes {unknown[0]}, which that model does not have: if it was "
            "trained on transformers' model, merge it there with PEFT's merge_and_unload, and convert the result"
        )


class MergedTensors(Mapping[str, Tensor]):
    """A model's tensors with the changes of an adapter added; changed ones are float32."""

    def __init__(self, base: Mapping[str, Tensor], adapter: Adapter) -> None:
        self.base, self.adapter = base, adapter
        require_layers(adapter, base)
        self.changed = {f"{name}.weight": f"{name}.lora" for name in adapter.config.targets}

    def __getitem__(self, key: str) -> Tensor:
        value = self.base[key]
        if key not in self.changed:
            return value
        down, up = (self.adapter.tensors[f"{self.changed[key]}.{part}"].float() for part in ("down", "up"))
        if (shape := (up.shape[0], down.shape[1])) != tuple(value.shape):
            raise ValueError(
                f"the adapter of {self.adapter.base} changes {key} of shape {list(shape)}, and the model's is "
                f"{list(value.shape)}: give the model that it was trained on"
            )
        return torch.addmm(value.float(), up, down, alpha=self.adapter.config.scale)

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)


def _our_name(key: str) -> str:
    for theirs, ours in _OURS.items():
        key = key.replace(f".{theirs}.weight", f".{ours}")
    return key.removeprefix(_PREFIX)


def _their_name(key: str) -> str:
    for theirs, ours in _OURS.items():
        key = key.replace(f".{ours}", f".{theirs}.weight")
    return _PREFIX + key
