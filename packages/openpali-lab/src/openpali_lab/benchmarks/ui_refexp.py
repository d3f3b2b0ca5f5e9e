"""UI RefExp: which element of one of RICO's mobile screens a phrase refers to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Box, Example, Object
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing
from openpali_lab.benchmarks.rico import HOME_RICO, SCREENS
from openpali_screen.parts import READER

EXPRESSIONS = "uibert/ref_exp/test.tfrecord"
HOME = f"https://github.com/google-research-datasets/uibert, its screens at {HOME_RICO}"


def open_ui_refexp(root: Path) -> Listing:
    """The 616 test expressions, one for each screen; boxes are fractions of the screen."""
    folder = Folder(root, "UI RefExp", HOME)
    makers = [partial(_example, entry, folder, _referred(entry)) for entry in folder.rows(EXPRESSIONS)]
    return listing(makers, folder, f"expressions in {EXPRESSIONS}")


def _referred(entry: Fields) -> Box:
    """The element that is meant, in fractions of the screen."""
    count, label = (int(entry.numbers(f"image/{name}", 1)[0]) for name in ("object/num", "ref_exp/label"))
    if not 0 <= label < count:
        raise ValueError(f"{entry.where}: there is no element {label} among {count}; the original is at {HOME}")
    edges = (entry.numbers(f"image/object/bbox/{edge}", count) for edge in ("ymin", "xmin", "ymax", "xmax"))
    return Box(*(all_of[label] for all_of in edges))


def _example(entry: Fields, folder: Folder, box: Box) -> Example:
    screen, expression = (entry.texts(f"image/{name}")[0] for name in ("id", "ref_exp/text"))
    image = folder.image(f"{SCREENS}/{screen}.jpg")
    height, width = image.shape[:2]
    placed = Box(box.ymin * height, box.xmin * width, box.ymax * height, box.xmax * width)
    return Example(screen, [image], expression=expression, objects=[Object("element", placed)], referred=[0])


BENCHMARKS = (
    AnswerBenchmark(
        name="ui-refexp",
        title="UI RefExp",
        split="test",
        metric="box_accuracy@0.1",
        layout=(EXPRESSIONS, f"{SCREENS}/61654.jpg, ..."),
        home=HOME,
        note="The score is ScreenAI's Acc@IoU=0.1. UIBert's own accuracy is of models that choose among the "
        "elements in the file, and is another score.",
        open=open_ui_refexp,
        task="detect",
        options={"of": "expression"},
        decoding=Decoding(max_tokens=64),
        scorer=scoring.first_box,
        part=READER,
    ),
)
