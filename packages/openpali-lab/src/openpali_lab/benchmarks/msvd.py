"""MSVD-QA: questions about short videos."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks.files import Folder, Listing, listing
from openpali_lab.benchmarks.films import Film, with_frames

QUESTIONS, NAMES = "msvd-qa/test_qa.json", "msvd-qa/youtube_mapping.txt"
VIDEOS = ("msvd-qa/video", "msvd-qa/YouTubeClips")
HOME = "https://github.com/xudejing/video-question-answering"
FRAMES, STRIDE = 8, 26


def open_msvd_qa(root: Path) -> Listing:
    """The 13,157 test questions."""
    folder = Folder(root, "MSVD-QA", HOME)
    names = {number: name for name, number in folder.columns(NAMES, 2)}  # "vid1301" -> "mv89psg6zh4_33_46"
    makers = []
    for entry in folder.rows(QUESTIONS):
        number = f"vid{entry.integer('video_id')}"
        if number not in names:
            raise ValueError(f"{NAMES} lacks video {number} of {entry.where}; the original is at {HOME}")
        example = Example(entry.text("id"), question=entry.text("question"), answers=[entry.text("answer")])
        film = Film(tuple(f"{place}/{names[number]}.avi" for place in VIDEOS), STRIDE, FRAMES)
        makers.append(with_frames(example, folder, film))
    return listing(makers, folder, f"questions in {QUESTIONS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="msvd-qa",
        title="MSVD-QA",
        split="test",
        resolution=224,
        frames=f"{FRAMES}, stride {STRIDE}",
        layout=(QUESTIONS, NAMES, f"{VIDEOS[0]}/mv89psg6zh4_33_46.avi, ..."),
        home=HOME,
        open=open_msvd_qa,
        task="video_qa",
        decoding=Decoding(max_tokens=64),
    ),
)
