"""ActivityNet: captions of segments of long videos, and questions about whole videos."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks.files import Folder, Listing, listing
from openpali_lab.benchmarks.films import FRAMES, Film, with_frames

CAPTIONS = "activitynet/captions/val_2.json"
QUESTIONS, ANSWERS = "activitynet-qa/test_q.json", "activitynet-qa/test_a.json"
HOME = "https://cs.stanford.edu/people/ranjaykrishna/densevid (captions.zip), its videos at http://activity-net.org"
HOME_QA = "https://github.com/MILVLG/activitynet-qa, its videos at http://activity-net.org"
SUFFIXES = (".mp4", ".mkv", ".webm")
CAPTION_STRIDE, QA_STRIDE = 30, 70


def open_captions(root: Path) -> Listing:
    """Every annotated segment of a video is a sample, with its one sentence."""
    folder = Folder(root, "ActivityNet Captions", HOME)
    makers = []
    for video, entry in folder.json(CAPTIONS).items():
        sentences = entry.texts("sentences")
        segments = entry.points("timestamps", len(sentences))
        for number, (sentence, (start, end)) in enumerate(zip(sentences, segments, strict=True)):
            example = Example(f"{video}_{number}", captions={"en": [sentence.strip()]})
            makers.append(with_frames(example, folder, Film(_names(video), CAPTION_STRIDE, start=start, end=end)))
    return listing(makers, folder, f"videos in {CAPTIONS}")


def open_qa(root: Path) -> Listing:
    """The 8,000 test questions."""
    folder = Folder(root, "ActivityNet-QA", HOME_QA)
    answers = {entry.text("question_id"): entry.text("answer") for entry in folder.rows(ANSWERS)}
    makers = []
    for entry in folder.rows(QUESTIONS):
        key = entry.text("question_id")
        if key not in answers:
            raise ValueError(f"{ANSWERS} lacks question {key} of {QUESTIONS}; the originals are at {HOME_QA}")
        example = Example(key, question=entry.text("question"), answers=[answers[key]])
        makers.append(with_frames(example, folder, Film(_names(f"v_{entry.text('video_name')}"), QA_STRIDE)))
    return listing(makers, folder, f"questions in {QUESTIONS}")


def _names(video: str) -> tuple[str, ...]:
    return tuple(f"activitynet/videos/{video}{suffix}" for suffix in SUFFIXES)


BENCHMARKS = (
    AnswerBenchmark(
        name="activitynet-captions",
        title="ActivityNet Captions",
        split="val_2, true stretches",
        resolution=224,
        frames=f"{FRAMES}, stride {CAPTION_STRIDE}",
        layout=(CAPTIONS, "activitynet/videos/v_uqiMw7tQ1Cc.mp4, ..."),
        home=HOME,
        open=open_captions,
        task="video_caption",
        decoding=Decoding(max_tokens=64),
    ),
    AnswerBenchmark(
        name="activitynet-qa",
        title="ActivityNet-QA",
        split="test",
        paper={"exact_match": 0.512},
        resolution=224,
        frames=f"{FRAMES}, stride {QA_STRIDE}",
        layout=(QUESTIONS, ANSWERS, "activitynet/videos/v_1QIUV7WYKXg.mp4, ..."),
        home=HOME_QA,
        open=open_qa,
        task="video_qa",
        decoding=Decoding(max_tokens=64),
    ),
)
