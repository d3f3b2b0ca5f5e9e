"""Names of the splits of a benchmark."""

from __future__ import annotations

from typing import Literal

EvalSplit = Literal["heldout", "dev"]
"""The samples that score cards are of, or others, on which decisions are taken while training."""
