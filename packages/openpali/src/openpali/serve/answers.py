"""Predictions as JSON: what OpenAI's clients read, and what is our own beside it."""

from __future__ import annotations

import base64
import io
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


def own(prediction: Prediction, masks: MaskFormat = "rle", note: str = "") -> Json:
    """What a prediction holds beside its text: boxes [ymin, xmin, ymax, xmax] in pixels of the image.

    Args:
        note: says if the model was not trained on the task, and if the prompt is not the text that was sent.
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

    Bytes that are a part of a character are named as SentencePiece does, ``<0xF0>``.
    """
    ids, found = list(written.ids), []
    for i in range(first, last):

        def named(token: int, log_prob: float, before: list[int] = ids[:i]) -> Json:
            if (part := tokenizer.bytes_of(token)) is not None:
                piece, spelt = "".join(f"<0x{byte:02X}>" for byte in part), part
            else:
                piece = END if token == tokenizer.eos_id else text_after(tokenizer, before, [token])
                spelt = piece.encode()
            return {"token": piece, "logprob": log_prob, "bytes": list(spelt)}

        others = written.alternatives[i] if written.alternatives else ()
        top = [named(*pair) for pair in others]
        found.append({**named(ids[i], written.log_probs[i]), "top_logprobs": top})
    return found


def _png(mask: Mask) -> str:
    file = io.BytesIO()
    PILImage.fromarray(mask.astype(np.uint8) * 255).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
