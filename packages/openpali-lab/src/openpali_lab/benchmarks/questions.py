"""Questions about photographs, text in them, book covers, pages, charts and diagrams, each by its owners' rule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from openpali.tasks.example import Example, Image
from openpali.tasks.scoring import with_slices
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.captions import OPEN_IMAGES
from openpali_lab.benchmarks.files import Fields, Folder, Sample, published


def _question(entry: Fields, key: str, kind: str = "") -> Example:
    """An entry with a question and the list of its right answers."""
    answers = entry.texts("answers")
    return Example(entry.text(key), question=entry.text("question"), answers=answers, question_kind=kind)


@published("textvqa", scorer=scoring.vqa_accuracy)
def textvqa(folder: Folder) -> Iterator[Sample]:
    """The 5,000 validation questions, ten answers each."""
    for entry in folder.json(folder.layout[0]).entries("data"):
        yield folder.with_image(_question(entry, "question_id"), f"{OPEN_IMAGES}/{entry.text('image_id')}.jpg")


COCO_VAL = "coco/val2014/COCO_val2014_{:012d}.jpg"


def _coco_questions(folder: Folder, *, by_type: bool) -> Iterator[Sample]:
    """The validation questions; ``by_type``: sliced by the type of their answer."""
    questions, annotations, *_ = folder.layout
    answered = {entry.text("question_id"): entry for entry in folder.json(annotations).entries("annotations")}
    for entry in folder.json(questions).entries("questions"):
        key = entry.text("question_id")
        if key not in answered:
            raise entry.wrong(f"{annotations} lacks question {key}")
        annotation = answered[key]
        answers = [answer.text("answer") for answer in annotation.entries("answers")]
        kind = annotation.text("answer_type") if by_type else ""
        example = Example(key, question=entry.text("question"), answers=answers, question_kind=kind)
        yield folder.with_image(example, COCO_VAL.format(entry.integer("image_id")))


vqav2 = published("vqav2", scorer=with_slices(scoring.vqa_accuracy))(partial(_coco_questions, by_type=True))
okvqa = published("okvqa", scorer=scoring.okvqa_accuracy)(partial(_coco_questions, by_type=False))


@published("tallyqa", scorer=with_slices(scoring.counts))
def tallyqa(folder: Folder) -> Iterator[Sample]:
    """The 38,589 test questions, simple and complex."""
    for entry in folder.rows(folder.layout[0]):
        example = Example(
            f"{entry.text('image_id')}_{entry.text('question_id')}",
            question=entry.text("question"),
            answers=[str(entry.integer("answer"))],
            question_kind="simple" if entry.flag("issimple") else "complex",
        )
        name = entry.text("image")  # "VG_100K_2/1.jpg", or "val2014/COCO_val2014_000000000042.jpg"
        yield folder.with_image(example, f"{'visual_genome' if name.startswith('VG_100K') else 'coco'}/{name}")


HELD_OUT = 10  # one image in ten


@published("st-vqa", scorer=scoring.anls)
def stvqa(folder: Folder) -> Iterator[Sample]:
    """The questions about the held-out tenth of the training images."""
    for entry in folder.json(folder.layout[0]).entries("data"):
        path = entry.text("file_path")  # "coco-text/COCO_train2014_000000000036.jpg"
        if is_held_out(path):
            yield folder.with_image(_question(entry, "question_id"), f"stvqa/train_images/{path}", f"stvqa/{path}")


def is_held_out(file_path: str) -> bool:
    """Whether an image of ST-VQA's training split is in the tenth that is scored: by the hash of its path."""
    return int.from_bytes(hashlib.sha256(file_path.encode()).digest()[:8], "big") % HELD_OUT == 0


@published("ocr-vqa", scorer=scoring.exact_lower)
def ocrvqa(folder: Folder) -> Iterator[Sample]:
    """The questions about the books of the test split."""
    for book, entry in folder.json(folder.layout[0]).items():
        if entry.integer("split") != 3:  # 1 train, 2 validation, 3 test
            continue
        questions, answers = entry.texts("questions"), entry.texts("answers")
        if len(questions) != len(answers):
            raise entry.wrong(f"there are {len(questions)} questions and {len(answers)} answers")
        # The official loader saves a cover under the book's number, with the suffix of its URL.
        name = f"ocrvqa/images/{book}{Path(entry.text('imageURL')).suffix}"
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            yield folder.with_image(Example(f"{book}_{number}", question=question, answers=[answer]), name)


INFOVQA_IMAGES = ("infographicvqa/infographicsvqa_images", "infographicvqa/images")
MOST_SPANS = 6  # answers with more spans are not permuted


@published("infographicvqa", scorer=scoring.anls)
def infographicvqa(folder: Folder) -> Iterator[Sample]:
    """The 2,801 validation questions."""
    for entry in folder.json(folder.layout[0], "infographicvqa/infographicVQA_val_v1.0.json").entries("data"):
        example, name = _question(entry, "questionId"), entry.text("image_local_name")
        answers = [order for answer in example.answers for order in any_order(answer)]
        yield folder.with_image(replace(example, answers=answers), *(f"{place}/{name}" for place in INFOVQA_IMAGES))


def any_order(answer: str) -> list[str]:
    """The spans of an answer ("red, blue") in every order, the given order first; alone beyond ``MOST_SPANS``."""
    spans = answer.split(", ")
    if len(spans) > MOST_SPANS:
        return [answer]
    return [", ".join(order) for order in permutations(spans)]


DOCVQA_IMAGES = ("docvqa/spdocvqa_images", "docvqa/documents", "docvqa/val/documents")


@published("docvqa", scorer=scoring.anls)
def docvqa(folder: Folder) -> Iterator[Sample]:
    """The 5,349 validation questions."""
    for entry in folder.json(folder.layout[0], "docvqa/val_v1.0.json", "docvqa/val/val_v1.0.json").entries("data"):
        name = Path(entry.text("image")).name  # "documents/xnbl0037_1.png"
        yield folder.with_image(_question(entry, "questionId"), *(f"{place}/{name}" for place in DOCVQA_IMAGES))


SOURCES = ("human", "augmented")  # of ChartQA, as its files


@published("chartqa", scorer=scoring.mean_of_slices(scoring.relaxed))
def chartqa(folder: Folder) -> Iterator[Sample]:
    """The 2,500 test questions, half of each source; the sources take turns."""
    for number, entries in enumerate(zip_longest(*map(folder.rows, folder.layout[:2]))):
        for source, entry in zip(SOURCES, entries, strict=True):
            if entry is not None:
                answers = [entry.text("label")]
                key, question = f"{source}_{number}", entry.text("query")
                example = Example(key, question=question, answers=answers, question_kind=source)
                yield folder.with_image(example, f"chartqa/test/png/{entry.text('imgname')}")


@published("ai2d", scorer=scoring.choices, measure=scoring.measure_choices)
def ai2d(folder: Folder) -> Iterator[Sample]:
    """The 3,088 questions about the test diagrams, with their choices in big_vision's wording."""
    for diagram in sorted(folder.lines(folder.layout[0]), key=lambda name: (len(name), name)):
        if not (folder.root / (file := f"ai2d/questions/{diagram}.png.json")).is_file():
            continue  # nobody asked about it
        questions = folder.json(file)
        for question, entry in questions.entry("questions").items():
            choices, right = entry.texts("answerTexts"), entry.integer("correctAnswer")
            if not 0 <= right < len(choices):
                raise entry.wrong(f"correctAnswer {right} is none of {len(choices)} answers")
            example = Example(
                entry.text("questionId"),
                question=f"{question} choose from: " + " \t ".join(choices),
                answers=[choices[right]],
                vocabulary=choices,
            )
            yield _diagram(example, folder, questions.text("imageName"), entry.flag("abcLabel"))


def _diagram(example: Example, folder: Folder, name: str, letters: bool) -> Sample:
    def sample() -> Example:
        image = folder.image(f"ai2d/images/{name}")
        if letters:
            image = put_letters(image, folder.json(f"ai2d/annotations/{name}.json").entry("text"))
        return replace(example, images=[image])

    return sample


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


BENCHMARKS = (textvqa, vqav2, okvqa, tallyqa, stvqa, ocrvqa, infographicvqa, docvqa, chartqa, ai2d)
