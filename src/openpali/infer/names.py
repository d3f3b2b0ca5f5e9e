"""Names of engines and dtypes, for those that must not wait until torch is imported."""

from typing import Literal

Engine = Literal["torch", "torch-int8", "openvino", "openvino-int8", "auto"]
Dtype = Literal["fp32", "bf16"]
