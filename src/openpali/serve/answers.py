"""Predictions as JSON: what OpenAI's clients read, and what is our own beside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as PILImage

from openpali.infer.bulk import as_json
from openpali.infer.generate import Generation, Written
from openpali.infer.pipeline import Prediction
from openpali.serve.schemas import MaskFormat
from openpali.tasks.example import Mask
from openpali.text.growing import text_after
from openpali.text.tokenizer import Tokenizer

Json = dict[str, Any]
FINISH = {"eos": "stop", "stop": "stop", "length": "length", "repetition": "length"}
"""OpenAI's word for each finish reason; ours is in ``openpali`` beside it."""
END = "</s>"  # T5's name of the end token
_BYTE = re.compile("<0x([0-9A-F]{2})>")


def own(prediction: Prediction, masks: MaskFormat = "rle", note: str = "") -> Json:
    """What a prediction holds beside its text: boxes [ymin, xmin, ymax, xmax] in pixels of the image.

    Args:
        note: says if the prompt is not the text that was sent.
    """
    found = {**as_json(prediction), "note": note or None}
    del found["text"]
    for record, thing in zip(found["objects"], prediction.answer.objects, strict=True):
        if masks == "png" and thing.mask is not None:
            record["mask"] = _png(thing.mask)
    return found


def usage(prompt_tokens: int, generations: Sequence[Generation]) -> Json:
    """Tokens that were read (of images and prompt) and written (EOS included)."""
    written = sum(len(generation.log_probs) for generation in generations)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt_tokens + written,
    }


def log_probs(tokenizer: Tokenizer, written: Written, first: int, last: int) -> list[Json]:
    """Text, log-probability and alternatives of the tokens from ``first`` up to ``last``, without EOS.

    A byte of a character is named as in the vocabulary, ``<0xF0>``.
    """
    ids, found = list(written.ids), []
    for i in range(first, last):

        def named(token: int, log_prob: float, before: list[int] = ids[:i]) -> Json:
            [piece] = tokenizer.pieces([token])
            byte = _BYTE.fullmatch(piece)
            if token == tokenizer.eos_id:
                piece = END
            elif byte is None:
                piece = text_after(tokenizer, before, [token])
            spelt = list(piece.encode()) if byte is None else [int(byte[1], 16)]
            return {"token": piece, "logprob": log_prob, "bytes": spelt}

        others = written.alternatives[i] if written.alternatives else ()
        top = [named(*pair) for pair in others]
        found.append({**named(ids[i], written.log_probs[i]), "top_logprobs": top})
    return found


def _png(mask: Mask) -> str:
    file = io.BytesIO()
    PILImage.fromarray(mask.astype(np.uint8) * 255).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
