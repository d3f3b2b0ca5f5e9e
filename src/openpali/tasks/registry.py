"""Every task family by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

from openpali.tasks.base import Task
from openpali.tasks.caption import Caption, SplitCaption, VideoCaption
from openpali.tasks.detect import Detect
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


def get_task(name: str, **options: Any) -> Task:
    """A task by name.

    Args:
        options: fields of the family; lists become tuples, and a single string where several may stand, too.

    Raises:
        ValueError: unknown name or option (the message names the nearest), missing option, or a value that the
            family refuses.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; {_nearest(name, TASKS)}")
    family = TASKS[name]
    fields = {field.name: field for field in dataclasses.fields(family)}
    for option in options:
        if option not in fields:
            hint = _nearest(option, fields) if fields else "it has none"
            raise ValueError(f"task {name} has no option {option!r}; {hint}")
    for option, field in fields.items():
        if field.default is field.default_factory is dataclasses.MISSING and option not in options:
            raise ValueError(f"task {name} needs the option {option!r}")
    return family(**{option: _frozen(value, fields[option]) for option, value in options.items()})


def _frozen(value: Any, field: dataclasses.Field[Any]) -> Any:
    if isinstance(value, str) and field.type == "Sequence[str]":
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    if near := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {near[0]!r}?"
    return f"there are: {', '.join(known)}"
