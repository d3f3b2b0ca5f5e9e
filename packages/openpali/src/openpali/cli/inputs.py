"""Files that commands read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def with_folders(paths: Sequence[str], endings: Sequence[str], kinds: str) -> list[str]:
    """The paths; a folder stands for the images in it and the files with other ``endings``, by name.

    Args:
        kinds: what the other files are, as in "videos".
    """
    from openpali.data.media.images import is_image

    found: list[str] = []
    for path in paths:
        if not Path(path).is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in Path(path).iterdir() if is_image(p) or p.suffix.lower() in endings)
        if not inside:
            raise ValueError(
                f"{path} is a folder without images or {kinds} (those in folders inside it do not count)"
            )
        found += map(str, inside)
    return found
