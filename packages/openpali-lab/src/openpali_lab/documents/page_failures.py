"""The pages of ``real/screens`` with the most mistakes in reading, drawn.

python -m openpali_lab.documents.page_failures docs/read-wrong.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PilImage

from openpali.infer.pali import Pali
from openpali.metrics.boxes import Detection
from openpali.metrics.words import holds_centre, right_words
from openpali.reports.drawing import draw_answer, sheet
from openpali.tasks.example import Box, Image, Object
from openpali_lab.worlds.benchmarks.pages import open_screens
from openpali_screen.evaluate import words_of

PAGES = 2
WIDEST = 1800  # pixels of the drawing


@dataclass(frozen=True)
class Mistakes:
    """Words of a page that were read wrongly, or stand nowhere; and true ones that were not found."""

    wrong: Sequence[Detection]
    missed: Sequence[Detection]

    @classmethod
    def of(cls, found: Sequence[Detection], true: Sequence[Detection]) -> Mistakes:
        right = right_words(found, true)
        hits = [word for word, is_right in zip(found, right, strict=True) if is_right]
        wrong = [word for word, is_right in zip(found, right, strict=True) if not is_right]

        def is_found(word: Detection) -> bool:
            here = (other for other in (*hits, *wrong) if holds_centre(word.box, other.box))
            return any(other.name == word.name or other in wrong for other in here)

        return cls(wrong, [word for word in true if not is_found(word)])

    def __len__(self) -> int:
        return len(self.wrong) + len(self.missed)

    def draw(self, image: Image) -> PilImage.Image:
        """A page ``[H, W, 3]`` with what was read where it is wrong, and a cross where a word was not found."""
        marks = [(word.name, word.box) for word in self.wrong] + [("\u00d7", word.box) for word in self.missed]
        text = f"{len(self.wrong)} words are wrong, {len(self.missed)} (\u00d7) were not found"
        return draw_answer(image, [Object(name, Box(*box)) for name, box in marks], text)


def main(drawn: Path) -> None:
    """Draw the pages with the most mistakes."""
    answer, source = words_of(Pali.from_pretrained("nano")), open_screens()
    examples = [source[i] for i in range(len(source))]
    pages = [(example.images[0], Mistakes.of(*answer(example))) for example in examples]
    worst = sorted(pages, key=lambda page: -len(page[1]))[:PAGES]
    whole = sheet([mistakes.draw(image) for image, mistakes in worst])
    whole.thumbnail((WIDEST, whole.height), PilImage.Resampling.LANCZOS)
    whole.quantize(256).save(drawn, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
