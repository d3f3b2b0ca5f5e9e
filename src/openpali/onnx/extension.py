"""What ONNX adds to OpenPaLI."""

from __future__ import annotations

from openpali.extensions import Extension

EXTENSION = Extension(options={"export --format": "openpali.onnx.export:write"})
