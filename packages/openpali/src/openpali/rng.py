"""The only place that derives seeds: every random number of a run is a pure function of a written-out key.

Two derivations, neither of which depends on the Python version or on ``PYTHONHASHSEED``:

- integers, through NumPy's ``SeedSequence`` (its hash is part of NumPy's compatibility promise);
- names, through SHA-256.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*key: int) -> np.random.Generator:
    """A Philox generator for a key of non-negative integers. Trailing zeros do not count."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def named_generator(*parts: object, index: int = 0) -> np.random.Generator:
    """A Philox generator for names and numbers: the key is their hash, and each ``index`` has a counter range."""
    return np.random.Generator(np.random.Philox(key=_hash(*parts) >> 128, counter=[0, 0, 0, index]))


def derive_seed(*parts: object) -> int:
    """A seed in 0..2**63 - 1 for names and numbers; for ``torch.manual_seed`` and for parts of a run."""
    return _hash(*parts) >> 193


def _hash(*parts: object) -> int:
    """SHA-256 of the parts as text, joined by the unit separator U+001F, as a big-endian integer of 256 bits."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest(), "big")
