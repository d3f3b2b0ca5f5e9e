"""Answers on disk, one JSON line per sample, so that a killed run can continue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpali.infer.lines import append_lines, drop_torn_line, whole_lines
from openpali.locks import lock_output
from openpali.messages import reason
from openpali.tasks.scoring import Answered

Json = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A sample's answer, and the hash of the pixels of each of its frames."""

    answered: Answered
    pixels: str


class PredictionsFile:
    """A predictions file: its first line describes the run, each further line is an answer.

    Args:
        path: the file; it need not exist yet.
        run: the settings that answers of one file share: benchmark, model, prompt, decoding, ...
    """

    def __init__(self, path: Path, run: Json) -> None:
        self.path, self.run = path, run

    def resume(self) -> list[Line]:
        """The answers in the file, in order of index. Truncates a last line that a kill left incomplete, and keeps
        other processes from writing until this object is gone.

        Raises:
            ValueError: another process writes the file, it belongs to another run (the message names the setting
                that differs), or it is not a predictions file. The file stays as it is.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock_output(self.path)
        kept = whole_lines(self.path)
        begins = self.path.read_bytes()[: len(_HEAD)] if self.path.is_file() else b""
        if not kept and not _HEAD.startswith(begins):  # neither empty nor an incomplete first line
            raise ValueError(f"{self.path} is not a predictions file: name another one")
        run, lines = _parse(kept, self.path) if kept else (self.run, [])
        differing = [name for name in self.run if run.get(name) != self.run[name]]
        if differing:
            name = differing[0]
            raise ValueError(
                f"{self.path} holds answers of another run: its {name} is {run.get(name)!r}, now it is "
                f"{self.run[name]!r}; name another file, or delete this one"
            )
        drop_torn_line(self.path)
        if not kept:
            append_lines(self.path, [{"run": self.run}])
        return lines

    def append(self, lines: Sequence[Line]) -> None:
        """Append answers; they are on disk when this returns."""
        append_lines(self.path, ({**line.answered.as_json(), "pixels": line.pixels} for line in lines))


def read_predictions(path: Path) -> list[Line]:
    """All answers of a predictions file, in order of index.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a predictions file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no predictions file {path}; `openpali eval ... --save-predictions FILE` writes one"
        )
    return _parse(whole_lines(path), path)[1]


def _parse(data: bytes, path: Path) -> tuple[Json, list[Line]]:
    """The settings of the run, and its answers."""
    try:
        head, *rest = (json.loads(line) for line in data.decode("utf-8").split("\n") if line)
        by_index: dict[int, Line] = {}
        for values in rest:
            pixels = values.pop("pixels")
            answered = Answered(**{**values, "references": tuple(values["references"])})
            by_index[answered.index] = Line(answered, pixels)
        return dict(head["run"]), [by_index[index] for index in sorted(by_index)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a predictions file of this version ({reason(error)})") from error


_HEAD = b'{"run": '  # start of the first line
