"""What an engine is: what it can run, and how it generates from a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from openpali.architectures.registry import architecture_of
from openpali.infer.generate import Model
from openpali.model.vision_language import VisionLanguageModel


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Engine:
    """An engine, registered by one line in :data:`openpali.infer.engines.registry.ENGINES`."""

    # turns a model, in evaluation mode, on its device and in its dtype, into what generates text
    wrap: Callable[[VisionLanguageModel], Model]
    prepare: Callable[[VisionLanguageModel], None] = _nothing  # changes a model in place when it is loaded
    require: Callable[[], object] = _nothing  # raises ValueError with the fix where a package is missing
    compiles: bool = False  # runs only models of an architecture that says how (engine_language)
    devices: tuple[str, ...] = ()  # kinds of torch's devices that it runs on; empty: all
    # dtypes with which auto takes it, if it can run; for engines that are faster with the same weights
    auto: tuple[str, ...] = ()
    widens: bool = False  # takes weights that are stored in int8 as floats; those in int4 stay so
    adapts: bool = False  # runs a LoRA adapter beside the weights of its base; else the adapter is merged into them

    def refusal(self, name: str, device: torch.device, config: object = None, kind: str = "") -> str:
        """Why an engine of this name cannot run a model of this configuration, a ``kind``, on a device; empty: it
        can, or the model is not known."""
        if self.devices and device.type not in self.devices:
            return f"engine {name} computes on a {' or '.join(self.devices)}, not on {device}: take engine torch"
        if self.compiles and config is not None and not architecture_of(config).engine_language:
            return f"engine {name} cannot run a {kind}: take engine torch"
        return ""
