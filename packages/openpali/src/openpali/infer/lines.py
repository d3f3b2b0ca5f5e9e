"""Files of answers, one JSON line each, that a killed process continues."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from openpali.locks import lock_output
from openpali.mistakes import reason
from openpali.whole import naming

Json = dict[str, Any]
T = TypeVar("T")


class LinesFile:
    """A file with a line of JSON per answer, to which whole lines are appended.

    Args:
        path: the file; it need not exist yet.
        head: how its first line begins.
        kind: what error messages call such a file.
    """

    def __init__(self, path: Path, head: str, kind: str) -> None:
        self.path, self.head, self.kind = path, head.encode(), kind

    def read(self, parse: Callable[[list[Json]], T]) -> T:
        """Parse the complete lines; what follows them was left by a process that was killed, and is ignored."""
        data = self.path.read_bytes() if self.path.is_file() else b""
        try:
            if not self.head.startswith(data[: len(self.head)]):
                raise ValueError("it begins otherwise")
            # cut as bytes: a text may hold U+2028
            return parse([json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()])
        except AnotherRun as error:
            raise ValueError(str(error)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path} is no {self.kind} ({reason(error)}): name another one") from error

    def resume(self, parse: Callable[[list[Json]], T]) -> T:
        """As :meth:`read`. Drops what a kill left incomplete, and keeps other processes from writing until this
        object is gone. A file that it refuses stays as it is.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock_output(self.path)
        found = self.read(parse)
        if self.path.is_file():
            with self.path.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        return found

    def append(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Append lines; they are on disk when this returns."""
        with naming(self.path), self.path.open("ab") as file:
            file.write(as_lines(values))
            file.flush()
            os.fsync(file.fileno())


class AnotherRun(Exception):
    """A file holds answers, but not those of this run."""


def as_lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON objects, one per line; bytes of file names that are no UTF-8 are escaped."""
    lines = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return lines.encode("utf-8", "backslashreplace")
