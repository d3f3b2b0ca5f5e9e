"""The folder of a run: which process and which recipe it belongs to, and its logs.

``recipe.json`` is the resolved recipe; ``metrics.jsonl`` has a line for each report and each evaluation,
``quarantine.jsonl`` one for each bad sample; ``checkpoints/``, ``model/`` and ``best/`` are written by
`checkpoint.py` and `export.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openpali.locks import lock
from openpali.messages import shorten
from openpali.mistakes import LONGEST
from openpali.train.checkpoint import checkpoints, read_state, unwritable
from openpali.train.load import read_record
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import quote
from openpali.weights.files import LOCK, METRICS, RECORD
from openpali.whole import write_whole

FIXED = ("objective", "seed", "batch", "ema", "model", "phases")  # recipe keys that cannot change during a run
BESIDE = (  # recipe keys that do not change what is learned
    *("name", "micro", "workers", "parallel", "max_bad"),
    *("save_minutes", "keep", "keep_every", "evals", "keep_best"),
)
SHOWN = 3  # differences that a message names


class RunFolder:
    """A folder that this process writes to. Only rank 0 claims it and writes; other ranks may read.

    Args:
        path: the folder; made by :meth:`claim`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / RECORD
        self.metrics, self.quarantine = path / METRICS, path / "quarantine.jsonl"

    def claim(self, recipe: Recipe) -> None:
        """Lock the folder for this process."""
        with self.recording(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            busy = f"{self.path} is trained by another process: wait for its end, or name another folder with --run"
            self._lock = lock(self.path / LOCK, busy)
        if self.record.is_file() and checkpoints(self.path):
            self.check(recipe)

    def keep_record(self, recipe: Recipe, *, finished: bool) -> Recipe:
        """Write the resolved recipe; returns the recipe of the record.

        Args:
            finished: nothing is left to train. An existing record is then kept, since it says what was trained.
        """
        if finished and self.record.is_file():
            return read_record(self.record.read_text(encoding="utf-8"))
        resolved = recipe.model_dump(mode="json")
        with self.recording(self.record):
            write_whole(self.record, f"{json.dumps(resolved, indent=1, ensure_ascii=False)}\n".encode())
        return recipe

    def check(self, recipe: Recipe) -> None:
        """Compare the recipe of the run in the folder with another one, in what cannot change during a run.

        The last phase of a finished run may become longer.
        """
        instead = "name another folder with --run"
        before = self._before(instead)
        changed = {
            key: values
            for key, values in _changes(before, recipe).items()
            if key.partition(".")[0] in FIXED or key == "optimizer.name"
        }
        if [*changed] == [f"phases.{len(before.phases) - 1}.samples"]:
            found = checkpoints(self.path)
            if recipe.samples > before.samples and found and read_state(found[-1])["samples"] == before.samples:
                return
            instead += "; only the last phase of a finished run may become longer"
        self._refuse(changed, instead)

    def check_same(self, recipe: Recipe, instead: str) -> None:
        """As :meth:`check`, in all that decides what is learned.

        Args:
            instead: what one may do instead of deleting the run, for the message.
        """
        changed = _changes(self._before(instead), recipe)
        self._refuse({k: v for k, v in changed.items() if k.partition(".")[0] not in BESIDE}, instead)

    def rewind(self, samples: int) -> None:
        """Drop what the logs say of steps after the first ``samples`` samples: a resumed run writes it again."""
        with self.recording(self.path):
            rewind(self.metrics, samples or -1)  # a run that starts anew scores its start again
            rewind(self.quarantine, samples - 1)  # written before the step, with its first sample

    def append(self, file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines to a log."""
        with self.recording(file), file.open("a", encoding="utf-8") as opened:
            opened.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    @contextmanager
    def recording(self, file: Path) -> Iterator[None]:
        """Let an OSError name ``file`` and the checkpoint from which the run can go on."""
        try:
            yield
        except OSError as error:
            raise OSError(unwritable(self.path, file, error)) from error

    def _before(self, instead: str) -> Recipe:
        """The recipe of the run in the folder."""
        try:
            return read_record(self.record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{self.record} is not a recipe that this version can read ({error}): {instead}"
            ) from error

    def _refuse(self, changed: Mapping[str, tuple[str, str]], instead: str) -> None:
        named = [f"{key} ({before}, not {now})" for key, (before, now) in changed.items()]
        if len(named) > SHOWN:
            named[SHOWN:] = [f"and {len(named) - SHOWN} more"]
        if named:
            raise ValueError(f"{self.path} holds a run with another {', '.join(named)}: delete it, or {instead}")


def _changes(before: Recipe, now: Recipe) -> dict[str, tuple[str, str]]:
    """The dotted keys in which two recipes differ, with both values in TOML."""
    old, new = (dict(_flat(each.model_dump())) for each in (before, now))
    pairs = {key: (old.get(key, "nothing"), new.get(key, "nothing")) for key in {**new, **old}}
    return {key: (shorten(a, LONGEST), shorten(b, LONGEST)) for key, (a, b) in pairs.items() if a != b}


def _flat(value: Any, *keys: str) -> Iterator[tuple[str, str]]:
    """The values of a recipe, in TOML, by dotted key; empty tables and lists are values."""
    if not isinstance(value, dict | list) or not value:
        yield ".".join(keys), quote(value)
        return
    for name, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _flat(each, *keys, str(name) or '""')


def rewind(file: Path, samples: int) -> None:
    """Drop the lines of a JSONL log whose ``samples`` are more than these."""
    if not file.is_file():
        return
    lines = file.read_bytes().splitlines(True)  # of bytes: a text may hold U+2028
    kept = [line for line in lines if _samples(line) <= samples]
    write_whole(file, b"".join(kept))


def _samples(line: bytes) -> float:
    try:
        return float(json.loads(line)["samples"])
    except ValueError:  # the process was killed while it wrote the line
        return math.inf
