"""One sample of a user's data: a JSON object, the same in JSONL files and in WebDataset shards (docs/data.md)."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from openpali.data.media.images import decode_image, load_image
from openpali.data.media.videos import MAX_FRAMES, is_video, load_frames
from openpali.data.sources.mask_formats import Shape, read_polygons, read_run_lengths
from openpali.tasks.example import FRAMES, Box, Example, Image, Mask, Object, Size, tight_box

ReadFile = Callable[[str], bytes]
"""The bytes of a file that a record names; raises ``FileNotFoundError`` where there is none."""


@dataclass(frozen=True)
class Pictures:
    """How the files of records become pictures: options of every source that reads records.

    Attributes:
        least: how small JPEGs may be decoded (see :func:`load_image`); ``None`` is full size.
        frames: most frames of a video file; every ``stride``-th from the first on, or spread evenly.
    """

    least: Size | None = None
    frames: int = FRAMES
    stride: int | None = None

    def __post_init__(self) -> None:
        if type(self.frames) is not int or not 1 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"frames must be a whole number from 1 to {MAX_FRAMES}, not {self.frames!r}")
        if self.stride is not None and (type(self.stride) is not int or self.stride < 1):
            raise ValueError(f"stride must be a whole number from 1 on, not {self.stride!r}")

    def load(self, data: bytes, path: str, where: str) -> tuple[list[Image], Size]:
        """A picture, or the frames of a video, and the size in its file. Raises ``ValueError`` if it is neither."""
        name = f"{where}: {path}"
        if is_video(f"any.{path}"):  # a member of a shard may be called "mp4" alone
            frames = load_frames(data, self.frames, self.stride, name=name)
            return frames, Size(*frames[0].shape[:2])
        image, size = decode_image(data, name, least=self.least)
        return [image], size


class RecordError(ValueError):
    """A record that cannot be read.

    Attributes:
        where: file and line, or shard and key.
        fields: what is wrong, by dotted field ("objects.0.box"); "" is the record as a whole.
    """

    def __init__(self, where: str, fields: Mapping[str, str]) -> None:
        self.where, self.fields = where, fields
        problems = (f"{field}: {problem}" if field else problem for field, problem in fields.items())
        super().__init__(f"{where}: " + "; ".join(problems))

    def __reduce__(self) -> tuple[type[RecordError], tuple[str, Mapping[str, str]]]:
        return RecordError, (self.where, self.fields)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _checked_box(box: Box) -> Box:
    if not all(map(math.isfinite, box)) or box.ymin >= box.ymax or box.xmin >= box.xmax:
        raise ValueError("a box is [ymin, xmin, ymax, xmax] with ymin < ymax and xmin < xmax, in pixels")
    return box


def _box(value: Any) -> Any:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError("a box is four numbers, [ymin, xmin, ymax, xmax], in pixels")
    return value


def _mask(value: Any) -> Shape | str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return read_run_lengths(value)
    if isinstance(value, list):
        return read_polygons(value)
    raise ValueError("a mask is a list of polygons, COCO run lengths, or the path of a PNG")


Strings = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class ObjectRecord(_Strict):
    """``box`` may be left out where there is a mask; ``mask`` is polygons, run lengths, or the path of a PNG."""

    name: str = Field(min_length=1)
    box: Annotated[Box, AfterValidator(_checked_box), BeforeValidator(_box)] | None = None
    mask: Annotated[Shape | str, PlainValidator(_mask)] | None = None

    @model_validator(mode="after")
    def _located(self) -> ObjectRecord:
        if self.box is None and self.mask is None:
            raise ValueError("an object needs a box, [ymin, xmin, ymax, xmax] in pixels, or a mask")
        return self


class Record(_Strict):
    """The fields of a sample; see :class:`~openpali.tasks.example.Example` for what they mean.

    ``images`` are paths relative to the JSONL file; a video file stands for its frames. ``caption`` is short for
    ``captions`` in ``lang``. Lists of texts may be a single text.
    """

    key: str = ""
    images: Strings = ()
    captions: dict[str, Strings] = {}
    caption: Strings = ()
    question: str = ""
    answers: Strings = ()
    question_kind: str = ""
    objects: tuple[ObjectRecord, ...] = ()
    expression: str = ""
    referred: tuple[int, ...] = ()
    text: str = ""
    label: str = ""
    lang: str = "en"
    vocabulary: Strings = ()

    @model_validator(mode="after")
    def _consistent(self) -> Record:
        if self.caption and self.lang in self.captions:
            raise ValueError(f"caption and captions.{self.lang} say the same: keep one of them")
        for index in self.referred:
            if not 0 <= index < len(self.objects):
                raise ValueError(f"referred names object {index}, and there are {len(self.objects)}, from 0 on")
        return self

    def example(self, read: ReadFile, where: str, pictures: Pictures = Pictures()) -> Example:
        """The example, with pictures decoded and masks drawn.

        Args:
            read: opens the files that it names.
            where: what to call it in errors; its key if it has none.
            pictures: how they are decoded.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a picture or a mask cannot be read.
        """
        decoded = [pictures.load(read(path), path, where) for path in self.images]
        images = [image for images, _ in decoded for image in images]
        objects = []
        for number, thing in enumerate(self.objects):
            if not images:
                raise RecordError(where, {"objects": "there is no picture that they could be in: add images"})
            try:
                objects.append(_object(thing, decoded[0][1], read))
            except ValueError as error:
                raise RecordError(where, {f"objects.{number}.mask": str(error)}) from error
        captions: dict[str, Sequence[str]] = dict(self.captions)
        if self.caption:
            captions[self.lang] = self.caption
        return Example(
            key=self.key or where,
            images=images,
            captions=captions,
            question=self.question,
            answers=self.answers,
            question_kind=self.question_kind,
            objects=objects,
            expression=self.expression,
            referred=self.referred,
            text=self.text,
            label=self.label,
            lang=self.lang,
            vocabulary=self.vocabulary,
            original=decoded[0][1] if decoded else None,
        )


def parse_record(line: str | bytes, where: str) -> Record:
    """Read a record from its JSON.

    Args:
        where: file and line, or shard and key, for errors.

    Raises:
        RecordError: it is no JSON object, has an unknown field, or a field of a wrong kind.
    """
    try:
        return Record.model_validate_json(line)
    except ValidationError as error:
        raise RecordError(where, dict(_explain(e) for e in error.errors(include_url=False))) from error


class RecordSource(ABC):
    """Examples by index from records, wherever they lie."""

    pictures = Pictures()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def where(self, index: int) -> str:
        """File and line of a record, or shard and key."""

    @abstractmethod
    def record(self, index: int) -> Record:
        """Record ``index`` from 0; pictures are not touched. Raises :class:`RecordError`."""

    @abstractmethod
    def read(self, index: int, name: str) -> bytes:
        """A file that record ``index`` names. Raises ``FileNotFoundError`` where there is none."""

    def __getitem__(self, index: int) -> Example:
        """Example ``index`` from 0.

        Raises:
            FileNotFoundError: a picture is missing; the message names it.
            ValueError: the record or a picture cannot be read; the message names file, line and field.
        """
        return self.record(index).example(partial(self.read, index), self.where(index), self.pictures)

    @cached_property
    def labels(self) -> list[str]:
        """Every ``label`` of the records, sorted. Reads all of them once; damaged ones are left out."""
        found = set()
        for index in range(len(self)):
            with suppress(RecordError):
                found.add(self.record(index).label)
        return sorted(found - {""})


def _object(thing: ObjectRecord, size: Size, read: ReadFile) -> Object:
    mask: Mask | None = None
    if isinstance(thing.mask, str):
        mask = np.any(load_image(read(thing.mask), thing.mask), axis=-1)
        if mask.shape != size:
            raise ValueError(
                f"{thing.mask} is {mask.shape[0]} x {mask.shape[1]}, and the picture {size[0]} x {size[1]}"
            )
    elif thing.mask is not None:
        mask = thing.mask.draw(size)
    if thing.box is not None:
        return Object(thing.name, thing.box, mask)
    assert mask is not None
    return Object(thing.name, tight_box(mask), mask)


def _explain(error: Any) -> tuple[str, str]:
    """Field and what to do about it, of one of pydantic's errors."""
    kind, message, location = error["type"], error["msg"].removeprefix("Value error, "), list(error["loc"])
    field = ".".join(map(str, location))
    if kind == "extra_forbidden":
        model = ObjectRecord if location[0] == "objects" else Record
        near = difflib.get_close_matches(str(location[-1]), list(model.model_fields), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(model.model_fields)}"
        return field, f"unknown field; {hint}"
    if kind == "json_invalid":
        return "", f"{message}; a line is one JSON object"
    if kind == "model_type" or not location or kind in ("value_error", "missing"):
        return field, message[0].lower() + message[1:]
    value = repr(error["input"])
    return field, f"{message[0].lower() + message[1:]}, not {value if len(value) < 60 else value[:57] + '...'}"
