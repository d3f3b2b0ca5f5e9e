"""Videos in records: frames by stride or evenly spread, from files and from shards."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from openpali.data.media.images import Preprocess
from openpali.data.media.videos import load_frames
from openpali.data.pipeline.encode import SequenceEncoder
from openpali.data.sources.registry import open_source
from openpali.data.validate import validate
from openpali.rng import generator
from openpali.tasks.registry import get_task
from openpali.text.tokenizer import Tokenizer
from openpali_lab.worlds.builders.output import write_shards


def write_video(path: Path, frames: int = 20) -> Path:
    """Frame ``i`` has the grey value ``10 * i``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            image = np.full((48, 64, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbers(images: Any) -> list[int]:
    return [round(float(image.mean()) / 10) for image in images]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4")
    record = {"images": "clip.mp4", "question": "what moves?", "answers": "a cat"}
    (tmp_path / "x.jsonl").write_text(json.dumps(record) + "\n")
    record = b'{"question": "what moves?", "answers": "a cat"}'
    write_shards(tmp_path, "x", [("a", {"json": record, "mp4": (tmp_path / "clip.mp4").read_bytes()})])
    return tmp_path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 3, 5, 8, 11, 14, 16, 19]),
        ({"frames": 3}, [0, 10, 19]),
        ({"frames": 4, "stride": 5}, [0, 5, 10, 15]),
        ({"frames": 16, "stride": 9}, [0, 9, 18]),
    ],
)
def test_frames_are_the_ones_asked_for(folder: Path, options: dict[str, Any], expected: list[int]) -> None:
    for name in ("x.jsonl", "x-00000.tar"):
        example = open_source(str(folder / name), options)[0]
        assert numbers(example.images) == pytest.approx(expected, abs=1)
        assert example.size == (48, 64)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda frame: frame),
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),  # a telephone held upright
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), np.fliplr),
        ((0, 1, 1, 0), lambda frame: frame.swapaxes(0, 1)),
    ],
)
def test_frames_are_turned_by_their_display_matrix(tmp_path: Path, matrix: tuple[int, ...], shown: Any) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:16, :16] = 250  # the upper left
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    (a, b, c, d), one = matrix, 1 << 16
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (tmp_path / "x.jsonl").write_text(json.dumps({"images": "clip.mp4", "caption": "a"}) + "\n")
    example = open_source(str(tmp_path / "x.jsonl"), {})[0]
    expected = shown(frame)
    assert example.size == expected.shape[:2]
    assert np.abs(example.images[0].astype(int) - expected).mean() < 5


def test_one_batch_may_mix_texts_images_and_videos(folder: Path) -> None:
    """Text alone, one image, several images, a video."""
    tokenizer = Tokenizer.train(["what moves? a cat on the grass"] * 5, 1000)
    encoder = SequenceEncoder(tokenizer, 200, 200)
    source = open_source(str(folder / "x.jsonl"), {"frames": 5})
    text = type(source[0])(key="t", text="a cat on the grass " * 4)
    vqa, denoise = get_task("video_qa"), get_task("denoise", tokenizer=tokenizer)
    one = type(source[0])(key="o", images=source[0].images[:1], question="what moves?", answers=["a cat"])
    rows = [(text, denoise), (one, vqa), (source[0], vqa)]
    batch = encoder.collate([encoder.encode(e, t, Preprocess(16, 16), generator(0)) for e, t in rows])
    assert batch["frames"].tolist() == [0, 1, 5]
    assert batch["images"].shape == (3, 5, 16, 16, 3)


def test_bad_videos_and_options_are_named(folder: Path) -> None:
    clip = (folder / "clip.mp4").read_bytes()
    records = []
    for name, content in (("no.mp4", b"no video" * 20), ("cut.mp4", clip[: len(clip) // 2]), ("empty.mp4", b"")):
        (folder / name).write_bytes(content)
        records.append(json.dumps({"images": name, "caption": "a"}))
    (folder / "bad.jsonl").write_text("\n".join([*records, json.dumps({"images": "gone.mp4", "caption": "a"})]))
    source = open_source(str(folder / "bad.jsonl"), {})
    for index, name in enumerate(("no", "cut", "empty")):
        with pytest.raises(
            ValueError, match=rf"bad.jsonl:{index + 1}: {name}.mp4 (is not a video, or is damaged|has no frames)"
        ):
            source[index]
    assert validate(folder / "bad.jsonl").problems == {"bad image": 3, "missing file": 1}
    for options, problem in (
        ({"frames": 17}, "frames must be an integer from 1 to 16, not 17"),
        ({"frames": "8"}, "frames must be an integer"),
        ({"stride": 0}, "stride must be an integer of at least 1, not 0"),
        ({"fps": 2}, "no option 'fps'; its options are frames, stride"),
    ):
        with pytest.raises(ValueError, match=problem):
            open_source(str(folder / "x.jsonl"), options)


@pytest.mark.parametrize("stride", [0, -3])
def test_a_stride_below_one_is_refused(tmp_path: Path, stride: int) -> None:
    with pytest.raises(ValueError):
        load_frames(write_video(tmp_path / "film.mp4"), 4, stride)
