"""Our own endpoints: one task each, with boxes in pixels, masks, and images as files or data URLs."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from openpali.infer.generate import Decoding
from openpali.infer.pipeline import Floats
from openpali.serve.answers import Json, own, usage
from openpali.serve.api import ApiRoute, form_of
from openpali.serve.errors import ApiError
from openpali.serve.media import named
from openpali.serve.schemas import (
    CaptionRequest,
    DetectRequest,
    EmbeddingRequest,
    ImageRequest,
    MaskFormat,
    SegmentRequest,
    SimilarityRequest,
)
from openpali.serve.service import ApiQuestion, Service
from openpali.tasks.example import Image
from openpali.weights.files import SIGLIP


def vision_router(service: Service) -> APIRouter:
    """The endpoints of one task each."""
    router = APIRouter(route_class=ApiRoute)

    async def ask(
        body: ImageRequest,
        task: str,
        text: str = "",
        *,
        lang: str = "",
        masks: MaskFormat = "rle",
        part: str | None = None,
    ) -> Response:
        model = service.model(body.model)

        def decoding(longest: int) -> Decoding:
            return Decoding(max_tokens=longest, beams=body.beams)

        asked = ApiQuestion(model, text, [(body.image, "image")], task, lang, decoding, part=part)
        ticket = await service.submit(asked)
        [prediction] = await service.answer(ticket)
        counts = usage(ticket.now.read, [prediction.generation])
        answer: Json = {"model": model.name, "task": task, "text": prediction.answer.text}
        answer |= {"size": list(ticket.now.row.size), **own(prediction, masks, ticket.note), "usage": counts}
        return JSONResponse(answer)

    @router.post("/v1/caption", openapi_extra=form_of(CaptionRequest))
    async def caption(body: CaptionRequest) -> Response:
        """Describe an image in a language."""
        return await ask(body, "caption", lang=body.lang)

    @router.post("/v1/ocr", openapi_extra=form_of(CaptionRequest))
    async def ocr(body: CaptionRequest) -> Response:
        """Read the text in an image."""
        return await ask(body, "ocr", lang=body.lang)

    @router.post("/v1/detect", openapi_extra=form_of(DetectRequest))
    async def detect(body: DetectRequest) -> Response:
        """Find all instances of a name; boxes are [ymin, xmin, ymax, xmax] in pixels."""
        return await ask(body, "detect", body.name, part=SIGLIP if body.fast else None)

    @router.post("/v1/segment", openapi_extra=form_of(SegmentRequest))
    async def segment(body: SegmentRequest) -> Response:
        """Find the box and the mask of what an expression refers to."""
        return await ask(body, "refseg", body.expression, masks=body.mask_format)

    return router


def embedding_router(service: Service) -> APIRouter:
    """The endpoints of SigLIP's towers."""
    router = APIRouter(route_class=ApiRoute)

    def check_count(count: int, param: str) -> None:
        if not 0 < count <= service.limits.texts:
            raise ApiError(400, f"give 1 to {service.limits.texts} texts and images, not {count}", param=param)

    @router.post("/v1/embeddings", openapi_extra=form_of(EmbeddingRequest), tags=["OpenAI"])
    async def embeddings(body: EmbeddingRequest) -> Response:
        """Embed texts and images in one space; their cosine says how well they match."""
        model = service.model(body.model)
        texts = [body.input] if isinstance(body.input, str) else body.input
        check_count(len(texts) + len(body.images), "input")
        pali = model.pali

        def work(images: Sequence[Image]) -> Floats:
            return np.concatenate([pali.embed_text(texts), pali.embed_image(images)])

        rows, tokens = await service.embed(pali, texts, named(body.images), work)
        data = [
            {"object": "embedding", "index": i, "embedding": _encoded(row, body.encoding_format)}
            for i, row in enumerate(rows)
        ]
        counts = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": model.name, "usage": counts})

    @router.post("/v1/similarity", openapi_extra=form_of(SimilarityRequest))
    async def similarity(body: SimilarityRequest) -> Response:
        """The probability that each image and each text match: a row for each image. It sums to 1 if the encoder
        was trained by softmax."""
        model = service.model(body.model)
        check_count(len(body.images) + len(body.texts), "texts")

        def work(images: Sequence[Image]) -> Floats:
            return model.pali.similarity(images, body.texts)

        found, _ = await service.embed(model.pali, body.texts, named(body.images), work)
        return JSONResponse({"model": model.name, "similarity": found.tolist()})

    return router


def _encoded(row: Floats, form: str) -> list[float] | str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode() if form == "base64" else row.tolist()
