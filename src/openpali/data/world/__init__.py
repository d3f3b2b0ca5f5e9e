"""The composed world: pictures whose every pixel is known."""

from openpali.data.world.compose import WorldSource
from openpali.data.world.splits import is_heldout
from openpali.data.world.world import Stamp, World

__all__ = ["Stamp", "World", "WorldSource", "is_heldout"]
