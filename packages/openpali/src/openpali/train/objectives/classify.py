"""``classify``: classes of images, by name: the baseline of the paper's Table 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from openpali.architectures.classifier import ClassifierConfig
from openpali.architectures.registry import architecture_of, architectures
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import Arrays, Batch, Encoder, first_image, stack
from openpali.model.vit import Classifier
from openpali.tasks.base import Task
from openpali.tasks.example import Example
from openpali.train.objectives.base import Lengths, Losses, Objective, blank_images
from openpali.train.recipe import PhaseSpec, Recipe
from openpali.train.shapes import shape_of


class ClassifyRecipe(Recipe):
    """Classes of images, by name: the baseline of the paper's comparison with SigLIP.

    Attributes:
        label_smoothing: share of the probability that the target spreads over all classes.
    """

    label_smoothing: float = Field(0.0, ge=0, lt=1)


@dataclass(frozen=True)
class LabelEncoder:
    """Image and class, the task's target, for the classification control: ``images [B, H, W, 3]`` uint8,
    ``label [B]``."""

    labels: Sequence[str]

    def encode(self, example: Example, task: Task, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        image = preprocess(first_image(example))
        label = task.write(example, rng).target
        if label not in self.labels:
            raise ValueError(f"label {label!r} of {example.key} is not one of the {len(self.labels)} classes")
        return {"images": image, "label": np.array(self.labels.index(label))}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        return stack(samples)


class ClassifyObjective(Objective[ClassifyRecipe]):
    """Softmax cross-entropy over class names."""

    recipe_class: ClassVar[type[Recipe]] = ClassifyRecipe

    def configure(self) -> Any:
        labelled = [kind for kind, each in architectures().items() if each.labelled]
        shape, labels = shape_of(self.recipe, *labelled, "siglip"), tuple(self.labels())
        if architecture_of(shape).labelled:
            return replace(shape, labels=labels)
        return ClassifierConfig(shape.vision, labels)

    def make_encoder(self) -> Encoder:
        return LabelEncoder(self.classes)

    @property
    def classes(self) -> Sequence[str]:
        return cast(tuple[str, ...], self.config.labels)

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        logits = cast(Classifier, self.model)(batch["images"]).float()
        rows = F.cross_entropy(
            logits, batch["label"], reduction="none", label_smoothing=self.recipe.label_smoothing
        )
        return Losses(rows.sum() / total_weight, rows.detach())

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        return {"images": blank_images(phase, rows), "label": torch.zeros(rows, dtype=torch.long)}

    def logit_width(self, rows: int) -> int:
        return len(self.classes)
