"""The package stands alone: its commands start without the others."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest


@pytest.mark.skipif(find_spec("openpali_lab") is not None, reason="this environment has the other packages")
def test_the_command_line_starts_without_the_other_packages() -> None:
    done = subprocess.run([sys.executable, "-m", "openpali", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "predict" in done.stdout
    assert "speedrun" not in done.stdout
