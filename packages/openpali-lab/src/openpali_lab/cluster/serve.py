"""The API on a Ray cluster: as many replicas of the service as there is load for, behind a door.

    serve run deploy/ray.yaml

A replica is what ``openpali serve`` runs: a model, its scheduler and the whole application. Doors are what clients
see. They hold no model, and send each request to a replica; if that dies before any of its answer has been sent on,
to another one. A stream that has begun ends with an error that says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from pydantic import ValidationError
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from openpali.infer.pali import Pali
from openpali.mistakes import Terms, mistakes
from openpali.serve.completions import DONE, event
from openpali.serve.errors import ApiError
from openpali.serve.http import METRICS_TYPE, create_app, protect
from openpali.serve.metrics import Metrics
from openpali.serve.options import Options, open_service

MODEL = "Model"  # the deployments' names, by which a YAML file changes their options
DOOR = "Door"
ATTEMPTS = 3  # replicas that are asked before a request is given up
REPLICAS = 4  # at most, unless a YAML file says otherwise

_KEPT = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "client",
    "root_path",
    "path",
    "query_string",
    "headers",
)
OPTIONS = Terms("the options", "option")
_log = logging.getLogger(__name__)


def build(args: dict[str, Any]) -> Any:
    """The application, as ``serve run`` imports it.

    Args:
        args: see :class:`openpali.serve.options.Options`.
    """
    try:
        given = Options(**args)
    except ValidationError as error:
        raise ValueError(mistakes(error, Options, OPTIONS)[0].sentence) from error
    given.key()  # a bad one is refused at once
    options = given.model_copy(update={"api_key": given.secret(), "api_key_file": None})  # others may not have it

    def open_door() -> Any:
        return create_door(options, serve.get_deployment_handle(MODEL, serve.get_replica_context().app_name))

    together = options.slots + options.queue
    model = serve.deployment(
        Replica,
        name=MODEL,
        max_ongoing_requests=together,
        graceful_shutdown_timeout_s=options.drain,
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": REPLICAS,
            "target_ongoing_requests": options.slots,  # more of them wait
        },
    )
    door = serve.deployment(
        serve.ingress(open_door)(),
        name=DOOR,
        max_ongoing_requests=REPLICAS * together,
        graceful_shutdown_timeout_s=options.drain,
        ray_actor_options={"num_cpus": 0},
    )
    return door.bind(model.bind(options.model_copy(update={"allow_origin": []})))  # the door answers for them


class Replica:
    """A model and its application, asked by doors."""

    def __init__(self, options: Options) -> None:
        pali = Pali.from_pretrained(options.model, options.shared_engine, options.dtype, options.device)
        self._service = open_service(pali, options)
        self._app = create_app(self._service)
        self._running: AbstractContextManager[object] = self._service.running(options.drain)
        self._running.__enter__()
        self._working: set[asyncio.Future[None]] = set()
        self._name = serve.get_replica_context().replica_id.unique_id

    def __del__(self) -> None:
        if hasattr(self, "_running"):
            self._running.__exit__(None, None, None)

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """The messages of ASGI with which the application answers a request."""
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        gone = asyncio.Event()
        request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if request:
                return request.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        work = asyncio.ensure_future(self._app(scope, receive, messages.put))
        self._working.add(work)  # the event loop would forget it
        work.add_done_callback(self._working.discard)
        work.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            while (message := await messages.get()) is not None:
                yield message
            await work
        finally:  # also if the client goes away
            gone.set()

    def metrics(self) -> tuple[str, str]:
        """The replica's name, and what Prometheus would read from it."""
        return self._name, self._service.metrics.text().decode()

    def check_health(self) -> None:
        """Ray replaces a replica for which this raises.

        Raises:
            RuntimeError: the engine has failed.
        """
        if self._service.scheduler.failure:
            raise RuntimeError(f"the engine has failed: {self._service.scheduler.failure}")


def create_door(options: Options, model: Any) -> Starlette:
    """The application of a door.

    Args:
        model: handle of the replicas.
    """
    own = Metrics()

    async def metrics(_: Request) -> Response:
        found = await model.broadcast("metrics").results_async()
        replicas = {name: text_string_to_metric_families(text) for name, text in found}
        merged = _Merged({"door": own.requests.collect(), **replicas})
        return Response(generate_latest(merged), media_type=METRICS_TYPE)

    app = Starlette(routes=[Route("/metrics", metrics), Mount("/", _Forward(model))])
    protect(app, options.key(), options.limits, own, options.allow_origin, options.allow_host)
    return app


class _Forward:
    """Sends a request to a replica, and its answer back."""

    def __init__(self, model: Any) -> None:
        self._answer = model.options(stream=True, method_name="answer")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        told = {name: scope[name] for name in _KEPT if name in scope}
        for attempt in range(ATTEMPTS):
            sent = _Sent(send)
            try:
                async with aclosing(self._messages(told, body)) as messages:
                    async for message in messages:
                        await sent.pass_on(message)
                return
            except (BackPressureError, DeploymentUnavailableError) as error:
                refused = ApiError(503, "no replica takes requests now: try again", code="unavailable")
                raise refused from error
            except RayActorError:
                _log.warning("a replica died while it answered (attempt %d of %d)", attempt + 1, ATTEMPTS)
                if sent.begun:
                    return await sent.break_off()
        raise ApiError(503, f"{ATTEMPTS} replicas died while they answered: try again", code="replica_lost")

    async def _messages(self, scope: Scope, body: bytes) -> AsyncGenerator[Message]:
        response = self._answer.remote(scope, body)
        try:
            async for message in response:
                yield message
        finally:
            response.cancel()  # the client has gone away, or it is complete and this does nothing


class _Sent:
    """What a client has been sent of an answer; its head is held back until there is a body."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._streams = False
        self.begun = False

    async def pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message
            return
        if self._head is not None:
            kinds = [value for name, value in self._head["headers"] if name.lower() == b"content-type"]
            self._streams = kinds[0].startswith(b"text/event-stream") if kinds else False
            await self._send(self._head)
            self._head, self.begun = None, True
        await self._send(message)

    async def break_off(self) -> None:
        """End an answer whose rest is lost.

        Raises:
            ConnectionError: it is no stream of events, so that only a broken connection can tell.
        """
        if not self._streams:
            raise ConnectionError("a replica died while it sent an answer")
        error = ApiError(503, "the replica that wrote this answer has died: ask again", code="replica_lost")
        last = event(error.as_json()) + DONE
        await self._send({"type": "http.response.body", "body": last.encode(), "more_body": False})


class _Merged(Collector):
    """The metrics of several sources as those of one, each with the label ``replica``."""

    def __init__(self, sources: Mapping[str, Iterable[Metric]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        for replica, metrics in self._sources.items():
            for metric in metrics:
                kept = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                kept.samples += [
                    sample._replace(labels={**sample.labels, "replica": replica}) for sample in metric.samples
                ]
        yield from found.values()
