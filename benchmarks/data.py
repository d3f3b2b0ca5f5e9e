"""Shards of JPEGs -> normalised 224-pixel batches: ours, webdataset + torchvision, and decoding alone.

    pip install -e 'packages/openpali-lab[bench]'
    OMP_NUM_THREADS=1 python benchmarks/data.py --json data.json

One thread and no workers, in CPU seconds. Ours reads the shard in the order of a run (a global shuffle), checks
each record, uses the class of its label and keeps freed memory, as in training; webdataset reads sequentially.
Images are generated (noise with the spectrum and the JPEG size of photographs) or taken from `--images`. Ours
decodes a JPEG at 1/2, 1/4 or 1/8 of its size where at least 224 pixels remain.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from _report import Result, interleaved, machine, need, rate, report
from openpali.data.media.images import Preprocess, load_image
from openpali.data.media.loader import MediaLoader
from openpali.data.pipeline.stream import Entry, Phase, Stream, load
from openpali.data.sources.shards import ShardSource
from openpali.tasks.registry import get_task
from openpali.train.machine import kept_memory
from openpali.train.objectives.classify import LabelEncoder
from openpali_lab.worlds.builders.output import write_shards

webdataset, simplejpeg = need("webdataset", "webdataset"), need("simplejpeg", "simplejpeg")
vision_io, transforms = need("torchvision.io", "torchvision"), need("torchvision.transforms", "torchvision")
v2 = need("torchvision.transforms.v2", "torchvision")

SIZE = 224
PREPROCESS = Preprocess(SIZE, SIZE)
LABELS = ("a", "b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 768, 1024], help="shorter side, pixels")
    parser.add_argument("--count", type=int, default=128, help="images in a shard")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", type=int, default=85, help="JPEG quality")
    parser.add_argument("--images", type=Path, help="a folder of images to use, scaled to each size")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    if options.count % options.batch:
        parser.error(f"--count {options.count} is not a multiple of --batch {options.batch}")
    torch.set_num_threads(1)
    facts = machine("webdataset", "torchvision", "simplejpeg", "pillow")
    report((result for side in options.sides for result in _measure(side, options)), facts, options.file)


def _measure(side: int, options: Any) -> Iterator[Result]:
    jpegs = _jpegs(side, options)
    samples = [
        (f"{i:06d}", {"jpg": jpegs[i % len(jpegs)], "json": json.dumps({"label": LABELS[i % 2]}).encode()})
        for i in range(options.count)
    ]
    with tempfile.TemporaryDirectory() as work:
        write_shards(Path(work), "x", samples)
        shard = next(Path(work).glob("*.tar"))
        data = [files["jpg"] for _, files in samples]
        full, small = (
            [load_image(jpeg, min_size=size).shape[:2] for jpeg in data] for size in (None, PREPROCESS.min_size)
        )
        ours = Ours(shard, options.count, options.batch)
        seconds = interleaved(
            {
                "ours": ours,
                "webdataset + torchvision transforms": lambda: _webdataset(shard, options.batch, _pil),
                "webdataset + torchvision.io, v2": lambda: _webdataset(shard, options.batch, _tensor),
                "libjpeg-turbo alone, full size": partial(_libjpeg, data, full),
                "libjpeg-turbo alone, as small as ours": partial(_libjpeg, data, small),
            },
            options.rounds,
            clock=time.process_time,
            within={"ours": partial(kept_memory, torch.device("cpu"))},
        )
    kilobytes = sum(map(len, jpegs)) / len(jpegs) / 1000
    factor = round(side / min(small[0]))
    decoded = "full size" if factor == 1 else f"1/{factor}"
    name = f"shorter side {side} ({kilobytes:.0f} kB, decoded at {decoded})"
    per_second = {run: options.count / each for run, each in seconds.items()}
    mine = per_second.pop("ours")
    for peer, theirs in per_second.items():
        yield rate(name, mine, theirs, peer, "images/s/core")


class Ours:
    """A run's stream from the shard; each call continues after the previous one."""

    def __init__(self, shard: Path, count: int, batch: int) -> None:
        source = ShardSource(shard, MediaLoader(PREPROCESS.min_size))
        phase = Phase(2**40, PREPROCESS, [Entry("x", source, get_task("classify"), 1.0)])
        self.stream = Stream([phase], LabelEncoder(LABELS), seed=0)
        self.count, self.batch, self.start = count, batch, 0

    def __call__(self) -> None:
        batches = load(self.stream, start=self.start, batch=self.batch, workers=0)
        for _ in range(self.count // self.batch):
            [loaded] = next(batches)
            images = loaded.batch["images"].div(127.5).sub_(1)
        assert images.shape == (self.batch, SIZE, SIZE, 3)
        self.start += self.count


_CLASSIC = transforms.Compose(
    [transforms.Resize((SIZE, SIZE)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
)
_V2 = v2.Compose(
    [
        v2.Resize((SIZE, SIZE), antialias=True),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.5] * 3),
    ]
)


def _pil(data: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        return _CLASSIC(image.convert("RGB"))  # as webdataset's decode("pil")


def _tensor(data: bytes) -> torch.Tensor:
    return _V2(vision_io.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)))


def _libjpeg(data: Sequence[bytes], sizes: Sequence[tuple[int, int]]) -> None:
    for jpeg, (height, width) in zip(data, sizes, strict=True):
        pixels = simplejpeg.decode_jpeg(jpeg, min_height=height, min_width=width)
        assert pixels.shape[:2] == (height, width)


def _webdataset(shard: Path, batch: int, transform: Any) -> None:
    data = webdataset.WebDataset(str(shard), shardshuffle=False)
    for images, _ in data.to_tuple("jpg", "json").map_tuple(transform, json.loads).batched(batch):
        assert images.shape[1:] == (3, SIZE, SIZE)


def _jpegs(side: int, options: Any) -> Sequence[bytes]:
    if options.images:
        files = sorted(p for p in options.images.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        images = [Image.open(file).convert("RGB") for file in files]
    else:
        images = [_noise(side, side * 4 // 3, seed) for seed in range(8)]
    return [_encoded(image, side, options.quality) for image in images]


def _encoded(image: Image.Image, side: int, quality: int) -> bytes:
    scale = side / min(image.size)
    out = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _noise(height: int, width: int, seed: int) -> Image.Image:
    """Noise with amplitude f^-1.4 at frequency f; its JPEG is about as large as a photograph's."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((height, width, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])[..., None]
    noise = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / width) ** 1.4, (height, width), axes=(0, 1))
    luma, colour = noise[..., :1], 0.3 * noise
    mixed = luma / luma.std() + colour / noise.std()
    return Image.fromarray(np.clip(120 + 50 * mixed, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
