"""Errors in the shape that OpenAI's clients know. None holds a traceback or a path of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openpali.messages import printable, shorten

LONGEST = 1000  # characters of a message, which may repeat what a client sent
TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
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
        super().__init__(message)
        self.status, self.code = status, code
        self.message = printable(shorten(message, LONGEST))
        self.param = None if param is None else printable(param)
        self.headers = dict(headers or {})

    def as_json(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
