"""Errors in the shape that OpenAI's clients know. None holds a traceback or a path of the machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from openpali.messages import printable, shorten
from openpali.serve.tickets import Refused

LONGEST = 1000  # characters of a message, which may repeat what a client sent
TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}

_log = logging.getLogger(__name__)


class ApiError(HTTPException):
    """An answer that says what is wrong with a request.

    Args:
        status: of HTTP.
        message: one sentence that names the thing and the fix.
        param: the parameter that it is about.
        code: a short name of the error.
        headers: to send with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, printable(shorten(message, LONGEST)), headers)
        self.param, self.code = None if param is None else printable(shorten(param, 200)), code

    @classmethod
    def of(cls, error: Exception) -> ApiError:
        """The answer about an error."""
        match error:
            case ApiError():
                return error
            case Refused():
                message = "the model could not read this request" if error.status == 500 else str(error)
                later = {"Retry-After": "1"} if error.status == 429 else None
                return cls(error.status, message, code=error.code, headers=later)
            case RequestValidationError():
                return cls._of_body(error)
        return cls(500, "internal server error: see the server's log")

    @classmethod
    def _of_body(cls, error: RequestValidationError) -> ApiError:
        first = max(error.errors(), key=lambda each: len(each["loc"]))  # of a union, the kind that fits best
        names = [str(part) for part in first["loc"][1:]]
        param = ".".join(name for name in names if name.isidentifier() or name.isdecimal() or name == names[-1])
        code = "unknown_parameter" if first["type"] == "extra_forbidden" else "invalid_value"
        return cls(400, f"{shorten(param, 200) or 'the body'}: {first['msg']}", param=param or None, code=code)

    def response(self) -> JSONResponse:
        return JSONResponse(self.as_json(), self.status_code, self.headers)

    def as_json(self) -> dict[str, Any]:
        """The body of the answer."""
        status = self.status_code
        kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}


def add_error_handlers(app: Starlette) -> None:
    """Answer every error as OpenAI does."""

    async def refuse(_: Request, error: Exception) -> Response:
        return ApiError.of(error).response()

    async def refuse_path(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}"
        return ApiError(error.status_code, message, headers=error.headers).response()

    async def leave(_: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it, and it is counted

    async def fail(request: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        return await refuse(request, error)

    handlers = {ApiError: refuse, Refused: refuse, RequestValidationError: refuse, HTTPException: refuse_path}
    for kind, handler in {**handlers, ClientDisconnect: leave, Exception: fail}.items():
        app.add_exception_handler(kind, handler)
