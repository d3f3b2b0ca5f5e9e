"""NoCaps: captions of things that COCO does not name."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.caption import Caption
from openpali.tasks.example import Example
from openpali.tasks.scoring import with_slices
from openpali_lab.benchmarks.files import Folder, Listing, listing, with_image

ANNOTATIONS = "nocaps/nocaps_val_4500_captions.json"
HOME = "https://nocaps.org/download"


def open_nocaps(root: Path) -> Listing:
    """The 4,500 validation images, ten captions each."""
    folder = Folder(root, "NoCaps", HOME)
    annotations = folder.json(ANNOTATIONS)
    captions: dict[int, list[str]] = {}
    for entry in annotations.entries("annotations"):
        captions.setdefault(entry.integer("image_id"), []).append(entry.text("caption"))
    makers = []
    for entry in annotations.entries("images"):
        number = entry.integer("id")
        example = Example(
            str(number), captions={"en": captions.get(number, [])}, question_kind=entry.text("domain")
        )
        makers.append(with_image(example, folder, f"nocaps/validation/{entry.text('file_name')}"))
    return listing(makers, folder, f"images in {ANNOTATIONS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="nocaps",
        title="NoCaps",
        split="val",
        resolution=812,
        layout=(ANNOTATIONS, "nocaps/validation/0013ea2087020901.jpg, ..."),
        home=HOME,
        note="Each domain has its own idf, as on the server.",
        open=open_nocaps,
        task="caption",
        decoding=Decoding(max_tokens=32, beams=2),
        scorer=with_slices(Caption.score),
    ),
)
