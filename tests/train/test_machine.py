"""Precision and memory of this machine."""

from __future__ import annotations

import sys

import pytest
import torch

from _report import resident
from openpali import processor
from openpali.processor import bf16_is_faster
from openpali.train.machine import kept_memory, resolve_precision


def test_precisions() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("bf16", cpu) is torch.bfloat16
    assert resolve_precision("fp32", cpu) is torch.float32


@pytest.mark.parametrize(
    ("native", "low", "full", "faster"),
    [
        (True, [2.0] * 3, [1.0] * 3, True),
        (True, [0.5] * 3, [1.0] * 3, False),
        (True, [0.1, 4.0, 4.0], [1.0, 1.0, 0.1], True),  # in a turn another process holds a core
        (False, [], [], False),  # not timed without native products
    ],
)
def test_a_cpu_multiplies_in_what_is_faster(
    monkeypatch: pytest.MonkeyPatch, native: bool, low: list[float], full: list[float], faster: bool
) -> None:
    rates = {torch.bfloat16: [*low], torch.float32: [*full]}
    monkeypatch.setattr(processor, "multiplies_bf16", lambda device: native)
    monkeypatch.setattr(processor, "product_rate", lambda device, dtype, *_: rates[dtype].pop(0))
    bf16_is_faster.cache_clear()
    try:
        assert bf16_is_faster(torch.device("cpu")) is faster
        assert resolve_precision("auto", torch.device("cpu")) is (torch.bfloat16 if faster else torch.float32)
    finally:
        bf16_is_faster.cache_clear()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_freed_memory_is_kept_and_returned_in_the_end() -> None:
    cpu, size = torch.device("cpu"), 2**28

    def leave_behind() -> int:
        before = resident("VmRSS")
        _ = torch.ones(size, dtype=torch.uint8)
        del _
        return resident("VmRSS") - before

    with kept_memory(torch.device("cuda")):
        assert leave_behind() < size / 2
    with kept_memory(cpu):
        assert leave_behind() > size / 2
    assert leave_behind() < size / 2
