"""Ranks that share a model made of Gemma's layers have the gradients of one, and generate the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_two_ranks_are_one() -> None:
    script = Path(__file__).with_name("gemma_ranks.py")
    ended = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
