"""Split a JSONL file by what its images show, so that no image is in two of the files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openpali.data.groups import connected
from openpali.data.sources.jsonl import JsonlSource
from openpali.whole import replacing

SIDES = ("train", "validation", "test")
_EARLIER = re.compile(f"(-({'|'.join(SIDES)}))*$")


@dataclass(frozen=True)
class Part:
    """One side of a split."""

    path: str  # its JSONL file
    # samples, images: number of samples, and of distinct images
    samples: int
    images: int
    share: float  # of the groups of samples without a common image, 0..1


def split_data(path: Path, held_out: float, validation: float = 0.0) -> dict[str, Part]:
    """Write ``NAME-train.jsonl``, ``NAME-test.jsonl`` and perhaps ``NAME-validation.jsonl`` beside ``NAME.jsonl``.

    The SHA-256 of an image's file decides on which side it is, so adding samples moves no image, and copies of an
    image under several names stay together. Samples that share an image stay together; the least hash of all their
    images decides, hashed again, since the least of several is small. A sample without images is hashed by its
    line. Lines are copied as they are. A side of a small file that would be empty takes the samples whose hash is
    the nearest, until others fall to it.

    Evaluations while training ask the first lines of the validation file, which is in an order of hashes: samples
    may be in that of their classes.

    What a name says of earlier splits, such as ``-train``, is hashed, too: a side is split as fairly as the whole.
    A validation file takes from the training file alone.

    Args:
        path: the JSONL file.
        held_out, validation: shares of the images that go to the test and to the validation file. Each image is
            drawn on its own, so a small file's shares differ somewhat.

    Returns:
        "train", "validation" if there is one, and "test".

    Raises:
        ValueError: there are fewer groups of samples than sides, or a file of a side's name holds samples that the
            whole does not. A file of an earlier split that this one does not write is deleted.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"--held-out {held_out}: give a share above 0 and below 1, such as 0.1")
    if not 0 <= validation < 1 - held_out:
        raise ValueError(
            f"--validation {validation}: give a share that leaves some of {1 - held_out:g} for training"
        )
    if path.suffix != ".jsonl":
        raise ValueError(f"{path} is not a .jsonl file: of shards and Parquet files, name some files for each side")
    source = JsonlSource(path)
    lines = [source.line(index) for index in range(len(source))]
    images = [
        [_hash(source.read(index, name)) for name in source.record(index).images] for index in range(len(source))
    ]
    roots = _roots([own or [_hash(line.strip())] for own, line in zip(images, lines, strict=True)])
    earlier = re.search(_EARLIER, path.stem)
    places = {root: _hash(f"{root}{earlier[0] if earlier else ''}".encode()) for root in {*roots}}
    side = _sides(places, held_out, validation)
    written, parts, contents = [*side.values()], {}, {}
    for name in SIDES if validation else ("train", "test"):
        indices = [index for index, root in enumerate(roots) if side[root] == name]
        if not indices:
            raise ValueError(
                f"these shares leave {name} of {path} empty, whose {len(source):,} samples are {len(side):,} "
                f"groups without a common image: add images, until there are {3 if validation else 2} groups"
            )
        if name == "validation":
            indices.sort(key=lambda index: _hash(lines[index]))
        distinct = {digest for index in indices for digest in images[index]}
        parts[name] = Part(str(_file(path, name)), len(indices), len(distinct), written.count(name) / len(written))
        contents[name] = b"".join(lines[index].rstrip(b"\r\n") + b"\n" for index in indices)
    whole = {b"", *(line.strip() for line in lines)}
    earlier_files = [own for own in side_files(path) if own.exists()]
    for own in earlier_files:
        if not {line.strip() for line in own.read_bytes().split(b"\n")} <= whole:
            raise ValueError(
                f"{own} holds samples that {path} does not, and would be replaced: rename it, or delete it if it "
                "came of an earlier split"
            )
    for own in {*earlier_files} - {Path(part.path) for part in parts.values()}:
        own.unlink()  # its samples are in other files now
    for name, part in parts.items():
        with replacing(Path(part.path)) as new:
            new.write_bytes(contents[name])
    return parts


def side_files(path: Path) -> list[Path]:
    """The files that a split may write."""
    return [_file(path, side) for side in SIDES]


def _file(path: Path, side: str) -> Path:
    return path.with_name(f"{path.stem}-{side}.jsonl")


def _roots(hashes: Sequence[Sequence[int]]) -> list[int]:
    """Of each sample the least hash of all images that it is connected with by common images."""
    known = sorted({digest for own in hashes for digest in own})
    numbers = {digest: number for number, digest in enumerate(known)}
    pairs = [(numbers[own[0]], numbers[each]) for own in hashes for each in own[1:]]
    least = {known[i]: known[group[0]] for group in connected(len(known), pairs) for i in group}
    return [least[own[0]] for own in hashes]


def _sides(places: Mapping[int, int], held_out: float, validation: float) -> dict[int, str]:
    """The side of each group by its hash: one group at least on each side, if there are enough."""
    shares = [place / (1 << 256) for place in places.values()]
    ends = [sum(share < end for share in shares) for end in (held_out, held_out + validation)]
    least, last = int(validation > 0), len(places) - 1
    test = min(max(ends[0], 1), last - least)
    validated = min(max(ends[1], test + least), last)
    order = sorted(places, key=lambda root: places[root])
    return {
        root: "test" if number < test else "validation" if number < validated else "train"
        for number, root in enumerate(order)
    }


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest(), "big")
