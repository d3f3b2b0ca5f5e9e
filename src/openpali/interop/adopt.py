"""A checkpoint of transformers as a model folder, whatever its family."""

from __future__ import annotations

from pathlib import Path

from openpali.interop.names import read_config
from openpali.interop.paligemma import adopt_paligemma
from openpali.interop.parts import adopt_siglip
from openpali.interop.t5gemma2 import adopt_t5gemma2


def adopt(source: Path, out: Path) -> None:
    """Write a model folder from a folder of transformers.

    Raises:
        FileNotFoundError, ValueError: it is of no known kind, or its files cannot be read.
    """
    match read_config(source)["model_type"]:
        case "paligemma":
            adopt_paligemma(source, out)
        case "t5gemma2":
            adopt_t5gemma2(source, out)
        case "siglip":
            adopt_siglip(source, out)
        case kind:
            raise ValueError(f"{source} holds a {kind!r}: only paligemma, t5gemma2 and siglip are adopted by name")
