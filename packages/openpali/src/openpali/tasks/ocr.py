"""OCR: all text in the image (PaLI-3 section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openpali.tasks import scoring
from openpali.tasks.base import Sample, Task, require
from openpali.tasks.example import Example


@dataclass(frozen=True)
class Ocr(Task):
    """Read the text in the image, given its language.

    Attributes:
        spelled: train on one token for each character. A model that has to learn to read from few samples then
            copies letter by letter what its patches show, and need not know how words are cut into pieces.
    """

    name: ClassVar[str] = "ocr"
    metric: ClassVar[str] = "cer"
    max_target_tokens: ClassVar[int] = 256

    spelled: bool = False

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        text = require(example.text.strip(), example, "text")
        return Sample(self.ask(lang=example.lang), text, (text,), kind=example.lang, spelled=self.spelled)

    score = staticmethod(scoring.reading)
