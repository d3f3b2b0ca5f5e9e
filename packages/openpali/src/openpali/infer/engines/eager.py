"""torch, which runs every model on every device as it is; and with weights and activations in int8, on CPUs."""

from openpali.infer.engines.base import Engine
from openpali.model.int8 import compute_in_int8

TORCH = Engine(lambda model: model, adapts=True)
INT8 = Engine(lambda model: model, prepare=compute_in_int8, devices=("cpu",))
