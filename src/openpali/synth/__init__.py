"""The composed world: pictures whose every pixel is known."""

from openpali.synth.compose import WorldSource
from openpali.synth.splits import is_heldout
from openpali.synth.world import Stamp, World

__all__ = ["Stamp", "World", "WorldSource", "is_heldout"]
