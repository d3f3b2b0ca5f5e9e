"""Reads pages and screens without a decoder: lines, words, elements and icons."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from openpali_screen.elements.predict import DOUBTFUL, Element, confidence_of, find_elements
from openpali_screen.elements.predict import LEAST as LEAST_ELEMENT
from openpali_screen.files import ImageLike, open_image
from openpali_screen.find.predict import find_text
from openpali_screen.geometry import Box, Image, Size
from openpali_screen.icons.predict import name_icons
from openpali_screen.networks import Floats, Networks
from openpali_screen.page import read_page
from openpali_screen.pointing import ReadScreen
from openpali_screen.read.predict import read_lines
from openpali_screen.text import ReadLine, ReadPage, ReadWord
from openpali_screen.views import without_margin

LEAST = 0.3  # confidence of a word of a page: most of those below are icons
LEAST_ALONE = {1: 0.9, 2: 0.6}  # the same for a line of so few characters: nine of ten lone letters below are icons


class OutOfDistribution(UserWarning):
    """No word of an image can be trusted."""


def warning_of(reason: str, name: str) -> str:
    """The warning of a model of this name, by :attr:`ReadPage.reason`."""
    if reason == "text":
        return f"{name} can read little of its text, which may be in another script: do not trust the words"
    return f"{name} learnt from screens and pages, and this image is unlike them: do not trust the words"


class ScreenReader:
    """What networks see on pages and screens.

    Args:
        networks: from :func:`openpali_screen.runtime.open_networks`, or of a bundle of OpenPaLI.
    """

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self._last: tuple[Image, ReadScreen] | None = None

    @property
    def name(self) -> str:
        """Of the model, for messages."""
        return self.networks.name

    @classmethod
    def open(cls, folder: str | Path | None = None) -> ScreenReader:
        """Open graphs and what belongs to them; those of the package without a folder.

        Raises:
            ValueError, FileNotFoundError: they are not there.
        """
        from openpali_screen.runtime import open_networks

        return cls(open_networks(folder))

    def features(self, image: Image) -> Floats:
        """Features of an image ``[H, W, 3]`` uint8 for a detector of what is no page, float32 ``[2 D]``."""
        return find_text(self.networks.finder, image).features

    def read_page(self, image: ImageLike) -> list[ReadLine]:
        """The lines of :meth:`page`.

        Warns:
            OutOfDistribution: the image is no screen or page, or its text cannot be read.
        """
        page = self.page(image)
        if page.reason:
            warnings.warn(warning_of(page.reason, self.name), OutOfDistribution, stacklevel=2)
        return page.lines

    def read_words(self, image: ImageLike) -> list[ReadWord]:
        """The words of :meth:`page`, one after another."""
        return [word for line in self.page(image).lines for word in line.words]

    def page(self, image: ImageLike) -> ReadPage:
        """The lines of a page in reading order, and how far it is out of distribution.

        Where the page cannot be read, its legibility is a factor of all confidence.

        Raises:
            ValueError: the image cannot be read.
        """
        own = self.networks
        page = read_page(own.finder, own.reader, open_image(image), own.language, own.detector)
        lines = self._calibrated(page.lines, least_in(page.lines))
        if page.reason == "text":
            lines = [line.doubted(page.legibility) for line in lines]
        return replace(page, lines=lines)

    def line(self, image: Image) -> list[ReadLine]:
        """What an image ``[H, W, 3]`` uint8 says that is a single line; empty if it says nothing."""
        boxes = [without_margin(Size(*image.shape[:2]))]
        return self._calibrated(read_lines(self.networks.reader, image, boxes, self.networks.language))

    def screen(self, image: ImageLike) -> ReadScreen:
        """The elements of a screen, if a network finds them, and its lines. The last screen is kept."""
        pixels, last = open_image(image), self._last
        if last is None or not np.array_equal(last[0], pixels):
            page = self.page(pixels)
            elements, doubtful = self._elements(pixels, page.lines)
            self._last = last = pixels.copy(), ReadScreen(elements, page.lines, page.ood_score, doubtful, page)
        return last[1]

    def point(self, image: ImageLike, expression: str) -> Element | None:
        """The element of a screen that an expression means, or None: see :class:`ReadScreen`."""
        return self.screen(image).point(expression)

    def name_icons(self, image: ImageLike, boxes: Sequence[Box]) -> list[tuple[str, float]]:
        """What the icon in each box shows, as "trash" or "arrow-left", and the probability of that name."""
        return name_icons(self.networks.icons, open_image(image), boxes) if self.networks.icons else []

    def _elements(self, image: Image, lines: Sequence[ReadLine]) -> tuple[list[Element], list[Element]]:
        """Elements, and doubtful ones, with calibrated confidence; the name of an icon is what it shows."""
        if self.networks.elements is None:
            return [], []
        found = find_elements(self.networks.elements, image, [line.extent for line in lines], DOUBTFUL)
        count = sum(thing.confidence >= LEAST_ELEMENT for thing in found)  # the most probable come first
        if calibration := self.networks.roles:
            found = [replace(e, confidence=calibration.of(e.confidence, e.role)) for e in found]
        elements, doubtful = sorted(found[:count], key=confidence_of, reverse=True), found[count:]
        names = iter(self.name_icons(image, [thing.box for thing in elements if thing.is_icon]))
        named = [replace(e, name=next(names, (e.name, 0.0))[0]) if e.is_icon else e for e in elements]
        return named, doubtful

    def _calibrated(
        self, lines: list[ReadLine], least: Callable[[ReadLine], float] = lambda line: 0.0
    ) -> list[ReadLine]:
        """Lines with calibrated confidence, without words below the least of their line."""
        calibration = self.networks.words
        if calibration is None:
            return lines
        return [*filter(None, (line.calibrated(calibration, least(line)) for line in lines))]


def least_in(lines: Sequence[ReadLine]) -> Callable[[ReadLine], float]:
    """The least confidence of the words of each line of a page.

    Icons are seldom read as numbers: of lone digits below .9 on windows that nothing is learnt from, all 9 in a row
    with others were right, and none of 2 elsewhere.
    """
    rows = Counter(line.row for line in lines)

    def least(line: ReadLine) -> float:
        is_number = line.text.isdecimal() and (len(line.text) > 1 or rows[line.row] > 1)
        return LEAST if is_number else LEAST_ALONE.get(len(line.text), LEAST)

    return least
