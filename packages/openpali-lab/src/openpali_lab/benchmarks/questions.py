"""Questions about photographs, text in them, book covers, pages, charts and diagrams, each by its owners' rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from openpali.tasks.example import Example, Image
from openpali.tasks.scoring import with_slices
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.captions import OPEN_IMAGES, TEXT_NOTE
from openpali_lab.benchmarks.files import Fields, Folder, Sample, published


def _question(entry: Fields, key: str, kind: str = "") -> Example:
    """An entry with a question and the list of its right answers."""
    answers = entry.texts("answers")
    return Example(entry.text(key), question=entry.text("question"), answers=answers, question_kind=kind)


TEXTVQA = "textvqa/TextVQA_0.5.1_val.json"


@published(
    name="textvqa",
    title="TextVQA",
    split="val",
    metric="vqa_accuracy",
    paper={"vqa_accuracy": 0.795},
    paper_ocr={"vqa_accuracy": 0.808},
    layout=(TEXTVQA, f"{OPEN_IMAGES}/003a8ae2ef43b901.jpg, ..."),
    home="https://textvqa.org/dataset",
    note=TEXT_NOTE,
    max_tokens=32,
    scorer=scoring.vqa_accuracy,
)
def textvqa(folder: Folder) -> Iterator[Sample]:
    """The 5,000 validation questions, ten answers each."""
    for entry in folder.json(TEXTVQA).entries("data"):
        yield folder.with_image(_question(entry, "question_id"), f"{OPEN_IMAGES}/{entry.text('image_id')}.jpg")


VQAV2 = ("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", "vqav2/v2_mscoco_val2014_annotations.json")
OKVQA = ("okvqa/OpenEnded_mscoco_val2014_questions.json", "okvqa/mscoco_val2014_annotations.json")
COCO_VAL = "coco/val2014/COCO_val2014_{:012d}.jpg"


def _coco_questions(questions: str, annotations: str, *, by_type: bool) -> Callable[[Folder], Iterator[Sample]]:
    """The validation questions; ``by_type``: sliced by the type of their answer."""

    def read(folder: Folder) -> Iterator[Sample]:
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

    return read


vqav2 = published(
    name="vqav2",
    title="VQAv2",
    split="val2014",
    metric="vqa_accuracy",
    paper={"vqa_accuracy": 0.850},
    layout=(*VQAV2, f"{COCO_VAL.format(42)}, ..."),
    home="https://visualqa.org/download.html",
    note="The paper's number is for test-dev (85.2 on test-std), which only the server scores.",
    max_tokens=32,
    scorer=with_slices(scoring.vqa_accuracy),
)(_coco_questions(*VQAV2, by_type=True))

okvqa = published(
    name="okvqa",
    title="OKVQA",
    split="val2014",
    metric="accuracy",
    paper={"accuracy": 0.601},
    layout=(*OKVQA, f"{COCO_VAL.format(42)}, ..."),
    home="https://okvqa.allenai.org/download.html",
    note="The paper does not say which scorer it uses: `accuracy` is big_vision's, without normalisation; "
    "`vqa_accuracy` is the official one.",
    max_tokens=32,
    scorer=scoring.okvqa_accuracy,
)(_coco_questions(*OKVQA, by_type=False))

TALLYQA = "tallyqa/test.json"


@published(
    name="tallyqa",
    title="TallyQA",
    split="test",
    metric="accuracy",
    paper={"accuracy/simple": 0.833, "accuracy/complex": 0.705},
    layout=(TALLYQA, "visual_genome/VG_100K/1.jpg, ...", "visual_genome/VG_100K_2/51.jpg, ..."),
    home="https://github.com/manoja328/TallyQA_dataset, its images at "
    "https://homes.cs.washington.edu/~ranjay/visualgenome",
    max_tokens=32,
    scorer=with_slices(scoring.counts),
)
def tallyqa(folder: Folder) -> Iterator[Sample]:
    """The 38,589 test questions, simple and complex."""
    for entry in folder.rows(TALLYQA):
        example = Example(
            f"{entry.text('image_id')}_{entry.text('question_id')}",
            question=entry.text("question"),
            answers=[str(entry.integer("answer"))],
            question_kind="simple" if entry.flag("issimple") else "complex",
        )
        name = entry.text("image")  # "VG_100K_2/1.jpg", or "val2014/COCO_val2014_000000000042.jpg"
        yield folder.with_image(example, f"{'visual_genome' if name.startswith('VG_100K') else 'coco'}/{name}")


STVQA = "stvqa/train_task_3.json"
HELD_OUT = 10  # one image in ten


@published(
    name="st-vqa",
    title="ST-VQA",
    split="a tenth of train, by hash",
    metric="anls",
    paper={"anls": 0.841},
    paper_ocr={"anls": 0.857},
    layout=(STVQA, "stvqa/train_images/coco-text/COCO_train2014_000000000036.jpg, ..."),
    home="https://rrc.cvc.uab.es/?ch=11&com=downloads",
    note="The paper's number is for the test split, whose answers are secret, and there is no validation "
    "split: we score a tenth of the training images, on which a model must not have been tuned "
    "(`openpali_lab.benchmarks.questions.is_held_out`).",
    max_tokens=48,
    scorer=scoring.anls,
)
def stvqa(folder: Folder) -> Iterator[Sample]:
    """The questions about the held-out tenth of the training images."""
    for entry in folder.json(STVQA).entries("data"):
        path = entry.text("file_path")  # "coco-text/COCO_train2014_000000000036.jpg"
        if is_held_out(path):
            yield folder.with_image(_question(entry, "question_id"), f"stvqa/train_images/{path}", f"stvqa/{path}")


def is_held_out(file_path: str) -> bool:
    """Whether an image of ST-VQA's training split is in the tenth that is scored: by the hash of its path."""
    return int.from_bytes(hashlib.sha256(file_path.encode()).digest()[:8], "big") % HELD_OUT == 0


OCRVQA = "ocrvqa/dataset.json"


@published(
    name="ocr-vqa",
    title="OCR-VQA",
    split="test",
    metric="exact_match",
    layout=(OCRVQA, "ocrvqa/images/0030853117.jpg, ..."),
    home="https://ocr-vqa.github.io",
    max_tokens=32,
    scorer=scoring.exact_lower,
)
def ocrvqa(folder: Folder) -> Iterator[Sample]:
    """The questions about the books of the test split."""
    for book, entry in folder.json(OCRVQA).items():
        if entry.integer("split") != 3:  # 1 train, 2 validation, 3 test
            continue
        questions, answers = entry.texts("questions"), entry.texts("answers")
        if len(questions) != len(answers):
            raise entry.wrong(f"there are {len(questions)} questions and {len(answers)} answers")
        # The official loader saves a cover under the book's number, with the suffix of its URL.
        name = f"ocrvqa/images/{book}{Path(entry.text('imageURL')).suffix}"
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            yield folder.with_image(Example(f"{book}_{number}", question=question, answers=[answer]), name)


RRC_HOME = "https://rrc.cvc.uab.es/?ch=17&com=downloads"
INFOVQA = ("infographicvqa/infographicsVQA_val_v1.0_withQT.json", "infographicvqa/infographicVQA_val_v1.0.json")
INFOVQA_IMAGES = ("infographicvqa/infographicsvqa_images", "infographicvqa/images")
MOST_SPANS = 6  # answers with more spans are not permuted


@published(
    name="infographicvqa",
    title="InfographicVQA",
    split="val",
    metric="anls",
    paper={"anls": 0.578},
    paper_ocr={"anls": 0.624},
    resolution=1064,
    layout=(INFOVQA[0], f"{INFOVQA_IMAGES[0]}/10002.jpeg, ..."),
    home=RRC_HOME,
    note="The paper's number is from the test server. The spans of an answer count in any order, as its owners "
    f"say (up to {MOST_SPANS} spans).",
    max_tokens=48,
    scorer=scoring.anls,
)
def infographicvqa(folder: Folder) -> Iterator[Sample]:
    """The 2,801 validation questions."""
    for entry in folder.json(*INFOVQA).entries("data"):
        example, name = _question(entry, "questionId"), entry.text("image_local_name")
        answers = [order for answer in example.answers for order in any_order(answer)]
        yield folder.with_image(replace(example, answers=answers), *(f"{place}/{name}" for place in INFOVQA_IMAGES))


def any_order(answer: str) -> list[str]:
    """The spans of an answer ("red, blue") in every order, the given order first; alone beyond ``MOST_SPANS``."""
    spans = answer.split(", ")
    if len(spans) > MOST_SPANS:
        return [answer]
    return [", ".join(order) for order in permutations(spans)]


DOCVQA = ("docvqa/val_v1.0_withQT.json", "docvqa/val_v1.0.json", "docvqa/val/val_v1.0.json")
DOCVQA_IMAGES = ("docvqa/spdocvqa_images", "docvqa/documents", "docvqa/val/documents")


@published(
    name="docvqa",
    title="DocVQA",
    split="val",
    metric="anls",
    paper={"anls": 0.876},
    paper_ocr={"anls": 0.886},
    resolution=1064,
    layout=(DOCVQA[0], f"{DOCVQA_IMAGES[0]}/xnbl0037_1.png, ..."),
    home=RRC_HOME,
    note="The paper's number is from the test server.",
    max_tokens=32,
    scorer=scoring.anls,
)
def docvqa(folder: Folder) -> Iterator[Sample]:
    """The 5,349 validation questions."""
    for entry in folder.json(*DOCVQA).entries("data"):
        name = Path(entry.text("image")).name  # "documents/xnbl0037_1.png"
        yield folder.with_image(_question(entry, "questionId"), *(f"{place}/{name}" for place in DOCVQA_IMAGES))


CHARTQA = {source: f"chartqa/test/test_{source}.json" for source in ("human", "augmented")}


@published(
    name="chartqa",
    title="ChartQA",
    split="test, human and augmented",
    metric="relaxed_accuracy",
    paper={"relaxed_accuracy": 0.700},
    paper_ocr={"relaxed_accuracy": 0.695},
    layout=(*CHARTQA.values(), "chartqa/test/png/41699051005347.png, ..."),
    home="https://github.com/vis-nlp/ChartQA",
    note="The score is the mean of the two halves.",
    max_tokens=48,
    scorer=scoring.mean_of_slices(scoring.relaxed),
)
def chartqa(folder: Folder) -> Iterator[Sample]:
    """The 2,500 test questions, half of each source; the sources take turns."""
    for number, entries in enumerate(zip_longest(*map(folder.rows, CHARTQA.values()))):
        for source, entry in zip(CHARTQA, entries, strict=True):
            if entry is not None:
                answers = [entry.text("label")]
                key, question = f"{source}_{number}", entry.text("query")
                example = Example(key, question=question, answers=answers, question_kind=source)
                yield folder.with_image(example, f"chartqa/test/png/{entry.text('imgname')}")


AI2D = "ai2d/ai2d_test_ids.csv"


@published(
    name="ai2d",
    title="AI2D",
    split="test",
    metric="exact_match",
    paper={"exact_match": 0.752},
    layout=(AI2D, "ai2d/questions/0.png.json, ...", "ai2d/annotations/0.png.json, ...", "ai2d/images/0.png, ..."),
    home="https://prior.allenai.org/projects/diagram-understanding (ai2d-all.zip and ai2d_test_ids.csv)",
    note="The question ends with its choices, `choose from: A \\t B ...`. If it names parts of the diagram "
    "by letters, these are drawn into it. `multiple_choice` also accepts the letter of a choice.",
    max_tokens=128,
    scorer=scoring.choices,
    measure=scoring.measure_choices,
)
def ai2d(folder: Folder) -> Iterator[Sample]:
    """The 3,088 questions about the test diagrams, with their choices in big_vision's wording."""
    for diagram in sorted(folder.lines(AI2D), key=lambda name: (len(name), name)):
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
