"""The record of every scoring of a test set: how often a set was looked at is part of what its scores mean."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from openpali.eval.benchmark import Benchmark

_CHECKOUT = Path(__file__).parents[5]
_FILE = "docs/results/tests.jsonl"


def record(benchmark: Benchmark, n: int, model: str, score: float) -> None:
    """Append a line to the record if the benchmark is a test set.

    Args:
        n: samples that were scored.
        model: hash of the parts that were asked (:func:`openpali.eval.provenance.hash_model`).
        score: by the benchmark's metric.

    The file is ``$OPENPALI_TESTS_LOG``, or ``docs/results/tests.jsonl`` of the checkout that this code is in; an
    installed package without either keeps no record.
    """
    file = os.environ.get("OPENPALI_TESTS_LOG") or (_CHECKOUT / _FILE if (_CHECKOUT / ".git").exists() else "")
    if not benchmark.test or not file:
        return
    line = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "benchmark": benchmark.name,
        "n": n,
        "model": model,
        "score": {benchmark.metric: score},
    }
    with Path(file).open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(line) + "\n")


def _commit() -> str:
    """Of the checkout; ``-dirty`` marks changes that are not committed. Empty without git."""
    command = ["git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
