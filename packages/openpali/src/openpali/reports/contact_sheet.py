"""A contact sheet: samples of a data set as the model will see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from openpali.messages import shorten
from openpali.reports.drawing import draw_answer, sheet
from openpali.tasks.base import Sample, Task
from openpali.tasks.example import Example, Size

CELL = 320  # pixels of an image's longer side


class ContactSheet:
    """Collects samples for :func:`~openpali.data.validate.validate`, and writes them as one image."""

    def __init__(self) -> None:
        self.tiles: list[PilImage.Image] = []

    def add(self, example: Example, task: Task, sample: Sample) -> None:
        """Draw the objects of the target text on the first image, and write prompt and target below it.

        Samples without an image are left out.
        """
        if not example.images:
            return
        image = PilImage.fromarray(example.images[0])
        scale = CELL / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        answer = task.parse(sample.target, Size(image.height, image.width))
        words = shorten(f"{sample.prompt} => {sample.target}", 240)
        self.tiles.append(draw_answer(np.asarray(image), answer.objects, words))

    def save(self, path: Path) -> bool:
        """Write the image file; ``False`` if there is nothing to draw."""
        if self.tiles:
            sheet(self.tiles).save(path)
        return bool(self.tiles)
