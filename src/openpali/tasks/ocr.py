"""OCR: all that is written in the picture (PaLI-3 section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openpali.tasks.base import Sample, Task, require
from openpali.tasks.example import Example


@dataclass(frozen=True)
class Ocr(Task):
    """Read the text in the picture."""

    name: ClassVar[str] = "ocr"
    metric: ClassVar[str] = "ocr"
    max_target_tokens: ClassVar[int] = 256

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        text = require(example.text.strip(), example, "text")
        return Sample(self.ask(lang=example.lang), text, (text,), kind=example.lang)

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is nothing; ``lang`` is the language of the writing."""
        if text.strip():
            raise ValueError(f"task {self.name} takes no text")
        return f"Generate the ocr_text in {lang}: <extra_id_0>"
