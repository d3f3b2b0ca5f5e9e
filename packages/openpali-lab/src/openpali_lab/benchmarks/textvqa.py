"""TextVQA and TextCaps: questions about, and captions of, images with text in them (of Open Images)."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Listing, listing, with_image

QUESTIONS = "textvqa/TextVQA_0.5.1_val.json"
CAPTIONS = "textcaps/TextCaps_0.1_val.json"
IMAGES = "textvqa/train_images"  # of both data sets, including their validation splits
HOME = "https://textvqa.org/dataset"
HOME_CAPTIONS = "https://textvqa.org/textcaps/dataset"
NOTE = "The paper's number is from the test server. Images are used as distributed; some are rotated."


def open_textvqa(root: Path) -> Listing:
    """The 5,000 validation questions, ten answers each."""
    folder = Folder(root, "TextVQA", HOME)
    makers = [
        with_image(
            Example(entry.text("question_id"), question=entry.text("question"), answers=entry.texts("answers")),
            folder,
            f"{IMAGES}/{entry.text('image_id')}.jpg",
        )
        for entry in folder.json(QUESTIONS).entries("data")
    ]
    return listing(makers, folder, f"questions in {QUESTIONS}")


def open_textcaps(root: Path) -> Listing:
    """The 3,166 validation images, five captions each."""
    folder = Folder(root, "TextCaps", HOME_CAPTIONS)
    captions: dict[str, list[str]] = {}
    for entry in folder.json(CAPTIONS).entries("data"):
        captions.setdefault(entry.text("image_id"), []).append(entry.text("caption_str"))
    makers = [
        with_image(Example(image, captions={"en": texts}), folder, f"{IMAGES}/{image}.jpg")
        for image, texts in captions.items()
    ]
    return listing(makers, folder, f"captions in {CAPTIONS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="textcaps",
        title="TextCaps",
        split="val",
        paper={"cider": 158.8},
        paper_ocr={"cider": 164.3},
        resolution=812,
        layout=(CAPTIONS, f"{IMAGES}/0054c91397f2fe05.jpg, ..."),
        home=HOME_CAPTIONS,
        note=NOTE,
        open=open_textcaps,
        task="caption",
        decoding=Decoding(max_tokens=32, beams=3),
    ),
    AnswerBenchmark(
        name="textvqa",
        title="TextVQA",
        split="val",
        metric="vqa_accuracy",
        paper={"vqa_accuracy": 0.795},
        paper_ocr={"vqa_accuracy": 0.808},
        resolution=812,
        layout=(QUESTIONS, f"{IMAGES}/003a8ae2ef43b901.jpg, ..."),
        home=HOME,
        note=NOTE,
        open=open_textvqa,
        task="vqa",
        decoding=Decoding(max_tokens=32),
        scorer=scoring.vqa_accuracy,
    ),
)
