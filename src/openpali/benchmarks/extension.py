"""What the benchmarks of the paper, and those of screens, add to OpenPaLI."""

from __future__ import annotations

from openpali.extensions import Extension

EXTENSION = Extension(
    commands={"data refcoco": "openpali.benchmarks.cli:refcoco"},
    options={"eval --ocr": "openpali.benchmarks.ocr:open_ocr"},
    suites={"paper": "openpali.benchmarks.paper:suite", "screens": "openpali.benchmarks.screens:suite"},
)
