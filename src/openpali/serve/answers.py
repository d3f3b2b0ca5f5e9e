"""Predictions as JSON: what OpenAI's clients read, and what is our own beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as PILImage

from openpali.infer.bulk import object_as_json
from openpali.infer.generate import Generation
from openpali.infer.pipeline import Prediction
from openpali.serve.schemas import MaskFormat
from openpali.tasks.example import Mask, Object
from openpali.text.tokenizer import Tokenizer

Json = dict[str, Any]
FINISH = {"eos": "stop", "stop": "stop", "length": "length", "repetition": "length"}
"""OpenAI's word for each finish reason; ours is in ``openpali`` beside it."""


def own(prediction: Prediction, masks: MaskFormat = "rle") -> Json:
    """What a prediction holds beside its text: boxes [ymin, xmin, ymax, xmax] in pixels of the image."""
    return {
        "prompt": prediction.prompt,
        "confidence": prediction.answer.confidence,
        "objects": [_object(thing, masks) for thing in prediction.answer.objects],
        "score": prediction.generation.score,
        "finish_reason": prediction.generation.finish_reason,
    }


def usage(prompt_tokens: int, generations: Sequence[Generation]) -> Json:
    """Tokens that were read (of images and prompt) and written (EOS included)."""
    written = sum(len(generation.log_probs) for generation in generations)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt_tokens + written,
    }


def log_probs(tokenizer: Tokenizer, ids: Sequence[int], values: Sequence[float], first: int = 0) -> list[Json]:
    """Text and log-probability of each token, without EOS, from token ``first`` on."""
    found, before = [], tokenizer.decode(ids[:first])
    for i in range(first, len(ids)):
        text = tokenizer.decode(ids[: i + 1])
        piece, before = text[len(before) :], text
        found.append({"token": piece, "logprob": values[i], "bytes": list(piece.encode()), "top_logprobs": []})
    return found


def _object(thing: Object, masks: MaskFormat) -> Json:
    record = object_as_json(thing)
    if masks == "png" and thing.mask is not None:
        record["mask"] = _png(thing.mask)
    return record


def _png(mask: Mask) -> str:
    file = io.BytesIO()
    PILImage.fromarray(mask.astype(np.uint8) * 255).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
