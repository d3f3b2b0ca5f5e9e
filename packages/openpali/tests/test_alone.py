"""The package stands alone: `make test` runs these tests in an environment without the others."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec


def test_the_other_packages_are_not_here() -> None:
    assert [name for name in ("openpali_screen", "openpali_lab") if find_spec(name)] == []


def test_the_command_line_starts_without_the_other_packages() -> None:
    done = subprocess.run([sys.executable, "-m", "openpali", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "predict" in done.stdout
    assert "speedrun" not in done.stdout
