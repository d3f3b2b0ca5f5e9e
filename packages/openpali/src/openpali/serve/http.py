"""The API: OpenAI's endpoints and our own over one scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from openpali import __version__
from openpali.extensions import loaded
from openpali.infer.components import component_types
from openpali.serve.completions import HISTORY, completions_router
from openpali.serve.errors import add_error_handlers
from openpali.serve.guard import Guard
from openpali.serve.limits import ApiKey, Limits
from openpali.serve.metrics import Metrics
from openpali.serve.service import Served, Service
from openpali.serve.vision import embedding_router, vision_router
from openpali.serve.web import add_page
from openpali.weights.files import MAIN, SIGLIP

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of what Prometheus reads


def create_app(service: Service) -> FastAPI:
    """The application; its scheduler runs while it does. A server ends it when no request waits any more."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with service.running():
            yield

    # FastAPI's own page of documentation loads Swagger from a CDN; it has no badge that asks a validator elsewhere
    app = FastAPIOffline(
        title="OpenPaLI",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},
        responses={"4XX": {"description": "What is wrong with the request"}},
        # the button "Authorize" of the page; the guard asks for the key
        dependencies=[Depends(HTTPBearer(scheme_name="key", auto_error=False))] if service.key.required else [],
    )
    app.state.seconds = service.limits.seconds
    app.include_router(completions_router(service))
    app.include_router(vision_router(service))
    app.include_router(embedding_router(service))
    for make in loaded("endpoints", lambda _, each: each).values():
        app.include_router(make(service))
    add_page(app)
    app.include_router(_status_router(service))
    protect(app, service.key, service.limits, service.metrics, service.origins, service.hosts)
    return app


def _status_router(service: Service) -> APIRouter:
    """Models, probes and metrics."""
    router = APIRouter()

    @router.get("/v1/models", tags=["OpenAI"])
    async def models() -> Response:
        """The models that answer here: first the one that is asked where none is named, then its adapters."""
        described = [_model(each, service.limits) for each in service.models.values()]
        return JSONResponse({"object": "list", "data": described})

    @router.get("/v1/models/{name:path}", tags=["OpenAI"])
    async def model(name: str) -> Response:
        """A model by its name."""
        return JSONResponse(_model(service.model(name), service.limits))

    @router.get("/health/live", tags=["health"])
    async def live() -> Response:
        """Liveness probe: 200 while the process runs."""
        return JSONResponse({"status": "live"})

    @router.get("/health/ready", tags=["health"])
    async def ready() -> Response:
        """Readiness probe: 200, or 503 with the reason."""
        scheduler = service.scheduler
        if scheduler.accepting:
            return JSONResponse({"status": "ready"})
        why = "the engine has failed" if scheduler.failure else "the server is stopping"
        return JSONResponse({"status": why}, 503)

    @router.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """Metrics in the Prometheus text format."""
        return Response(service.metrics.text(), media_type=METRICS_TYPE)

    return router


def protect(
    app: Starlette,
    key: ApiKey,
    limits: Limits,
    metrics: Metrics,
    origins: Sequence[str],
    hosts: Sequence[str],
) -> None:
    """Add the middleware for authentication, limits and CORS, and errors in OpenAI's form.

    Args:
        key, metrics, hosts: see :class:`openpali.serve.guard.Guard`.
        origins: web pages that may call it (CORS).
    """
    add_error_handlers(app)
    app.add_middleware(Guard, key=key, most=limits.body, metrics=metrics, hosts=hosts)
    if origins:  # in front of the guard: a browser asks whether it may send a key without sending it
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After", HISTORY],
        )


def _model(served: Served, limits: Limits) -> dict[str, Any]:
    """A model as OpenAI describes it, and what it can be asked for here."""
    return {
        "id": served.name,
        "object": "model",
        "created": 0,
        "owned_by": "openpali",
        "openpali": {
            "tasks": served.tasks,
            "languages": list(served.pali.languages),
            "about": served.pali.about,
            "max_images": limits.images,
            "max_pages": limits.pages,
            "takes_prompts": MAIN in served.pali.parts,
            "embeds": SIGLIP in served.pali.parts,
            **{k: v for each in component_types().values() for k, v in each.abilities(served.pali.parts).items()},
        },
    }
