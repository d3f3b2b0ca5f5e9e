"""Engines by name, for those that must not wait until torch is imported. Another one is one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

ENGINES: dict[str, str] = {
    "torch": "openpali.infer.engines.eager:TORCH",
    "torch-int8": "openpali.infer.engines.eager:INT8",
    "openvino": "openpali.infer.engines.openvino:OPENVINO",
    "openvino-int8": "openpali.infer.engines.openvino:INT8",
}
"""Name -> module, and what in it is the :class:`openpali.infer.engines.base.Engine`."""

AUTO = "auto"
"""OpenVINO where it runs a float32 model (it computes in bf16 where that is faster), else torch."""

Dtype = Literal["fp32", "bf16"]
if TYPE_CHECKING:
    EngineName = str
else:
    EngineName = Literal[(*ENGINES, AUTO)]


def find_engine(name: str) -> Any:
    if name not in ENGINES:
        raise ValueError(f"no engine {name!r}: there are {', '.join((*ENGINES, AUTO))}")
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(import_module(module), attribute)
