"""The demo page: a dozen held-out images, each with a question and the model's answer."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from openpali.data.sources.registry import open_source
from openpali.infer.pali import Pali
from openpali.reports.drawing import draw_prediction, enlarge, film_strip
from openpali.reports.html import data_uri, write_page
from openpali.rng import generator
from openpali.tasks.base import Task

SEED = 2_023_10_13  # for the held-out samples
SCALE = 2  # images are enlarged by this factor

# title, data set of the nano world and its options, task, options that narrow the task, index of the sample
QUESTIONS: Sequence[tuple[str, str, dict[str, Any], str, dict[str, Any], int]] = (
    ("Caption", "single", {}, "caption", {"languages": ("en",)}, 0),
    ("Caption in German", "single", {}, "caption", {"languages": ("de",)}, 1),
    ("Caption in Japanese", "single", {}, "caption", {"languages": ("ja",)}, 2),
    ("Caption in Russian", "single", {}, "caption", {"languages": ("ru",)}, 3),
    ("Read", "word", {}, "ocr", {}, 0),
    ("Read", "word", {}, "ocr", {}, 1),
    ("Count", "scene", {"min_objects": 2}, "object_vqa", {"kinds": ("count",)}, 0),
    ("Question", "scene", {"min_objects": 2}, "object_vqa", {"kinds": ("which",)}, 1),
    ("Detect", "scene", {"min_objects": 2}, "detect", {"max_names": 1, "absent": 0.0}, 2),
    ("Segment", "scene", {"expressions": True}, "refseg", {}, 0),
    ("Segment", "scene", {"expressions": True}, "refseg", {}, 1),
    ("Video question", "video", {}, "video_qa", {}, 0),
)


@dataclass(frozen=True)
class AnsweredQuestion:
    """One answered question; the answer is drawn on ``image``."""

    title: str
    image: PilImage.Image
    prompt: str
    answer: str
    truth: str


def answer_questions(pali: Pali) -> Iterator[AnsweredQuestion]:
    """Ask every question that the model has a part for."""
    for title, kind, options, name, narrowed, index in QUESTIONS:
        if pali.by_task.get(name, ("pali",))[0] not in pali.parts:
            continue
        source = open_source(f"nano/{kind}", {"split": "heldout", "seed": SEED, **options})
        task: Task = dataclasses.replace(pali.task(name), **narrowed)
        example = source[index]
        sample = task.write(example, generator(SEED, index))
        [prediction] = pali.predict([example.images], [sample.prompt], task=task)
        first, *others = (enlarge(frame, SCALE) for frame in example.images)
        drawn = np.asarray(draw_prediction(first, prediction.answer.scaled(SCALE)))
        yield AnsweredQuestion(
            title, film_strip([drawn, *others]), sample.prompt, prediction.answer.text, sample.target
        )


def write_demo(pali: Pali, path: Path) -> int:
    """Write one self-contained HTML file, and return the number of images in it.

    Raises:
        ValueError: the model has no part that can answer any of the questions.
    """
    began = time.perf_counter()
    shown = list(answer_questions(pali))
    if not shown:
        parts = ", ".join(pali.parts)
        raise ValueError(
            f"the model {pali.folder} has no part that answers questions, only {parts}: choose another model"
        )
    seconds = time.perf_counter() - began
    write_page(
        path,
        Path(__file__).with_suffix(".html"),
        cards="\n".join(_card(each) for each in shown),
        model=escape(pali.folder.name),
        seconds=f"{seconds:.1f}",
    )
    return len(shown)


def _card(shown: AnsweredQuestion) -> str:
    right = shown.answer == shown.truth
    verdict = "right" if right else "compare"
    comment = "correct" if right else f"expected: {escape(_count_mask_tokens(shown.truth))}"
    return (
        f'<figure class="{verdict}"><img src="{data_uri(shown.image)}" alt="{escape(shown.title)}">'
        f"<figcaption><h2>{escape(shown.title)}</h2><code>{escape(shown.prompt)}</code>"
        f"<p>{escape(_count_mask_tokens(shown.answer)) or '<i>nothing</i>'}</p>"
        f"<small>{comment}</small></figcaption></figure>"
    )


def _count_mask_tokens(text: str) -> str:
    """The text with the number of mask tokens in place of the tokens, since the mask is drawn."""
    return _MASK_TOKENS.sub(lambda run: f"[{run[0].count('<')} mask tokens]", text)


_MASK_TOKENS = re.compile(r"<mask_token\d+>(?: ?<mask_token\d+>)*")
