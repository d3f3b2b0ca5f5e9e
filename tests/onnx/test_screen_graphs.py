"""Graphs of a bundle with random weights: in float32 they are torch's, in 8 bits they still run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openpali import Pali
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.pack import pack
from openpali_screen.reader import ScreenReader

SCREEN = np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8)


@pytest.mark.usefixtures("_operators_are_read_once")
@pytest.mark.parametrize("int8", [False, True])
def test_a_packed_model_sees_what_torch_sees(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8: bool
) -> None:
    monkeypatch.setattr("openpali_screen.bundles.bf16_is_faster", lambda device: False)
    pali = Pali.from_pretrained(bundle)
    pack(pali, tmp_path / "packed", [SCREEN], int8=int8)
    packed, own = ScreenReader.open(tmp_path / "packed"), reader_of_bundle(pali)
    assert packed.networks.reader.characters == [*own.networks.reader.characters]
    found, true = packed.screen(SCREEN), own.screen(SCREEN)
    assert len(found.elements) > 0
    if not int8:
        assert [line.text for line in found.lines] == [line.text for line in true.lines]
        assert [e.role for e in found.elements] == [e.role for e in true.elements]
        np.testing.assert_allclose([e.box for e in found.elements], [e.box for e in true.elements], atol=0.1)
