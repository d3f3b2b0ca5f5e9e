"""``fashion-mnist``: 70,000 grey images of clothes in ten classes, as ``.npz`` arrays."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import write_licences

PACKAGE = "dataset-fashion-mnist"


def build(folder: Path) -> None:
    """Write ``train.npz`` and ``test.npz`` (images uint8 [N, 28, 28], labels uint8 [N])."""
    data = packages.fetch(PACKAGE) / "usr/share/datasets/fashion-mnist"
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = _read_idx(data / f"{stem}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
        labels = _read_idx(data / f"{stem}-labels-idx1-ubyte.gz", header=8)
        np.savez_compressed(folder / f"{split}.npz", images=images, labels=labels)
    write_licences(folder, [PACKAGE])


def _read_idx(path: Path, header: int) -> NDArray[np.uint8]:
    """The values of a gzipped IDX file behind its header of ``header`` bytes."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


DATASET = Dataset(build, lambda: [PACKAGE], minutes=0.3, megabytes=31)
