"""Reads pages and screens by the parts of a bundle that have no decoder: lines, words, elements and icons."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from openpali.infer.bundle import Bundle
from openpali.infer.pali import Pali
from openpali.infer.pipeline import ImageLike, OutOfDistribution, ood_warning, open_image
from openpali.processor import bf16_is_faster
from openpali.tasks.detect import Detect
from openpali.tasks.example import Box, Image, Object, Size
from openpali.tasks.ocr import Ocr
from openpali.weights.ood import OodDetector, read_ood
from openpali_screen.elements.network import ElementFinder
from openpali_screen.elements.predict import DOUBTFUL, confidence_of, find_elements
from openpali_screen.elements.predict import LEAST as LEAST_ELEMENT
from openpali_screen.find.network import Finder
from openpali_screen.find.predict import find_text
from openpali_screen.icons.network import IconClassifier
from openpali_screen.icons.predict import name_icons
from openpali_screen.page import read_page
from openpali_screen.parts import ELEMENTS, FINDER, ICONS, READER
from openpali_screen.pointing import Screen
from openpali_screen.read.language import LanguageModel, read_language
from openpali_screen.read.network import Reader
from openpali_screen.read.predict import read_lines
from openpali_screen.text import ReadLine, ReadPage, ReadWord
from openpali_screen.views import without_margin

LEAST = 0.3  # confidence of a word of a page: most of those below are icons
LEAST_ALONE = {1: 0.9, 2: 0.6}  # the same for a line of so few characters: nine of ten lone letters below are icons


class ScreenReader:
    """What a bundle sees on pages and screens.

    Images are paths, PIL images, or arrays ``[H, W, 3]`` uint8, of any size.

    Args:
        bundle: that has the parts.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._last: tuple[Image, Screen] | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path = "nano", device: str | torch.device = "cpu") -> ScreenReader:
        """Open the parts of a model that read screens; see :meth:`openpali.infer.pali.Pali.from_pretrained`."""
        return cls.of(Pali.from_pretrained(name, device=device))

    @classmethod
    def of(cls, bundle: Bundle) -> ScreenReader:
        """The reader of a bundle: one for all who ask, since it keeps the last screen."""
        return bundle.shared(cls)

    @cached_property
    def language(self) -> LanguageModel | None:
        """The language model of the part that reads lines; None without one."""
        return read_language(self.bundle.load(READER)[0].folder)

    @cached_property
    def detector(self) -> OodDetector | None:
        """The detector of images that are neither screens nor pages; None without one."""
        return read_ood(self.bundle.load(FINDER)[0].folder)

    def features(self, image: Image) -> Tensor:
        """Features of an image ``[H, W, 3]`` uint8 for :attr:`detector`, float ``[2 D]``."""
        with self._autocast():
            return find_text(cast(Finder, self.bundle.load(FINDER)[1]), image)[1]

    def read_page(self, image: ImageLike) -> list[ReadLine]:
        """The lines of :meth:`page`.

        Warns:
            OutOfDistribution: the image is no screen or page, or its text cannot be read.
        """
        page = self.page(image)
        if page.out_of_distribution:
            warnings.warn(ood_warning(self.bundle.name, page.reason), OutOfDistribution, stacklevel=2)
        return page.lines

    def read_words(self, image: ImageLike) -> list[ReadWord]:
        """The words of :meth:`page`, one after another."""
        return [word for line in self.page(image).lines for word in line.words]

    def page(self, image: ImageLike) -> ReadPage:
        """The lines of a page in reading order, and how far it is out of distribution.

        Where the page cannot be read, its legibility is a factor of all confidence.

        Raises:
            ValueError: the image cannot be read, or the model has no parts that read pages.
        """
        (_, finder), (_, reader) = self.bundle.load(FINDER), self.bundle.load(READER)
        pixels = open_image(image).pixels
        with self._autocast():
            page = read_page(cast(Finder, finder), cast(Reader, reader), pixels, self.language, self.detector)
        lines = self._calibrated(page.lines, least_in(page.lines))
        if page.reason == "text":
            lines = [line.doubted(page.legibility) for line in lines]
        return replace(page, lines=lines)

    def line(self, image: Image) -> list[ReadLine]:
        """What an image ``[H, W, 3]`` uint8 says that is a single line; empty if it says nothing."""
        reader = cast(Reader, self.bundle.load(READER)[1])
        with self._autocast():
            lines = read_lines(reader, image, [without_margin(Size(*image.shape[:2]))], self.language)
        return self._calibrated(lines)

    def screen(self, image: ImageLike) -> Screen:
        """The elements of a screen, if there is a part that finds them, and its lines. The last screen is kept."""
        pixels, last = open_image(image).pixels, self._last
        if last is None or not np.array_equal(last[0], pixels):
            page = self.page(pixels)
            elements, doubtful = self._elements(pixels, page.lines) if ELEMENTS in self.bundle.parts else ([], [])
            self._last = last = pixels.copy(), Screen(elements, page.lines, page.ood_score, doubtful)
        return last[1]

    def point(self, image: ImageLike, expression: str) -> Object | None:
        """The element of a screen that an expression means, as "the search field", or None: see :class:`Screen`."""
        return self.screen(image).point(expression)

    def name_icons(self, image: ImageLike, boxes: Sequence[Box]) -> list[tuple[str, float]]:
        """What the icon in each box shows, as "trash" or "arrow-left", and the probability of that name."""
        if not boxes:
            return []
        pixels = open_image(image).pixels
        with self._autocast():
            return name_icons(cast(IconClassifier, self.bundle.load(ICONS)[1]), pixels, boxes)

    def _elements(self, image: Image, lines: Sequence[ReadLine]) -> tuple[list[Object], list[Object]]:
        """Elements, and doubtful ones, with calibrated confidence; the name of an icon is what it shows."""
        finder = self.bundle.load(ELEMENTS)[1]
        with self._autocast():
            found = find_elements(cast(ElementFinder, finder), image, [line.extent for line in lines], DOUBTFUL)
        count = sum(confidence_of(e) >= LEAST_ELEMENT for e in found)  # the most probable come first
        if calibration := self.bundle.calibration(ELEMENTS, Detect.name):
            found = [replace(e, confidence=calibration.of(e.confidence, e.role)) for e in found]
        elements, doubtful = sorted(found[:count], key=confidence_of, reverse=True), found[count:]
        icons = [thing.box for thing in elements if thing.is_icon] if ICONS in self.bundle.parts else []
        names = iter(self.name_icons(image, icons))
        named = [replace(e, name=next(names, (e.name, 0.0))[0]) if e.is_icon else e for e in elements]
        return named, doubtful

    def _calibrated(
        self, lines: list[ReadLine], least: Callable[[ReadLine], float] = lambda line: 0.0
    ) -> list[ReadLine]:
        """Lines with calibrated confidence, without words below the least of their line."""
        calibration = self.bundle.calibration(READER, Ocr.name)
        if calibration is None:
            return lines
        return [*filter(None, (line.calibrated(calibration, least(line)) for line in lines))]

    def _autocast(self) -> torch.autocast:
        """Matmuls in bf16 where that is faster, as in the training of these parts: scores stay equal."""
        return torch.autocast(self.bundle.device.type, torch.bfloat16, enabled=bf16_is_faster(self.bundle.device))


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
