"""AI2D: multiple-choice questions about the diagrams of school books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example, Image
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing

TEST_IDS = "ai2d/ai2d_test_ids.csv"
HOME = "https://prior.allenai.org/projects/diagram-understanding (ai2d-all.zip and ai2d_test_ids.csv)"


def open_ai2d(root: Path) -> Listing:
    """The 3,088 questions about the test diagrams."""
    folder = Folder(root, "AI2D", HOME)
    makers = []
    for diagram in sorted(folder.lines(TEST_IDS), key=lambda name: (len(name), name)):
        if not (root / (file := f"ai2d/questions/{diagram}.png.json")).is_file():
            continue  # nobody asked about it
        questions = folder.json(file)
        for question, entry in questions.entry("questions").items():
            choices, right = entry.texts("answerTexts"), entry.integer("correctAnswer")
            if not 0 <= right < len(choices):
                raise ValueError(f"{entry.where}: correctAnswer {right} is none of {len(choices)} answers")
            example = Example(
                entry.text("questionId"),
                question=choose_from(question, choices),
                answers=[choices[right]],
                vocabulary=choices,
            )
            letters = entry.flag("abcLabel")
            makers.append(partial(_with_diagram, example, folder, questions.text("imageName"), letters))
    return listing(makers, folder, f"questions about the diagrams in {TEST_IDS}")


def choose_from(question: str, choices: Sequence[str]) -> str:
    """The question with its choices, in big_vision's wording."""
    return f"{question} choose from: " + " \t ".join(choices)


def _with_diagram(example: Example, folder: Folder, name: str, letters: bool) -> Example:
    image = folder.image(f"ai2d/images/{name}")
    if letters:
        image = put_letters(image, folder.json(f"ai2d/annotations/{name}.json").entry("text"))
    return replace(example, images=[image])


def put_letters(image: Image, texts: Fields) -> Image:
    """A copy in which every text is replaced by the letter that questions use for it (``replacementText``)."""
    canvas = PilImage.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for _, text in texts.items():
        (left, top), (right, bottom) = text.points("rectangle", 2)
        draw.rectangle((left, top, right, bottom), fill="white")
        letter = text.text("replacementText")
        size = float(min(100, max(bottom - top, 4)))
        while size > 4 and draw.textlength(letter, ImageFont.load_default(size)) > right - left:
            size -= 1
        middle = ((left + right) / 2, (top + bottom) / 2)
        draw.text(middle, letter, fill="black", font=ImageFont.load_default(size), anchor="mm")
    return np.asarray(canvas)


BENCHMARKS = (
    AnswerBenchmark(
        name="ai2d",
        title="AI2D",
        split="test",
        metric="exact_match",
        paper={"exact_match": 0.752},
        resolution=812,
        layout=(
            TEST_IDS,
            "ai2d/questions/0.png.json, ...",
            "ai2d/annotations/0.png.json, ...",
            "ai2d/images/0.png, ...",
        ),
        home=HOME,
        note="The question ends with its choices, `choose from: A \\t B ...`. If it names parts of the diagram "
        "by letters, these are drawn into it. `multiple_choice` also accepts the letter of a choice.",
        open=open_ai2d,
        task="vqa",
        decoding=Decoding(max_tokens=128),
        scorer=scoring.choices,
        measure=scoring.measure_choices,
    ),
)
