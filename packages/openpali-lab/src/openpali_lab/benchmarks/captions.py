"""Captions: of COCO's images, in 36 languages, of text and of screens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from openpali.tasks.caption import Caption
from openpali.tasks.example import Box, Example, Image
from openpali_lab.benchmarks.files import Fields, Folder, Sample, published
from openpali_lab.benchmarks.scoring import mean_of_slices


@published("coco-captions")
def coco_captions(folder: Folder) -> Iterator[Sample]:
    """The 5,000 images of the test split, with about five captions each."""
    for entry in folder.json(folder.layout[0]).entries("images"):
        if entry.text("split") == "test":
            captions = [sentence.text("raw") for sentence in entry.entries("sentences")]
            image = f"coco/{entry.text('filepath')}/{entry.text('filename')}"
            yield folder.with_image(Example(entry.text("cocoid"), captions={"en": captions}), image)


XM3600_LANGUAGES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
).split()


def xm3600_image(entry: Fields) -> str:
    """File of the image of an entry."""
    return f"xm3600/images/{entry.text('image/key')}.jpg"


def xm3600_captions(entry: Fields, lang: str) -> list[str]:
    """Captions in a language of the image of an entry."""
    return entry.entry(lang).texts("caption")


@published("xm3600", scorer=mean_of_slices(Caption.score))
def xm3600(folder: Folder) -> Iterator[Sample]:
    """The 3,600 images in each language; all languages of one image follow each other."""
    for entry in folder.rows(folder.layout[0]):
        for lang in XM3600_LANGUAGES:
            captions = {lang: xm3600_captions(entry, lang)}
            example = Example(f"{entry.text('image/key')}_{lang}", captions=captions, lang=lang)
            yield folder.with_image(example, xm3600_image(entry))


RICO = "rico/combined"  # screens
RICO_HEIGHT = 2560  # of the screens, in the units of RICO's bounds


@published("screen2words")
def screen2words(folder: Folder) -> Iterator[Sample]:
    """The test screens, five summaries each."""
    summaries: dict[str, list[str]] = {}
    file, split = folder.layout[:2]
    for row in folder.rows(file):
        summaries.setdefault(row.text("screenId"), []).append(row.text("summary"))
    for screen in folder.lines(split):
        if screen not in summaries:
            raise ValueError(f"{file} has no summary of screen {screen}; the original is at {folder.home}")
        yield folder.with_image(Example(screen, captions={"en": summaries[screen]}), f"{RICO}/{screen}.jpg")


@published("widgetcap")
def widgetcap(folder: Folder) -> Iterator[Sample]:
    """The elements of the test screens, each marked by a red box; about three captions each."""
    screens = set(folder.lines(folder.layout[1]))
    for row in folder.rows(folder.layout[0]):
        screen, node = row.text("screenId"), row.text("nodeId")
        if screen in screens:
            captions = [text for text in row.text("captions").split("|") if text.strip()]
            yield _marked(Example(f"{screen}_{node}", captions={"en": captions}), folder, screen, node)


def _marked(example: Example, folder: Folder, screen: str, node: str) -> Sample:
    def sample() -> Example:
        image = folder.image(f"{RICO}/{screen}.jpg")
        bounds = _node(_hierarchy(folder, screen), node).numbers("bounds", 4)
        left, top, right, bottom = (edge * image.shape[0] / RICO_HEIGHT for edge in bounds)
        return replace(example, images=[draw_box(image, Box(top, left, bottom, right))])

    return sample


@lru_cache(maxsize=1)  # the elements of a screen follow each other
def _hierarchy(folder: Folder, screen: str) -> Fields:
    return folder.json(f"{RICO}/{screen}.json").entry("activity").entry("root")


def _node(root: Fields, node: str) -> Fields:
    """The node "0.2.1": the root's child 2's child 1."""
    found = root
    for index in map(int, node.split(".")[1:]):
        children = found.entries("children")
        if index >= len(children):
            raise root.wrong(f"there is no node {node}")
        found = children[index]
    return found


def draw_box(image: Image, box: Box) -> Image:
    """A copy with a red box; its lines are thick enough to survive resizing to the model's resolution."""
    height, width = image.shape[:2]
    thick = math.ceil(max(height, width) / 400)
    top, left = max(round(box.ymin), 0), max(round(box.xmin), 0)
    bottom, right = min(round(box.ymax), height), min(round(box.xmax), width)
    inner = slice(top + thick, max(bottom - thick, 0)), slice(left + thick, max(right - thick, 0))
    marked = np.array(image)
    marked[top:bottom, left:right] = (255, 0, 0)
    marked[inner] = image[inner]
    return marked


OPEN_IMAGES = "textvqa/train_images"  # of TextCaps and TextVQA, including their validation splits


@published("textcaps")
def textcaps(folder: Folder) -> Iterator[Sample]:
    """The 3,166 validation images, five captions each."""
    captions: dict[str, list[str]] = {}
    for entry in folder.json(folder.layout[0]).entries("data"):
        captions.setdefault(entry.text("image_id"), []).append(entry.text("caption_str"))
    for image, texts in captions.items():
        yield folder.with_image(Example(image, captions={"en": texts}), f"{OPEN_IMAGES}/{image}.jpg")


BENCHMARKS = (coco_captions, xm3600, screen2words, widgetcap, textcaps)
