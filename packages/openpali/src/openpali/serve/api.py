"""What the endpoints have in common: how a request is read, and how long its answer is worked on."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from openpali.serve.errors import ApiError

T = TypeVar("T")
PUNCTUATION = 20_000  # commas, colons and brackets of a JSON body: more would hold the interpreter for too long


class ApiRoute(APIRoute):
    """An endpoint that takes JSON, or a form whose files become data URLs.

    Its work is cancelled when the client goes away, its time is up, or the server ends.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                async with asyncio.timeout(request.app.state.seconds):
                    read = _Read(request, await _fields(request))
                    return await _while_connected(answer(read), request)
            except TimeoutError as error:
                raise too_late() from error
            except asyncio.CancelledError as error:  # by uvicorn, once the time to drain is over
                raise ApiError(503, "the server is stopping", code="unavailable") from error

        return handle


def too_late() -> ApiError:
    return ApiError(504, "the request's time was over before its answer was complete", code="deadline_exceeded")


def form_of(schema: type) -> dict[str, Any]:
    """``openapi_extra`` of an endpoint: that its body may be a form, too."""
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    return {"requestBody": {"content": {"multipart/form-data": {"schema": reference}}}}


class _Read(Request):
    """A request whose body is read, as FastAPI takes it: JSON."""

    def __init__(self, request: Request, fields: Any) -> None:
        others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
        headers = [*others, (b"content-type", b"application/json")]
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self._fields = fields

    async def body(self) -> bytes:
        return b"{}"  # not empty: there is JSON

    async def json(self) -> Any:
        return self._fields


async def _fields(request: Request) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form_fields(request)
    if kind != "application/json":
        raise ApiError(415, "send JSON (Content-Type: application/json), or a form with files")
    body = await request.body()
    if sum(map(body.count, b",:[{")) > PUNCTUATION:
        message = f"the body has more than {PUNCTUATION:,} commas, colons and brackets: send fewer values"
        raise ApiError(413, message, code="request_too_large")
    try:
        return await run_in_threadpool(json.loads, body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "the body is not JSON") from error


async def _form_fields(request: Request) -> dict[str, Any]:
    """Fields by name, files as data URLs; a list where a name is given more than once."""
    fields: dict[str, Any] = {}
    async with request.form() as form:
        for name in form:
            values = [
                f"data:image;base64,{base64.b64encode(await each.read()).decode()}"
                if isinstance(each, UploadFile)
                else each
                for each in form.getlist(name)
            ]
            fields[name] = values if len(values) > 1 else values[0]
    return fields


async def _while_connected(work: Coroutine[Any, Any, T], request: Request) -> T:
    answered, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((answered, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            raise ClientDisconnect
        return answered.result()
    finally:
        answered.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
