"""Samples from WebDataset shards: tar files of ``key.json`` with ``key.jpg`` (docs/data.md)."""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openpali.data.sources.files import find_files, fingerprint, is_url, open_file, read_span
from openpali.data.sources.records import Pictures, Record, RecordError, RecordSource, parse_record
from openpali.home import home

_PICTURE = re.compile(r"(?:([0-9]+)\.)?(?:jpe?g|png|webp|mp4|mov|mkv|webm|avi)")
_FORMAT = 1  # of the stored tables of contents


class _Contents(NamedTuple):
    """What is in a shard. Sample ``i`` has the members ``first[i]`` to ``first[i + 1]``; a member's name is the key
    and one of ``suffixes`` ("json", "0.jpg"), its content the ``size`` bytes from ``start`` on."""

    keys: NDArray[np.bytes_]  # [samples], UTF-8
    first: NDArray[np.int64]  # [samples + 1]
    suffix: NDArray[np.int32]  # [members], into suffixes
    suffixes: NDArray[np.str_]
    start: NDArray[np.int64]  # [members]
    size: NDArray[np.int64]  # [members]
    damage: NDArray[np.str_]  # []; a sentence about what was left out, "" for a whole shard


class DamagedShard(UserWarning):
    """Samples of a shard are left out."""


class ShardSource(RecordSource):
    """Examples by index from WebDataset shards, in the order of the shards' names.

    The shards are gone through once, for where their members lie; the table is kept in the cache and used until a
    shard changes. A record and its pictures are read when asked for. Pictures are ``key.jpg`` (or png, webp, or a
    video), or ``key.0.jpg``, ``key.1.jpg``, ... for several; a record may name other members by what follows the
    key. Without ``key.json``, ``key.txt`` is the caption. Of a shard that was cut off or damaged, the samples that
    are whole are used, and a warning says how many are not.

    Args:
        path: a folder with ``.tar`` files, one such file, a pattern (see :func:`find_files`),
            or a URL of either.
        pictures: how they are decoded.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: a file is no tar file, or there are no samples.
        OSError: a file cannot be read.
    """

    def __init__(self, path: str | Path, pictures: Pictures = Pictures()) -> None:  # noqa: B008
        self.pictures = pictures
        self._shards = find_files(str(path), ".tar")
        self._contents = [_contents_of(shard) for shard in self._shards]
        for contents in self._contents:
            if contents.damage:
                warnings.warn(str(contents.damage), DamagedShard, stacklevel=2)
        self._ends = np.cumsum([len(contents.keys) for contents in self._contents])
        if not self._ends[-1]:
            raise ValueError(f"{path} holds no samples")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _find(self, index: int) -> tuple[str, _Contents, int]:
        """The shard that a sample is in, what is in that, and which of it the sample is."""
        index = range(len(self))[index]  # IndexError past the end
        shard = int(np.searchsorted(self._ends, index, side="right"))
        contents = self._contents[shard]
        return self._shards[shard], contents, index - int(self._ends[shard]) + len(contents.keys)

    def where(self, index: int) -> str:
        """Shard and key, "train-00000.tar: cat-7"."""
        shard, contents, i = self._find(index)
        return f"{shard.rpartition('/')[2]}: {contents.keys[i].decode()}"

    def record(self, index: int) -> Record:
        where, members = self.where(index), list(self._members(index))
        if "json" in members:
            record = parse_record(self.read(index, "json"), where)
        elif "txt" in members:
            record = Record(caption=(self.read(index, "txt").decode("utf-8", "replace").strip(),))
        else:
            raise RecordError(where, {"": f"there is no .json; it has {', '.join(members)}"})
        if not record.images:
            found = {name: match for name in members if (match := _PICTURE.fullmatch(name))}
            images = tuple(sorted(found, key=lambda name: int(found[name][1] or 0)))
            record = record.model_copy(update={"images": images})
        return record

    def read(self, index: int, name: str) -> bytes:
        members = self._members(index)
        if name not in members:
            key = self.where(index).partition(": ")[2]
            has = ", ".join(members)
            raise FileNotFoundError(f"{self.where(index)}: no member {key}.{name}; there are {has}")
        shard, contents, _ = self._find(index)
        return read_span(shard, int(contents.start[members[name]]), int(contents.size[members[name]]))

    def _members(self, index: int) -> dict[str, int]:
        """What follows the key in the names of a sample's members -> which of the shard's members it is."""
        _, contents, i = self._find(index)
        return {str(contents.suffixes[contents.suffix[m]]): m for m in range(*contents.first[i : i + 2])}


def _contents_of(shard: str) -> _Contents:
    """A shard's table of contents, from the cache if it is there and the shard has not changed since."""
    name = shard if is_url(shard) else str(Path(shard).absolute())
    stamp = f"{_FORMAT} {fingerprint(shard)}"
    stored = home() / "index" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(stored) as arrays:
        if str(arrays["stamp"]) == stamp:
            return _Contents(*(arrays[field] for field in _Contents._fields))
    with open_file(shard) as file:
        contents = _scan(file, shard)
    with suppress(OSError):  # a full or read-only cache: it is read again the next time
        stored.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=stored.parent, suffix=".tmp", delete=False) as new:
            np.savez(new, stamp=np.array(stamp), **contents._asdict())
        Path(new.name).replace(stored)
    return contents


def _scan(file: BinaryIO, shard: str) -> _Contents:
    """Go through a shard once. Around a damaged place a sample may lack members, so its neighbours are left out."""
    samples: list[tuple[str, dict[str, tuple[int, int]]]] = []
    doubtful: set[int] = set()  # numbers of samples that may not be whole
    end = 0  # of the last member
    for member, following in _members_of(file):
        broken = member.offset > end and not _zeros(file, end, member.offset)
        folder, slash, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        key = folder + slash + stem
        if broken:
            doubtful |= {len(samples) - 1, len(samples)}
        end = following
        if not member.isfile():
            continue
        if broken or not samples or samples[-1][0] != key:
            samples.append((key, {}))
        samples[-1][1][suffix.lower()] = (member.offset_data, member.size)
    length = file.seek(0, 2)
    if not samples and not (length and _zeros(file, 0, length)):
        raise ValueError(f"{shard} is no tar file; compressed ones must be unpacked first")
    file.seek(end)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE) and samples:  # no mark of the end
        doubtful.add(len(samples) - 1)  # more of its members may have followed
    whole = [sample for number, sample in enumerate(samples) if number not in doubtful]
    damage = ""
    if lost := doubtful & set(range(len(samples))):
        damage = (
            f"{shard} ({length:,} bytes) was cut off or damaged: {len(whole)} complete samples are used, and "
            f"{len(lost)} are left out, from {samples[min(lost)][0]} on, with all that cannot be read"
        )
    suffixes = {suffix: i for i, suffix in enumerate(sorted({x for _, members in whole for x in members}))}
    spans = [(suffixes[suffix], *span) for _, members in whole for suffix, span in members.items()]
    columns: NDArray[np.int64] = np.array(spans, np.int64).reshape(-1, 3)
    return _Contents(
        keys=np.array([key.encode("utf-8", "surrogateescape") for key, _ in whole], np.bytes_),
        first=np.cumsum([0, *(len(members) for _, members in whole)]),
        suffix=columns[:, 0].astype(np.int32),
        suffixes=np.array(list(suffixes), np.str_),
        start=columns[:, 1],
        size=columns[:, 2],
        damage=np.array(damage),
    )


def _members_of(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Every member that can be found, and where it ends; after a damaged place, from the next header on."""
    length = file.seek(0, 2)
    file.seek(0)
    try:
        tar = tarfile.open(fileobj=file, mode="r:", ignore_zeros=True)  # noqa: SIM115
    except tarfile.TarError:
        return
    while True:
        try:
            member = tar.next()
        except (tarfile.TarError, ValueError):
            if tar.offset >= length:
                return
            tar.offset += tarfile.BLOCKSIZE
            continue
        if member is None:
            return
        tar.members.clear()  # type: ignore[attr-defined]  # or they would be kept
        yield member, tar.offset


def _zeros(file: BinaryIO, start: int, end: int) -> bool:
    """Whether there is nothing but zeros: the end mark of one archive, with another behind it."""
    file.seek(start)
    while start < end and (block := file.read(min(end - start, 2**20))):
        if block.strip(b"\0"):
            return False
        start += len(block)
    return True
