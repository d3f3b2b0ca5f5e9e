"""What is wrong with a user's values, as pydantic finds it: one sentence for each mistake."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from openpali.messages import hint

LONGEST = 60  # characters of a value that a message repeats
Place = Sequence[str | int]  # keys, and indices of lists


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


class Terms(NamedTuple):
    """What messages call the parts of a format: the value as a whole, a key, and what holds keys; ``write`` writes
    a value as the format does.
    """

    whole: str = "it"
    key: str = "field"
    table: str = "an object"
    write: Callable[[Any], str] = _as_json


_JSON = Terms()


class Mistake(NamedTuple):
    """A mistake."""

    place: str  # the keys to it, with dots; "" is the value as a whole
    kind: str  # pydantic's type of error
    sentence: str  # it names the place


def mistakes(
    error: ValidationError,
    model: type[BaseModel] | None = None,
    terms: Terms = _JSON,
    unknown: Callable[[Place], str] | None = None,
) -> list[Mistake]:
    """Every mistake that pydantic found.

    Args:
        model: whose ``model_validate`` raised the error, to name its keys.
        unknown: the sentence about an unknown key; by default it names the nearest beside it.
    """
    return [_mistake(each, model, terms, unknown) for each in error.errors(include_url=False)]


def reason(error: BaseException) -> str:
    """The message of an error, with its type (``KeyError: 'config'``) unless it is a plain ``ValueError``; of
    pydantic's, the first mistake."""
    if isinstance(error, ValidationError):
        return mistakes(error)[0].sentence
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def _mistake(
    error: Any, model: type[BaseModel] | None, terms: Terms, unknown: Callable[[Place], str] | None
) -> Mistake:
    kind = error["type"]
    way, known = _follow(model, error["loc"], extra=kind == "extra_forbidden") if model else (error["loc"], [])
    place = ".".join(map(str, way))
    value = "" if kind in ("extra_forbidden", "missing") else terms.write(error["input"])
    named = f"{place} = {value}" if place and len(value) <= LONGEST else place or terms.whole

    match kind:
        case "value_error":  # of our own validators
            message = str(error["ctx"]["error"])
            sentence = message if message.startswith(place) else f"{place}: {message}"
        case "extra_forbidden" if unknown:
            sentence = unknown(way)
        case "extra_forbidden":
            sentence = f"unknown {terms.key} {place}" + (
                f"; {hint(str(way[-1])[:LONGEST], known)}" if model else ""
            )
        case "missing":
            sentence = f"{place} is missing"
        case "dict_type" | "model_type" | "model_attributes_type":
            sentence = f"{named} must be {terms.table}"
        case _ if error["msg"].startswith("Input should be "):
            sentence = named + error["msg"].replace("Input should be ", " must be ", 1)
        case _:
            sentence = f"{named}: {error['msg']}"
    return Mistake(place, kind, sentence)


def _follow(model: type[BaseModel], location: Place, *, extra: bool) -> tuple[list[str | int], list[str]]:
    """The keys of pydantic's way to a value, without the names of unions' members; and the keys known beside it."""
    models, mappings, tagged, way = [model], 0, False, list[str | int]()
    for number, part in enumerate(location, 1):
        fields = [each.model_fields[part].annotation for each in models if part in each.model_fields]
        last = number == len(location)
        if isinstance(part, int):
            way.append(part)
        elif mappings:
            way.append(part)
            mappings -= 1
        elif tagged and part.isidentifier():
            tagged = False
        elif extra and last:
            way.append(part)
        elif fields:
            way.append(part)
            models = [inner for each in fields for inner in _models(each)]
            mappings, tagged = sum(map(_mappings, fields)), len(models) > 1
    return way, [name for each in models for name in each.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for each in get_args(annotation) for inner in _models(each)]


def _mappings(annotation: Any) -> int:
    """How many dictionaries are within each other in a type."""
    return (get_origin(annotation) is dict) + sum(map(_mappings, get_args(annotation)))
