"""What stands before every endpoint: names of the server, API key, size of a body, and a count of the answers."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openpali.messages import shorten
from openpali.serve.errors import ApiError
from openpali.serve.limits import ApiKey
from openpali.serve.metrics import Metrics

_OPEN = ("/", "/health/live", "/health/ready", "/docs", "/openapi.json")  # without a key: they say nothing secret
_OPEN_FOLDERS = ("/page/", "/static-offline-docs/")


class Guard:
    """Middleware.

    Args:
        app: what it guards.
        key: that clients must send.
        most: bytes of a request.
        hosts: names by which the server may be called, in lower case. Without a key it answers to no other: a web
            page could have its own name lead here, and would read the answers as those of its own server. No page
            does so with an address, which always passes.
        metrics: counts the answers.
    """

    def __init__(self, app: ASGIApp, key: ApiKey, most: int, metrics: Metrics, hosts: Collection[str] = ()) -> None:
        self._app, self._key, self._most, self._metrics = app, key, most, metrics
        self._hosts = {"localhost", *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, size = 500, 0  # the answer to a failure is sent outside of this

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most:
                raise ApiError(413, f"the request has more than {self._most:,} bytes", code="request_too_large")
            return message

        try:
            self._check(Headers(scope=scope), scope["path"])
            await self._app(scope, limited, counted)
        except ApiError as error:
            await error.response()(scope, receive, counted)
        finally:
            self._metrics.requests.labels(getattr(scope.get("route"), "path", "other"), str(status)).inc()

    def _check(self, headers: Headers, path: str) -> None:
        if not self._key.required:
            self._check_host(headers.get("host", "localhost"))  # browsers send it
        elif path in _OPEN or path.startswith(_OPEN_FOLDERS):
            return
        elif not self._key.opens(headers.get("authorization", "")):
            message = "the API key is missing or wrong: send the header Authorization: Bearer KEY"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    def _check_host(self, sent: str) -> None:
        try:
            host = urlsplit(f"//{sent}").hostname or ""
            if host in self._hosts or ipaddress.ip_address(host):
                return
        except ValueError:  # neither
            pass
        message = (
            f"no server of the name {shorten(sent, 80)}: call it by its address, or allow it with --allow-host"
        )
        raise ApiError(421, message, code="host_not_allowed")
