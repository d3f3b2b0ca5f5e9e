"""Manifests of built data sets: of what they were made, and how to recognise them.

A build writes ``manifest.json`` beside what it makes. That of the data that shipped models learned from is
committed as ``manifests/NAME.json``, and a build says what differs from it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from openpali.home import data_folder
from openpali.messages import hint
from openpali_lab.worlds.builders import packages

FILE = "manifest.json"
_COMMITTED = Path(__file__).parent / "manifests"
_CODE = (".py", ".toml", ".js", ".css", ".java")
_RENDERING = ("layout.py", "rendered.py", "texts.py", "texts.toml")
"""Beside the folders of packages that render."""
_NUMBER = "-" + "[0-9]" * 5 + ".tar"  # of a shard


@dataclass(frozen=True)
class BuiltSet:
    """A set of a data set.

    Attributes:
        version: that recipes name.
        samples: their number; 0 where the files are no shards.
        sha256: of its files, one after the other, by name.
    """

    version: int
    samples: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a data set was made of.

    Attributes:
        generator: hash of the code that makes it.
        packages: name -> version; empty where the cache does not tell.
        sets: by name.
    """

    generator: str
    packages: Mapping[str, str]
    sets: Mapping[str, BuiltSet] = field(default_factory=dict)


def code_hash(module: Path) -> str:
    """Of the code of a builder: the file of a module with its table, or all files of the folder of a package, which
    renders."""
    files = [file for file in (module, module.with_suffix(".toml")) if file.is_file()]
    if module.name == "__init__.py":
        files = sorted(file for file in module.parent.rglob("*") if file.suffix in _CODE)
        files += [Path(__file__).with_name(name) for name in _RENDERING]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def describe(build: Callable[[Path], None], needed: Sequence[str]) -> Manifest:
    """The manifest of what a builder would make of the packages in the cache, without sets."""
    while isinstance(build, functools.partial):
        build = build.func
    versions = {name: packages.version_of(name) for name in sorted(needed)}
    return Manifest(code_hash(Path(inspect.getfile(build))), versions)


def with_sets(manifest: Manifest, folder: Path, versions: Mapping[str, int]) -> Manifest:
    """The manifest with the sets in ``folder``: shards ``SET-00000.tar``; without shards, all files are the set."""
    sets = {}
    for name, version in versions.items():
        shards = sorted(folder.glob(name + _NUMBER))
        files = shards or sorted(path for path in folder.rglob("*") if path.is_file())
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.read_bytes())
        sets[name] = BuiltSet(version, sum(map(_count, shards)), digest.hexdigest())
    return replace(manifest, sets=sets)


def write(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into the folder of a data set."""
    (folder / FILE).write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n", "utf-8")


def read(file: Path) -> Manifest | None:
    """A manifest from its file; None if there is none."""
    if not file.is_file():
        return None
    raw: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return Manifest(**{**raw, "sets": {name: BuiltSet(**each) for name, each in raw["sets"].items()}})


def committed(name: str) -> Manifest | None:
    """The manifest of the data set that shipped models learned from, if it is recorded."""
    return read(_COMMITTED / f"{name}.json")


def origins(manifest: Manifest) -> dict[str, str]:
    """What a data set was made of, in words."""
    packages = {f"the package {name}": each or "of an unknown version" for name, each in manifest.packages.items()}
    return {**packages, "the code that makes it": manifest.generator}


def contents(manifest: Manifest) -> dict[str, str]:
    """What was made, in words."""
    return {
        f"the set {name}": f"version {each.version}, {each.samples:,} samples, SHA-256 {each.sha256[:8]}"
        for name, each in manifest.sets.items()
    }


def differences(own: Mapping[str, str], known: Mapping[str, str]) -> Iterator[str]:
    """What is another than that of the shipped models, a sentence each."""
    for what in {**own, **known}:
        here, recorded = (facts.get(what, "not there") for facts in (own, known))
        if here != recorded:
            yield f"{what} is {here} here, and was {recorded} for the shipped models"


def set_files(source: str, shards: int | None = None) -> Path:
    """The pattern of the shards of a set of a built data set, by its exact name and, if that is named, its version:
    ``pages/themes@2``; of the first ``shards``, or of all.

    Raises:
        FileNotFoundError: the data set is not built.
        ValueError: there is no such set, or the built one has another version.
    """
    name, _, wanted = source.partition("@")[0].partition("/")
    folder = data_folder(name)
    sets = {path.name[: -len("-00000.tar")] for path in folder.glob("*" + _NUMBER)}
    if wanted not in sets:
        raise ValueError(
            f"there is no source {name}/{wanted}; {hint(wanted, sorted(sets))}. If it is newer than these, run "
            f"`openpali data build {name} --force`"
        )
    check_version(source)
    return folder / (f"{wanted}-{{00000..{shards - 1:05d}}}.tar" if shards is not None else wanted + _NUMBER)


def check_version(source: str) -> None:
    """Check that the version that a source names, as ``icons@1``, is the one that is built. Without a version, any
    may be.

    Raises:
        FileNotFoundError: the data set is not built.
        ValueError: it has another version.
    """
    where, at, wanted = source.partition("@")
    name, _, each = where.partition("/")
    manifest = read(data_folder(name) / FILE)
    one = manifest.sets.get(each or name) if manifest else None
    built = one.version if one else 1  # data that were built before there were versions
    if at and wanted != str(built):
        raise ValueError(
            f"{source}: what is built has version {built}: run `openpali data build {name} --force`, or name the "
            f"source {where}, without a version, to take it as it is"
        )


def _count(shard: Path) -> int:
    with tarfile.open(shard) as tar:
        return sum(name.endswith(".json") for name in tar.getnames())
