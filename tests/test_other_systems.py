"""What only Linux has is guarded: the package works without it, and says what is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGES = Path(__file__).parents[1] / "packages"

PROGRAM = """
import sys, warnings
import torch

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refuse())

from pathlib import Path
import openpali.cli.main
from openpali.data.pipeline.stream import start_method
from openpali.infer.pali import Pali
from openpali.locks import lock
from openpali.train.machine import kept_memory, peak_memory
from openpali.train.trainer import Trainer
from openpali.tensors import give_back

warnings.simplefilter("always")
cpu, run = torch.device("cpu"), Path(sys.argv[1])
for sys.platform in ("win32", "darwin"):
    with kept_memory(cpu), warnings.catch_warnings(record=True) as said:
        lock(run / ".lock", "").close()
        give_back([torch.zeros(9999)])
    print(sys.platform, peak_memory(cpu), start_method(), *(each.message for each in said), sep="; ")
"""


def test_the_package_works_without_the_modules_of_unix(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = f"this system has no file locks: let no second process write in {tmp_path}"
    assert done.stdout.splitlines() == [f"{name}; 0; spawn; {said}" for name in ("win32", "darwin")]


def test_text_files_name_their_encoding() -> None:
    """Otherwise Windows reads and writes them in the user's code page."""
    call = re.compile(r"\.(?:read|write)_text\((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*\)")
    for path in PACKAGES.glob("*/src/**/*.py"):
        for found in call.findall(path.read_text("utf-8")):
            assert re.search("utf-8|ascii|encoding=", found), f"{path}: {found}"
