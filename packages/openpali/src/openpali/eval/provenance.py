"""What a score depends on: hashes of the model, the samples and the scoring code, and versions of packages."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pkgutil import resolve_name

from openpali.eval.benchmark import SeenSamples
from openpali.extensions import extensions
from openpali.infer.components import component_types
from openpali.infer.pali import Pali
from openpali.tasks.scoring import Answered
from openpali.text.masks import ANY_MASK_TOKEN
from openpali.weights.files import ADAPTER, CONFIG, FITTED, TOKENIZER
from openpali.weights.format import open_model

PACKAGES = ("openpali", "torch", "openvino", "numpy", "scipy", "pillow", "sentencepiece", "av")
SCORERS = ("metrics/*.py", "tasks/*.py", "eval/benchmark.py", "eval/calibrate.py", "eval/pages.py")
"""Files of the package that compute scores from answers, embeddings and features; extensions name their own."""


def hash_model(pali: Pali, parts: Collection[str] = ()) -> str:
    """SHA-256 over the configuration, weights, tokenizer and what was fitted of parts and of their bases.

    Args:
        parts: those that are asked; none: all but the components of extensions.
    """
    folders = {}
    for part, folder in pali.parts.items():
        if part not in parts if parts else part in component_types():
            continue
        folders[part] = folder
        while base := open_model(folder).base_folder:
            part, folder = f"{part}'s base", base
            folders[part] = base
    seen = SeenSamples()
    for part, folder in sorted(folders.items()):
        fitted = (f"{name}/*" for name in FITTED)
        for pattern in (CONFIG, ADAPTER, "*.safetensors*", TOKENIZER, *fitted):
            for path in sorted(folder.glob(pattern)):
                seen.texts(part, path.relative_to(folder).as_posix(), _hash_file(path))
    return seen.hash


def hash_samples(rows: Sequence[Answered], pixels: Sequence[str]) -> str:
    """SHA-256 over the keys, kinds, references and pixels of the samples. Mask tokens in references are left out:
    they are those of the model's mask VQ-VAE, and the same samples have others with another one."""
    seen = SeenSamples()
    for row, image in zip(rows, pixels, strict=True):
        seen.texts(row.key, row.kind, *(re.sub(ANY_MASK_TOKEN, "", text) for text in row.references), image)
    return seen.hash


@cache
def hash_scoring() -> str:
    """SHA-256 over the code that computes scores; it serves as their version number."""
    named = {name.partition(":")[0]: each.scorers for name, each in extensions().items() if each.scorers}
    return hash_code({"openpali": SCORERS, **named})


def hash_code(patterns: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 over files: module -> patterns of files in its folder."""
    seen = SeenSamples()
    for package, some in sorted(patterns.items()):
        folder = Path(resolve_name(package).__file__).parent
        for path in sorted(path for pattern in some for path in folder.glob(pattern)):
            seen.texts(path.relative_to(folder).as_posix(), path.read_text("utf-8"))
    return seen.hash


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of packages, by default those that a score can depend on."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional package
            continue
    return found


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
