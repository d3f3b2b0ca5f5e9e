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

COCO = "coco/dataset_coco.json"
COCO_IMAGES = (
    "coco/train2014/COCO_train2014_000000000009.jpg, ...",
    "coco/val2014/COCO_val2014_000000000042.jpg, ...",
)


@published(
    name="coco-captions",
    title="COCO captions",
    split="Karpathy test",
    paper={"cider": 145.9},
    layout=(COCO, *COCO_IMAGES),
    home="https://cs.stanford.edu/people/karpathy/deepimagesent (caption_datasets.zip) and https://cocodataset.org",
    task="caption",
    max_tokens=32,
    beams=2,
)
def coco_captions(folder: Folder) -> Iterator[Sample]:
    """The 5,000 images of the test split, with about five captions each."""
    for entry in folder.json(COCO).entries("images"):
        if entry.text("split") == "test":
            captions = [sentence.text("raw") for sentence in entry.entries("sentences")]
            image = f"coco/{entry.text('filepath')}/{entry.text('filename')}"
            yield folder.with_image(Example(entry.text("cocoid"), captions={"en": captions}), image)


_CODES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)
XM3600 = "xm3600/captions.jsonl"
XM3600_LAYOUT = (XM3600, "xm3600/images/000411001ff7dd4f.jpg, ...")
XM3600_HOME = "https://google.github.io/crossmodal-3600"
XM3600_LANGUAGES = tuple(_CODES.split())


def xm3600_image(entry: Fields) -> str:
    """File of the image of an entry."""
    return f"xm3600/images/{entry.text('image/key')}.jpg"


def xm3600_captions(entry: Fields, lang: str) -> list[str]:
    """Captions in a language of the image of an entry."""
    return entry.entry(lang).texts("caption")


@published(
    name="xm3600",
    title="XM3600 captions",
    split="all, 36 languages",
    layout=XM3600_LAYOUT,
    home=XM3600_HOME,
    note="The score is the mean over languages. Captions are compared as written, without the owners' "
    "tokenisation: in a language without spaces, a phrase is one word.",
    task="caption",
    max_tokens=32,
    scorer=mean_of_slices(Caption.score),
)
def xm3600(folder: Folder) -> Iterator[Sample]:
    """The 3,600 images in each language; all languages of one image follow each other."""
    for entry in folder.rows(XM3600):
        for lang in XM3600_LANGUAGES:
            captions = {lang: xm3600_captions(entry, lang)}
            example = Example(f"{entry.text('image/key')}_{lang}", captions=captions, lang=lang)
            yield folder.with_image(example, xm3600_image(entry))


RICO = "rico/combined"  # screens
RICO_HOME = "http://www.interactionmining.org/rico.html (unique_uis)"
RICO_HEIGHT = 2560  # of the screens, in the units of RICO's bounds
SUMMARIES, SUMMARY_SPLIT = "screen2words/screen_summaries.csv", "screen2words/split/test_screens.txt"


@published(
    name="screen2words",
    title="Screen2Words",
    split="test",
    paper={"cider": 130.7},
    layout=(SUMMARIES, SUMMARY_SPLIT, f"{RICO}/11.jpg, ..."),
    home=f"https://github.com/google-research-datasets/screen2words, its screens at {RICO_HOME}",
    task="caption",
    max_tokens=24,
)
def screen2words(folder: Folder) -> Iterator[Sample]:
    """The test screens, five summaries each."""
    summaries: dict[str, list[str]] = {}
    for row in folder.rows(SUMMARIES):
        summaries.setdefault(row.text("screenId"), []).append(row.text("summary"))
    for screen in folder.lines(SUMMARY_SPLIT):
        if screen not in summaries:
            raise ValueError(f"{SUMMARIES} has no summary of screen {screen}; the original is at {folder.home}")
        yield folder.with_image(Example(screen, captions={"en": summaries[screen]}), f"{RICO}/{screen}.jpg")


WIDGETS, WIDGET_SPLIT = "widget-caption/widget_captions.csv", "widget-caption/split/test.txt"


@published(
    name="widgetcap",
    title="Widget Captioning",
    split="test",
    paper={"cider": 159.8},
    layout=(WIDGETS, WIDGET_SPLIT, f"{RICO}/11.jpg, 11.json, ..."),
    home=f"https://github.com/google-research-datasets/widget-caption, its screens at {RICO_HOME}",
    note="A red box is drawn around the element, on the original image; big_vision draws it after resizing.",
    task="caption",
    max_tokens=32,
)
def widgetcap(folder: Folder) -> Iterator[Sample]:
    """The elements of the test screens, each marked by a red box; about three captions each."""
    screens = set(folder.lines(WIDGET_SPLIT))
    for row in folder.rows(WIDGETS):
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


TEXTCAPS = "textcaps/TextCaps_0.1_val.json"
OPEN_IMAGES = "textvqa/train_images"  # of TextCaps and TextVQA, including their validation splits
TEXT_NOTE = "The paper's number is from the test server. Images are used as distributed; some are rotated."


@published(
    name="textcaps",
    title="TextCaps",
    split="val",
    paper={"cider": 158.8},
    paper_ocr={"cider": 164.3},
    layout=(TEXTCAPS, f"{OPEN_IMAGES}/0054c91397f2fe05.jpg, ..."),
    home="https://textvqa.org/textcaps/dataset",
    note=TEXT_NOTE,
    task="caption",
    max_tokens=32,
    beams=3,
)
def textcaps(folder: Folder) -> Iterator[Sample]:
    """The 3,166 validation images, five captions each."""
    captions: dict[str, list[str]] = {}
    for entry in folder.json(TEXTCAPS).entries("data"):
        captions.setdefault(entry.text("image_id"), []).append(entry.text("caption_str"))
    for image, texts in captions.items():
        yield folder.with_image(Example(image, captions={"en": texts}), f"{OPEN_IMAGES}/{image}.jpg")


BENCHMARKS = (coco_captions, xm3600, screen2words, widgetcap, textcaps)
