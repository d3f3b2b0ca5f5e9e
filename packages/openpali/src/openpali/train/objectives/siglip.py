"""``siglip``: images and their texts, by the sigmoid loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from openpali.architectures.siglip.network import SigLIP, SigLIPConfig
from openpali.data.pipeline.encode import (
    Batch,
    Encoder,
    Padding,
    PairEncoder,
    TextNormalisation,
    images_in,
)
from openpali.eval.benchmark import EncoderBenchmark
from openpali.eval.evaluators import EmbeddingEvaluator
from openpali.home import home
from openpali.infer.pipeline import EmbeddingPipeline
from openpali.model.losses import Embeddings, sigmoid_loss, softmax_loss
from openpali.model.regions import Regions, places_of, region_loss, share_names, side_loss
from openpali.tasks.registry import Tools
from openpali.train.evaluation import Evaluation, find_for
from openpali.train.objectives.base import Lengths, Losses, Objective, blank_in_batch
from openpali.train.recipe import EvalSpec, ModelSpec, PhaseSpec, Recipe
from openpali.train.shapes import shape_of


class SiglipModelSpec(ModelSpec):
    """The two scalars of the sigmoid loss, both of which are learned, and what is done to texts.

    Attributes:
        temperature: initial factor on the similarities of images and texts; a start model has its own.
        bias: initial offset of the logits; about -ln(batch) for small batches; a start model has its own.
        text_normalisation: "lower" lowercases texts, "canonical" also removes ASCII punctuation and extra spaces,
            as SigLIP does, "as is" changes nothing; by default as the start model does, or else "lower".
            keep_case = true goes first.
        padding: how texts are padded: "eos" repeats EOS, as SigLIP does; "pad" has one EOS, then the tokenizer's
            padding token, as SigLIP 2 does; by default as the start model does, or else "eos".
    """

    temperature: float = Field(10.0, gt=0)
    bias: float = -10.0
    text_normalisation: Literal["", TextNormalisation] = ""
    padding: Literal["", Padding] = ""


class SiglipRecipe(Recipe):
    """Images and their texts, in pairs, by the sigmoid loss.

    Attributes:
        keep_case: leave the texts as they are, upper case and all; otherwise see model.text_normalisation.
        softmax: compare each image with all texts of the batch at once, and each text with all images, as CLIP does
            (InfoNCE), and each place of the region loss with all names, instead of each pair by itself; by default
            as the start model was trained, or else false.
        regions: weight of the region loss, in which the patch at the centre of each object of an image is matched
            with the object's name; 0 for none, as in SigLIP.
        dense: match every patch of an object, each object counting the same, and patches of no object with no name:
            images need boxes of all that they show. Patches of images without objects, and of ignored boxes, learn
            nothing.
        sides: weight of the loss of the distances of each patch to the sides of its object; 0 for none.
    """

    keep_case: bool = False
    softmax: bool = False
    regions: float = Field(0.0, ge=0)
    dense: bool = False
    sides: float = Field(0.0, ge=0)
    model: SiglipModelSpec
    kinds: ClassVar[Sequence[str]] = ("siglip",)
    native: ClassVar[bool] = True

    def problems(self) -> Iterator[str]:
        if self.dense and not self.regions:
            yield "dense = true is about the region loss: set regions, such as regions = 1.0"
        if self.sides and not self.dense:
            yield "sides are learned by every patch of an object: set dense = true"
        if self.micro > 1:
            yield (
                f"micro = {self.micro} would hide the negatives of one micro-batch from another: "
                'objective = "siglip" needs micro = 1'
            )


class SiglipObjective(Objective[SiglipRecipe]):
    """Loss of pairs over the global batch, and others by the weights of the recipe."""

    recipe_class: ClassVar[type[Recipe]] = SiglipRecipe

    def configure(self) -> SigLIPConfig:
        shape, model = shape_of(self.recipe, "siglip"), self.recipe.model
        if shape.sides and self.recipe.model.start and not self.recipe.sides:
            raise ValueError(
                f"{self.recipe.model.start} was trained with sides, which this recipe would leave behind: set "
                "regions = 1.0, dense = true and sides = 1.0"
            )
        tower = dataclasses.replace(shape.text, vocab_size=self.tokenizer.vocab_size)
        return SigLIPConfig(shape.vision, tower, model.temperature, model.bias, self.recipe.sides > 0)

    def make_encoder(self) -> Encoder:
        length, regions = cast(SigLIP, self.model).config.text.length, self.recipe.regions > 0
        return PairEncoder(self.tokenizer, length, self._normalisation, regions, self._padding)

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        regions = None
        if self.recipe.regions:
            named = batch["names"], batch["region_names"]
            regions = Regions(batch["region_rows"], batch["region_boxes"], *named, self._points(batch))
        embeddings = self.model(images_in(batch), batch["ids"], regions)
        model = cast(SigLIP, self.model)
        extra = {"temperature": model.log_temperature.detach().exp(), "bias": model.bias.detach().clone()}
        total = softmax_loss(embeddings) if self.recipe.softmax else sigmoid_loss(embeddings)
        if regions is not None:
            embeddings, regions = share_names(embeddings, regions)
            places = places_of(regions)
            of_regions = region_loss(embeddings, regions, places, softmax=self.recipe.softmax)
            total = total + self.recipe.regions / total_weight * of_regions
            extra["regions"] = of_regions.detach() / len(batch["ids"])
            if self.recipe.sides:
                of_sides = side_loss(embeddings, regions, places)
                total = total + self.recipe.sides / total_weight * of_sides
                extra["sides"] = of_sides.detach() / (regions.named >= 0).sum()
        return Losses(total, 1 - hits(embeddings).float(), extra)

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        ids = torch.ones(rows, cast(SigLIP, self.model).config.text.length, dtype=torch.long)
        batch = {"ids": ids, **blank_in_batch(phase, self.config.vision, rows)}
        if self.recipe.regions:  # one object an image, each with a name of its own
            batch |= {"region_rows": torch.arange(rows), "region_names": torch.arange(rows)}
            batch |= {"region_boxes": torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(rows, 1), "names": ids}
        return batch

    def logit_width(self, rows: int) -> int:
        return rows

    def evaluated(self, sharded: bool) -> EmbeddingPipeline:
        model = cast(SigLIP, self.model)
        preprocess = self.recipe.model.preprocess_for(model.vit.config)
        how = self._normalisation, self._padding, self.recipe.softmax
        return EmbeddingPipeline(model, self.tokenizer, preprocess, *how)

    def facts(self) -> Mapping[str, Any]:
        return {"text_normalisation": self._normalisation, "padding": self._padding}

    def _points(self, batch: Batch) -> Tensor | None:
        """Where all patches are, if they learn."""
        if not self.recipe.dense:
            return None
        model, images = cast(SigLIP, self.model), images_in(batch)
        if not isinstance(images, Tensor):
            return model.vit.centres(images.values.shape[1], images.grids)
        rows, columns = model.vit.config.grid
        return model.vit.centres(rows * columns).expand(len(images), -1, -1)

    @property
    def _normalisation(self) -> TextNormalisation:
        return (
            "as is" if self.recipe.keep_case else self.recipe.model.text_normalisation or PairEncoder.normalisation
        )

    @property
    def _padding(self) -> Padding:
        return self.recipe.model.padding or PairEncoder.padding

    @classmethod
    def vocabulary(cls, recipe: SiglipRecipe) -> int:
        return int(shape_of(recipe, "siglip").text.vocab_size)

    @classmethod
    def open_evaluation(cls, spec: EvalSpec, recipe: SiglipRecipe, tools: Tools) -> Evaluation:
        if spec.source:
            raise ValueError(
                'objective = "siglip" is evaluated by benchmarks of embeddings: name one, and no source'
            )
        benchmark = find_for(recipe, spec.benchmark, EncoderBenchmark, "asks for answers")
        embedded = EmbeddingEvaluator(benchmark, home() / "data", spec.limit or None)
        return Evaluation(spec.label, spec.every, spec.limit, benchmark.metric, [embedded])


@torch.no_grad()
def hits(embeddings: Embeddings, chunk: int = 1024) -> Tensor:
    """Whether the nearest text of the batch to each image is its own: bool ``[B]``.

    Similarities are computed for ``chunk`` images at a time.
    """
    image, text, *_ = embeddings
    nearest = torch.cat([(some @ text.T).argmax(1) for some in torch.split(image, chunk)])
    return nearest == torch.arange(len(image), device=image.device)
