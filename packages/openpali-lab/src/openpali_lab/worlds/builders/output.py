"""Output of builders: plain files, never pickles. The same packages give the same bytes."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from openpali.home import home
from openpali.whole import replacing
from openpali_lab.worlds.builders import packages

LONGEST_SIDE = 192  # of a stored stamp or clip art image, pixels
SAMPLES_PER_SHARD = 256


def write_shards(folder: Path, stem: str, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Write ``(key, {extension: content})`` samples as WebDataset shards ``{stem}-00000.tar``, ..."""
    shard, count = None, 0
    try:
        for key, parts in samples:
            if count % SAMPLES_PER_SHARD == 0:
                if shard is not None:
                    shard.close()
                shard = tarfile.open(folder / f"{stem}-{count // SAMPLES_PER_SHARD:05d}.tar", "w")  # noqa: SIM115
            assert shard is not None
            add_sample(shard, key, parts)
            count += 1
    finally:
        if shard is not None:
            shard.close()


@contextmanager
def make_parts(
    name: str, version: str, parts: Mapping[str, tuple[Any, ...]], make: Callable[..., None]
) -> Iterator[Path]:
    """A folder of files by name, each written by ``make(path, *arguments)`` in other processes. Those that were
    made before a build was stopped are taken up; at the end the folder is removed.

    Args:
        version: parts of another version are made again.
    """
    folder = home() / "data" / f".{name}-parts-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [(folder / part, given) for part, given in parts.items() if not (folder / part).exists()]
    if missing:
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            for done in [pool.submit(_make_part, make, path, given) for path, given in missing]:
                done.result()
    yield folder
    shutil.rmtree(folder)


def _make_part(make: Callable[..., None], path: Path, given: tuple[Any, ...]) -> None:
    with replacing(path) as new:
        make(new, *given)


def add_sample(shard: tarfile.TarFile, key: str, parts: Mapping[str, bytes]) -> None:
    """Add the files ``KEY.EXTENSION`` of a sample, with no time and no owner: the same bytes each time."""
    for extension, content in parts.items():
        member = tarfile.TarInfo(f"{key}.{extension}")
        member.size = len(content)
        shard.addfile(member, io.BytesIO(content))


def read_rgba(path: Path) -> Image.Image:
    """The image in ``path`` as RGBA, reduced to :data:`LONGEST_SIDE` where it is larger."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return image


def png_bytes(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def json_bytes(value: object) -> bytes:
    """``value`` as JSON with sorted keys, UTF-8."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()


def write_licences(folder: Path, names: Iterable[str]) -> None:
    """Write ``LICENCE`` (the copyright files of the Debian packages) and ``ATTRIBUTION.md`` (their list)."""
    names = list(dict.fromkeys(names))
    texts = [f"==== {name}\n\n{_copyright(name)}" for name in names]
    (folder / "LICENCE").write_text("\n\n".join(texts), "utf-8")
    lines = [f"- `{name}` (Debian package)" for name in names]
    (folder / "ATTRIBUTION.md").write_text(
        "What is in this folder was made from these packages; LICENCE holds the terms of each.\n\n"
        + "\n".join(lines)
        + "\n",
        "utf-8",
    )


def _copyright(name: str) -> str:
    folder = packages.fetch(name) / "usr/share/doc" / name
    if folder.is_symlink():  # it shares the terms of a package that it depends on
        return _copyright(folder.readlink().name)
    return (folder / "copyright").read_text("utf-8", "replace")
