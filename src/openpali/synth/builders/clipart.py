"""``clipart``: patterns and symbols for backgrounds, of which none shows an object that a stamp shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from openpali.synth.builders import packages
from openpali.synth.builders.output import json_bytes, png_bytes, read_rgba, write_licences, write_shards

PACKAGE = "openclipart-png"
KINDS = {  # kind -> (folders under openclipart/png, how many images at most)
    "pattern": (("special/patterns",), 96),
    "symbol": (("decorations", "signs_and_symbols", "computer/buttons", "shapes"), 320),
}


def build(folder: Path) -> None:
    """Write the shards ``pattern-*.tar`` and ``symbol-*.tar``."""
    root = packages.debian(PACKAGE) / "usr/share/openclipart/png"
    for kind, (sources, most) in KINDS.items():
        files = sorted(path for source in sources for path in (root / source).glob("*.png"))
        chosen = files[:: max(1, len(files) // most)][:most]
        write_shards(folder, kind, _samples(root, chosen))
    write_licences(folder, [PACKAGE])


def _samples(root: Path, files: Iterable[Path]) -> Iterator[tuple[str, dict[str, bytes]]]:
    for path in files:
        image = read_rgba(path)
        if min(image.size) < 24 or np.asarray(image)[..., 3].mean() < 32:
            continue  # too small, or nearly transparent
        file = path.relative_to(root)
        key = "-".join(file.with_suffix("").parts).replace(".", "_")
        yield key, {"png": png_bytes(image), "json": json_bytes({"file": file.as_posix()})}
