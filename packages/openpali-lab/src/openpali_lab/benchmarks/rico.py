"""Screen2Words and Widget Captioning: descriptions of RICO's mobile screens, and of one element on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Box, Example, Image
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing, with_image

SCREENS = "rico/combined"
HOME_RICO = "http://www.interactionmining.org/rico.html (unique_uis)"
SUMMARIES, SUMMARY_SPLIT = "screen2words/screen_summaries.csv", "screen2words/split/test_screens.txt"
HOME_SCREEN2WORDS = f"https://github.com/google-research-datasets/screen2words, its screens at {HOME_RICO}"
WIDGETS, WIDGET_SPLIT = "widget-caption/widget_captions.csv", "widget-caption/split/test.txt"
HOME_WIDGETS = f"https://github.com/google-research-datasets/widget-caption, its screens at {HOME_RICO}"

CANVAS = 2560  # height of the screens in the units of RICO's bounds
RED = (255, 0, 0)


def open_screen2words(root: Path) -> Listing:
    """The test screens, five summaries each."""
    folder = Folder(root, "Screen2Words", HOME_SCREEN2WORDS)
    summaries: dict[str, list[str]] = {}
    for row in folder.rows(SUMMARIES):
        summaries.setdefault(row.text("screenId"), []).append(row.text("summary"))
    makers = []
    for screen in folder.lines(SUMMARY_SPLIT):
        if screen not in summaries:
            raise ValueError(f"{SUMMARIES} has no summary of screen {screen}; the original is at {folder.home}")
        makers.append(
            with_image(Example(screen, captions={"en": summaries[screen]}), folder, f"{SCREENS}/{screen}.jpg")
        )
    return listing(makers, folder, f"screens in {SUMMARY_SPLIT}")


def open_widgetcap(root: Path) -> Listing:
    """The elements of the test screens, each marked by a red box; about three captions each."""
    folder = Folder(root, "Widget Captioning", HOME_WIDGETS)
    screens = set(folder.lines(WIDGET_SPLIT))
    makers = []
    for row in folder.rows(WIDGETS):
        screen, node = row.text("screenId"), row.text("nodeId")
        if screen in screens:
            captions = [text for text in row.text("captions").split("|") if text.strip()]
            example = Example(f"{screen}_{node}", captions={"en": captions})
            makers.append(partial(_marked, example, folder, screen, node))
    return listing(makers, folder, f"elements of the screens in {WIDGET_SPLIT}")


def _marked(example: Example, folder: Folder, screen: str, node: str) -> Example:
    image = folder.image(f"{SCREENS}/{screen}.jpg")
    bounds = _node(_hierarchy(folder, screen), node).numbers("bounds", 4)
    left, top, right, bottom = (edge * image.shape[0] / CANVAS for edge in bounds)
    return replace(example, images=[draw_box(image, Box(top, left, bottom, right))])


@lru_cache(maxsize=1)  # the elements of a screen follow each other
def _hierarchy(folder: Folder, screen: str) -> Fields:
    return folder.json(f"{SCREENS}/{screen}.json").entry("activity").entry("root")


def _node(root: Fields, node: str) -> Fields:
    """The node "0.2.1": the root's child 2's child 1."""
    found = root
    for index in map(int, node.split(".")[1:]):
        children = found.entries("children")
        if index >= len(children):
            raise ValueError(f"{root.where}: there is no node {node}; the original file is at {root.folder.home}")
        found = children[index]
    return found


def draw_box(image: Image, box: Box) -> Image:
    """A copy with a red box; its lines are thick enough to survive resizing to the model's resolution."""
    height, width = image.shape[:2]
    thick = math.ceil(max(height, width) / 400)
    top, left = max(round(box.ymin), 0), max(round(box.xmin), 0)
    bottom, right = min(round(box.ymax), height), min(round(box.xmax), width)
    marked = np.array(image)
    sides: Sequence[tuple[slice, slice]] = (
        (slice(top, top + thick), slice(left, right)),
        (slice(max(bottom - thick, top), bottom), slice(left, right)),
        (slice(top, bottom), slice(left, left + thick)),
        (slice(top, bottom), slice(max(right - thick, left), right)),
    )
    for rows, columns in sides:
        marked[rows, columns] = RED
    return marked


BENCHMARKS = (
    AnswerBenchmark(
        name="screen2words",
        title="Screen2Words",
        split="test",
        paper={"cider": 130.7},
        resolution=812,
        layout=(SUMMARIES, SUMMARY_SPLIT, f"{SCREENS}/11.jpg, ..."),
        home=HOME_SCREEN2WORDS,
        open=open_screen2words,
        task="caption",
        decoding=Decoding(max_tokens=24),
    ),
    AnswerBenchmark(
        name="widgetcap",
        title="Widget Captioning",
        split="test",
        paper={"cider": 159.8},
        resolution=812,
        layout=(WIDGETS, WIDGET_SPLIT, f"{SCREENS}/11.jpg, 11.json, ..."),
        home=HOME_WIDGETS,
        note="A red box is drawn around the element, on the original image; big_vision draws it after resizing.",
        open=open_widgetcap,
        task="caption",
        decoding=Decoding(max_tokens=32),
    ),
)
