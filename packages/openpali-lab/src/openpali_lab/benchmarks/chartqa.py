"""ChartQA: questions about charts, written by people and by a machine."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Listing, listing, with_image
from openpali_lab.benchmarks.scoring import mean_of_slices

HOME = "https://github.com/vis-nlp/ChartQA"
SOURCES = ("human", "augmented")


def open_chartqa(root: Path) -> Listing:
    """The 2,500 test questions, half of each source; the sources take turns."""
    folder = Folder(root, "ChartQA", HOME)
    by_source = [
        [
            with_image(
                Example(
                    f"{source}_{number}",
                    question=entry.text("query"),
                    answers=[entry.text("label")],
                    question_kind=source,
                ),
                folder,
                f"chartqa/test/png/{entry.text('imgname')}",
            )
            for number, entry in enumerate(folder.rows(f"chartqa/test/test_{source}.json"))
        ]
        for source in SOURCES
    ]
    longest = max(map(len, by_source))
    makers = [makers[i] for i in range(longest) for makers in by_source if i < len(makers)]
    return listing(makers, folder, "questions in chartqa/test")


BENCHMARKS = (
    AnswerBenchmark(
        name="chartqa",
        title="ChartQA",
        split="test, human and augmented",
        metric="relaxed_accuracy",
        paper={"relaxed_accuracy": 0.700},
        paper_ocr={"relaxed_accuracy": 0.695},
        resolution=812,
        layout=(
            *(f"chartqa/test/test_{source}.json" for source in SOURCES),
            "chartqa/test/png/41699051005347.png, ...",
        ),
        home=HOME,
        note="The score is the mean of the two halves.",
        open=open_chartqa,
        task="vqa",
        decoding=Decoding(max_tokens=48),
        scorer=mean_of_slices(scoring.relaxed),
    ),
)
