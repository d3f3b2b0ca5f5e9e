"""NExT-QA, open-ended: why, how and when, in videos of daily life."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmarks import scoring
from openpali.eval.benchmarks.base import AnswerBenchmark
from openpali.eval.benchmarks.files import Folder, Listing, listing
from openpali.eval.benchmarks.films import FRAMES, Film, with_frames
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example

QUESTIONS, NAMES = "nextqa/test.csv", "nextqa/map_vid_vidorID.json"
HOME = "https://github.com/doc-doc/NExT-OE"
STRIDE = 80


def open_nextqa(root: Path) -> Listing:
    """The 9,178 open-ended test questions, sliced by type (CH: causal how, TN: temporal next, ...).

    Raises:
        FileNotFoundError: its files, or WordNet's, are not there.
    """
    scoring.wordnet()  # the score needs it: better told now than when all is answered
    folder = Folder(root, "NExT-QA", HOME)
    names = folder.json(NAMES)
    makers = []
    for row in folder.rows(QUESTIONS):
        video = row.text("video")
        more = row.values.get("additional_ref_answer") or ""
        example = Example(
            f"{video}_{row.text('qid')}",
            question=row.text("question"),
            answers=[answer for answer in (row.text("answer"), more) if answer.strip()],
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
        layout=(QUESTIONS, NAMES, "nextqa/NExTVideo/1164/3238737531.mp4, ..."),
        home=HOME,
        note="The paper does not say its stride; at this one, 16 frames span 43 seconds at 30 frames a second, the "
        "mean length of a video.",
        open=open_nextqa,
        task="video_qa",
        decoding=Decoding(max_tokens=64),
        score=scoring.wups,
    ),
)
