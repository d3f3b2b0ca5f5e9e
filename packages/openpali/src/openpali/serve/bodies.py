"""A request's body -> a schema: JSON, or a form with files."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from openpali.mistakes import Terms, deepest_mistake
from openpali.serve.errors import ApiError
from openpali.serve.schemas import Body

B = TypeVar("B", bound=Body)
TERMS = Terms("the body", "parameter")
PUNCTUATION = 50_000  # commas, colons and brackets of a JSON body: more would hold the interpreter for too long
MISTAKES = 100  # pydantic writes all of them at once
_REFERENCE = "#/components/schemas/{model}"


async def read_body(request: Request, schema: type[B]) -> B:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        fields = await _read_form(request, schema)
        return await run_in_threadpool(lambda: _validated(fields, schema))
    if kind == "application/json":
        body = await request.body()
        return await run_in_threadpool(lambda: _validated(_parsed(body), schema))
    raise ApiError(415, "send JSON (Content-Type: application/json), or a form with files")


def _parsed(body: bytes) -> Any:
    if sum(map(body.count, b",:[{")) > PUNCTUATION:
        told = f"the body has more than {PUNCTUATION:,} commas, colons and brackets: send fewer values"
        raise ApiError(413, told, code="request_too_large")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "the body is not JSON") from error


def _validated(fields: Any, schema: type[B]) -> B:
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        if (count := error.error_count()) > MISTAKES:
            raise ApiError(400, f"the body has {count:,} mistakes: /docs shows what it takes") from error
        first = deepest_mistake(error, schema, TERMS)  # of a union, the kind that fits best
        code = "unknown_parameter" if first.kind == "extra_forbidden" else "invalid_value"
        raise ApiError(400, first.sentence, param=first.place[:200] or None, code=code) from error


async def _read_form(request: Request, schema: type[Body]) -> dict[str, Any]:
    """Fields by name; files become data URLs. A field that takes several is a list."""
    fields: dict[str, Any] = {}
    try:
        async with request.form() as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    value = f"data:image;base64,{base64.b64encode(await value.read()).decode()}"
                known = schema.model_fields.get(name)
                if known is not None and _takes_several(known.annotation):
                    fields.setdefault(name, []).append(value)
                elif known is not None and name in fields:
                    raise ApiError(400, f"{name} is given twice, but takes one value: leave one out", param=name)
                else:
                    fields[name] = value
    except HTTPException as error:
        raise ApiError(400, f"the form cannot be read: {error.detail}") from error
    return fields


def _takes_several(annotation: Any) -> bool:
    """Whether a type is a list, or a union with one."""
    return get_origin(annotation) is list or any(map(_takes_several, get_args(annotation)))


def describe_body(schema: type[Body], *, form: bool = False) -> dict[str, Any]:
    """The part of the OpenAPI document about an endpoint's body."""
    reference = {"schema": {"$ref": _REFERENCE.format(model=schema.__name__)}}
    content = {"application/json": reference, **({"multipart/form-data": reference} if form else {})}
    return {"requestBody": {"required": True, "content": content}}


def schemas_of(bodies: Sequence[type[Body]]) -> dict[str, Any]:
    """The schemas that :func:`describe_body` refers to, by name."""
    _, document = models_json_schema([(each, "validation") for each in bodies], ref_template=_REFERENCE)
    return dict(document.get("$defs", {}))
