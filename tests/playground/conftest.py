"""What the tests of the page share: its modules under node, and tables of nano."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from page_modules import Run

from openpali import Pali
from openpali_lab.playground.build import PAGE
from openpali_lab.playground.tables import Json, tables_of

NODE = shutil.which("node")


@pytest.fixture(scope="session")
def nano() -> Pali:
    return Pali.from_pretrained("nano")


@pytest.fixture(scope="session")
def tables(nano: Pali) -> Json:
    return tables_of(nano)


@pytest.fixture(scope="session")
def run(tables: Json, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run functions of the page's modules."""
    if NODE is None:
        pytest.skip("no node here, which runs the page's modules: apt-get install nodejs")
    modules = shutil.copytree(PAGE, tmp_path_factory.mktemp("modules"), dirs_exist_ok=True)
    (modules / "package.json").write_text('{"type": "module"}')

    def call(calls: Sequence[Sequence[Any]]) -> list[Any]:
        given = modules / "calls.json"
        given.write_text(json.dumps({"tables": tables, "calls": calls}), "utf-8")
        command = [NODE, str(Path(__file__).parent / "run.mjs"), str(modules), str(given)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found: list[Any] = json.loads(done.stdout)
        return found

    return call
