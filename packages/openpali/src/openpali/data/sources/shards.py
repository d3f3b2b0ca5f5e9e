"""Samples from WebDataset shards: tar files of ``key.json`` with ``key.jpg`` (docs/data.md)."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openpali.data.media.loader import DEFAULT_MEDIA, MediaLoader, is_media
from openpali.data.sources.files import base_name, find_files, fingerprint, is_url, open_file, read_span
from openpali.data.sources.records import Record, RecordError, RecordSource, parse_record
from openpali.home import home
from openpali.whole import replacing

_MEMBER = re.compile(r"(?:([0-9]+)\.)?\w+")  # a suffix, of a frame after its number; "mask.png" is none
_FORMAT = 2  # version of the stored tables of contents


class _Contents(NamedTuple):
    """Table of contents of a shard.

    Sample ``i`` has the members ``first[i]`` to ``first[i + 1]`` (exclusive). The name of a member is the key and
    one of ``suffixes`` ("json", "0.jpg"); its content is the ``size`` bytes from ``start`` on.
    """

    keys: NDArray[np.bytes_]  # [samples], UTF-8
    first: NDArray[np.int64]  # [samples + 1]
    suffix: NDArray[np.int32]  # [members], into suffixes
    suffixes: NDArray[np.str_]
    start: NDArray[np.int64]  # [members]
    size: NDArray[np.int64]  # [members]
    damage: NDArray[np.str_]  # []; a sentence about what is left out, "" for a whole shard


class _Sample(NamedTuple):
    """Where a sample is: its shard, its name in errors, its key, and start and size of each member by what follows
    the key."""

    shard: str
    where: str
    key: str
    spans: dict[str, tuple[int, int]]


class DamagedShard(UserWarning):
    """Samples of a damaged shard are left out."""


class ShardSource(RecordSource):
    """Examples by index from WebDataset shards, in the order of the shards' names.

    Each shard is scanned once for its table of contents, which is cached until the shard changes; a record and its
    images are read on demand. An image is ``key.jpg`` (or png, webp, or a video), several are ``key.0.jpg``,
    ``key.1.jpg``, ...; a record may name other members by what follows the key. Without ``key.json``, ``key.txt``
    is the caption. From a damaged or incomplete shard, the complete samples are used, and a warning counts the
    others.

    Args:
        path: a folder with ``.tar`` files, one such file, a pattern (see :func:`find_files`),
            or a URL of either.
        media: how images and videos are decoded.
    """

    def __init__(self, path: str | Path, media: MediaLoader = DEFAULT_MEDIA) -> None:
        self.media = media
        self._shards = find_files(str(path), ".tar")
        self._contents = [_contents_of(shard) for shard in self._shards]
        for contents in self._contents:
            if contents.damage:
                warnings.warn(str(contents.damage), DamagedShard, stacklevel=2)
        self._ends = np.cumsum([len(contents.keys) for contents in self._contents])
        if not self._ends[-1]:
            raise ValueError(f"{path} has no samples")
        self._last: tuple[int, _Sample] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _sample(self, index: int) -> _Sample:
        """A sample's place. The last is kept, since its record and its images are read one after another."""
        if self._last is None or self._last[0] != index:
            number = range(len(self))[index]  # IndexError past the end
            shard = int(np.searchsorted(self._ends, number, side="right"))
            name, contents = self._shards[shard], self._contents[shard]
            i = number - int(self._ends[shard]) + len(contents.keys)
            spans = {
                str(contents.suffixes[contents.suffix[m]]): (int(contents.start[m]), int(contents.size[m]))
                for m in range(*contents.first[i : i + 2])
            }
            key = contents.keys[i].decode()
            self._last = index, _Sample(name, f"{base_name(name)}: {key}", key, spans)
        return self._last[1]

    def where(self, index: int) -> str:
        """Shard and key, "train-00000.tar: cat-7"."""
        return self._sample(index).where

    def record(self, index: int) -> Record:
        _, where, _, members = self._sample(index)
        if "json" in members:
            record = parse_record(self.read(index, "json"), where)
        elif "txt" in members:
            record = Record(caption=(self.read(index, "txt").decode("utf-8", "replace").strip(),))
        else:
            raise RecordError(f"{where}: there is no .json; the sample has {', '.join(members)}")
        if not record.images:
            found = {
                name: match for name in members if (match := _MEMBER.fullmatch(name)) and is_media(f"any.{name}")
            }
            images = tuple(sorted(found, key=lambda name: int(found[name][1] or 0)))
            record = record.model_copy(update={"images": images})
        return record

    def read(self, index: int, name: str) -> bytes:
        shard, where, key, spans = self._sample(index)
        if name not in spans:
            has = ", ".join(spans)
            raise FileNotFoundError(f"{where}: no member {key}.{name}; the sample has {has}")
        try:
            return read_span(shard, *spans[name])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where}: {error}") from error


def _contents_of(shard: str) -> _Contents:
    """The table of contents of a shard; from the cache, unless the shard has changed."""
    name = shard if is_url(shard) else str(Path(shard).absolute())
    stamp = f"{_FORMAT} {fingerprint(shard)}"
    stored = home() / "index" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(stored) as arrays:
        if str(arrays["stamp"]) == stamp:
            return _Contents(*(arrays[field] for field in _Contents._fields))
    with open_file(shard) as file:
        contents = _scan(file, shard)
    # with a full or read-only cache, the shard is scanned again the next time
    with suppress(OSError), replacing(stored) as new, new.open("wb") as table:
        np.savez(table, stamp=np.array(stamp), **contents._asdict())
    return contents


def _scan(file: BinaryIO, shard: str) -> _Contents:
    """Scan a shard. A sample next to a damaged place may lack members, so it is left out."""
    samples: list[tuple[str, dict[str, tuple[int, int]]]] = []
    doubtful: set[int] = set()  # numbers of samples that may be incomplete
    end = 0  # end of the last member
    for member, following in _members_of(file):
        broken = member.offset > end and not _is_zero(file, end, member.offset)
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
    if not samples and not (length and _is_zero(file, 0, length)):
        raise ValueError(f"{shard} is not an uncompressed tar file: unpack compressed files first")
    file.seek(end)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE) and samples:  # the end mark is missing
        doubtful.add(len(samples) - 1)  # further members may be lost
    whole = [sample for number, sample in enumerate(samples) if number not in doubtful]
    damage = ""
    if lost := doubtful & set(range(len(samples))):
        damage = (
            f"{shard} ({length:,} bytes) was cut off or damaged: {len(whole)} complete samples are used, and "
            f"{len(lost)} are left out, from {samples[min(lost)][0]} on, with everything that cannot be read"
        )
    suffixes = {suffix: i for i, suffix in enumerate(sorted({x for _, members in whole for x in members}))}
    spans = [(suffixes[suffix], *span) for _, members in whole for suffix, span in members.items()]
    columns: NDArray[np.int64] = np.array(spans, np.int64).reshape(-1, 3)
    return _Contents(
        keys=np.array([key.encode() for key, _ in whole], np.bytes_),
        first=np.cumsum([0, *(len(members) for _, members in whole)]),
        suffix=columns[:, 0].astype(np.int32),
        suffixes=np.array(list(suffixes), np.str_),
        start=columns[:, 1],
        size=columns[:, 2],
        damage=np.array(damage),
    )


def _members_of(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Every member that can be found, with its end; continues at the next header after a damaged place.

    A header may hold any number as its size. Each step goes forward, so every shard has an end.
    """
    length = file.seek(0, 2)
    nothing = io.BytesIO(bytes(tarfile.BLOCKSIZE))  # opening reads the first header, which may be damaged
    tar = tarfile.open(fileobj=nothing, mode="r:", ignore_zeros=True, errors="backslashreplace")  # noqa: SIM115
    tar.fileobj, tar.offset = file, file.seek(0)
    while (start := tar.offset) < length:
        try:
            member = tar.next()
        except (tarfile.TarError, ValueError, OverflowError, MemoryError):
            tar.offset = max(start, tar.offset) + tarfile.BLOCKSIZE
            continue
        except RecursionError:  # a thousand headers, each about the next
            tar.offset = file.tell()
            continue
        if member is None:
            return
        tar.members.clear()  # type: ignore[attr-defined]  # otherwise they accumulate in memory
        if member.size < 0 or tar.offset <= member.offset:
            tar.offset = max(start, member.offset) + tarfile.BLOCKSIZE
        else:
            yield member, min(tar.offset, length)


def _is_zero(file: BinaryIO, start: int, end: int) -> bool:
    """Whether a range holds only zeros, as between two archives that were concatenated."""
    file.seek(start)
    while start < end and (block := file.read(min(end - start, 2**20))):
        if block.strip(b"\0"):
            return False
        start += len(block)
    return True
