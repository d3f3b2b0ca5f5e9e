"""What a model finds on pages and screens, beside what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from openpali.eval.benchmark import AnswerPage
from openpali.infer.pali import Pali
from openpali.metrics.boxes import Detection
from openpali.metrics.words import holds_centre
from openpali.tasks.example import Example, Image
from openpali.text.characters import plain
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.elements.encode import elements_of
from openpali_screen.elements.evaluate import by_role
from openpali_screen.text import ReadWord


def words_of(pali: Pali) -> AnswerPage:
    """The words that a model reads on pages, see :func:`words_by`."""
    return words_by(reader_of_bundle(pali).read_words)


def words_by(read: Callable[[Image], Iterable[ReadWord]]) -> AnswerPage:
    """The words of pages that count: they have a letter or a digit, and truth says what is where they are.

    Args:
        read: an image ``[H, W, 3]`` uint8 -> its words; of a model, or of any other engine. Texts become what
            :func:`~openpali.text.characters.plain` makes of them.
    """
    return lambda example: counted_words(example, read(example.images[0]))


def counted_words(example: Example, words: Iterable[ReadWord]) -> tuple[list[Detection], list[Detection]]:
    """Words that were read on a page and its true words, those that count: see :func:`words_by`."""
    true = [Detection(plain(word.text), word.box) for line in example.lines if line.readable for word in line.words]
    unknown = [*example.ignored, *(line.box for line in example.lines if not line.readable)]
    found = [
        Detection(plain(word.text), word.box, word.confidence)
        for word in words
        if not any(holds_centre(box, word.box) for box in unknown)
        or any(holds_centre(word.box, other.box) for other in true)
    ]
    read, there = ([word for word in side if any(map(str.isalnum, word.name))] for side in (found, true))
    return read, there


def elements_by(pali: Pali) -> AnswerPage:
    """The elements of screens, named by their roles."""
    reader = reader_of_bundle(pali)
    return lambda example: (by_role(reader.screen(example.images[0]).elements), by_role(elements_of(example)))
