"""Referring expression segmentation: an expression -> a box and 16 mask tokens (PaLI-3 section 4.2)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from openpali.metrics.boxes import box_iou
from openpali.metrics.masks import overlap
from openpali.tasks import scoring
from openpali.tasks.base import Answer, Need, Sample, Task, referred, require
from openpali.tasks.confidence import Generated, part_log_probs
from openpali.tasks.example import Box, Example, Mask, Object, Size
from openpali.tasks.scoring import Answered
from openpali.text.locations import LocationCodec
from openpali.text.tokenizer import Tokenizer

CROP = 64
"""Side of the mask VQ-VAE's input in pixels: the mask inside a box, resized."""

MaskCrop = NDArray[np.float32]  # [64, 64]


class MaskCodec(Protocol):
    """Both halves of the mask VQ-VAE."""

    def encode(self, mask: MaskCrop) -> Sequence[int]:
        """``[64, 64]`` in 0..1 -> 16 codes from 0 to 127."""
        ...

    def decode(self, codes: Sequence[int]) -> MaskCrop:
        """16 codes -> ``[64, 64]`` in -1..1, above 0 where the object is."""
        ...


def crop_mask(mask: Mask, box: Box) -> MaskCrop:
    """The mask ``[H, W]`` inside a box, resized to ``[64, 64]`` float32 in 0..1, soft at the edges.

    The edges of the box are rounded to pixels; bilinear with antialiasing (``segmentation.py``
    in big_vision's ``pp/proj``).
    """
    crop = PilImage.fromarray(mask[_pixels(box, Size(*mask.shape))].astype(np.float32))
    return np.asarray(crop.resize((CROP, CROP), PilImage.Resampling.BILINEAR)).clip(0, 1)


def paste_mask(values: MaskCrop, box: Box, size: Size, *, floor: bool = False) -> Mask:
    """The inverse: ``[64, 64]`` in -1..1 resized to the box in an image of ``size``; true above 0.

    Args:
        floor: round the edges of the box down (``segmentation.py`` in big_vision's ``evaluators/proj``); a box
            within one pixel then gives an empty mask. By default they are rounded as :func:`crop_mask` rounds them.
    """
    full = np.zeros(size, bool)
    top, left, bottom, right = (max(int(edge), 0) for edge in box)
    region = full[top:bottom, left:right] if floor else full[_pixels(box, size)]
    if region.size:
        height, width = region.shape
        crop = PilImage.fromarray(np.asarray(values, np.float32))
        region[...] = np.asarray(crop.resize((width, height), PilImage.Resampling.BILINEAR)) > 0
    return full


@dataclass(frozen=True)
class RefSeg(Task):
    """Box and mask of each object that an expression refers to, one after the other.

    Attributes:
        masks: the mask VQ-VAE. Without it, no target can be written and answers have only boxes.
        bins: positions along each side of the image that coordinates are rounded to, 2 to 10,000.
        style: coordinates as plain integers ("text"), or as location tokens ("token").
    """

    name: ClassVar[str] = "refseg"
    coordinates: ClassVar[bool] = True
    alternatives: ClassVar[bool] = True
    takes: ClassVar[str] = "expression"
    needs: ClassVar[frozenset[Need]] = frozenset({"images", "masks"})
    metric: ClassVar[str] = "miou"
    right: ClassVar[str] = "p@0.5"
    max_target_tokens: ClassVar[int] = 128  # four objects or more

    masks: MaskCodec | None = None
    bins: int = 1000
    style: Literal["text", "token"] = "text"

    def __post_init__(self) -> None:
        _ = self.codec  # checks bins and style

    @property
    def codec(self) -> LocationCodec:
        """How boxes are written."""
        return LocationCodec(self.bins, self.style)

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        expression = require(example.expression.strip(), example, "expression")
        things = []
        for index, thing in zip(example.referred, referred(example), strict=True):
            if thing.mask is None:
                raise ValueError(f"sample {example.key} has no mask for object {index} ({thing.name!r})")
            things.append((thing.box, thing.mask))
        target = self._coded(things, expression, example)
        return Sample(self.ask(expression), target, (target,))

    def _coded(self, things: Sequence[tuple[Box, Mask]], expression: str, example: Example) -> str:
        if self.masks is None:
            raise ValueError("task refseg needs the mask VQ-VAE to write targets: pass it as masks")
        parts, way = [], self.dialect
        for box, mask in things:
            try:
                written = self.codec.encode(self.codec.widened(box, example.size), example.size)
            except ValueError as error:
                raise ValueError(f"sample {example.key}: {error}") from error
            codes = way.masks.encode(self.masks.encode(crop_mask(mask, box)))
            parts.append(way.masks.joiner.join([written, codes]) + (f" {expression}" if way.names_segments else ""))
        return way.objects_joiner.join(parts)

    def parse(self, text: str, size: Size, *, prompt: str = "", strict: bool = False) -> Answer:
        """Objects have names in dialects that write them; the expression is in the prompt, too."""
        size = Size(*size)
        found = self._found(text, size, strict)
        return Answer(
            text.strip(), tuple(Object(name, box, self._mask(codes, box, size)) for name, box, codes, _ in found)
        )

    def claims(self, generated: Generated, tokenizer: Tokenizer, prompt: str = "") -> list[float]:
        """The log-probability of each object's box: many codes draw much the same mask, so theirs say less."""
        parts = [place for *_, place in self._found(tokenizer.decode(generated.ids), Size(1, 1))]
        return [math.fsum(logs) for logs in part_log_probs(generated, tokenizer, parts)]

    @classmethod
    def right_claims(cls, row: Answered) -> list[bool]:
        """Whether the first mask has an IoU of 0.5 or more; others are not measured."""
        values = row.values
        return [] if values["invalid"] else [values["intersection"] >= 0.5 * values["union"]]

    def measure(
        self, example: Example, sample: Sample, answer: Answer, generated: Generated, tokenizer: Tokenizer
    ) -> Mapping[str, Any]:
        """Overlap of the first mask of the answer with that of the object that the expression refers to.

        ``ceiling`` is the IoU of the target itself, so both its coordinates and its mask tokens lower it.
        """
        if self.masks is None:
            raise ValueError("segmentation needs a mask VQ-VAE, and this model has none: pack one with it")
        thing = example.objects[example.referred[0]]
        assert thing.mask is not None
        found = next((each for each in answer.objects if each.mask is not None), None)
        mask = np.zeros(example.size, bool) if found is None or found.mask is None else found.mask
        best = self.parse(sample.target, example.size).objects[0].mask
        assert best is not None
        intersection, union = overlap(mask, thing.mask)
        best_intersection, best_union = overlap(best, thing.mask)
        return {
            "intersection": intersection,
            "union": union,
            "box_iou": float(box_iou([found.box], [thing.box])[0, 0]) if found else 0.0,
            "ceiling": best_intersection / best_union if best_union else 1.0,
            "invalid": float(found is None),
        }

    score = staticmethod(scoring.segmentation)

    def _mask(self, codes: Sequence[int], box: Box, size: Size) -> Mask | None:
        """The mask of these codes; None without a mask VQ-VAE."""
        if self.masks is None:
            return None
        return paste_mask(self.masks.decode(codes), box, size, floor=self.dialect.floors_masks)

    def _found(
        self, text: str, size: Size, strict: bool = False
    ) -> Iterator[tuple[str, Box, Sequence[int], tuple[int, int]]]:
        """Name, box and mask codes of each object, and where in the text the box starts and ends."""
        way, start = self.dialect, 0
        for part in text.split(way.objects_joiner.strip() or None) if way.names_segments else [text]:
            end = 0
            for match in way.masks.pattern.finditer(part):
                name = part[match.end() :].strip() if way.names_segments else ""
                place, coordinates = (start + end, start + match.start()), part[end : match.start()]
                end = match.end()
                if not strict:  # ignore words before the coordinates
                    coordinates = " ".join(self._last_four(coordinates))
                try:
                    yield name, Box(*self.codec.decode(coordinates, size)), way.masks.decode(match[0]), place
                except ValueError:
                    if strict:
                        raise
            if strict and (not end or (part[end:].strip() and not way.names_segments)):
                raise ValueError(
                    f"character {start + end + 1}: four coordinates and 16 mask tokens are expected here"
                )
            start += len(part) + 1

    def _last_four(self, text: str) -> list[str]:
        return (re.findall(r"<loc[0-9]{4}>", text) if self.style == "token" else text.split())[-4:]


def _pixels(box: Box, size: Size) -> tuple[slice, slice]:
    """The pixels of a box, its edges rounded: at least one row and one column of an image of ``size``."""
    return _span(box.ymin, box.ymax, size.height), _span(box.xmin, box.xmax, size.width)


def _span(start: float, end: float, side: int) -> slice:
    first = min(max(round(start), 0), side - 1)
    return slice(first, min(max(round(end), first + 1), side))
