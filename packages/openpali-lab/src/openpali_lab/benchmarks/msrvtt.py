"""MSR-VTT: captions of short videos, and questions about them (MSRVTT-QA)."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks.files import Folder, Listing, listing
from openpali_lab.benchmarks.films import FRAMES, Film, with_frames

CAPTIONS = "msrvtt/test_videodatainfo.json"
QUESTIONS = "msrvtt-qa/test_qa.json"
HOME = "https://www.microsoft.com/en-us/research/publication/msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language"
HOME_QA = "https://github.com/xudejing/video-question-answering"
VIDEOS = ("msrvtt/TestVideo", "msrvtt/videos", "msrvtt-qa/video")
STRIDE = 9


def open_captions(root: Path) -> Listing:
    """The 2,990 test videos, twenty captions each."""
    folder = Folder(root, "MSR-VTT", HOME)
    annotations = folder.json(CAPTIONS)
    captions: dict[str, list[str]] = {}
    for entry in annotations.entries("sentences"):
        captions.setdefault(entry.text("video_id"), []).append(entry.text("caption"))
    makers = []
    for entry in annotations.entries("videos"):
        video = entry.text("video_id")
        if entry.text("split") == "test":
            example = Example(video, captions={"en": captions.get(video, [])})
            makers.append(with_frames(example, folder, _film(video)))
    return listing(makers, folder, f"videos of split 'test' in {CAPTIONS}")


def open_qa(root: Path) -> Listing:
    """The 72,821 test questions."""
    folder = Folder(root, "MSRVTT-QA", f"{HOME_QA}, its videos at {HOME}")
    makers = [
        with_frames(
            Example(entry.text("id"), question=entry.text("question"), answers=[entry.text("answer")]),
            folder,
            _film(f"video{entry.integer('video_id')}"),
        )
        for entry in folder.rows(QUESTIONS)
    ]
    return listing(makers, folder, f"questions in {QUESTIONS}")


def _film(video: str) -> Film:
    return Film(tuple(f"{place}/{video}.mp4" for place in VIDEOS), STRIDE)


BENCHMARKS = (
    AnswerBenchmark(
        name="msrvtt-captions",
        title="MSR-VTT captions",
        split="test",
        resolution=224,
        frames=f"{FRAMES}, stride {STRIDE}",
        layout=(CAPTIONS, f"{VIDEOS[0]}/video7010.mp4, ..."),
        home=HOME,
        open=open_captions,
        task="video_caption",
        decoding=Decoding(max_tokens=64),
    ),
    AnswerBenchmark(
        name="msrvtt-qa",
        title="MSRVTT-QA",
        split="test",
        paper={"exact_match": 0.493},
        resolution=224,
        frames=f"{FRAMES}, stride {STRIDE}",
        layout=(QUESTIONS, f"{VIDEOS[0]}/video7010.mp4, ..."),
        home=HOME_QA,
        open=open_qa,
        task="video_qa",
        decoding=Decoding(max_tokens=64),
    ),
)
