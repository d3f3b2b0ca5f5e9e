"""OpenPaLI: PaLI-3 style vision-language models, from pretraining to serving."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from openpali.weights.hub import adopt_by

if TYPE_CHECKING:
    from openpali.infer.pali import Pali

__version__ = "0.1.0"
__all__ = ["Pali", "__version__"]


def _adopt(source: Path, out: Path) -> None:
    from openpali.interop.adopt import adopt

    adopt(source, out)


adopt_by(_adopt)


def __getattr__(name: str) -> Any:
    if name == "Pali":  # imported on demand, so that `import openpali` costs nothing
        from openpali.infer.pali import Pali

        return Pali
    raise AttributeError(f"module 'openpali' has no attribute {name!r}")
