"""Reads pages and screens by the parts of a bundle that have no decoder: lines, words, elements and icons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from openpali.data.pipeline.pages import without_margin
from openpali.infer.elements import DOUBTFUL, confidence_of, find_elements
from openpali.infer.elements import LEAST as LEAST_ELEMENT
from openpali.infer.icons import name_icons
from openpali.infer.pages import Reading, ReadLine, find_text, read_lines, read_page
from openpali.infer.screens import Screen
from openpali.metrics.calibration import Calibration
from openpali.model.elements import ElementFinder
from openpali.model.icons import IconClassifier
from openpali.model.pages import Finder, Reader
from openpali.processor import bf16_is_faster
from openpali.tasks.detect import Detect
from openpali.tasks.example import Box, Image, Object, Size
from openpali.tasks.ocr import Ocr
from openpali.text.language import LanguageModel
from openpali.weights.files import ELEMENTS, FINDER, ICONS, READER
from openpali.weights.format import ModelFolder
from openpali.weights.language import read_language
from openpali.weights.ood import OodDetector, read_ood

LEAST = 0.3  # confidence of a word of a page: most of those below are icons
LEAST_ALONE = {1: 0.9, 2: 0.6}  # the same for a line of so few characters: nine of ten lone letters below are icons


class ScreenReader:
    """What a bundle sees on pages and screens; images are ``[H, W, 3]`` uint8, of any size.

    Args:
        parts: that the bundle has.
        load: opens a part, and raises ValueError if there is none.
        device: where the parts compute.

    Attributes:
        uncalibrated: the part whose confidence stays as it is, while it is fitted; "" for none.
    """

    def __init__(
        self,
        parts: Collection[str],
        load: Callable[[str], tuple[ModelFolder, torch.nn.Module]],
        device: torch.device,
    ) -> None:
        self.parts = parts
        self.load = load
        self.device = device
        self.uncalibrated = ""
        self._last: tuple[Image, Screen] | None = None

    @cached_property
    def language(self) -> LanguageModel | None:
        """The language model of the part that reads lines; None without one."""
        return read_language(self.load(READER)[0].folder)

    @cached_property
    def detector(self) -> OodDetector | None:
        """The detector of images that are neither screens nor pages; None without one."""
        return read_ood(self.load(FINDER)[0].folder)

    def features(self, image: Image) -> Tensor:
        """Features of an image for :attr:`detector`, float ``[2 D]``."""
        with self._autocast():
            return find_text(cast(Finder, self.load(FINDER)[1]), image).features

    def page(self, image: Image) -> Reading:
        """The lines of a page in reading order, and how far it is out of distribution.

        Where the page cannot be read, its legibility is a factor of all confidence.
        """
        (_, finder), (_, reader) = self.load(FINDER), self.load(READER)
        with self._autocast():
            page = read_page(cast(Finder, finder), cast(Reader, reader), image, self.language, self.detector)
        lines = self._calibrated(page.lines, least_in(page.lines))
        if page.reason == "text":
            lines = [line.doubted(page.legibility) for line in lines]
        return replace(page, lines=lines)

    def line(self, image: Image) -> list[ReadLine]:
        """What an image says that is a single line; empty if it says nothing."""
        reader = cast(Reader, self.load(READER)[1])
        with self._autocast():
            lines = read_lines(reader, image, [without_margin(Size(*image.shape[:2]))], self.language)
        return self._calibrated(lines)

    def screen(self, image: Image) -> Screen:
        """The elements of a screen, if there is a part that finds them, and its lines. The last screen is kept."""
        last = self._last
        if last is None or not np.array_equal(last[0], image):
            page = self.page(image)
            elements, doubtful = self._elements(image, page.lines) if ELEMENTS in self.parts else ([], [])
            self._last = last = image.copy(), Screen(elements, page.lines, page.ood_score, doubtful)
        return last[1]

    def name_icons(self, image: Image, boxes: Sequence[Box]) -> list[tuple[str, float]]:
        """What the icon in each box shows, as "trash" or "arrow-left", and the probability of that name."""
        if not boxes:
            return []
        with self._autocast():
            return name_icons(cast(IconClassifier, self.load(ICONS)[1]), image, boxes)

    def _elements(self, image: Image, lines: Sequence[ReadLine]) -> tuple[list[Object], list[Object]]:
        """Elements, and doubtful ones, with calibrated confidence; the name of an icon is what it shows."""
        finder = self.load(ELEMENTS)[1]
        with self._autocast():
            found = find_elements(cast(ElementFinder, finder), image, [line.extent for line in lines], DOUBTFUL)
        count = sum(confidence_of(e) >= LEAST_ELEMENT for e in found)  # the most probable come first
        if calibration := self._calibration(ELEMENTS, Detect.name):
            found = [replace(e, confidence=calibration.of(e.confidence, e.role)) for e in found]
        elements, doubtful = sorted(found[:count], key=confidence_of, reverse=True), found[count:]
        icons = [thing.box for thing in elements if thing.is_icon] if ICONS in self.parts else []
        names = iter(self.name_icons(image, icons))
        named = [replace(e, name=next(names, (e.name, 0.0))[0]) if e.is_icon else e for e in elements]
        return named, doubtful

    def _calibrated(
        self, lines: list[ReadLine], least: Callable[[ReadLine], float] = lambda line: 0.0
    ) -> list[ReadLine]:
        """Lines with calibrated confidence, without words below the least of their line."""
        calibration = self._calibration(READER, Ocr.name)
        if calibration is None:
            return lines
        return [*filter(None, (line.calibrated(calibration, least(line)) for line in lines))]

    def _calibration(self, part: str, task: str) -> Calibration | None:
        return None if part == self.uncalibrated else self.load(part)[0].facts.calibration.get(task)

    def _autocast(self) -> torch.autocast:
        """Matmuls in bf16 where that is faster, as in the training of these parts: scores stay equal."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16_is_faster(self.device))


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
