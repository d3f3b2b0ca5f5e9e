"""Reads screens and pages: lines and words with boxes, elements, icons, and what an expression points at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openpali_screen.reader import ScreenReader
    from openpali_screen.screen import Screen

__version__ = "0.1.0"
__all__ = ["Screen", "ScreenReader", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on demand, so that `import openpali_screen` costs nothing.
    if name == "Screen":
        from openpali_screen.screen import Screen

        return Screen
    if name == "ScreenReader":
        from openpali_screen.reader import ScreenReader

        return ScreenReader
    raise AttributeError(f"module 'openpali_screen' has no attribute {name!r}")
