"""Every benchmark by name."""

from __future__ import annotations

import difflib
from typing import Any

from openpali.eval.nano import WORLD_BENCHMARKS, easy_vqa
from openpali.eval.probes import fashion_mnist

SIZE = 1000  # samples of a composed set, if not told otherwise

BENCHMARKS: dict[str, tuple[Any, int]] = {
    **{f"{w}/{name}": (make(w), SIZE) for w in ("nano", "mini") for name, make in WORLD_BENCHMARKS.items()},
    "easy-vqa": (easy_vqa, 9_673),
    "fashion-mnist": (fashion_mnist, 10_000),
}


def find_benchmark(name: str) -> tuple[Any, int]:
    """A benchmark and its full size.

    Raises:
        ValueError: there is none of that name; the nearest is named.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BENCHMARKS)}"
        raise ValueError(f"no benchmark is called {name!r}; {hint}")
    return BENCHMARKS[name]
