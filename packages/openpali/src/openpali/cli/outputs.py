"""Checks of output paths, made before any work that would be lost."""

from __future__ import annotations

import os
from pathlib import Path


def check_not_input(out: Path, *inputs: str | Path) -> None:
    """Check that the output replaces none of the inputs."""
    if any(out.resolve() == Path(each).resolve() for each in inputs):
        raise ValueError(f"{out} is an input and would be overwritten: choose another output")


def check_writable(*files: Path | None) -> None:
    """Create the folders of the files, but none at the root, and check that each file can be written."""
    seen: set[Path] = set()
    for file in filter(None, files):
        if file.resolve() in seen:
            raise ValueError(f"{file} is named for two outputs: give each a file of its own")
        seen.add(file.resolve())
        try:
            check_not_at_root(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                raise OSError("it is a folder")
            if not os.access(file if file.exists() else file.parent, os.W_OK):
                raise OSError("permission denied")
        except OSError as error:
            raise OSError(f"{file} cannot be written ({error}): choose another path") from error


def check_not_at_root(path: Path) -> None:
    """Refuse an output whose folders would be made at the root, as by a slash too much, where root may write."""
    missing = [each for each in path.resolve().parents if not each.exists()]
    if missing and missing[-1].parent == Path(missing[-1].anchor):
        raise OSError(f"there is no folder {missing[-1]}, and none is made at the root")


def check_drawable(file: Path) -> None:
    """:func:`check_writable` for an image, whose format Pillow chooses by the file's ending."""
    from PIL import Image

    if Image.registered_extensions().get(file.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"{file} does not end like an image file: use one of .jpg, .jpeg, .png, .webp or .tif")
    check_writable(file)
