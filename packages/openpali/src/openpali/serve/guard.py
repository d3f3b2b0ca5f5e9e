"""What stands before every endpoint: API key, size of a body, requests per client, and a count of the answers."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openpali.messages import shorten
from openpali.serve.errors import ApiError
from openpali.serve.limits import ApiKey, Limits
from openpali.serve.metrics import Metrics

_OPEN = ("/", "/health/live", "/health/ready", "/docs", "/openapi.json")  # without a key: they say nothing secret
_OPEN_FOLDERS = ("/page/", "/static-offline-docs/")


class Guard:
    """Middleware.

    Args:
        app: what it guards.
        key, limits: who may pass, with what.
        hosts: names by which the server may be called, in lower case. Without a key it answers to no other: a web
            page could have its own name lead here, and would read the answers as those of its own server. No page
            does so with an address, which always passes.
        metrics: counts the answers.
    """

    def __init__(
        self, app: ASGIApp, key: ApiKey, limits: Limits, metrics: Metrics, hosts: Collection[str] = ()
    ) -> None:
        self._app = app
        self._key, self._limits, self._metrics = key, limits, metrics
        self._hosts = {"localhost", *hosts}
        self._clients: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = 499  # the client has gone before an answer
        began = False

        async def counted(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status, began = message["status"], True
            await send(message)

        client = (scope.get("client") or ("", 0))[0]
        is_open = scope["path"] in _OPEN or scope["path"].startswith(_OPEN_FOLDERS)
        self._clients[client] += not is_open
        try:
            self._check_host(scope)
            if not is_open:
                self._check(scope, client)
            await self._app(scope, self._limited(receive), counted)
        except ApiError as error:
            if not began:
                await JSONResponse(error.as_json(), error.status, error.headers)(scope, receive, counted)
        except ClientDisconnect:
            pass
        except Exception:
            if not began:
                status = 500  # is sent outside of this
            raise
        finally:
            self._clients[client] -= not is_open
            if not self._clients[client]:
                del self._clients[client]
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()

    def _check_host(self, scope: Scope) -> None:
        sent = Headers(scope=scope).get("host")
        if self._key.required or sent is None:  # browsers send it
            return
        try:
            host = urlsplit(f"//{sent}").hostname or ""
            if host in self._hosts or ipaddress.ip_address(host):
                return
        except ValueError:  # neither
            pass
        raise ApiError(
            421,
            f"no server of the name {shorten(sent, 80)}: call it by its address, or allow the name (--allow-host)",
            code="host_not_allowed",
        )

    def _check(self, scope: Scope, client: str) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._key.opens(headers.get("authorization", "")):
            raise ApiError(
                401,
                "the API key is missing or wrong: send the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if self._clients[client] > self._limits.per_client:
            raise ApiError(
                429,
                f"more than {self._limits.per_client} requests at a time: wait for some of them",
                code="too_many_requests",
                headers={"Retry-After": "1"},
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.body:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        size, whole = 0, False
        until = time.monotonic() + self._limits.seconds

        async def limited() -> Message:
            nonlocal size, whole
            left = None if whole else min(self._limits.pause, until - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), left)
            except TimeoutError as error:
                raise ApiError(408, "the rest of the request did not come in time") from error
            size, whole = size + len(message.get("body", b"")), not message.get("more_body", False)
            if size > self._limits.body:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the request has more than {self._limits.body:,} bytes", code="request_too_large")
