"""VQAv2 and OKVQA: questions about COCO's images with ten answers each, in the same format."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali.tasks.scoring import with_slices
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Listing, listing, with_image

VQAV2 = ("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", "vqav2/v2_mscoco_val2014_annotations.json")
OKVQA = ("okvqa/OpenEnded_mscoco_val2014_questions.json", "okvqa/mscoco_val2014_annotations.json")
HOME_VQAV2 = "https://visualqa.org/download.html"
HOME_OKVQA = "https://okvqa.allenai.org/download.html"
IMAGES = "coco/val2014/COCO_val2014_000000000042.jpg, ..."


def open_vqa(title: str, home: str, files: tuple[str, str], by_type: bool, root: Path) -> Listing:
    """The validation questions; ``by_type``: sliced by the type of their answer."""
    folder = Folder(root, title, home)
    questions, annotations = files
    answered = {entry.text("question_id"): entry for entry in folder.json(annotations).entries("annotations")}
    makers = []
    for entry in folder.json(questions).entries("questions"):
        key = entry.text("question_id")
        if key not in answered:
            raise ValueError(f"{annotations} lacks question {key} of {questions}; the originals are at {home}")
        annotation = answered[key]
        example = Example(
            key,
            question=entry.text("question"),
            answers=[answer.text("answer") for answer in annotation.entries("answers")],
            question_kind=annotation.text("answer_type") if by_type else "",
        )
        name = f"coco/val2014/COCO_val2014_{entry.integer('image_id'):012d}.jpg"
        makers.append(with_image(example, folder, name))
    return listing(makers, folder, f"questions in {questions}")


BENCHMARKS = (
    AnswerBenchmark(
        name="vqav2",
        title="VQAv2",
        split="val2014",
        metric="vqa_accuracy",
        paper={"vqa_accuracy": 0.850},
        resolution=812,
        layout=(*VQAV2, IMAGES),
        home=HOME_VQAV2,
        note="The paper's number is for test-dev (85.2 on test-std), which only the server scores.",
        open=partial(open_vqa, "VQAv2", HOME_VQAV2, VQAV2, True),
        task="vqa",
        decoding=Decoding(max_tokens=32),
        scorer=with_slices(scoring.vqa_accuracy),
    ),
    AnswerBenchmark(
        name="okvqa",
        title="OKVQA",
        split="val2014",
        metric="accuracy",
        paper={"accuracy": 0.601},
        resolution=812,
        layout=(*OKVQA, IMAGES),
        home=HOME_OKVQA,
        note="The paper does not say which scorer it uses: `accuracy` is big_vision's, without normalisation; "
        "`vqa_accuracy` is the official one.",
        open=partial(open_vqa, "OKVQA", HOME_OKVQA, OKVQA, False),
        task="vqa",
        decoding=Decoding(max_tokens=32),
        scorer=scoring.okvqa_accuracy,
    ),
)
