"""What other packages add, and that every declaration of this repository names what exists."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

import openpali
import openpali_lab
import openpali_screen
from openpali import extensions
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import Benchmark
from openpali.eval.registry import benchmarks, suites
from openpali.eval.suites import find_suite
from openpali.extensions import LeftOut, added
from openpali_lab.worlds.builders.base import Dataset, build, datasets

MODULE = '''
from openpali.eval.registry import benchmarks
from openpali.eval.benchmark import own_benchmark
from openpali.extensions import Extension
from openpali_lab.worlds.builders.base import Dataset

EXTENSION = Extension(
    commands={"greet": "my_package:greet"},
    datasets={"mine": "my_package:MINE"},
    sources={"mine": "my_package:open_mine"},
    suites={"mine": "my_package:suite"},
)
MINE = Dataset(lambda folder: (folder / "written").touch())

def open_mine(name, options, min_size):
    return [name, options]

def suite():
    return [own_benchmark("mine.jsonl", "vqa")]

def greet() -> None:
    """Say hello."""
    print("hello")
'''


@pytest.fixture
def announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package above, installed."""
    (tmp_path / "my_package.py").write_text(MODULE)
    metadata = tmp_path / "my_package-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[openpali.extensions]\nmine = my_package:EXTENSION\n")
    (tmp_path / "mine.jsonl").write_text('{"image": "a.png", "question": "what?", "answers": ["this"]}\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    caches = (extensions.extensions, datasets, suites, benchmarks)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()
    sys.modules.pop("my_package", None)


@pytest.mark.usefixtures("announced")
def test_an_installed_package_adds_a_data_set_a_source_a_suite_and_a_command(tmp_path: Path) -> None:
    assert (build("mine") / "written").is_file()
    assert open_source("mine/half", {"a": 1}) == ["mine/half", {"a": 1}]
    assert [each.name for each in find_suite("mine")] == ["mine.jsonl"]
    assert added("commands")["greet"] == "my_package:greet"


def test_what_is_declared_here_exists() -> None:
    for name in ("openpali_lab", "openpali_screen"):
        extension = extensions.extensions()[f"{name}.extension:EXTENSION"]
        functions = (
            "commands",
            "options",
            "sources",
            "components",
            "endpoints",
            "graphs",
            "architectures",
            "objectives",
        )
        for kind in (getattr(extension, each) for each in functions):
            assert all(callable(resolve_name(where)) for where in kind.values())
        assert all(isinstance(resolve_name(where), Dataset) for where in extension.datasets.values())
        for where in extension.suites.values():
            assert all(isinstance(each, Benchmark) for each in resolve_name(where)())


@pytest.mark.usefixtures("announced")
@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_module", "no_such_module"),
        ("1 / 0", "ZeroDivisionError"),
        ("EXTENSION = 'of another kind'", "no Extension"),
        (MODULE.replace('"greet": ', '"mine go": '), "'mine go'"),
        (
            MODULE.replace('"my_package:greet"', '"no_module:greet", "mine go": "my_package:greet"'),
            "no_module",
        ),
        (MODULE.replace("greet()", "greet(x: int | str)"), "Union"),
    ],
)
def test_a_broken_extension_gives_one_warning_and_stops_no_command(tmp_path: Path, code: str, cause: str) -> None:
    (tmp_path / "my_package.py").write_text(code)
    path = os.pathsep.join((str(tmp_path), str(Path(extensions.__file__).parents[1])))
    run = subprocess.run(
        [sys.executable, "-m", "openpali", "--help"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "greet" not in run.stdout
    [line] = run.stderr.splitlines()
    assert line.startswith("openpali: the extension my_package:EXTENSION is left out: ")
    assert cause in line


def test_entry_points_that_cannot_be_parsed_give_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd-1.dist-info").mkdir()
    (tmp_path / "odd-1.dist-info" / "entry_points.txt").write_text("mine\n[openpali.extensions]\n")
    monkeypatch.syspath_prepend(tmp_path)
    extensions.extensions.cache_clear()
    with pytest.warns(LeftOut, match="odd-1"):
        assert "openpali_lab.extension:EXTENSION" in extensions.extensions()
    extensions.extensions.cache_clear()


@pytest.mark.usefixtures("announced")
def test_what_cannot_be_loaded_leaves_its_extension_out(tmp_path: Path) -> None:
    (tmp_path / "my_package.py").write_text(MODULE.replace("my_package:suite", "no_such_module:suite"))
    with pytest.warns(LeftOut, match=r"my_package:EXTENSION .*no_such_module"):
        assert {"nano", "paper"} <= {*suites()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "mine" not in {*suites(), *datasets(), *added("sources")}


def test_declarations_import_nothing_that_they_name() -> None:
    code = "import sys, openpali.cli.main; print(*sys.modules)"  # which asks for every command
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"openpali_lab.extension", "openpali_screen.extension"} <= {*loaded}
    assert not {"torch", "numpy", "importlib.metadata"} & {*loaded}


def test_the_packages_have_one_version() -> None:
    assert openpali.__version__ == openpali_lab.__version__ == openpali_screen.__version__
