"""Steps on batches of many lengths do not make the process grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STEPS = Path(__file__).with_name("varied_steps.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_constant_over_steps_of_all_lengths() -> None:
    done = subprocess.run([sys.executable, str(STEPS), "300", "1000"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert late <= 1.03 * early
