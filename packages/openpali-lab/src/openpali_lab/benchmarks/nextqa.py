"""NExT-QA, open-ended: why, how and when, in videos of daily life."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Listing, listing
from openpali_lab.benchmarks.films import FRAMES, Film, with_frames

QUESTIONS, NAMES = "nextqa/test.csv", "nextqa/map_vid_vidorID.json"
SECOND = "nextqa/add_reference_answer_test.json"  # video -> question -> another right answer
HOME = "https://github.com/doc-doc/NExT-OE"
STRIDE = 80


def open_nextqa(root: Path) -> Listing:
    """The 9,178 open-ended test questions, sliced by type (CH: causal how, TN: temporal next, ...).

    Questions about some of the videos have a second reference; the better of both counts, as in ``eval_oe.py``.
    """
    scoring.wordnet()  # the scorer needs it: fail before answering, not after
    folder = Folder(root, "NExT-QA", HOME)
    names, second = folder.json(NAMES), folder.json(SECOND)
    makers = []
    for row in folder.rows(QUESTIONS):
        video, question = row.text("video"), row.text("qid")
        more = [second.entry(video).text(question)] if video in second.values else []
        example = Example(
            f"{video}_{question}",
            question=row.text("question"),
            answers=[row.text("answer"), *more],
            question_kind=row.text("type"),
        )
        makers.append(with_frames(example, folder, Film((f"nextqa/NExTVideo/{names.text(video)}.mp4",), STRIDE)))
    return listing(makers, folder, f"questions in {QUESTIONS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="nextqa",
        title="NExT-QA, open-ended",
        split="test",
        metric="wups",
        paper={"wups": 0.377},
        resolution=224,
        frames=f"{FRAMES}, stride {STRIDE}",
        layout=(QUESTIONS, SECOND, NAMES, "nextqa/NExTVideo/1164/3238737531.mp4, ..."),
        home=HOME,
        note="The paper does not give its stride; with this one, 16 frames span 43 seconds at 30 frames per "
        "second, the mean length of a video.",
        open=open_nextqa,
        task="video_qa",
        decoding=Decoding(max_tokens=64),
        scorer=scoring.wups,
    ),
)
