"""DocVQA and InfographicVQA: questions about pages, in one format of the Robust Reading Competition."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Listing, listing, with_image

DOCVQA = ("docvqa/val_v1.0_withQT.json", "docvqa/val_v1.0.json", "docvqa/val/val_v1.0.json")
DOCVQA_IMAGES = ("docvqa/spdocvqa_images", "docvqa/documents", "docvqa/val/documents")
INFOVQA = ("infographicvqa/infographicsVQA_val_v1.0_withQT.json", "infographicvqa/infographicVQA_val_v1.0.json")
INFOVQA_IMAGES = ("infographicvqa/infographicsvqa_images", "infographicvqa/images")
HOME = "https://rrc.cvc.uab.es/?ch=17&com=downloads"
MOST_SPANS = 6  # answers with more spans are not permuted
NOTE = "The paper's number is from the test server."


def open_docvqa(root: Path) -> Listing:
    """The 5,349 validation questions."""
    folder = Folder(root, "DocVQA", HOME)
    makers = []
    for entry in folder.json(*DOCVQA).entries("data"):
        example = Example(entry.text("questionId"), question=entry.text("question"), answers=entry.texts("answers"))
        name = Path(entry.text("image")).name  # "documents/xnbl0037_1.png"
        makers.append(with_image(example, folder, *(f"{place}/{name}" for place in DOCVQA_IMAGES)))
    return listing(makers, folder, f"questions in {DOCVQA[0]}")


def open_infographicvqa(root: Path) -> Listing:
    """The 2,801 validation questions."""
    folder = Folder(root, "InfographicVQA", HOME)
    makers = []
    for entry in folder.json(*INFOVQA).entries("data"):
        answers = [order for answer in entry.texts("answers") for order in any_order(answer)]
        example = Example(entry.text("questionId"), question=entry.text("question"), answers=answers)
        name = entry.text("image_local_name")
        makers.append(with_image(example, folder, *(f"{place}/{name}" for place in INFOVQA_IMAGES)))
    return listing(makers, folder, f"questions in {INFOVQA[0]}")


def any_order(answer: str) -> list[str]:
    """The spans of an answer ("red, blue") in every order, the given order first; alone beyond ``MOST_SPANS``."""
    spans = answer.split(", ")
    if len(spans) > MOST_SPANS:
        return [answer]
    return [", ".join(order) for order in permutations(spans)]


BENCHMARKS = (
    AnswerBenchmark(
        name="infographicvqa",
        title="InfographicVQA",
        split="val",
        metric="anls",
        paper={"anls": 0.578},
        paper_ocr={"anls": 0.624},
        resolution=1064,
        layout=(INFOVQA[0], f"{INFOVQA_IMAGES[0]}/10002.jpeg, ..."),
        home=HOME,
        note=f"{NOTE} The spans of an answer count in any order, as its owners say (up to {MOST_SPANS} spans).",
        open=open_infographicvqa,
        task="vqa",
        decoding=Decoding(max_tokens=48),
        scorer=scoring.anls,
    ),
    AnswerBenchmark(
        name="docvqa",
        title="DocVQA",
        split="val",
        metric="anls",
        paper={"anls": 0.876},
        paper_ocr={"anls": 0.886},
        resolution=1064,
        layout=(DOCVQA[0], f"{DOCVQA_IMAGES[0]}/xnbl0037_1.png, ..."),
        home=HOME,
        note=NOTE,
        open=open_docvqa,
        task="vqa",
        decoding=Decoding(max_tokens=32),
        scorer=scoring.anls,
    ),
)
