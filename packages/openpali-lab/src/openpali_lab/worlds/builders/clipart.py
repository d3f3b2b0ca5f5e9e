"""``clipart``: patterns and symbols for backgrounds, of which none shows an object that a stamp shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import json_bytes, png_bytes, read_rgba, write_licences, write_shards

PACKAGE = "openclipart-png"
FOLDER = "usr/share/openclipart/png"
KINDS = {  # kind -> (folders under openclipart/png, how many images at most)
    "pattern": (("special/patterns",), 96),
    "symbol": (("decorations", "signs_and_symbols", "computer/buttons", "shapes"), 320),
}


def build(folder: Path) -> None:
    """Write the shards ``pattern-*.tar`` and ``symbol-*.tar``."""
    root = packages.fetch(PACKAGE) / FOLDER
    for kind, files in choose(root).items():
        write_shards(folder, kind, _samples(root, files))
    write_licences(folder, [PACKAGE])


def choose(root: Path) -> Mapping[str, Sequence[Path]]:
    """Kind -> its files among those of the package, evenly spaced; some may turn out too small to be used."""
    chosen = {}
    for kind, (sources, most) in KINDS.items():
        files = sorted(path for source in sources for path in (root / source).glob("*.png"))
        chosen[kind] = files[:: max(1, len(files) // most)][:most]
    return chosen


def _samples(root: Path, files: Iterable[Path]) -> Iterator[tuple[str, dict[str, bytes]]]:
    for path in files:
        image = read_rgba(path)
        if min(image.size) < 24 or np.asarray(image)[..., 3].mean() < 32:
            continue  # too small, or nearly transparent
        file = path.relative_to(root)
        key = "-".join(file.with_suffix("").parts).replace(".", "_")
        yield key, {"png": png_bytes(image), "json": json_bytes({"file": file.as_posix()})}


DATASET = Dataset(build, lambda: [PACKAGE], minutes=0.3, megabytes=131)
