"""ST-VQA: questions whose answer is written in the scene."""

from __future__ import annotations

import hashlib
from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Listing, listing, with_image

QUESTIONS = "stvqa/train_task_3.json"
HOME = "https://rrc.cvc.uab.es/?ch=11&com=downloads"
HELD_OUT = 10  # one image in ten


def is_held_out(file_path: str) -> bool:
    """Whether an image of the training split is in the tenth that is scored: by the hash of its path."""
    return int.from_bytes(hashlib.sha256(file_path.encode()).digest()[:8], "big") % HELD_OUT == 0


def open_stvqa(root: Path) -> Listing:
    """The questions about the held-out tenth of the training images."""
    folder = Folder(root, "ST-VQA", HOME)
    makers = []
    for entry in folder.json(QUESTIONS).entries("data"):
        path = entry.text("file_path")  # "coco-text/COCO_train2014_000000000036.jpg"
        if is_held_out(path):
            example = Example(
                entry.text("question_id"), question=entry.text("question"), answers=entry.texts("answers")
            )
            makers.append(with_image(example, folder, f"stvqa/train_images/{path}", f"stvqa/{path}"))
    return listing(makers, folder, f"questions about held-out images in {QUESTIONS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="st-vqa",
        title="ST-VQA",
        split="a tenth of train, by hash",
        metric="anls",
        paper={"anls": 0.841},
        paper_ocr={"anls": 0.857},
        resolution=812,
        layout=(QUESTIONS, "stvqa/train_images/coco-text/COCO_train2014_000000000036.jpg, ..."),
        home=HOME,
        note="The paper's number is for the test split, whose answers are secret, and there is no validation "
        "split: we score a tenth of the training images, on which a model must not have been tuned "
        "(`openpali_lab.benchmarks.stvqa.is_held_out`).",
        open=open_stvqa,
        task="vqa",
        decoding=Decoding(max_tokens=48),
        scorer=scoring.anls,
    ),
)
