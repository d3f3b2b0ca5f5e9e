"""How often the host waits for the device in a step. The CPU stands in for a GPU: the same operators would wait."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_runs import make_recipe, parallel_recipe
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal"}


class Waits(TorchDispatchMode):
    """Names of the operators whose result the host needs, or whose shape depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__
        by_mask = name.startswith(("index", "_index_put")) and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for index in (args[1] if isinstance(args[1], list | tuple) else ())
        )
        if name in READS or by_mask:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "recipe",
    [
        parallel_recipe("sequence", "example", micro=2),
        make_recipe("sequence", optimizer__name="adafactor"),
        make_recipe("siglip", regions=1.0),
        make_recipe("sequence", model__resize="native", phases__0__size="", phases__0__tokens=40),
    ],
    ids=["sequence", "adafactor", "regions", "native"],
)
def test_the_host_waits_once_in_a_step(recipe, make_trainer, monkeypatch) -> None:
    """For the norm of the gradients, which decides whether weights change; the first step also counts FLOPs."""
    trainer = make_trainer(recipe)
    step, waits, read = trainer._step, Waits(), Tensor.tolist

    def watched(*args: Any) -> None:
        if trainer.step != 2:
            return step(*args)
        with waits, monkeypatch.context() as patch:
            patch.setattr(Tensor, "tolist", lambda tensor: waits.seen.append("tolist") or read(tensor))
            return step(*args)

    monkeypatch.setattr(trainer, "_step", watched)
    trainer.train()
    assert waits.seen == ["_local_scalar_dense"]
