"""OCR text for prompts "with OCR input" (PaLI-3 section 4.1).

The engines are in :mod:`openpali_lab.benchmarks.ocr`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from openpali.data.sources.base import Source
from openpali.tasks.example import Example, Image


class OcrEngine(Protocol):
    """Reads the text in images."""

    @property
    def name(self) -> str:
        """Name with every setting that its texts depend on; part of score cards and of the cache key."""
        ...

    def read(self, image: Image, key: str) -> str:
        """The text in an image ``[H, W, 3]``, words separated by spaces; empty if there is none.

        Args:
            key: the sample's key.

        Raises:
            ValueError, OSError: the engine cannot read the image.
        """
        ...


@dataclass(frozen=True)
class WithOcr:
    """A source whose examples have, as ``text``, the text that an engine reads in their images.

    It replaces any text of the data set. Text that several frames share is used once.

    Attributes:
        fits: whether the prompt of an example is short enough for the model. If not, the text loses as many of its
            last words as necessary: a page can hold more than a prompt.
    """

    source: Source
    engine: OcrEngine
    fits: Callable[[Example], bool] = lambda example: True

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Example:
        example = self.source[index]
        texts = dict.fromkeys(self.engine.read(image, example.key) for image in example.images)
        words = " ".join(filter(None, texts)).split()

        def beginning(count: int) -> Example:
            return replace(example, text=" ".join(words[:count]))

        if self.fits(whole := beginning(len(words))):
            return whole
        most = bisect_left(range(1, len(words) + 1), True, key=lambda count: not self.fits(beginning(count)))
        return beginning(most)
