"""Samples from WebDataset shards: tar files of ``key.json`` with ``key.jpg`` (docs/data.md)."""

from __future__ import annotations

import re
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from openpali.data.records import Record, RecordError, RecordSource, parse_record

_PICTURE = re.compile(r"(?:([0-9]+)\.)?(?:jpe?g|png|webp)")


class _Span(NamedTuple):
    """A stretch of a file, in bytes."""

    start: int
    size: int


class _Entry(NamedTuple):
    """A sample in a shard: what follows the key in the names of its members ("json", "0.jpg") -> where it lies."""

    shard: Path
    key: str
    members: Mapping[str, _Span]


class ShardSource(RecordSource):
    """Examples by index from WebDataset shards, in the order of the shards' names.

    The shards' tables of contents are read once; a record and its pictures are read when asked for. Pictures are
    ``key.jpg`` (or png, webp), or ``key.0.jpg``, ``key.1.jpg``, ... for several; a record may name other members
    by what follows the key. Of a shard that was cut off, the complete samples are used, and a warning says so.

    Args:
        path: a folder with ``.tar`` files, one such file, or a pattern as in ``shards/train-*.tar``.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: a file is no tar file, or there are no samples.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            shards = sorted(self.path.glob("*.tar"))
        elif self.path.is_file():
            shards = [self.path]
        else:
            shards = sorted(Path(self.path.anchor).glob(str(self.path.relative_to(self.path.anchor))))
        if not shards:
            raise FileNotFoundError(f"no .tar shards at {self.path}")
        self._entries = [entry for shard in shards for entry in _contents(shard)]
        if not self._entries:
            raise ValueError(f"{self.path} holds no samples")

    def __len__(self) -> int:
        return len(self._entries)

    def where(self, index: int) -> str:
        """Shard and key, "train-00000.tar: cat-7"."""
        entry = self._entries[index]
        return f"{entry.shard.name}: {entry.key}"

    def record(self, index: int) -> Record:
        where, members = self.where(index), self._entries[index].members
        if "json" not in members:
            raise RecordError(where, {"": f"there is no .json; it has {', '.join(members)}"})
        record = parse_record(self.read(index, "json"), where)
        if not record.images:
            record = record.model_copy(update={"images": _pictures(members)})
        return record

    def read(self, index: int, name: str) -> bytes:
        entry = self._entries[index]
        if name not in entry.members:
            has = ", ".join(entry.members)
            raise FileNotFoundError(f"{self.where(index)}: no member {entry.key}.{name}; there are {has}")
        span = entry.members[name]
        # Opened anew each time: nothing to share between processes, and no limit on the number of shards.
        with entry.shard.open("rb") as file:
            file.seek(span.start)
            return file.read(span.size)


def _pictures(members: Mapping[str, _Span]) -> tuple[str, ...]:
    """The members that are pictures, in the order of their numbers."""
    found = {name: match for name in members if (match := _PICTURE.fullmatch(name))}
    return tuple(sorted(found, key=lambda name: int(found[name][1] or 0)))


def _contents(shard: Path) -> list[_Entry]:
    """The samples of a shard in their order; warns of what is missing at its end."""
    entries: list[_Entry] = []
    members: dict[str, _Span] = {}
    key, end = None, 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in _readable(tar):
                end = tar.offset
                if not member.isfile():
                    continue
                folder, slash, file = member.name.rpartition("/")
                stem, _, suffix = file.partition(".")
                if folder + slash + stem != key:
                    key, members = folder + slash + stem, {}
                    entries.append(_Entry(shard, key, members))
                members[suffix.lower()] = _Span(member.offset_data, member.size)
    except tarfile.ReadError as error:
        raise ValueError(f"{shard} is no tar file; compressed ones must be unpacked first") from error
    with shard.open("rb") as opened:
        opened.seek(end)
        if opened.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE) and entries:  # no end mark
            cut = entries.pop()  # more of its members may have followed
            warnings.warn(
                f"{shard} was cut off or damaged after {min(end, shard.stat().st_size):,} bytes: {len(entries)} "
                f"complete samples are used, and {cut.key} is left out with all that followed it",
                stacklevel=4,
            )
    return entries


def _readable(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members up to where the file breaks off."""
    while True:
        try:
            member = tar.next()
        except tarfile.ReadError:
            return
        if member is None:
            return
        yield member
