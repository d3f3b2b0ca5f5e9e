"""Pictures -> features of a frozen image encoder: any ViT of ours or converted, cached on disk if wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from openpali.data.images import Preprocess
from openpali.infer.pali import Pali
from openpali.model.vit import ViT
from openpali.tasks.example import Image

BATCH = 64
MARGIN = 256 / 224  # pictures are resized to so much more than the model takes, and the middle is cut out

Floats = NDArray[np.float64]  # features [N, D]
Load = Callable[[], Image]
Pool = Literal["mean", "map"]


class Encoder:
    """The image encoder of a part of a family (of its "siglip" by default, else of its "pali"), as it computes.

    Args:
        pali: a family, or one model.
        part: "siglip", "classifier", "pali" or another with a ViT.
        pool: "mean" of the patch tokens (big_vision's ``image_avg_repr``), or "map", the output of the attention
            pooling (``pre_logits``), which a PaLI no longer has.
        crop: resize to 256/224 of the model's size and take the middle, as big_vision's few-shot probe does; else
            squash the whole picture.

    Raises:
        ValueError: the model has no such part, or the part no ViT or no such pooling.
    """

    def __init__(self, pali: Pali, part: str | None = None, *, pool: Pool = "mean", crop: bool = True) -> None:
        part = part or next((name for name in ("siglip", "pali", "classifier") if name in pali.parts), None)
        if part not in pali.parts:
            wanted = "image encoder" if part is None else f"part {part!r}"
            raise ValueError(f"the model {pali.folder} has no {wanted} to probe; it has {', '.join(pali.parts)}")
        bundle, model = pali.load(part)
        children = dict(model.named_children())
        if not isinstance(children.get("vit"), ViT):
            raise ValueError(f"part {part!r} of the model {pali.folder} has no image encoder to probe")
        if pool == "map" and "pool" not in children:
            raise ValueError(f"part {part!r} of the model {pali.folder} has no attention pooling: take pool='mean'")
        self.part, self.pool, self.crop, self.device = part, pool, crop, pali.device
        self.vit = cast(ViT, children["vit"])
        self.preprocess = bundle.preprocess or Preprocess(*self.vit.config.image_size)
        self._pool = children["pool"] if pool == "map" else None

    def __call__(self, pictures: Sequence[Load]) -> Iterator[Floats]:
        """Features ``[B, D]`` of pictures, batch after batch."""
        prepare = middle if self.crop else squash
        with torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                pixels = [prepare(load(), self.preprocess) for load in pictures[start : start + BATCH]]
                tokens = self.vit(torch.from_numpy(np.stack(pixels)).to(self.device))
                pooled = tokens.mean(1) if self._pool is None else self._pool(tokens)
                yield pooled.double().cpu().numpy()

    def features(
        self,
        pictures: Sequence[Load],
        *,
        cache: Path | None = None,
        key: str = "",
        advance: Callable[[int], None] = lambda done: None,
    ) -> Floats:
        """Features ``[N, D]`` of all pictures.

        Args:
            cache: folder to keep them in. They are found again for the same weights, preprocessing, pooling, number
                of pictures and ``key``.
            key: names the pictures: a hash of them, or name and version of their set. Needed with ``cache``.
            advance: is told how many are done.

        Raises:
            ValueError: no pictures, or a cache without a key.
        """
        if not pictures:
            raise ValueError("no pictures to encode")
        if cache is None:
            return _collect(self(pictures), advance)
        if not key:
            raise ValueError("cached features need a key that names the pictures")
        path = cache / f"{self._digest(f'{len(pictures)} {key}')}.npy"
        if path.is_file():
            advance(len(pictures))
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        found = _collect(self(pictures), advance)
        cache.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".part.npy")
        np.save(written, found.astype(np.float32))  # as the model gave them
        written.replace(path)
        return found

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256(f"{self.pool} {self.crop} {self.preprocess} {key}".encode())
        modules = [self.vit] if self._pool is None else [self.vit, self._pool]
        for module in modules:
            for name, tensor in module.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().tobytes())  # numpy knows no bf16
        return digest.hexdigest()[:24]


def _collect(chunks: Iterator[Floats], advance: Callable[[int], None]) -> Floats:
    found: list[Floats] = []
    for chunk in chunks:
        found.append(chunk)
        advance(sum(map(len, found)))
    return np.concatenate(found)


def squash(image: Image, preprocess: Preprocess) -> Image:
    """The whole picture in the size that the model takes."""
    return preprocess(image)


def middle(image: Image, preprocess: Preprocess) -> Image:
    """Resized to 256/224 of the model's size, then the middle (big_vision ``resize(256)|central_crop(224)``)."""
    height, width = preprocess.height, preprocess.width
    large = replace(preprocess, height=round(height * MARGIN), width=round(width * MARGIN))
    resized = large(image)
    top, left = (large.height - height) // 2, (large.width - width) // 2
    return resized[top : top + height, left : left + width]
