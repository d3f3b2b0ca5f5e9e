"""VATEX: ten English captions of each video."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.example import Example
from openpali_lab.benchmarks.files import Folder, Listing, listing
from openpali_lab.benchmarks.films import FRAMES, Film, with_frames

CAPTIONS = "vatex/vatex_public_test_english_v1.1.json"
HOME = "https://eric-xw.github.io/vatex-website/download.html"
STRIDE = 7


def open_vatex(root: Path) -> Listing:
    """The 6,000 videos of the public test split."""
    folder = Folder(root, "VATEX", HOME)
    makers = []
    for entry in folder.rows(CAPTIONS):
        video = entry.text("videoID")
        example = Example(video, captions={"en": entry.texts("enCap")})
        makers.append(with_frames(example, folder, Film((f"vatex/videos/{video}.mp4",), STRIDE)))
    return listing(makers, folder, f"videos in {CAPTIONS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="vatex",
        title="VATEX",
        split="public test",
        resolution=224,
        frames=f"{FRAMES}, stride {STRIDE}",
        layout=(CAPTIONS, "vatex/videos/_0hjJMcV1kg_000000_000010.mp4, ..."),
        home=HOME,
        note="Its owners distribute names and times of YouTube videos, not the videos.",
        open=open_vatex,
        task="video_caption",
        decoding=Decoding(max_tokens=64),
    ),
)
