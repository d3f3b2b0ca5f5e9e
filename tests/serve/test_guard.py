"""What stands in front of the API."""

from __future__ import annotations

import asyncio
from typing import Any

from openpali.serve.guard import Guard
from openpali.serve.limits import ApiKey, Limits
from openpali.serve.metrics import Metrics


def test_pictures_of_the_page_are_no_requests_of_a_client() -> None:
    """While one is on its way, the only request that a client may make is free, and a second is not."""
    answered: list[tuple[str, int]] = []
    guard: Guard

    async def ask(path: str) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answered.append((path, message["status"]))

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "path": path, "headers": [], "client": ("10.0.0.1", 1)}
        await guard(scope, receive, send)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inner = {"/page/icon.svg": "/v1/models", "/v1/models": "/v1/caption"}.get(scope["path"])
        if inner:
            await ask(inner)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guard = Guard(app, ApiKey(None), Limits(per_client=1), Metrics())
    asyncio.run(ask("/page/icon.svg"))
    assert answered == [("/v1/caption", 429), ("/v1/models", 200), ("/page/icon.svg", 200)]
    assert not guard._clients
