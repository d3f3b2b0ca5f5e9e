"""OpenPaLI: PaLI-3 style vision-language models, from pretraining to serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openpali.infer.pali import Pali

__version__ = "0.1.0"
__all__ = ["Pali", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Pali":  # imported on demand, so that `import openpali` costs nothing
        from openpali.infer.pali import Pali

        return Pali
    raise AttributeError(f"module 'openpali' has no attribute {name!r}")
