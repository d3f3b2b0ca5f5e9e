"""What a score depends on: hashes of the model, the samples and the scoring code, and versions of packages."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Collection, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from openpali.eval.benchmark import SeenSamples
from openpali.infer.pali import Pali
from openpali.tasks.scoring import Answered
from openpali.text.masks import ANY_MASK_TOKEN
from openpali.weights.files import ADAPTER, CONFIG, LANGUAGE, OOD_FOLDERS, PAGES, TOKENIZER
from openpali.weights.format import open_model

PACKAGES = ("openpali", "torch", "openvino", "numpy", "scipy", "pillow", "sentencepiece", "av")
SCORERS = (  # files under the package that compute scores from answers, embeddings and features
    "metrics/*.py",
    "tasks/*.py",
    "eval/benchmark.py",
    "eval/calibrate.py",
    "eval/elements.py",
    "eval/pages.py",
    "data/pipeline/elements.py",
    "benchmarks/**/*.py",
    "worlds/benchmarks/*.py",
)
READERS = (  # files under the package that make a text of a page, besides the networks
    *("infer/pages.py", "infer/tiles.py", "infer/ctc.py", "infer/reading_order.py", "infer/screen_reader.py"),
    *("data/groups.py", "data/pipeline/pages.py", "text/language.py", "metrics/calibration.py", "model/pages.py"),
)


def hash_model(pali: Pali, parts: Collection[str] = ()) -> str:
    """SHA-256 over the configuration, weights, tokenizer and what was fitted of parts and of their bases.

    Args:
        parts: those that are asked; none: all but those that read pages, which no prompt asks.
    """
    folders = {}
    for part, folder in pali.parts.items():
        if part not in parts if parts else part in PAGES:
            continue
        folders[part] = folder
        while base := open_model(folder).base_folder:
            part, folder = f"{part}'s base", base
            folders[part] = base
    seen = SeenSamples()
    for part, folder in sorted(folders.items()):
        fitted = (f"{name}/*" for name in (*OOD_FOLDERS, LANGUAGE))
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
    """SHA-256 over the code that computes scores (:data:`SCORERS`); it serves as their version number."""
    return hash_code(SCORERS)


def hash_code(patterns: Sequence[str]) -> str:
    """SHA-256 over files under the package."""
    seen = SeenSamples()
    folder = Path(__file__).parents[1]
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
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
