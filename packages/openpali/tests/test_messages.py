"""Texts of error messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from openpali.messages import cannot_import


def test_a_package_that_is_there_and_broken_says_why() -> None:
    try:
        try:
            raise RuntimeError("operator torchvision::nms does not exist")
        except RuntimeError as error:
            raise ModuleNotFoundError("Could not import module 'AutoModel'") from error
    except ModuleNotFoundError as error:
        told = cannot_import("this needs transformers", "openpali[transformers]", error)
    assert told.startswith("this needs transformers: pip install 'openpali[transformers]'")
    assert "operator torchvision::nms does not exist" in told


def test_a_broken_transformers_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "transformers.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import openpali.interop.transformers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "operator torchvision::nms does not exist" in last
