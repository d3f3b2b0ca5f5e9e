"""Output of builders: plain files, never pickles. The same packages give the same bytes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

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
