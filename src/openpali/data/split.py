"""Split a JSONL file in two by what its images show, so that no image is on both sides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from openpali.data.sources.jsonl import JsonlSource
from openpali.whole import replacing

_ALL = 1 << 256  # number of SHA-256 hashes


@dataclass(frozen=True)
class Part:
    """One side of a split.

    Attributes:
        path: its JSONL file.
        samples, images: number of samples, and of distinct images (or of texts that have none).
    """

    path: str
    samples: int
    images: int


def split_data(path: Path, held_out: float) -> tuple[Part, Part]:
    """Write ``NAME-train.jsonl`` and ``NAME-test.jsonl`` beside ``NAME.jsonl``.

    The SHA-256 of an image's file decides on which side it is, so adding samples moves no image, and copies of an
    image under several names stay together. Samples that share an image stay together; the least hash of all their
    images decides, hashed again, since the least of several is small. A sample without images is hashed by its
    line. Lines are copied as they are.

    Args:
        path: the JSONL file.
        held_out: share of the images that go to the test file, above 0 and below 1. Each image is drawn on its own,
            so a small file's share differs somewhat.

    Returns:
        the training side and the test side.

    Raises:
        FileNotFoundError: the file or one of its images does not exist.
        ValueError: it is not a JSONL file, a line cannot be read, or one side would be empty.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"--held-out {held_out}: give a share above 0 and below 1, such as 0.1")
    if path.suffix != ".jsonl":
        raise ValueError(f"{path} is not a .jsonl file: of shards and Parquet files, name some files for each side")
    source = JsonlSource(path)
    groups = _Groups()
    hashes = [_hashes(source, index) for index in range(len(source))]
    for each in hashes:
        groups.join(each)
    border = int(held_out * _ALL)
    sides: tuple[list[int], list[int]] = ([], [])
    for index, each in enumerate(hashes):
        sides[_hash(str(groups.least(each[0])).encode()) < border].append(index)
    if not all(sides):
        raise ValueError(
            f"--held-out {held_out} leaves one side of {path} empty, since its {len(source):,} samples have few "
            "images: choose another share"
        )
    parts = []
    for name, indices in zip(("train", "test"), sides, strict=True):
        out = path.with_name(f"{path.stem}-{name}.jsonl")
        with replacing(out) as new, new.open("wb") as file:
            file.writelines(source.line(index).rstrip(b"\r\n") + b"\n" for index in indices)
        parts.append(Part(str(out), len(indices), len({digest for i in indices for digest in hashes[i]})))
    return parts[0], parts[1]


def _hashes(source: JsonlSource, index: int) -> list[int]:
    record = source.record(index)
    contents = [source.read(index, name) for name in record.images] or [source.line(index).strip()]
    return [_hash(content) for content in contents]


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest(), "big")


class _Groups:
    """Hashes that belong together (union-find); each group is named by its least hash."""

    def __init__(self) -> None:
        self._lower: dict[int, int] = {}

    def least(self, digest: int) -> int:
        """The least hash of its group."""
        while (lower := self._lower.get(digest, digest)) != digest:
            self._lower[digest] = self._lower.get(lower, lower)
            digest = lower
        return digest

    def join(self, digests: list[int]) -> None:
        """Make one group of the groups of these hashes."""
        roots = [self.least(digest) for digest in digests]
        for root in roots:
            self._lower[root] = min(roots)
