"""Answers on disk, one JSON line per sample, so that a killed run can continue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openpali.infer.lines import AnotherRun, Json, LinesFile
from openpali.tasks.scoring import Answered


@dataclass(frozen=True)
class Line:
    """A sample's answer, and the hash of the pixels of each of its frames."""

    answered: Answered
    pixels: str


class PredictionsFile(LinesFile):
    """A predictions file: its first line describes the run, each further line is an answer.

    Args:
        path: the file; it need not exist yet.
        run: the settings that answers of one file share: benchmark, model, prompt, decoding, ...
    """

    def __init__(self, path: Path, run: Json) -> None:
        super().__init__(path, '{"run": ', "predictions file of this version")
        self.run = run

    def go_on(self) -> list[Line]:
        """The answers in the file, in order of index, as :meth:`LinesFile.resume`. Refuses those of another run."""
        lines = self.resume(self._of_this_run)
        if not self.path.is_file() or not self.path.stat().st_size:
            self.append([{"run": self.run}])
        return lines

    def write(self, lines: Sequence[Line]) -> None:
        """Append answers; they are on disk when this returns."""
        self.append({**line.answered.as_json(), "pixels": line.pixels} for line in lines)

    def _of_this_run(self, found: list[Json]) -> list[Line]:
        run = found[0]["run"] if found else self.run
        if differing := [name for name in self.run if run.get(name) != self.run[name]]:
            name = differing[0]
            raise AnotherRun(
                f"{self.path} holds answers of another run: its {name} is {run.get(name)!r}, now it is "
                f"{self.run[name]!r}; name another file, or delete this one"
            )
        return _parse(found) if found else []


def read_predictions(path: Path) -> list[Line]:
    """All answers of a predictions file, in order of index."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no predictions file {path}; `openpali eval ... --save-predictions FILE` writes one"
        )
    return PredictionsFile(path, {}).read(_parse)


def _parse(found: list[Json]) -> list[Line]:
    """The answers behind the first line."""
    (_, *answers), by_index = found, dict[int, Line]()
    for values in answers:
        pixels = values.pop("pixels")
        answered = Answered(**{**values, "references": tuple(values["references"])})
        by_index[answered.index] = Line(answered, pixels)
    return [by_index[index] for index in sorted(by_index)]
