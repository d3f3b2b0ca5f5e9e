"""``easy-vqa``: questions about one coloured shape, by Victor Zhou, as JSONL files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset


def build(folder: Path) -> None:
    """Write ``train.jsonl`` and ``test.jsonl`` with their images beside them."""
    data = packages.fetch("pypi:easy-vqa") / "easy_vqa/data"
    for split in ("train", "test"):
        shutil.copytree(data / split / "images", folder / "images" / split)
        questions = json.loads((data / split / "questions.json").read_text("utf-8"))
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8", newline="\n") as out:
            for number, (question, answer, image) in enumerate(questions):
                sample = {
                    "key": f"easy-vqa-{split}-{number}",
                    "images": [f"images/{split}/{image}.png"],
                    "question": question,
                    "answers": [answer],
                    "question_kind": _kind(question, answer),
                    "lang": "en",
                }
                out.write(json.dumps(sample) + "\n")
    metadata = next(data.parent.parent.glob("*.dist-info/METADATA")).read_text("utf-8")
    (folder / "ATTRIBUTION.md").write_text(
        "easy-VQA by Victor Zhou, the Python package `easy-vqa`, MIT licence.\n\n" + metadata, "utf-8"
    )


def _kind(question: str, answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes/no"
    return "colour" if "color" in question else "shape"


DATASET = Dataset(build, lambda: ["pypi:easy-vqa"], minutes=0.3, megabytes=4)
