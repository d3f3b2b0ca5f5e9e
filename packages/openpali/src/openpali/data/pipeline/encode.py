"""Example -> arrays, and arrays -> batch, in the data workers: the encoders that inference uses, too.

Shapes: B batch, F frames, H W pixels, P prompt tokens, T target tokens, L text tower tokens.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openpali.data.media.native import AnyPreprocess
from openpali.model.patches import Images, Patches
from openpali.model.regions import PADDING, UNKNOWN
from openpali.tasks.base import Task, require
from openpali.tasks.example import Box, Example, Image, Size
from openpali.text.tokenizer import Tokenizer

Arrays = Mapping[str, NDArray[Any]]
Batch = dict[str, Tensor]
TextNormalisation = Literal["as is", "lower", "canonical"]
Padding = Literal["eos", "pad"]
TEXT_MULTIPLE = 8  # tokens; batches of text are padded to a multiple of it
REGION_MULTIPLE = 64  # regions of a batch, and their names, are padded to a multiple of it


class Encoder(Protocol):
    """The part of an objective that runs in the data workers. ``task`` is a :class:`~openpali.tasks.base.Task`, or
    None for an objective whose recipes name none."""

    def encode(self, example: Example, task: Any, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        """One example as arrays. Raises ``ValueError`` if it cannot be used; the stream then quarantines it."""
        ...

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        """The arrays of several examples as one batch."""
        ...


@dataclass(frozen=True)
class SequenceEncoder:
    """Prompt and target for the encoder-decoder.

    Batches have ``images [B, F, H, W, 3]`` uint8, or of images in their own proportions patches and their ``grids
    [B, F, 2]`` (:func:`images_in`), ``frames [B]`` if the numbers of frames differ, ``prompt [B, P]`` and ``target
    [B, T]``, both padded on the right to a multiple of 8; the target ends in EOS. ``places [N]`` are those of its
    tokens in the flattened target; finding them on a GPU would make the host wait.

    With ``cut``, a target that is too long is truncated, without EOS, so that the model does not learn to stop
    there. A prompt is never truncated, since the question may be at its end.
    """

    tokenizer: Tokenizer
    max_prompt: int
    max_target: int
    cut: bool = False

    def encode(self, example: Example, task: Task, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        if "images" in task.needs:
            first_image(example)
        sample = task.write(example, rng)
        prompt = sample.prompt_ids(self.tokenizer)
        target = [*sample.target_ids(self.tokenizer), self.tokenizer.eos_id]
        if self.cut:
            target = target[: self.max_target]
        for what, ids, limit in (("prompt", prompt, self.max_prompt), ("target", target, self.max_target)):
            if len(ids) > limit:
                raise ValueError(f"{what} of {len(ids)} tokens, but the recipe's max_{what} is {limit}")
        images = join_frames([preprocess.arrays(image) for image in example.images])
        return {"prompt": np.array(prompt, np.int64), "target": np.array(target, np.int64), **images}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        prompt, target = ([s[name] for s in samples] for name in ("prompt", "target"))
        pad = self.tokenizer.pad_id
        batch = {"prompt": pad_ids(prompt, pad), "target": pad_ids(target, pad), **stack_frames(samples)}
        width = batch["target"].shape[1]
        batch["places"] = torch.cat([i * width + torch.arange(len(s["target"])) for i, s in enumerate(samples)])
        return batch


@dataclass(frozen=True)
class PairEncoder:
    """Image and text for SigLIP: ``images [B, H, W, 3]`` uint8, ``ids [B, L]``. Of images in their own proportions,
    ``images`` are patches, and ``grids [B, 2]`` their rows and columns (:func:`images_in`).

    Text is normalised by ``normalisation``, ended by EOS, and padded to ``length`` by ``padding``.

    With ``regions``, a batch also has ``region_rows [R]``, the image of each object, ``region_boxes [R, 4]``
    float32, shares of the image with its padding, ``names [U, L]``, the objects' distinct names, and ``region_names
    [R]``, indices into them, -2 of an ignored box. R and U are padded to multiples of 64: R with names of -1, U
    with the empty text.
    """

    tokenizer: Tokenizer
    length: int
    # "lower" for lower case; "canonical" also removes ASCII punctuation and extra spaces, as transformers'
    # `SiglipTokenizer` does; "as is" changes nothing
    normalisation: TextNormalisation = "lower"
    regions: bool = False  # also encode the objects of images
    # "eos" repeats EOS, as SigLIP does; "pad" has one EOS, then the padding token, as SigLIP 2 does
    padding: Padding = "eos"

    def encode(self, example: Example, task: Task, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        text = task.write(example, rng).target
        image = first_image(example)
        arrays = {**preprocess.arrays(image), "ids": self.text(text)}
        if self.regions:
            names = [self.text(thing.name) for thing in example.objects]
            boxes = [*(thing.box for thing in example.objects), *example.ignored]
            arrays["boxes"] = as_shares(boxes, example.size, preprocess)
            arrays["names"] = np.array(names, np.int64).reshape(-1, self.length)
        return arrays

    def text(self, text: str) -> NDArray[np.int64]:
        """Token ids ``[length]`` of one text."""
        if self.normalisation != "as is":
            text = text.lower()
        if self.normalisation == "canonical":
            text = " ".join(text.translate(_WITHOUT_PUNCTUATION).split())
        ids = [*self.tokenizer.encode(text)[: self.length - 1], self.tokenizer.eos_id]
        filler = self.tokenizer.eos_id if self.padding == "eos" else self.tokenizer.pad_id
        return np.array(ids + [filler] * (self.length - len(ids)), np.int64)

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        batch = stack([{key: s[key] for key in s if key not in ("boxes", "names")} for s in samples])
        if not self.regions:
            return batch
        names, named = np.unique(np.concatenate([s["names"] for s in samples]), axis=0, return_inverse=True)
        boxes = [len(s["boxes"]) for s in samples]
        known = np.concatenate([np.arange(len(s["boxes"])) < len(s["names"]) for s in samples])
        region_names = np.full(len(known), UNKNOWN)
        region_names[known] = named.ravel()
        arrays = {
            "region_rows": _fill(np.repeat(np.arange(len(samples)), boxes), 0),
            "region_boxes": _fill(np.concatenate([s["boxes"] for s in samples]), 0),
            "region_names": _fill(region_names, PADDING),
            "names": _fill(names, self.text("")),
        }
        return batch | {key: torch.from_numpy(value) for key, value in arrays.items()}


def as_shares(boxes: Sequence[Box], size: Size, preprocess: AnyPreprocess) -> NDArray[np.float32]:
    """Boxes in an image of a size as shares of the sides of the preprocessed image: ``[R, 4]``."""
    scale = np.array(preprocess.covered(size), np.float32) / np.array(size, np.float32)
    return np.asarray(np.array(boxes, np.float32).reshape(-1, 4) * np.tile(scale, 2), np.float32)


def _fill(rows: NDArray[Any], row: int | NDArray[Any]) -> NDArray[Any]:
    """Append ``row`` up to a multiple of :data:`REGION_MULTIPLE`, at least once."""
    more = REGION_MULTIPLE - len(rows) % REGION_MULTIPLE
    return np.concatenate([rows, np.full((more, *rows.shape[1:]), row, rows.dtype)])


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def stack(samples: Sequence[Arrays]) -> Batch:
    """Arrays of equal shapes as one batch."""
    return {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}


def images_in(batch: Batch) -> Images:
    """The images of a batch as the ViT takes them."""
    return Patches(batch["images"], batch["grids"]) if "grids" in batch else batch["images"]


def first_image(example: Example) -> Image:
    """The first image of an example; raises ``ValueError`` if there is none."""
    return require(example.images, example, "image")[0]


def join_frames(images: Sequence[Arrays]) -> Arrays:
    """The arrays of each image of a row as those of the row, with frames first; nothing if there are none."""
    return {key: np.stack([image[key] for image in images]) for key in images[0]} if images else {}


def stack_frames(rows: Sequence[Arrays]) -> Batch:
    """Images of each row (:func:`join_frames`) -> ``images``, and ``grids`` of those in their own proportions,
    ``[B, F, ...]``; and ``frames [B]`` if their numbers differ. Nothing if there are none.

    Missing frames are black, and of one patch.
    """
    counts = [len(row.get("images", ())) for row in rows]
    if not any(counts):
        return {}
    batch: Batch = {}
    for key, blank in (("images", np.zeros), ("grids", np.ones)):
        given = [(i, row[key]) for i, row in enumerate(rows) if key in row]
        if given:
            _, first = given[0]
            stacked = blank((len(rows), max(counts), *first.shape[1:]), first.dtype)
            for i, frames in given:
                stacked[i, : len(frames)] = frames
            batch[key] = torch.from_numpy(stacked)
    if len(set(counts)) > 1:
        batch["frames"] = torch.tensor(counts)
    return batch


def pad_ids(rows: Sequence[Sequence[int] | NDArray[np.int64]], pad: int) -> Tensor:
    """Token ids of each row -> ``[B, L]``, padded on the right to a multiple of 8."""
    # Few distinct lengths, since CPU libraries keep a compiled matmul (about 0.5 MB) for each shape.
    longest = -(-max(len(row) for row in rows) // TEXT_MULTIPLE) * TEXT_MULTIPLE
    out = np.full((len(rows), longest), pad, np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(out)
