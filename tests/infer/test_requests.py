"""What texts that are no prompts ask for."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from openpali import Pali
from openpali.infer.pali import Reworded
from openpali.infer.requests import asks_about_image, task_of_request
from openpali.tasks.detect import NOTHING
from openpali.weights.files import ABOUT

NAMES = ["red apple", "cup of coffee", "bunch of grapes", "wooden cottage"]
NO_QUESTIONS = [
    "Hello, who are you?",
    "Summarize the text",
    "Who is the president of France?",
    "What is the capital of Peru?",
    "Write a poem of love",
    "hi",
]
QUESTIONS = [
    "how many apples do you see?",
    "HOW MANY GRAPES",
    "where is the cottage?",
    "is red apple in the image?",
    "which of red apple and cup of coffee are in the image?",
    "list the objects present",
    "what moves?",
    "what is this?",
    "What is it?",
    "what color is the triangle?",
    "what is the blue shape?",
    "is there not a circle?",
    "does the image not contain a rectangle?",
    "is no rectangle present?",
    "are there three buttons?",
]


@pytest.mark.parametrize("text", NO_QUESTIONS)
def test_chat_asks_nothing_about_an_image(text: str) -> None:
    assert not asks_about_image(text, NAMES)
    assert not task_of_request(text)


@pytest.mark.parametrize("text", QUESTIONS)
def test_questions_about_images(text: str) -> None:
    assert asks_about_image(text, NAMES)
    assert not task_of_request(text)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        *product(
            ["ocr"], ["read the text", "Read this page.", "Transcribe all words in it", "OCR", "can you read it?"]
        ),
        *product(
            ["caption"], ["Describe this image", "please describe the scene in detail", "Give a short caption"]
        ),
        *product([""], ["Describe the red apple", "Read and describe it", "What does the image say?"]),
    ],
)
def test_requests_about_an_image_as_a_whole(task: str, text: str) -> None:
    assert task_of_request(text) == task


@pytest.fixture
def limited(bundle: Path) -> Pali:
    pali = Pali.from_pretrained(bundle)
    pali.names, pali.about = tuple(NAMES), "It knows drawings."
    return pali


@pytest.mark.parametrize("text", NO_QUESTIONS)
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_a_limited_bundle_says_what_it_can(limited: Pali, text: str, frames: int) -> None:
    images = [np.zeros((60, 80, 3), np.uint8)] * frames
    with pytest.warns(Reworded):
        [found] = limited.predict([images], [text])
    assert limited.about in found.answer.text
    assert (found.part, found.confidence, found.generation.finish_reason) == (ABOUT, None, "eos")


def test_a_screen_may_answer_any_question(limited: Pali) -> None:
    blank = np.full((300, 400, 3), 255, np.uint8)
    with pytest.warns(Reworded):
        [found] = limited.predict([[blank]], ["Who is the president of France?"])
    assert found.answer.text != NOTHING


@pytest.mark.parametrize(("text", "task"), [("read the text", "ocr"), ("Describe this image", "caption")])
def test_a_limited_bundle_reads_and_describes_an_image(limited: Pali, text: str, task: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8)
    with pytest.warns(Reworded):
        [found] = limited.predict([[image]], [text])
    [expected] = limited.predict([[image]], [limited.write_prompt(limited.task(task))])
    assert (found.prompt, found.part, found.answer) == (expected.prompt, expected.part, expected.answer)
    assert limited.prompted(text, frames=2).task.name == {"ocr": "video_qa", "caption": "video_caption"}[task]


def test_prompts_tasks_and_other_models_are_asked_as_before(limited: Pali) -> None:
    whole = "Answer in en: Hello, who are you? <extra_id_0>"
    for asked in (
        limited.prompted(whole),
        limited.prompted("Hello, who are you?", raw=True),
        limited.prompted("Hello, who are you?", limited.task("vqa")),
        limited.prompted("how many apples are there?"),
    ):
        assert asked.part is None
    limited.names = ()
    for text in (*NO_QUESTIONS, "read the text", "Describe this image"):
        asked = limited.prompted(text)
        assert (asked.prompt, asked.part) == (f"Answer in en: {text} <extra_id_0>", None)
