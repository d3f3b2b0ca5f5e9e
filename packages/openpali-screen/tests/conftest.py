"""Tests of openpali-screen: in their environment are openpali and it, and no openpali-lab."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("busy", deadline=None)  # no test is about the time it takes
settings.load_profile("busy")
