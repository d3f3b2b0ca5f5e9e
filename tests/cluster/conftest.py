"""Settings of Ray; each command starts a cluster of its own. CI does not install Ray: ``make test-ray`` does."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("ray") else ["test_*.py"]
sys.path.insert(0, str(Path(__file__).parent))

SETTINGS = {
    "RAY_ADDRESS": "local",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default 15: slower than its own health checks allow, on a busy machine
    "RAY_memory_monitor_refresh_ms": "0",  # no process is killed for what others use
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="session", autouse=True)
def settings(bundle: Path) -> Iterator[None]:
    """For every process that tests start; they also know the home of the tiny bundle."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(prefix="ray-") as folder:
        patch.setenv("RAY_TMPDIR", folder)  # its path must be short: Ray's sockets are in it
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        yield
