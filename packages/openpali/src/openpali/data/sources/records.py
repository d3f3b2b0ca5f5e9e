"""One record of a user's data: a JSON object, the same in JSONL, WebDataset and Parquet files (docs/data.md)."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Annotated, Any

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

from openpali.data.media.images import decode_mask
from openpali.data.media.loader import DEFAULT_MEDIA, MediaLoader
from openpali.data.sources.mask_formats import Shape, read_polygons, read_run_lengths
from openpali.mistakes import Terms, mistakes
from openpali.tasks.example import Box, Example, Image, Line, Mask, Object, Size, Word, tight_box
from openpali.text.characters import composed

ReadFile = Callable[[str], bytes]
"""File name in a record -> the file's bytes; raises ``FileNotFoundError`` if there is none."""


class RecordError(ValueError):
    """A record that cannot be read; the message names file and line, or shard and key."""


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
Text = Annotated[str, AfterValidator(composed)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]

BoxRecord = Annotated[Box, AfterValidator(_checked_box), BeforeValidator(_box)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class ObjectRecord(_Strict):
    """An object. ``mask`` is polygons, run lengths, or the path of a PNG; with a mask, ``box`` may be omitted."""

    name: Text = Field(min_length=1)
    role: str = ""
    box: BoxRecord | None = None
    mask: Annotated[Shape | str, PlainValidator(_mask)] | None = None

    @model_validator(mode="after")
    def _located(self) -> ObjectRecord:
        if self.box is None and self.mask is None:
            raise ValueError("an object needs a box, [ymin, xmin, ymax, xmax] in pixels, or a mask")
        return self


class WordRecord(_Strict):
    """A word of a line."""

    text: Text = Field(min_length=1)
    box: BoxRecord


class LineRecord(_Strict):
    """A line of a page; see :class:`~openpali.tasks.example.Line`."""

    words: tuple[WordRecord, ...] = Field(min_length=1)
    readable: bool = True


class Record(_Strict):
    """The fields of a sample; :class:`~openpali.tasks.example.Example` documents them.

    ``images`` are paths relative to the JSONL file; a video file gives its frames. ``caption`` is short for
    ``captions`` in ``lang``. A list of texts may be written as a single text. ``about`` is for notes of
    whoever made the data, such as where it is from; nothing reads it. Texts become NFC.
    """

    key: str = ""
    images: Strings = ()
    captions: dict[str, Texts] = {}
    caption: Texts = ()
    question: Text = ""
    answers: Texts = ()
    question_kind: Text = ""
    objects: tuple[ObjectRecord, ...] = ()
    expression: Text = ""
    referred: tuple[int, ...] = ()
    text: Text = ""
    label: Text = ""
    lang: Annotated[str, BeforeValidator(lambda value: Example.lang if value == "" else value)] = Example.lang
    vocabulary: Texts = ()
    lines: tuple[LineRecord, ...] = ()
    ignored: tuple[BoxRecord, ...] = ()
    about: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Record:
        if self.caption and self.lang in self.captions:
            raise ValueError(f"caption and captions.{self.lang} are the same field: keep one of them")
        for index in self.referred:
            if not 0 <= index < len(self.objects):
                raise ValueError(f"referred is {index}, but there are {len(self.objects)} objects, counted from 0")
        return self

    def example(self, read: ReadFile, where: str, media: MediaLoader = DEFAULT_MEDIA) -> Example:
        """The example, with images decoded and masks drawn.

        Args:
            read: reads the files that the record names.
            where: name of the record in errors, and its key if it has none.
            media: how images and videos are decoded.
        """
        decoded = [media.load(read(path), path, where) for path in self.images]
        images = [image for images, _ in decoded for image in images]
        objects = []
        for number, thing in enumerate(self.objects):
            if not images:
                raise RecordError(f"{where}: objects: there is no image for them: add images")
            try:
                objects.append(_object(thing, decoded[0][1], read))
            except ValueError as error:
                raise RecordError(f"{where}: objects.{number}.mask: {error}") from error
        return self._example(where, images, objects, decoded[0][1] if decoded else None)

    def _example(
        self, where: str, images: Sequence[Image], objects: Sequence[Object], original: Size | None = None
    ) -> Example:
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
            lines=[Line([Word(w.text, w.box) for w in line.words], line.readable) for line in self.lines],
            ignored=self.ignored,
            files=self.images,
            original=original,
        )


def parse_record(line: str | bytes, where: str) -> Record:
    """Read a record from JSON.

    Args:
        line: the JSON object.
        where: file and line, or shard and key, for errors.

    Raises:
        RecordError: it is not a JSON object, has an unknown field or one twice, or a field has the wrong type.
    """
    try:
        record = Record.model_validate_json(line)  # which takes the last value of a key
        json.loads(line, object_pairs_hook=partial(_require_each_once, where=where))
        return record
    except ValidationError as error:
        found = mistakes(error, Record, Terms("the record"))
        raise RecordError(f"{where}: {'; '.join(each.sentence for each in found)}") from error


def _require_each_once(pairs: Sequence[tuple[str, Any]], where: str) -> None:
    if len(dict(pairs)) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RecordError(f"{where}: {twice} is given twice in one object: keep one of them")


class RecordSource(ABC):
    """Examples by index from records; subclasses say where records and their files are stored."""

    media = DEFAULT_MEDIA

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def where(self, index: int) -> str:
        """File and line of record ``index``, or shard and key."""

    @abstractmethod
    def record(self, index: int) -> Record:
        """Record ``index``, without reading its images. Raises :class:`RecordError`."""

    @abstractmethod
    def read(self, index: int, name: str) -> bytes:
        """Content of the file ``name`` of record ``index``. Raises ``FileNotFoundError`` where there is none."""

    def __getitem__(self, index: int) -> Example:
        """Example ``index``.

        Raises:
            FileNotFoundError: an image is missing; the message names it.
            ValueError: the record or an image cannot be read; the message names file, line and field.
        """
        return self.record(index).example(partial(self.read, index), self.where(index), self.media)

    @cached_property
    def labels(self) -> list[str]:
        """All distinct ``label`` values, sorted. Reads every record once; damaged ones are skipped."""
        found = set()
        for index in range(len(self)):
            with suppress(RecordError):
                found.add(self.record(index).label)
        return sorted(found - {""})


def _object(thing: ObjectRecord, size: Size, read: ReadFile) -> Object:
    mask: Mask | None = None
    if isinstance(thing.mask, str):
        mask = decode_mask(read(thing.mask), thing.mask)
        if mask.shape != size:
            raise ValueError(
                f"{thing.mask} is {mask.shape[0]} x {mask.shape[1]}, but the image is {size[0]} x {size[1]}"
            )
    elif thing.mask is not None:
        mask = thing.mask.draw(size)
    if thing.box is not None:
        return Object(thing.name, thing.box, mask, role=thing.role)
    assert mask is not None
    return Object(thing.name, tight_box(mask), mask, role=thing.role)
