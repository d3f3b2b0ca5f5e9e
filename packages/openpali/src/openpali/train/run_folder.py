"""The folder of a run: which process and which recipe it belongs to, and its logs.

``recipe.json`` is the resolved recipe; ``metrics.jsonl`` has a line for each report and each evaluation,
``quarantine.jsonl`` one for each bad sample and each skipped step; ``checkpoints/``, ``model/`` and ``best/`` are
written by `checkpoint.py` and `export.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
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
BESIDE = {  # recipe keys that do not change what is learned
    *("name", "micro", "workers", "parallel", "max_bad"),
    *("save_minutes", "keep", "keep_every", "evals", "keep_best"),
}
SHOWN = 3  # differences that a message names

Values = dict[str, Any]  # by dotted key


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
        with self._claiming():
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
        with self._claiming():
            write_whole(self.record, f"{json.dumps(resolved, indent=1, ensure_ascii=False)}\n".encode())
        return recipe

    def check(self, recipe: Recipe, instead: str = "name another folder with --run") -> None:
        """Compare the recipe of the run in the folder with another one, in what cannot change during a run.

        The last phase of a finished run may become longer.

        Args:
            instead: what one may do instead of deleting the run, for the message.
        """
        before = self._before(instead)
        kept = {*FIXED, "optimizer"}
        old, new = (_flat(each.model_dump(include=kept)) for each in (before, recipe))
        changed = [key for key in _changed(old, new) if key == "optimizer.name" or not key.startswith("optimizer.")]
        if changed == [f"phases.{len(before.phases) - 1}.samples"]:
            found = checkpoints(self.path)
            if recipe.samples > before.samples and found and read_state(found[-1])["samples"] == before.samples:
                return
            instead += "; only the last phase of a finished run may become longer"
        self._refuse(changed, old, new, instead)

    def check_same(self, recipe: Recipe, instead: str) -> None:
        """As :meth:`check`, in all that decides what is learned."""
        old, new = (_flat(each.model_dump(exclude=BESIDE)) for each in (self._before(instead), recipe))
        self._refuse(_changed(old, new), old, new, instead)

    def rewind(self, samples: int) -> None:
        """Drop what the logs say of steps after the first ``samples`` samples: a resumed run writes it again."""
        with self.recording(self.path):
            rewind(self.metrics, samples or -1)  # a run that starts anew scores its start again
            rewind(self.quarantine, samples - 1)  # written before the step, with its first sample

    def note_problems(self, samples: int, problems: Sequence[str]) -> None:
        """Add bad samples of the step that starts at ``samples``, or why it was skipped, to the quarantine."""
        with self.recording(self.quarantine), self.quarantine.open("a", encoding="utf-8") as file:
            for problem in problems:
                file.write(json.dumps({"samples": samples, "problem": problem}, ensure_ascii=False) + "\n")

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

    def _refuse(self, changed: Sequence[str], old: Values, new: Values, instead: str) -> None:
        if not changed:
            return

        def written(values: Values, key: str) -> str:
            return shorten(quote(values[key]), LONGEST) if key in values else "nothing"

        named = [f"{key} ({written(old, key)}, not {written(new, key)})" for key in changed[:SHOWN]]
        if len(changed) > SHOWN:
            named.append(f"and {len(changed) - SHOWN} more")
        raise ValueError(f"{self.path} holds a run with another {', '.join(named)}: delete it, or {instead}")

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(f"{self.path} cannot be written to ({error}): name another folder with --run") from error


def _changed(old: Values, new: Values) -> list[str]:
    return [key for key in {**new, **old} if key not in old or key not in new or old[key] != new[key]]


def _flat(value: Any, key: str = "") -> Values:
    """The values of a recipe by dotted key; empty tables and lists are values."""
    if not isinstance(value, dict | list) or not value:
        return {key: value}
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    named = ((str(name) if name != "" else quote(name), each) for name, each in inner)
    nested = (_flat(each, f"{key}.{name}" if key else name) for name, each in named)
    return {name: each for values in nested for name, each in values.items()}


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
