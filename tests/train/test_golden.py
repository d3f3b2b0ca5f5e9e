"""Golden loss curves: the first ten losses of a tiny run of each objective must not change.

After a change that is meant to change them, ``OPENPALI_REGENERATE=1 pytest tests/train/test_golden.py`` writes new
ones; with ``-k NAME``, those of one objective. Tolerance: 1e-3 relative, since other processors sum in another
order and Adam magnifies that.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import numpy as np
import PIL
import pytest
import sentencepiece
import torch
from tiny_runs import OBJECTIVES, losses_of, make_recipe

GOLDEN = Path(__file__).with_name("golden_losses.json")
TOLERANCE = 1e-3
STEPS = 10
VERSIONS = {
    "torch": torch.__version__,
    "numpy": np.__version__,
    "pillow": PIL.__version__,
    "sentencepiece": sentencepiece.__version__,  # trains the vocabulary
    "machine": platform.machine(),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_are_the_golden_ones(objective, make_trainer) -> None:
    trainer = make_trainer(make_recipe(objective, phases__0__samples=4 * STEPS))
    losses = losses_of(trainer)
    trainer.train()
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if os.environ.get("OPENPALI_REGENERATE"):
        golden |= {"versions": VERSIONS, objective: [round(loss, 6) for loss in losses]}
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    assert losses == pytest.approx(golden[objective], rel=TOLERANCE), f"written with {golden['versions']}"
    assert len(losses) == STEPS
