"""A model that generates by the ONNX graphs of `openpali export`, in onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from openpali.architectures.pali import PaliModel
from openpali.infer.pali import Pali
from openpali.model.patches import Images
from openpali.model.vision_language import VisualTokens, in_rows
from openpali.onnx.export import write


def with_graphs(name: str, folder: Path, *, int8: bool) -> Pali:
    """A bundle whose parts that answer prompts do so by their graphs, which are written to ``folder`` first."""
    pali = Pali.from_pretrained(name)
    list(write(pali.folder, folder, int8=int8))
    for part in pali.parts:
        _, model = pali.load(part)
        if isinstance(model, PaliModel):
            pali.pipeline(part).engine = GraphModel(folder / part)
    return pali


@dataclass
class Memory:
    """Of the encoder: its visual tokens, which positions are real ``[B, M]``, and keys and values of each layer
    ``[B, h, M, d]``."""

    outputs: Tensor
    mask: Tensor
    tensors: list[np.ndarray]


@dataclass
class Cache:
    """The memory of each row, and keys and values of its text so far ``[B, h, T, d]``."""

    real: np.ndarray
    memory: list[np.ndarray]
    past: list[np.ndarray]

    def reorder(self, rows: Tensor) -> None:
        index = rows.numpy()
        self.real = self.real[index]
        self.memory, self.past = ([each[index] for each in tensors] for tensors in (self.memory, self.past))


class GraphModel:
    """What :func:`openpali.infer.generate.write` needs."""

    first = PaliModel.first
    precision = "fp32"

    def __init__(self, folder: Path) -> None:
        self._image, self._prompt, self._decoder = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("image", "prompt", "decoder")
        )

    def encode_images(self, images: Images, frames: Tensor | None = None) -> VisualTokens:
        """Images ``[B, F, H, W, 3]``, uint8 in 0..255 or float in -1..1."""
        assert isinstance(images, Tensor)
        pixels = images.flatten(0, 1)
        whole = pixels.div(127.5).sub(1) if pixels.dtype == torch.uint8 else pixels.float()
        visual, patches = map(torch.from_numpy, self._image.run(None, {"pixels": whole.numpy()}))
        return in_rows(patches, visual, images, frames)

    def encode_tokens(self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None) -> Memory:
        if visual_BND is None or counts is not None:
            raise ValueError("the graphs take one image and a prompt")
        real, *tensors = self._prompt.run(None, {"visual": visual_BND.numpy(), "prompt": prompt.numpy()})
        return Memory(visual_BND, torch.from_numpy(real), tensors)

    def start(self, memory: Memory, max_length: int) -> Cache:
        empty = [each[:, :, :0] for each in memory.tensors]
        return Cache(memory.mask.numpy(), memory.tensors, empty)

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        names = [port.name for port in self._decoder.get_inputs()][2:]
        fed: dict[str, Any] = dict(zip(names, [*cache.memory, *cache.past], strict=True))
        logits, *cache.past = self._decoder.run(None, {"ids": ids.numpy(), "real": cache.real, **fed})
        return torch.from_numpy(logits)[:, None]
