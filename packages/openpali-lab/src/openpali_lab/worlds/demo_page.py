"""The demo page: twelve held-out images, each with a question and the model's answer, and four real screens, with
the words that it read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PilImage

from openpali.data.sources.jsonl import JsonlSource
from openpali.eval.evaluators import AskedSample, measured
from openpali.home import DEMO_SAMPLES
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Prediction
from openpali.metrics.words import word_f1
from openpali.reports.drawing import count_mask_tokens, draw_answer, film_strip, show_confidence
from openpali.reports.html import data_uri, write_page
from openpali.rng import generator
from openpali.tasks.base import Task
from openpali.tasks.example import Example, Size
from openpali.tasks.registry import tasks_of
from openpali_lab.worlds.benchmarks.pages import open_screens
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.evaluate import counted_words
from openpali_screen.export import draw_page
from openpali_screen.parts import WORDS
from openpali_screen.text import ReadLine

SEED = 2_023_10_13
SCREENS = (("1280", "light"), ("1280", "dark"), ("420", "dark"), ("dialog",))
"""The screens: the first of ``real/screens`` whose key has these parts."""
RIGHT = 0.85
"""Least F1 of the words of a screen that is right."""
SCALE = 4  # images are enlarged by this factor, to be sharp on dense screens


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question, the model's answer, whether it is right, and the seconds that it took."""

    asked: AskedSample
    task: Task
    prediction: Prediction
    right: bool
    seconds: float


@dataclass(frozen=True)
class ScreenRead:
    """A screen, the lines that the model read, the F1 of its words, and the seconds that it took."""

    example: Example
    lines: Sequence[ReadLine]
    word_f1: float
    seconds: float

    @property
    def right(self) -> bool:
        """Whether most of its words are right."""
        return self.word_f1 >= RIGHT


def read_screens(pali: Pali) -> Iterator[ScreenRead]:
    """Read the screens, if the model has the parts for it."""
    if not all(part in pali.parts for part in WORDS):
        return
    source = open_screens()
    chosen: dict[tuple[str, ...], Example] = {}
    for example in (source[i] for i in range(len(source))):
        for parts in SCREENS:
            if {*parts} <= {*example.key.split("-")}:
                chosen.setdefault(parts, example)
    for parts in SCREENS:
        example = chosen[parts]
        began = time.perf_counter()
        lines = reader_of_bundle(pali).page(example.images[0]).lines
        seconds = time.perf_counter() - began
        found, true = counted_words(example, [word for line in lines for word in line.words])
        yield ScreenRead(example, lines, word_f1([found], [true]).summary["word_f1"], seconds)


def answer_questions(pali: Pali) -> Iterator[AnsweredQuestion]:
    """Ask every question that the model has a part for."""
    source = JsonlSource(DEMO_SAMPLES)
    for index in range(len(source)):
        example = source[index]
        [name] = tasks_of(example)
        if pali.listed_for(name)[0] not in pali.parts:
            continue
        task = pali.task(name)
        asked = AskedSample(index, example, task.write(example, generator(SEED, index)))
        began = time.perf_counter()
        [prediction] = pali.predict([example.images], [asked.sample.prompt], task=task)
        seconds = time.perf_counter() - began
        tokenizer = pali.tokenizer_for(prediction.part)
        [right] = task.rights([measured(asked, task, prediction, tokenizer)])
        yield AnsweredQuestion(asked, task, prediction, right, seconds)


def write_demo(pali: Pali, path: Path) -> Sequence[AnsweredQuestion | ScreenRead]:
    """Write one self-contained HTML file, and return what it shows."""
    shown = list(answer_questions(pali))
    if not shown:
        parts = ", ".join(pali.parts)
        raise ValueError(
            f"the model {pali.folder} has no part that answers questions, only {parts}: choose another model"
        )
    main = pali.pipeline(pali.decoder_for(shown[0].task.name)).model
    screens = list(read_screens(pali))
    every: list[AnsweredQuestion | ScreenRead] = [*shown, *screens]
    write_page(
        path,
        Path(__file__).with_suffix(".html"),
        cards="\n".join(_card(each) for each in shown),
        screens="\n".join(map(_screen, screens)),
        model=escape(pali.folder.name),
        right=str(sum(each.right for each in every)),
        count=str(len(every)),
        questions=str(len(shown)),
        parameters=f"{sum(p.numel() for p in main.parameters()) / 1e6:,.1f}M",
        seconds=f"{sum(each.seconds for each in every):.1f}",
        threads=f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}",
    )
    return every


def _verdict(right: bool) -> str:
    return '<span class="good">right</span>' if right else '<span class="bad">wrong</span>'


def _screen(shown: ScreenRead) -> str:
    name = shown.example.key.rpartition(" ")[2]
    text = "\n".join(line.text for line in shown.lines)
    return (
        f'<figure class="screen"><img src="{data_uri(draw_page(shown.example.images[0], shown.lines))}" '
        f'alt="{escape(name)}"><figcaption><h2>{escape(name)} {_verdict(shown.right)}</h2>'
        f"<small>F1 of words {shown.word_f1:.2f}, {shown.seconds:.1f} s</small>"
        f"<details><summary>Text</summary><pre>{escape(text)}</pre></details></figcaption></figure>"
    )


def _card(shown: AnsweredQuestion) -> str:
    example, sample, answer = shown.asked.example, shown.asked.sample, shown.prediction.shown
    confidences = [answer.confidence, *(thing.confidence for thing in answer.objects)]
    note = ", ".join(show_confidence(each) for each in confidences if each is not None)
    note += " · out of distribution" if shown.prediction.out_of_distribution else ""
    truth = "" if shown.right else f'<p class="truth">expected: {_text(sample.target, example.lang)}</p>'
    return (
        f"<figure{' class=located' if shown.task.coordinates else ''}>"
        f'<div class="images"><img src="{data_uri(_draw(shown))}" alt="{escape(example.key)}"></div>'
        f"<figcaption><h2>{escape(example.key)} {_verdict(shown.right)}</h2>"
        f"<code>{escape(sample.prompt)}</code>"
        f'<p class="answer">{_text(answer.text, example.lang)}</p>{truth}'
        f"<small>{note}</small></figcaption></figure>"
    )


def _draw(shown: AnsweredQuestion) -> PilImage.Image:
    """The image, or the frames of the video, enlarged, with the objects of the answer on the first."""
    example, task = shown.asked.example, shown.task
    height, width = (SCALE * side for side in example.size)
    first, *others = (
        np.asarray(PilImage.fromarray(image).resize((width, height), PilImage.Resampling.LANCZOS))
        for image in example.images
    )
    # Read at this size, masks are as sharp as the image.
    answer, truth = (
        task.parse(text, Size(height, width)).objects
        for text in (shown.prediction.answer.text, shown.asked.sample.target)
    )
    return film_strip([np.asarray(draw_answer(first, answer, truth=truth)), *others])


def _text(text: str, lang: str) -> str:
    shown = count_mask_tokens(text)
    return f'<span lang="{escape(lang)}">{escape(shown)}</span>' if shown else "<i>nothing</i>"
