"""What the cluster adds to OpenPaLI."""

from __future__ import annotations

from openpali.extensions import Extension

EXTENSION = Extension(options={"predict --ray": "openpali.cluster.bulk:answer"})
