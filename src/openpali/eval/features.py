"""Pictures -> features of a frozen image encoder: any ViT of ours or converted, cached on disk if wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from openpali.data.media.images import Preprocess
from openpali.infer.pali import Pali
from openpali.model.vit import ViT
from openpali.tasks.example import Image

BATCH = 64
CACHE = "features"  # folder under the home, for benchmarks
MARGIN = 256 / 224  # pictures are resized to so much more than the model takes, and the middle is cut out

Floats = NDArray[np.float64]  # features [N, D]
Load = Callable[[], Image]
Pool = Literal["mean", "map"]


class FeatureEncoder:
    """The image encoder of a part of a family (of its "siglip" by default, else of its "pali"), as it computes.

    Args:
        pali: a family, or one model.
        part: "siglip", "classifier", "pali" or another with a ViT.
        pool: "mean" of the patch tokens (big_vision's ``image_avg_repr``), or "map", the output of the attention
            pooling (``pre_logits``), which a PaLI no longer has.
        crop: resize to 256/224 of the model's size and take the middle, as big_vision's few-shot probe does; else
            squash the whole picture.
        cache: folder to keep features in, batch by batch. They are found again for the same weights, pooling and
            pixels as the model sees them, so that none can be stale, and a run that was killed goes on.

    Raises:
        ValueError: the model has no such part, or the part no ViT or no such pooling.
    """

    def __init__(
        self,
        pali: Pali,
        part: str | None = None,
        *,
        pool: Pool = "mean",
        crop: bool = True,
        cache: Path | None = None,
    ) -> None:
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
        self.part, self.pool, self.crop, self.cache = part, pool, crop, cache
        self.device = pali.device
        self.vit = cast(ViT, children["vit"])
        self.preprocess = bundle.preprocess or Preprocess(*self.vit.config.image_size)
        self._pool = children["pool"] if pool == "map" else None

    def __call__(self, pictures: Sequence[Load]) -> Iterator[Floats]:
        """Features ``[B, D]`` of pictures, batch after batch."""
        prepare = middle if self.crop else squash
        with torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                pixels = [prepare(load(), self.preprocess) for load in pictures[start : start + BATCH]]
                yield self._batch(np.stack(pixels)).astype(np.float64)

    def features(self, pictures: Sequence[Load], *, advance: Callable[[int], None] = lambda done: None) -> Floats:
        """Features ``[N, D]`` of all pictures; ``advance`` is told how many are done.

        Raises:
            ValueError: no pictures.
        """
        if not pictures:
            raise ValueError("no pictures to encode")
        found: list[Floats] = []
        for chunk in self(pictures):
            found.append(chunk)
            advance(sum(map(len, found)))
        return np.concatenate(found)

    def facts(self) -> dict[str, dict[str, Any]]:
        """For a score card: the part, how its pictures are prepared, and what is taken of its tokens."""
        size = "256/224 of it, the middle cut out" if self.crop else "the whole picture"
        pool = "mean of the patch tokens" if self.pool == "mean" else "attention pooling"
        return {self.part: {**asdict(self.preprocess), "resized": size, "pooling": pool}}

    def _batch(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels ``[B, H, W, 3]`` -> features ``[B, D]``, out of the cache if they are there."""
        if self.cache is None:
            return self._encode(pixels)
        digest = hashlib.sha256(f"{self._weights} {pixels.shape}".encode())
        digest.update(pixels.tobytes())
        path = self.cache / f"{digest.hexdigest()[:32]}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        found = self._encode(pixels)
        self.cache.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".part.npy")
        np.save(written, found)
        written.replace(path)
        return found

    def _encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        tokens = self.vit(torch.from_numpy(pixels).to(self.device))
        pooled = tokens.mean(1) if self._pool is None else self._pool(tokens)
        return np.asarray(pooled.float().cpu().numpy())

    @cached_property
    def _weights(self) -> str:
        """Hash of what makes features of pixels."""
        digest = hashlib.sha256(f"{self.pool} {self.vit.config}".encode())
        for module in [self.vit] if self._pool is None else [self.vit, self._pool]:
            for name, tensor in module.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().tobytes())  # numpy knows no bf16
        return digest.hexdigest()


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
