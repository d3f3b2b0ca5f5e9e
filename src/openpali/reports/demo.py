"""A page to look at: a dozen pictures that training never saw, what the model was asked, and what it said."""

from __future__ import annotations

import dataclasses
import html
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image as PILImage

from openpali.data.sources.registry import open_source
from openpali.infer.pali import Pali
from openpali.reports.drawing import draw_prediction
from openpali.reports.eval_page import data_uri, film
from openpali.reports.fonts import font_for
from openpali.rng import generator
from openpali.tasks.base import Task
from openpali.tasks.example import Image

SEED = 2_023_10_13  # of the demonstration's pictures, which are of the held-out splits
SCALE = 2  # pictures are shown enlarged

# title, kind of picture and its options, task, options that narrow the task down, index of the sample
QUESTIONS: Sequence[tuple[str, str, dict[str, Any], str, dict[str, Any], int]] = (
    ("Caption", "single", {}, "caption", {"languages": ("en",)}, 0),
    ("Caption in German", "single", {}, "caption", {"languages": ("de",)}, 1),
    ("Caption in Japanese", "single", {}, "caption", {"languages": ("ja",)}, 2),
    ("Caption in Russian", "single", {}, "caption", {"languages": ("ru",)}, 3),
    ("Read", "word", {}, "ocr", {}, 0),
    ("Read", "word", {}, "ocr", {}, 1),
    ("Count", "scene", {"min_objects": 2}, "object_vqa", {"kinds": ("count",)}, 0),
    ("Answer", "scene", {"min_objects": 2}, "object_vqa", {"kinds": ("which",)}, 1),
    ("Find", "scene", {"min_objects": 2}, "detect", {"max_names": 1, "absent": 0.0}, 2),
    ("Cut out", "scene", {"expressions": True}, "refseg", {}, 0),
    ("Cut out", "scene", {"expressions": True}, "refseg", {}, 1),
    ("Follow", "video", {}, "video_qa", {}, 0),
)


@dataclass(frozen=True)
class Shown:
    """One question, answered: ``picture`` has the answer drawn on it."""

    title: str
    picture: PILImage.Image
    prompt: str
    answer: str
    truth: str


def answer_questions(pali: Pali) -> Iterator[Shown]:
    """Ask everything that the model has a part for."""
    for title, kind, options, name, narrowed, index in QUESTIONS:
        if pali.by_task.get(name, "pali") not in pali.parts:
            continue
        source = open_source(f"nano/{kind}", {"split": "heldout", "seed": SEED, **options})
        task: Task = dataclasses.replace(pali.task(name), **narrowed)
        example = source[index]
        sample = task.write(example, generator(SEED, index))
        [prediction] = pali.predict([example.images], [sample.prompt], task=task)
        drawn = [np.asarray(draw_prediction(enlarge(example.images[0]), prediction.answer.scaled(SCALE), font_for))]
        drawn += [enlarge(frame) for frame in example.images[1:]]
        yield Shown(title, film(drawn), sample.prompt, prediction.answer.text, sample.target)


def write_page(pali: Pali, path: Path) -> int:
    """Write one self-contained HTML file; returns the number of pictures in it.

    Raises:
        ValueError: the model has no part that answers any of the questions.
    """
    began = time.perf_counter()
    shown = list(answer_questions(pali))
    if not shown:
        parts = ", ".join(pali.parts)
        raise ValueError(f"the model {pali.folder} has no part that answers questions, only {parts}: name another")
    seconds = time.perf_counter() - began
    cards = "\n".join(_card(each) for each in shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = Template(Path(__file__).with_suffix(".html").read_text("utf-8"))
    model = html.escape(pali.folder.name)
    path.write_text(page.substitute(cards=cards, model=model, seconds=f"{seconds:.1f}"), "utf-8")
    return len(shown)


def enlarge(image: Image) -> Image:
    """``[H, W, 3] -> [SCALE H, SCALE W, 3]``, pixels repeated."""
    return image.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def _card(shown: Shown) -> str:
    right = shown.answer == shown.truth
    verdict = "right" if right else "compare"
    comment = "as it should be" if right else f"truth: {html.escape(_short(shown.truth))}"
    return (
        f'<figure class="{verdict}"><img src="{data_uri(shown.picture)}" alt="{html.escape(shown.title)}">'
        f"<figcaption><h2>{html.escape(shown.title)}</h2><code>{html.escape(shown.prompt)}</code>"
        f"<p>{html.escape(_short(shown.answer)) or '<i>nothing</i>'}</p>"
        f"<small>{comment}</small></figcaption></figure>"
    )


def _short(text: str) -> str:
    """Mask tokens, which are drawn, by their number."""
    return _MASK_TOKENS.sub(lambda run: f"[{run[0].count('<')} mask tokens]", text)


_MASK_TOKENS = re.compile(r"<mask_token\d+>(?: ?<mask_token\d+>)*")
