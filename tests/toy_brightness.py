"""A package that adds all that a package can: images, a model that learns how bright they are, and its uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from fastapi import APIRouter
from starlette.responses import JSONResponse, Response
from torch import Tensor, nn

from openpali import Pali
from openpali.architectures.base import Architecture
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, Encoder, first_image, stack
from openpali.eval.benchmark import Benchmark, PageBenchmark
from openpali.extensions import Extension
from openpali.infer.components import ALONE, Component, Question
from openpali.infer.pipeline import Prediction, Row
from openpali.metrics.boxes import Detection
from openpali.serve.api import ApiRoute
from openpali.serve.schemas import Body, DataUrl
from openpali.serve.service import Service
from openpali.tasks.base import Answer
from openpali.tasks.example import Box, Example, Image, Size
from openpali.train.objectives.base import Lengths, Losses, Objective, blank_images
from openpali.train.recipe import PageRecipe, PhaseSpec, Recipe
from openpali.train.shapes import shape_of

EXTENSION = Extension(
    commands={"brightness": "toy_brightness:command"},
    sources={"grey": "toy_brightness:Greys"},
    architectures={"brightness": "toy_brightness:BrightnessArchitecture"},
    objectives={"brightness": "toy_brightness:BrightnessObjective"},
    components={"brightness": "toy_brightness:BrightnessComponent"},
    endpoints={"brightness": "toy_brightness:router"},
    suites={"brightness": "toy_brightness:suite"},
)


class Greys:
    """256 images, from black to white; the label is how bright they are."""

    def __init__(self, name: str = "", options: Any = None, min_size: Size | None = None) -> None:
        pass

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int, /) -> Example:
        image = np.full((16, 16, 3), index, np.uint8)
        return Example(f"grey-{index}", [image], label=str(index / 255))


@dataclass(frozen=True)
class BrightnessConfig:
    """Nothing to choose."""


class Brightness(nn.Module):
    """Images ``[B, H, W, 3]`` uint8 -> how bright they are, ``[B]``."""

    def __init__(self, config: BrightnessConfig) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(1))

    def init_weights(self) -> None:
        nn.init.zeros_(self.scale)

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.float().mean((1, 2, 3)) / 255


class BrightnessArchitecture(Architecture[BrightnessConfig]):
    kind = "brightness"
    config = BrightnessConfig
    network = Brightness
    presets: ClassVar = {"brightness": BrightnessConfig()}


class BrightnessEncoder:
    def encode(self, example: Example, task: None, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        return {"images": first_image(example), "label": np.array(float(example.label), np.float32)}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        return stack(samples)


class BrightnessObjective(Objective[PageRecipe]):
    recipe_class: ClassVar[type[Recipe]] = PageRecipe

    def configure(self) -> BrightnessConfig:
        return shape_of(self.recipe, "brightness")

    def make_encoder(self) -> Encoder:
        return BrightnessEncoder()

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        rows = (self.model(batch["images"]) - batch["label"]) ** 2
        return Losses(rows.sum() / total_weight, rows.detach())

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        return {"images": blank_images(phase, rows), "label": torch.zeros(rows)}


class BrightnessComponent(Component):
    def can(self, question: Question) -> float:
        return ALONE if question.task == "vqa" and "bright" in question.prompt else 0.0

    def of(self, image: Image) -> float:
        return float(self.bundle.load("brightness")[1](torch.from_numpy(image)[None]))

    def answer(self, row: Row) -> Prediction:
        return self.predicted(row, Answer(f"{self.of(row.images[0]):.0%}", confidence=1.0))


class BrightnessRequest(Body):
    image: DataUrl


def router(service: Service) -> APIRouter:
    made = APIRouter(route_class=ApiRoute)

    @made.post("/v1/brightness")
    async def brightness(body: BrightnessRequest) -> Response:
        component = service.model(None).pali.component("brightness")
        image = [(body.image, "image")]
        found = await service.in_turn(image, lambda named: next(service.media.images(named)), component.of)
        return JSONResponse({"brightness": found})

    return made


def suite() -> list[Benchmark]:
    def answer(pali: Any) -> Any:
        of, box = pali.component("brightness").of, Box(0, 0, 16, 16)
        return lambda page: [[Detection(f"{x:.1f}", box)] for x in (of(page.images[0]), float(page.label))]

    about: Any = {"title": "Brightness", "split": "all", "part": "brightness", "parts": ("brightness",)}
    return [PageBenchmark(name="brightness", open=lambda root: Greys(), answer=answer, **about)]


def command(model: Path) -> None:
    """Print what a model makes of white."""
    print(Pali.from_pretrained(model).component("brightness").of(np.full((4, 4, 3), 255, np.uint8)))
