"""Captions of videos, and questions about them; of each video frames at a fixed stride."""

from __future__ import annotations

from collections.abc import Iterator

from openpali.tasks.example import Example
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Folder, Sample, published

MSRVTT_VIDEOS = ("msrvtt/TestVideo", "msrvtt/videos", "msrvtt-qa/video")


def _msrvtt(folder: Folder, example: Example, name: str) -> Sample:
    return folder.with_frames(example, *(f"{place}/{name}.mp4" for place in MSRVTT_VIDEOS))


@published("msrvtt-captions")
def msrvtt_captions(folder: Folder) -> Iterator[Sample]:
    """The 2,990 test videos, twenty captions each."""
    annotations = folder.json(folder.layout[0])
    captions: dict[str, list[str]] = {}
    for entry in annotations.entries("sentences"):
        captions.setdefault(entry.text("video_id"), []).append(entry.text("caption"))
    for entry in annotations.entries("videos"):
        name = entry.text("video_id")
        if entry.text("split") == "test":
            yield _msrvtt(folder, Example(name, captions={"en": captions.get(name, [])}), name)


@published("msrvtt-qa")
def msrvtt_qa(folder: Folder) -> Iterator[Sample]:
    """The 72,821 test questions."""
    for entry in folder.rows(folder.layout[0]):
        example = Example(entry.text("id"), question=entry.text("question"), answers=[entry.text("answer")])
        yield _msrvtt(folder, example, f"video{entry.integer('video_id')}")


@published("vatex")
def vatex(folder: Folder) -> Iterator[Sample]:
    """The 6,000 videos of the public test split, with ten captions each."""
    for entry in folder.rows(folder.layout[0]):
        name = entry.text("videoID")
        example = Example(name, captions={"en": entry.texts("enCap")})
        yield folder.with_frames(example, f"vatex/videos/{name}.mp4")


def _activitynet(name: str) -> tuple[str, ...]:
    return tuple(f"activitynet/videos/{name}{suffix}" for suffix in (".mp4", ".mkv", ".webm"))


@published("activitynet-captions")
def activitynet_captions(folder: Folder) -> Iterator[Sample]:
    """Every annotated segment of a video is a sample, with its one sentence."""
    for name, entry in folder.json(folder.layout[0]).items():
        sentences = entry.texts("sentences")
        segments = entry.points("timestamps", len(sentences))
        for number, (sentence, (start, end)) in enumerate(zip(sentences, segments, strict=True)):
            example = Example(f"{name}_{number}", captions={"en": [sentence.strip()]})
            files = _activitynet(name)
            yield folder.with_frames(example, *files, start=start, end=end)


@published("activitynet-qa")
def activitynet_qa(folder: Folder) -> Iterator[Sample]:
    """The 8,000 test questions about whole videos."""
    questions, answers = map(folder.rows, folder.layout[:2])
    right = {entry.text("question_id"): entry.text("answer") for entry in answers}
    for entry in questions:
        key = entry.text("question_id")
        if key not in right:
            raise entry.wrong(f"{folder.layout[1]} lacks question {key}")
        example = Example(key, question=entry.text("question"), answers=[right[key]])
        files = _activitynet(f"v_{entry.text('video_name')}")
        yield folder.with_frames(example, *files)


@published("nextqa", scorer=scoring.wups)
def nextqa(folder: Folder) -> Iterator[Sample]:
    """The 9,178 open-ended test questions, sliced by type (CH: causal how, TN: temporal next, ...).

    Questions about some of the videos have a second reference; the better of both counts, as in ``eval_oe.py``.
    """
    scoring.wordnet()  # the scorer needs it: fail before answering, not after
    second, names = map(folder.json, folder.layout[1:3])  # the first: video -> question -> another right answer
    for row in folder.rows(folder.layout[0]):
        name, question = row.text("video"), row.text("qid")
        more = [second.entry(name).text(question)] if name in second.values else []
        example = Example(
            f"{name}_{question}",
            question=row.text("question"),
            answers=[row.text("answer"), *more],
            question_kind=row.text("type"),
        )
        yield folder.with_frames(example, f"nextqa/NExTVideo/{names.text(name)}.mp4")


BENCHMARKS = (msrvtt_captions, msrvtt_qa, vatex, activitynet_captions, activitynet_qa, nextqa)
