"""ScreenQA Short: questions about RICO's mobile screens, answered in a few words."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Listing, listing, with_image
from openpali_lab.benchmarks.rico import HOME_RICO, SCREENS

QUESTIONS = "screen_qa/short_answers/test.json"
HOME = f"https://github.com/google-research-datasets/screen_qa, its screens at {HOME_RICO}"


def open_screenqa(root: Path) -> Listing:
    """The 8,419 test questions; the answer "<no answer>" says that the screen has none."""
    folder = Folder(root, "ScreenQA", HOME)
    makers = []
    for number, entry in enumerate(folder.rows(QUESTIONS)):
        screen = entry.text("image_id")
        answers = entry.texts("ground_truth")
        example = Example(f"{screen}_{number}", question=entry.text("question"), answers=answers)
        makers.append(with_image(example, folder, f"{SCREENS}/{screen}.jpg"))
    return listing(makers, folder, f"questions in {QUESTIONS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="screenqa",
        title="ScreenQA Short",
        split="test",
        metric="f1",
        layout=(QUESTIONS, f"{SCREENS}/11.jpg, ..."),
        home=HOME,
        note="`<no answer>` is an answer, too, and right where an annotator gave it.",
        open=open_screenqa,
        task="vqa",
        decoding=Decoding(max_tokens=64),
        scorer=scoring.screenqa,
    ),
)
