"""OCR-VQA: questions about the covers of books."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Listing, listing, with_image

BOOKS = "ocrvqa/dataset.json"
HOME = "https://ocr-vqa.github.io"
TEST = 3  # of 1 train, 2 validation, 3 test


def open_ocrvqa(root: Path) -> Listing:
    """The questions about the books of the test split."""
    folder = Folder(root, "OCR-VQA", HOME)
    makers = []
    for book, entry in folder.json(BOOKS).items():
        if entry.integer("split") != TEST:
            continue
        questions, answers = entry.texts("questions"), entry.texts("answers")
        if len(questions) != len(answers):
            raise ValueError(
                f"{entry.where}: {len(questions)} questions and {len(answers)} answers; the original is at {HOME}"
            )
        # The official loader saves a cover under the book's number, with the suffix of its URL.
        name = f"ocrvqa/images/{book}{Path(entry.text('imageURL')).suffix}"
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            example = Example(f"{book}_{number}", question=question, answers=[answer])
            makers.append(with_image(example, folder, name))
    return listing(makers, folder, f"books of split {TEST} in {BOOKS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="ocr-vqa",
        title="OCR-VQA",
        split="test",
        metric="exact_match",
        resolution=812,
        layout=(BOOKS, "ocrvqa/images/0030853117.jpg, ..."),
        home=HOME,
        open=open_ocrvqa,
        task="vqa",
        decoding=Decoding(max_tokens=32),
        scorer=scoring.exact_lower,
    ),
)
