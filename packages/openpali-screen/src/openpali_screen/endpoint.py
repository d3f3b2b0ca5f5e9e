"""``/v1/read``: all text of screens, pages and PDF files."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import ConfigDict
from starlette.responses import JSONResponse, Response

from openpali.serve.api import ApiRoute, form_of
from openpali.serve.media import Page
from openpali.serve.schemas import PIXEL, Body, DataUrl
from openpali.serve.service import Service
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.export import page_json
from openpali_screen.text import ReadPage


class ReadRequest(Body):
    """Find and read all text of a screen, a page or a PDF file (data:application/pdf;base64,...)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": PIXEL}]})

    image: DataUrl


def read_router(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter(route_class=ApiRoute)

    @router.post("/v1/read", openapi_extra=form_of(ReadRequest))
    async def read(body: ReadRequest) -> Response:
        """Find and read all text of a screen or a page: lines and words with boxes, in reading order.

        For a PDF file, the text of all its pages, and a list of `pages`, each like the answer to an image."""
        model = service.model(body.model)

        def work(pages: Sequence[Page]) -> list[tuple[int, ReadPage]]:
            reader = reader_of_bundle(model.pali)
            return [(number, reader.page(image)) for image, number in pages]

        pages = await service.in_turn([(body.image, "image")], lambda named: [*service.media.pages(named)], work)
        described = [{**({"page": number} if number else {}), **page_json(page)} for number, page in pages]
        if pages[0][0]:
            described = [{"text": "\n\n".join(page.text for _, page in pages), "pages": described}]
        return JSONResponse({"model": model.name, **described[0]})

    return router
