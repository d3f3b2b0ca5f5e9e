"""TallyQA: how many?"""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali.tasks.scoring import with_slices
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing, with_image

QUESTIONS = "tallyqa/test.json"
HOME = "https://github.com/manoja328/TallyQA_dataset, its images at https://homes.cs.washington.edu/~ranjay/visualgenome"


def open_tallyqa(root: Path) -> Listing:
    """The 38,589 test questions, simple and complex."""
    folder = Folder(root, "TallyQA", HOME)
    makers = []
    for entry in folder.rows(QUESTIONS):
        example = Example(
            f"{entry.text('image_id')}_{entry.text('question_id')}",
            question=entry.text("question"),
            answers=[str(entry.integer("answer"))],
            question_kind="simple" if entry.flag("issimple") else "complex",
        )
        makers.append(with_image(example, folder, _image_file(entry)))
    return listing(makers, folder, f"questions in {QUESTIONS}")


def _image_file(entry: Fields) -> str:
    name = entry.text("image")  # "VG_100K_2/1.jpg", or "val2014/COCO_val2014_000000000042.jpg"
    return f"{'visual_genome' if name.startswith('VG_100K') else 'coco'}/{name}"


BENCHMARKS = (
    AnswerBenchmark(
        name="tallyqa",
        title="TallyQA",
        split="test",
        metric="accuracy",
        paper={"accuracy/simple": 0.833, "accuracy/complex": 0.705},
        resolution=812,
        layout=(QUESTIONS, "visual_genome/VG_100K/1.jpg, ...", "visual_genome/VG_100K_2/51.jpg, ..."),
        home=HOME,
        open=open_tallyqa,
        task="vqa",
        decoding=Decoding(max_tokens=32),
        scorer=with_slices(scoring.counts),
    ),
)
