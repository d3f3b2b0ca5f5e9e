"""The stand-in world, for every test of this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from world_fixture import world, world_home

__all__ = ["world", "world_home"]
