"""Captions of videos, and questions about them; of each video frames at a fixed stride."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from openpali.data.media.videos import MAX_FRAMES
from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Sample, published

video = partial(published, resolution=224, max_tokens=64)


def _frames(stride: int) -> str:
    return f"{MAX_FRAMES}, stride {stride}"


MSRVTT, MSRVTT_QA = "msrvtt/test_videodatainfo.json", "msrvtt-qa/test_qa.json"
MSRVTT_VIDEOS = ("msrvtt/TestVideo", "msrvtt/videos", "msrvtt-qa/video")
MSRVTT_HOME = (
    "https://www.microsoft.com/en-us/research/publication/"
    "msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language"
)
QA_HOME = "https://github.com/xudejing/video-question-answering"
MSRVTT_STRIDE = 9


def _msrvtt(folder: Folder, example: Example, name: str) -> Sample:
    return folder.with_frames(example, *(f"{place}/{name}.mp4" for place in MSRVTT_VIDEOS), stride=MSRVTT_STRIDE)


@video(
    name="msrvtt-captions",
    title="MSR-VTT captions",
    split="test",
    frames=_frames(MSRVTT_STRIDE),
    layout=(MSRVTT, f"{MSRVTT_VIDEOS[0]}/video7010.mp4, ..."),
    home=MSRVTT_HOME,
    task="video_caption",
)
def msrvtt_captions(folder: Folder) -> Iterator[Sample]:
    """The 2,990 test videos, twenty captions each."""
    annotations = folder.json(MSRVTT)
    captions: dict[str, list[str]] = {}
    for entry in annotations.entries("sentences"):
        captions.setdefault(entry.text("video_id"), []).append(entry.text("caption"))
    for entry in annotations.entries("videos"):
        name = entry.text("video_id")
        if entry.text("split") == "test":
            yield _msrvtt(folder, Example(name, captions={"en": captions.get(name, [])}), name)


@video(
    name="msrvtt-qa",
    title="MSRVTT-QA",
    split="test",
    paper={"exact_match": 0.493},
    frames=_frames(MSRVTT_STRIDE),
    layout=(MSRVTT_QA, f"{MSRVTT_VIDEOS[0]}/video7010.mp4, ..."),
    home=f"{QA_HOME}, its videos at {MSRVTT_HOME}",
    task="video_qa",
)
def msrvtt_qa(folder: Folder) -> Iterator[Sample]:
    """The 72,821 test questions."""
    for entry in folder.rows(MSRVTT_QA):
        example = Example(entry.text("id"), question=entry.text("question"), answers=[entry.text("answer")])
        yield _msrvtt(folder, example, f"video{entry.integer('video_id')}")


VATEX, VATEX_STRIDE = "vatex/vatex_public_test_english_v1.1.json", 7


@video(
    name="vatex",
    title="VATEX",
    split="public test",
    frames=_frames(VATEX_STRIDE),
    layout=(VATEX, "vatex/videos/_0hjJMcV1kg_000000_000010.mp4, ..."),
    home="https://eric-xw.github.io/vatex-website/download.html",
    note="Its owners distribute names and times of YouTube videos, not the videos.",
    task="video_caption",
)
def vatex(folder: Folder) -> Iterator[Sample]:
    """The 6,000 videos of the public test split, with ten captions each."""
    for entry in folder.rows(VATEX):
        name = entry.text("videoID")
        example = Example(name, captions={"en": entry.texts("enCap")})
        yield folder.with_frames(example, f"vatex/videos/{name}.mp4", stride=VATEX_STRIDE)


ACTIVITYNET, ACTIVITYNET_STRIDE = "activitynet/captions/val_2.json", 30
ACTIVITYNET_QA = ("activitynet-qa/test_q.json", "activitynet-qa/test_a.json")
ACTIVITYNET_QA_STRIDE = 70


def _activitynet(name: str) -> tuple[str, ...]:
    return tuple(f"activitynet/videos/{name}{suffix}" for suffix in (".mp4", ".mkv", ".webm"))


@video(
    name="activitynet-captions",
    title="ActivityNet Captions",
    split="val_2, true stretches",
    frames=_frames(ACTIVITYNET_STRIDE),
    layout=(ACTIVITYNET, "activitynet/videos/v_uqiMw7tQ1Cc.mp4, ..."),
    home="https://cs.stanford.edu/people/ranjaykrishna/densevid (captions.zip), its videos at http://activity-net.org",
    task="video_caption",
)
def activitynet_captions(folder: Folder) -> Iterator[Sample]:
    """Every annotated segment of a video is a sample, with its one sentence."""
    for name, entry in folder.json(ACTIVITYNET).items():
        sentences = entry.texts("sentences")
        segments = entry.points("timestamps", len(sentences))
        for number, (sentence, (start, end)) in enumerate(zip(sentences, segments, strict=True)):
            example = Example(f"{name}_{number}", captions={"en": [sentence.strip()]})
            files = _activitynet(name)
            yield folder.with_frames(example, *files, stride=ACTIVITYNET_STRIDE, start=start, end=end)


@video(
    name="activitynet-qa",
    title="ActivityNet-QA",
    split="test",
    paper={"exact_match": 0.512},
    frames=_frames(ACTIVITYNET_QA_STRIDE),
    layout=(*ACTIVITYNET_QA, "activitynet/videos/v_1QIUV7WYKXg.mp4, ..."),
    home="https://github.com/MILVLG/activitynet-qa, its videos at http://activity-net.org",
    task="video_qa",
)
def activitynet_qa(folder: Folder) -> Iterator[Sample]:
    """The 8,000 test questions about whole videos."""
    questions, answers = map(folder.rows, ACTIVITYNET_QA)
    right = {entry.text("question_id"): entry.text("answer") for entry in answers}
    for entry in questions:
        key = entry.text("question_id")
        if key not in right:
            raise entry.wrong(f"{ACTIVITYNET_QA[1]} lacks question {key}")
        example = Example(key, question=entry.text("question"), answers=[right[key]])
        files = _activitynet(f"v_{entry.text('video_name')}")
        yield folder.with_frames(example, *files, stride=ACTIVITYNET_QA_STRIDE)


NEXTQA, NEXTQA_NAMES = "nextqa/test.csv", "nextqa/map_vid_vidorID.json"
NEXTQA_SECOND = "nextqa/add_reference_answer_test.json"  # video -> question -> another right answer
NEXTQA_STRIDE = 80


@video(
    name="nextqa",
    title="NExT-QA, open-ended",
    split="test",
    metric="wups",
    paper={"wups": 0.377},
    frames=_frames(NEXTQA_STRIDE),
    layout=(NEXTQA, NEXTQA_SECOND, NEXTQA_NAMES, "nextqa/NExTVideo/1164/3238737531.mp4, ..."),
    home="https://github.com/doc-doc/NExT-OE",
    note="The paper does not give its stride; with this one, 16 frames span 43 seconds at 30 frames per "
    "second, the mean length of a video.",
    task="video_qa",
    scorer=scoring.wups,
)
def nextqa(folder: Folder) -> Iterator[Sample]:
    """The 9,178 open-ended test questions, sliced by type (CH: causal how, TN: temporal next, ...).

    Questions about some of the videos have a second reference; the better of both counts, as in ``eval_oe.py``.
    """
    scoring.wordnet()  # the scorer needs it: fail before answering, not after
    names, second = folder.json(NEXTQA_NAMES), folder.json(NEXTQA_SECOND)
    for row in folder.rows(NEXTQA):
        name, question = row.text("video"), row.text("qid")
        more = [second.entry(name).text(question)] if name in second.values else []
        example = Example(
            f"{name}_{question}",
            question=row.text("question"),
            answers=[row.text("answer"), *more],
            question_kind=row.text("type"),
        )
        yield folder.with_frames(example, f"nextqa/NExTVideo/{names.text(name)}.mp4", stride=NEXTQA_STRIDE)


BENCHMARKS = (msrvtt_captions, msrvtt_qa, vatex, activitynet_captions, activitynet_qa, nextqa)
