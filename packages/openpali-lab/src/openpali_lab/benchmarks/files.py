"""Official annotation files, and benchmarks that read them.

Errors name the missing file or field, its place, and where to get it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Len
from pydantic import ConfigDict, TypeAdapter, ValidationError

from openpali.data.media.images import load_image
from openpali.data.media.videos import MAX_FRAMES, load_frames
from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.messages import shorten
from openpali.tasks.example import Example, Image
from openpali_lab.tables import table_of

Sample = Callable[[], Example]
"""Makes an example, and reads its image or frames."""


_PUBLISHED = table_of(__file__)
_DEFAULTS = {"task": "vqa", "resolution": 812, "max_tokens": None, "beams": 1, "stride": 0}


def described(name: str) -> dict[str, Any]:
    """What is published of a benchmark, or of the data set ``probes/NAME``: the table beside this module."""
    found = _PUBLISHED
    for each in name.split("/"):
        found = found[each]
    return found


def published(
    name: str, about: Mapping[str, Any] | None = None, **rest: Any
) -> Callable[[Callable[[Folder], Iterable[Sample]]], AnswerBenchmark]:
    """Makes a benchmark of a function that reads the files of a data set, as its owners distribute them.

    Args:
        about: what is published of it; by default :func:`described`.
        rest: see :class:`AnswerBenchmark`.
    """
    known = {**_DEFAULTS, **(described(name) if about is None else about)}
    tokens, beams, stride = (known.pop(key) for key in ("max_tokens", "beams", "stride"))

    def make(read: Callable[[Folder], Iterable[Sample]]) -> AnswerBenchmark:
        def samples(root: Path) -> Listing:
            found = [*read(Folder(root, known["title"], known["home"], tuple(known["layout"]), stride))]
            if not found:
                file, title, home = known["layout"][0], known["title"], known["home"]
                raise ValueError(f"{file} of {title} in {root} has no samples; the original is at {home}")
            return Listing(found)

        return AnswerBenchmark(
            name=name,
            open=samples,
            decoding=Decoding(max_tokens=tokens, beams=beams) if tokens else None,
            frames=f"{MAX_FRAMES}, stride {stride}" if stride else "",
            **{**known, "resolution": known["resolution"] or None},
            **rest,
        )

    return make


@dataclass(frozen=True)
class Listing:
    """Examples by index, made on demand."""

    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Example:
        return self.samples[index]()


@dataclass(frozen=True)
class Folder:
    """A data set's folder under the data root.

    Attributes:
        root: the data root.
        title: name of the data set in errors.
        home: where to get its files.
        layout: its files.
        stride: between the frames of its videos.
    """

    root: Path
    title: str
    home: str
    layout: Sequence[str] = ()
    stride: int = 0

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
        return Fields(self._parsed(path.read_text("utf-8-sig"), path, dict[str, Any]), path.name, self)

    def rows(self, *names: str) -> list[Fields]:
        """The objects of a JSON file that is a list, or of a JSONL file; the rows of a CSV file with a header."""
        path = self.file(*names)
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                values: list[Any] = list(csv.DictReader(file))
        elif path.suffix == ".jsonl":
            values = [self._parsed(line, path, dict[str, Any]) for line in self.lines(path.name, at=path)]
        else:
            values = self._parsed(path.read_text("utf-8-sig"), path, list[dict[str, Any]])
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

    def with_image(self, example: Example, *names: str) -> Sample:
        """A sample whose image is the file that exists first among ``names``."""
        return lambda: replace(example, images=[self.image(*names)])

    def with_frames(self, example: Example, *names: str, start: float = 0.0, end: float | None = None) -> Sample:
        """A sample with frames of a video, see :func:`~openpali.data.media.videos.load_frames`."""
        load = partial(load_frames, frames=MAX_FRAMES, stride=self.stride, start=start, end=end)
        return lambda: replace(example, images=load(self.file(*names)))

    def subfolders(self, name: str) -> list[Path]:
        """The folders in a folder, by name: one per class of a data set."""
        found = sorted(path for path in (self.root / name).glob("*") if path.is_dir())
        if not found:
            raise FileNotFoundError(
                f"{self.title} needs folders of images in {self.root / name}, which has none: get it at {self.home}"
            )
        return found

    def _parsed(self, text: str, path: Path, kind: Any) -> Any:
        try:
            return _reader(kind).validate_python(json.loads(text))
        except ValueError as error:
            raise ValueError(
                f"{path} is not as {self.title} has it ({_reason(error)}): get it at {self.home}"
            ) from error


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

    def read(self, name: str, kind: Any) -> Any:
        """A field of a type; numbers may be texts, and texts numbers."""
        if name not in self.values:
            raise self.wrong(f"the field {name!r} of {self.folder.title} is missing")
        try:
            return _reader(kind).validate_python(self.values[name])
        except ValidationError as error:
            shown = shorten(repr(self.values[name]), 60)
            raise self.wrong(f"the field {name!r} is {shown} ({_reason(error)})") from error

    def wrong(self, what: str) -> ValueError:
        """An error that says what is wrong with this object, and where the original is."""
        return ValueError(f"{self.where}: {what}; the original file is at {self.folder.home}")

    def text(self, name: str) -> str:
        return str(self.read(name, str))

    def integer(self, name: str) -> int:
        return int(self.read(name, int))

    def flag(self, name: str) -> bool:
        return bool(self.read(name, bool))

    def numbers(self, name: str, count: int) -> list[float]:
        return [*self.read(name, Annotated[list[float], Len(count, count)])]

    def points(self, name: str, count: int) -> list[tuple[float, float]]:
        """A list of ``count`` points (x, y)."""
        return [*self.read(name, Annotated[list[tuple[float, float]], Len(count, count)])]

    def texts(self, name: str) -> list[str]:
        """A list of at least one text."""
        return [*self.read(name, Annotated[list[str], Len(1)])]

    def entries(self, name: str) -> list[Fields]:
        """Objects in a list."""
        values = self.read(name, list[dict[str, Any]])
        return [Fields(value, f"{self.where}, {name}[{i}]", self.folder) for i, value in enumerate(values)]

    def entry(self, name: str) -> Fields:
        return Fields(self.read(name, dict[str, Any]), f"{self.where}, {name}", self.folder)

    def items(self) -> Iterator[tuple[str, Fields]]:
        """Name and object of every field, all of which must be objects."""
        return ((name, self.entry(name)) for name in self.values)


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True))


def _reason(error: ValueError) -> str:
    return str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
