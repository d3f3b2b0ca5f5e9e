"""Official annotation files. Errors name the missing file or field, its place, and where to get it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from openpali.data.media.images import load_image
from openpali.data.media.videos import load_frames
from openpali.messages import shorten
from openpali.tasks.example import Example, Image


@dataclass(frozen=True)
class Folder:
    """A data set's folder under the data root.

    Attributes:
        root: the data root.
        title: name of the data set in errors.
        home: where to get its files.
    """

    root: Path
    title: str
    home: str

    def file(self, *names: str) -> Path:
        """The first of ``names`` (paths under the root) that exists."""
        for name in names:
            if (self.root / name).is_file():
                return self.root / name
        wanted = " or ".join(str(self.root / name) for name in names)
        raise FileNotFoundError(f"{self.title} needs {wanted}, which does not exist: get it at {self.home}")

    def json(self, *names: str) -> Fields:
        """A JSON object; for a file that is a list, see :meth:`rows`."""
        path = self.file(*names)
        return Fields(self._json(path, dict), path.name, self)

    def rows(self, *names: str) -> list[Fields]:
        """The objects of a JSON file that is a list, or of a JSONL file; the rows of a CSV file with a header."""
        path = self.file(*names)
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                values: list[Any] = list(csv.DictReader(file))
        elif path.suffix == ".jsonl":
            values = [self._parsed(line, path) for line in self.lines(path.name, at=path)]
        else:
            values = self._json(path, list)
        return [Fields(value, f"{path.name}, entry {i + 1}", self) for i, value in enumerate(values)]

    def columns(self, name: str, count: int) -> list[list[str]]:
        """The words of each line of a text file, ``count`` of them; the last one may hold spaces."""
        rows = [line.split(maxsplit=count - 1) for line in self.lines(name)]
        for number, row in enumerate(rows, 1):
            if len(row) < count:
                raise ValueError(f"{self.root / name}, line {number}: {count} words are expected; see {self.home}")
        return rows

    def lines(self, *names: str, at: Path | None = None) -> list[str]:
        """The lines of a text file that are not blank, stripped."""
        text = (at or self.file(*names)).read_text("utf-8-sig")
        return [line.strip() for line in text.split("\n") if line.strip()]  # JSON may hold U+2028

    def image(self, *names: str) -> Image:
        """The image file that exists first among ``names``, RGB uint8 ``[H, W, 3]``."""
        return load_image(self.file(*names))

    def frames(
        self, *names: str, frames: int, stride: int, start: float = 0.0, end: float | None = None
    ) -> list[Image]:
        """Frames of a video, see :func:`~openpali.data.media.videos.load_frames`."""
        return load_frames(self.file(*names), frames, stride, start=start, end=end)

    def subfolders(self, name: str) -> list[Path]:
        """The folders in a folder, by name: one per class of a data set."""
        found = sorted(path for path in (self.root / name).glob("*") if path.is_dir())
        if not found:
            raise FileNotFoundError(
                f"{self.title} needs folders of images in {self.root / name}, which has none: get it at {self.home}"
            )
        return found

    def _json(self, path: Path, kind: type) -> Any:
        value = self._parsed(path.read_text("utf-8-sig"), path)
        if not isinstance(value, kind):
            what = "an object" if kind is dict else "a list"
            raise ValueError(f"{path} is not {what}, as {self.title} has it; the original is at {self.home}")
        return value

    def _parsed(self, text: str, path: Path) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}): get {self.title} at {self.home}") from error


@dataclass(frozen=True)
class Fields:
    """An object of an annotation file, whose fields are checked when they are read.

    Attributes:
        values: the fields.
        where: file and place in it, for errors.
        folder: the data set that it belongs to.

    All readers raise ``ValueError`` if the field is missing or of another type.
    """

    values: dict[str, Any]
    where: str
    folder: Folder

    def text(self, name: str) -> str:
        """A text, or a number as text."""
        value = self._field(name, (str, int, float), "a text")
        return str(value)

    def integer(self, name: str) -> int:
        """A whole number, or a text that states one."""
        value = self._field(name, (int, str), "a whole number")
        try:
            return int(value)
        except ValueError as error:
            raise self._wrong(name, "a whole number") from error

    def number(self, name: str) -> float:
        """A number."""
        return float(self._field(name, (int, float), "a number"))

    def flag(self, name: str) -> bool:
        """True or false."""
        return bool(self._field(name, (bool,), "true or false"))

    def numbers(self, name: str, count: int) -> list[float]:
        values = self._field(name, (list, tuple), f"{count} numbers")
        if len(values) != count or not all(isinstance(value, int | float) for value in values):
            raise self._wrong(name, f"{count} numbers")
        return [float(value) for value in values]

    def points(self, name: str, count: int) -> list[tuple[float, float]]:
        """A list of ``count`` points (x, y)."""
        values = self._field(name, (list, tuple), f"{count} points [x, y]")
        try:
            points = [(float(x), float(y)) for x, y in values]
        except (TypeError, ValueError) as error:
            raise self._wrong(name, f"{count} points [x, y]") from error
        if len(points) != count:
            raise self._wrong(name, f"{count} points [x, y]")
        return points

    def texts(self, name: str) -> list[str]:
        """A list of at least one text."""
        values = self._field(name, (list, tuple), "texts")
        if not values or not all(isinstance(value, str | int | float) for value in values):
            raise self._wrong(name, "one text or more")
        return [str(value) for value in values]

    def entries(self, name: str) -> list[Fields]:
        """Objects in a list."""
        values = self._field(name, (list, tuple), "a list of objects")
        if not all(isinstance(value, dict) for value in values):
            raise self._wrong(name, "a list of objects")
        return [Fields(value, f"{self.where}, {name}[{i}]", self.folder) for i, value in enumerate(values)]

    def entry(self, name: str) -> Fields:
        return Fields(self._field(name, (dict,), "an object"), f"{self.where}, {name}", self.folder)

    def items(self) -> Iterator[tuple[str, Fields]]:
        """Name and object of every field, all of which must be objects."""
        return ((name, self.entry(name)) for name in self.values)

    def _field(self, name: str, kinds: tuple[type, ...], what: str) -> Any:
        if not isinstance(self.values, dict) or name not in self.values:
            raise ValueError(
                f"{self.where}: the field {name!r} of {self.folder.title} is missing; "
                f"the original file is at {self.folder.home}"
            )
        value = self.values[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self._wrong(name, what)
        return value

    def _wrong(self, name: str, what: str) -> ValueError:
        shown = shorten(repr(self.values[name]), 60)
        return ValueError(
            f"{self.where}: field {name!r} is {shown}, not {what}; the original file is at {self.folder.home}"
        )


@dataclass(frozen=True)
class Listing:
    """Examples by index, made on demand."""

    makers: Sequence[Callable[[], Example]]

    def __len__(self) -> int:
        return len(self.makers)

    def __getitem__(self, index: int, /) -> Example:
        return self.makers[index]()


def with_image(example: Example, folder: Folder, *names: str) -> Callable[[], Example]:
    """A function that returns the example with its image, which it reads when called."""
    return partial(_with_image, example, folder, names)


def _with_image(example: Example, folder: Folder, names: Sequence[str]) -> Example:
    return replace(example, images=[folder.image(*names)])


def listing(makers: Sequence[Callable[[], Example]], folder: Folder, what: str) -> Listing:
    """A source of examples."""
    if not makers:
        raise ValueError(
            f"{folder.title} in {folder.root}: there are no {what}; the originals are at {folder.home}"
        )
    return Listing(makers)
