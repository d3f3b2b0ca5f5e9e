"""Images -> features of a frozen image encoder: any ViT, from a folder or in memory, cached on disk if asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.tensor import DTensor

from openpali.data.media.images import Preprocess
from openpali.eval.benchmark import Encoders
from openpali.infer.batches import chunked
from openpali.infer.generate import evaluating
from openpali.model.layers import matmul_dtype
from openpali.model.vit import ViT
from openpali.tasks.example import Image
from openpali.weights.files import MAIN, SIGLIP
from openpali.whole import replacing

BATCH = 64
CACHE = "features"  # folder under the home, for benchmarks
MARGIN = 256 / 224  # images are resized to this multiple of the model's size before the centre crop

Floats = NDArray[np.float64]  # features [N, D]
Load = Callable[[], Image]


class FeatureEncoder:
    """The image encoder of one part, on its device and in its dtype; features are the mean of its patch tokens
    (big_vision's ``image_avg_repr``).

    Args:
        model: a bundle, or one model.
        part: "siglip", "classifier", "pali" or another part with a ViT; by default the first of these three.
        crop: resize to 256/224 of the model's size and crop the centre, as big_vision's few-shot probe does; else
            squash the whole image.
        cache: folder to keep features in, batch by batch. The key is a hash of weights, computing dtype
            and preprocessed pixels, so that no entry can be stale and a killed run continues.
    """

    def __init__(
        self,
        model: Encoders,
        part: str | None = None,
        *,
        crop: bool = True,
        cache: Path | None = None,
    ) -> None:
        part = part or next((name for name in (SIGLIP, MAIN, "classifier") if name in model.parts), None)
        if part is None or part not in model.parts:
            missing = "image encoder" if part is None else f"part {part!r}"
            raise ValueError(f"the model {model.name} has no {missing} to probe; it has {', '.join(model.parts)}")
        module, preprocess = model.image_model(part)
        children = dict(module.named_children())
        if not isinstance(children.get("vit"), ViT):
            raise ValueError(f"part {part!r} of the model {model.name} has no image encoder to probe")
        if any(isinstance(value, DTensor) for value in module.parameters()):
            cache = None  # ranks that find a file would leave those that gather the weights
        self.part, self.crop, self.cache = part, crop, cache
        self.vit = cast(ViT, children["vit"])
        if not isinstance(preprocess, Preprocess):  # one that keeps proportions is probed on squashed images, too
            preprocess = Preprocess(*self.vit.config.image_size)
        self.preprocess = preprocess
        self._module = module

    def __call__(self, images: Sequence[Load]) -> Iterator[Floats]:
        """Features ``[B, D]`` of images, batch by batch."""
        for some in chunked(images, BATCH):
            shown = (load() for load in some)
            pixels = [center_crop(each, self.preprocess) if self.crop else self.preprocess(each) for each in shown]
            yield self._batch(np.stack(pixels)).astype(np.float64)

    def features(self, images: Sequence[Load], *, advance: Callable[[int], None] = lambda done: None) -> Floats:
        """Features ``[N, D]`` of all images; ``advance`` is called with the number done."""
        if not images:
            raise ValueError("no images to encode")
        found: list[Floats] = []
        for chunk in self(images):
            found.append(chunk)
            advance(sum(map(len, found)))
        return np.concatenate(found)

    def facts(self) -> dict[str, dict[str, Any]]:
        """For a score card: the part, its preprocessing and its pooling."""
        size = "256/224 of it, the middle cut out" if self.crop else "the whole picture"
        return {self.part: {**asdict(self.preprocess), "resized": size, "pooling": "mean of the patch tokens"}}

    def _batch(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features ``[B, D]``, from the cache if they are there."""
        if self.cache is None:
            return self._encode(pixels_BHWC)
        dtype = matmul_dtype(self.vit.positions)
        digest = hashlib.sha256(f"{self._weights} {dtype} {pixels_BHWC.shape}".encode())
        digest.update(pixels_BHWC.tobytes())
        path = self.cache / f"{digest.hexdigest()[:32]}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        found = self._encode(pixels_BHWC)
        with replacing(path) as new, new.open("wb") as file:
            np.save(file, found)
        return found

    def _encode(self, pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), evaluating(self._module):
            tokens_BND = self.vit(torch.from_numpy(pixels_BHWC).to(self.vit.positions.device))
            return np.asarray(tokens_BND.mean(1).float().cpu().numpy())

    @cached_property
    def _weights(self) -> str:
        """Hash of the weights and the shape."""
        digest = hashlib.sha256(f"mean {self.vit.config}".encode())
        for name, tensor in self.vit.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().tobytes())  # numpy has no bf16
        return digest.hexdigest()


def center_crop(image: Image, preprocess: Preprocess) -> Image:
    """Resized to 256/224 of the model's size, then the centre (big_vision ``resize(256)|central_crop(224)``)."""
    height, width = preprocess.height, preprocess.width
    large = replace(preprocess, height=round(height * MARGIN), width=round(width * MARGIN))
    resized = large(image)
    top, left = (large.height - height) // 2, (large.width - width) // 2
    return resized[top : top + height, left : left + width]
