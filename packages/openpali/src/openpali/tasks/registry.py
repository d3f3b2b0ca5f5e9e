"""Every task family by name, and how a task gets its options and tools."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from openpali.messages import hint
from openpali.mistakes import Terms, mistakes
from openpali.tasks.base import Need, Task, filled
from openpali.tasks.caption import Caption, SplitCaption, VideoCaption
from openpali.tasks.detect import Detect
from openpali.tasks.dialects import BLANK, PALI3, Dialect, Template
from openpali.tasks.example import Example
from openpali.tasks.object_vqa import ObjectVqa
from openpali.tasks.ocr import Ocr
from openpali.tasks.pretrain import Contrastive, Denoise
from openpali.tasks.refseg import RefSeg
from openpali.tasks.vqa import Classify, QuestionGeneration, VideoQa, Vqa

_FAMILIES: tuple[type[Task], ...] = (
    Contrastive,
    Denoise,
    SplitCaption,
    Caption,
    Ocr,
    Vqa,
    QuestionGeneration,
    ObjectVqa,
    Detect,
    RefSeg,
    VideoQa,
    VideoCaption,
    Classify,
)

TASKS: dict[str, type[Task]] = {family.name: family for family in _FAMILIES}

Tools = Mapping[Need, Callable[[], Any]]
"""Name of a tool -> function that makes it, called for the first task that needs it."""

FREE_TEXT = Vqa.name
"""The task of a prompt that matches no template."""


def find_family(name: str) -> type[Task]:
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; {hint(name, TASKS)}")
    return TASKS[name]


def open_task(
    name: str, options: Mapping[str, Any] | None = None, tools: Tools | None = None, *, dialect: Dialect = PALI3
) -> Task:
    """A task with its options, and with the tools that it needs and that are available.

    Args:
        options: options from a recipe or a model folder, see :func:`get_task`.
        tools: available tools; a family whose field for a tool has a default works without it.
        dialect: of the model.
    """
    fields = dict(options or {})
    for need in find_family(name).needs & (tools or {}).keys():
        fields[need] = (tools or {})[need]()
    return get_task(name, **{**fields, "dialect": dialect})


def openable(tools: Tools) -> list[str]:
    """Names of the tasks that can be opened with these tools."""
    return [name for name, family in TASKS.items() if _required(family) <= tools.keys()]


def get_task(name: str, **options: Any) -> Task:
    """A task by name.

    Args:
        options: fields of the family. A list becomes a tuple, and so does a single string for a field that takes
            several. Missing options have the dialect's defaults, or else the family's.
    """
    family = find_family(name)
    dialect: Dialect = options.get("dialect", PALI3)
    fields = {field.name: field for field in dataclasses.fields(family)}
    for option in options:
        if option not in fields:
            known = [field for field in fields if field != "dialect"]
            raise ValueError(
                f"task {name} has no option {option!r}; {hint(option, known) if known else 'it has none'}"
            )
    if missing := sorted(_required(family) - options.keys()):
        raise ValueError(f"task {name} needs the option {missing[0]!r}")
    options = {**dialect.options.get(_form(family), {}), **options}
    own = {option: _frozen(value, fields[option]) for option, value in options.items()}
    for option in own.keys() - family.needs - {"dialect"}:
        try:
            _type_of(family, option).validate_python(own[option])
        except ValidationError as error:
            wrong = mistakes(error, terms=Terms(repr(own[option])))[0]
            raise ValueError(f"task {name}: option {option}: {wrong.sentence}") from error
    return family(**own)


def recognise(prompt: str, frames: int = 1, dialect: Dialect = PALI3) -> str:
    """The task that a prompt is for: the first whose template reads it, or begins like it, else :data:`FREE_TEXT`.

    Args:
        frames: number of images of the row; several are a video.
        dialect: of the model.
    """
    begun = [(form, template) for form, template in _templates(dialect) if template.begins(prompt)]
    whole = [(form, template) for form, template in begun if template.read(prompt) is not None]
    return suited(next((form for form, _ in whole or begun), FREE_TEXT), frames)


def suited(name: str, frames: int) -> str:
    """The task for this many images: of several frames, the form's video task instead of its image task."""
    if frames < 2:
        return name
    return next((video for video, family in TASKS.items() if family.video and _form(family) == name), name)


def form_of(name: str) -> str:
    """The task of images whose prompt a task uses, such as vqa for object_vqa; a task of videos is its own."""
    family = find_family(name)
    return name if family.video else _form(family)


def same_form(name: str, other: str) -> bool:
    """Whether two tasks ask with the same prompt; a name that is no task's has a form of its own."""
    return name == other or (name in TASKS and other in TASKS and _form(TASKS[name]) == _form(TASKS[other]))


def reader(task: Task, text: str) -> str:
    """The task that reads an answer. Where detection and segmentation ask alike, its mask tokens tell."""
    ways = (Detect, RefSeg)
    if not isinstance(task, ways) or len({way.template_in(task.dialect) for way in ways}) > 1:
        return task.name
    return RefSeg.name if task.dialect.masks.name in text else Detect.name


def tasks_of(example: Example) -> list[str]:
    """The tasks that an example is evidently for, by its fields: by a question, vqa, of a video video_qa."""
    there = {
        "vqa": example.question,
        "caption": any(filled(texts) for texts in example.captions.values()),
        "refseg": example.expression,
        "detect": example.objects and not example.expression,
        "classify": example.label,
        "ocr": example.text and not example.question,
    }
    return [suited(name, len(example.images)) for name, given in there.items() if given]


def is_prompt(text: str, dialect: Dialect = PALI3) -> bool:
    """Whether a text is a complete prompt of a task, or has a blank to fill. Others are questions, or names to put
    into a prompt."""
    return BLANK in text or any(
        template.begins(text) and template.read(text) is not None for _, template in _templates(dialect)
    )


def _templates(dialect: Dialect) -> Iterator[tuple[str, Template]]:
    """Form and template of each family that the dialect has a prompt for."""
    for family in TASKS.values():
        if template := family.template_in(dialect):
            yield _form(family), template


def _form(family: type[Task]) -> str:
    return family.form or family.name


def _required(family: type[Task]) -> set[str]:
    """Fields without a default."""
    return {
        field.name
        for field in dataclasses.fields(family)
        if field.default is field.default_factory is dataclasses.MISSING
    }


@cache
def _type_of(family: type[Task], option: str) -> TypeAdapter[Any]:
    """The type of an option, which takes no text for a number or for true."""
    strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
    return TypeAdapter(get_type_hints(family)[option], config=strict)


def _frozen(value: Any, field: dataclasses.Field[Any]) -> Any:
    if isinstance(value, str) and field.type == "Sequence[str]":
        return (value,)
    return tuple(value) if isinstance(value, list) else value
