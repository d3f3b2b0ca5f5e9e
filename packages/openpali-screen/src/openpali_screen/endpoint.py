"""``/v1/read``: all text of screens, pages and PDF files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastapi import APIRouter
from pydantic import ConfigDict
from starlette.responses import JSONResponse, Response

from openpali.serve.api import ApiRoute, form_of
from openpali.serve.errors import ApiError
from openpali.serve.media import Media
from openpali.serve.schemas import PIXEL, Body, DataUrl
from openpali.serve.service import Service
from openpali.tasks.example import Image
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.cli import DPI
from openpali_screen.export import page_json
from openpali_screen.files import is_pdf, pdf_pages
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

        def work(pages: Sequence[tuple[int, Image]]) -> list[tuple[int, ReadPage]]:
            reader = reader_of_bundle(model.pali)
            return [(number, reader.page(image)) for number, image in pages]

        pages = await service.in_turn([(body.image, "image")], lambda _: [*_pages(service.media, body.image)], work)
        described = [{**({"page": number} if number else {}), **page_json(page)} for number, page in pages]
        if pages[0][0]:
            described = [{"text": "\n\n".join(page.text for _, page in pages), "pages": described}]
        return JSONResponse({"model": model.name, **described[0]})

    return router


def _pages(media: Media, url: str) -> Iterator[tuple[int, Image]]:
    """The pages of a PDF file, numbered from 1, or an image, as page 0."""
    data = media.read(url, "image")
    if not is_pdf(data):
        yield 0, media.decode(data, "image")
        return
    yield from enumerate(media.within((page, "image") for page in _pdf_pages(data, media)), 1)


def _pdf_pages(data: bytes, media: Media) -> Iterator[Image]:
    most = media.limits.pages
    try:
        for number, page in enumerate(pdf_pages(data, "image", DPI, most=media.limits.pixels), 1):
            if number > most:
                message = f"image has more than {most} pages: send it in parts"
                raise ApiError(413, message, param="image", code="too_many_pages")
            yield page()
    except ValueError as error:
        raise ApiError(400, str(error), param="image", code="invalid_image") from error
