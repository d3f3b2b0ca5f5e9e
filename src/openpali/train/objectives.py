"""Objectives: a model, the encoder of its samples, and the loss of a batch.

An objective does not know about ranks or gradient accumulation: it returns its part of a loss that the caller sums.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.data.pipeline.encode import (
    REGION_MULTIPLE,
    Batch,
    Encoder,
    LabelEncoder,
    MaskEncoder,
    PairEncoder,
    SequenceEncoder,
    Wording,
)
from openpali.data.pipeline.pages import FindingEncoder, ReadingEncoder
from openpali.model.losses import cross_entropy, region_loss, share_names, sigmoid_loss
from openpali.model.mask_vqvae import MaskVQVAE, MaskVQVAEConfig
from openpali.model.pages import (
    CELLS,
    Cells,
    FinderConfig,
    ReaderConfig,
    Truth,
    best_path,
    finding_loss,
    reading_loss,
)
from openpali.model.pali import PaliModelConfig, VisionLanguageModel
from openpali.model.paligemma import PaliGemmaConfig
from openpali.model.siglip import Embeddings, Regions, SigLIP, SigLIPConfig
from openpali.model.sizes import SIZES, Preset
from openpali.model.t5gemma2 import T5Gemma2Config
from openpali.model.vit import Classifier
from openpali.tasks.example import Size
from openpali.text.characters import CHARACTERS
from openpali.text.tokenizer import Tokenizer
from openpali.train.adapt import build_adaptable
from openpali.train.recipe import (
    ClassifyRecipe,
    FindRecipe,
    MaskRecipe,
    ReadRecipe,
    Recipe,
    SequenceRecipe,
    SiglipRecipe,
)
from openpali.weights.find import find_model
from openpali.weights.format import ClassifierConfig, Config, open_model

C = TypeVar("C", bound=Config)
SequenceConfig = PaliModelConfig | PaliGemmaConfig | T5Gemma2Config


@dataclass
class Losses:
    """The loss of a batch.

    Attributes:
        total: the batch's part of the global loss, a scalar to call backward on.
        per_row: a loss of each row ``[B]``, detached; reported per source.
        extra: further values to report: scalars, detached, on their device. (Reading them here would make the CPU
            wait for the GPU before the backward pass.)
    """

    total: Tensor
    per_row: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """A model with its loss."""

    config: Config
    model: nn.Module
    encoder: Encoder

    def weight(self, batch: Batch) -> float:
        """The batch's part of ``total_weight``, which is the sum over micro-batches and ranks."""
        ...

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        """Forward pass and loss; ``total_weight`` is what the summed loss is divided by."""
        ...


class SiglipObjective:
    """Pairwise sigmoid loss over the global batch, and ``recipe.regions`` times the region loss."""

    def __init__(self, recipe: SiglipRecipe, tokenizer: Tokenizer) -> None:
        shape = _shape(recipe, SigLIPConfig)
        tower = dataclasses.replace(shape.text, vocab_size=tokenizer.vocab_size)
        self.config: Config = SigLIPConfig(shape.vision, tower, recipe.model.temperature, recipe.model.bias)
        self.model = build_adaptable(self.config, recipe)
        self.regions = recipe.regions
        wording: Wording = "as is" if recipe.keep_case else "lower"
        self.encoder: Encoder = PairEncoder(tokenizer, tower.length, wording, regions=recipe.regions > 0)

    def weight(self, batch: Batch) -> float:
        return float(len(batch["ids"]))

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        regions = None
        if self.regions:
            names, named = share_names(batch["names"], batch["region_names"], REGION_MULTIPLE)
            regions = Regions(batch["region_rows"], batch["region_centres"], names, named)
        embeddings = self.model(batch["images"], batch["ids"], regions)
        model = cast(SigLIP, self.model)
        extra = {"temperature": model.log_temperature.detach().exp(), "bias": model.bias.detach().clone()}
        total = sigmoid_loss(embeddings)
        if regions is not None:
            of_regions = region_loss(embeddings, regions)
            total = total + self.regions / total_weight * of_regions
            extra["region_misses"] = region_misses(embeddings, regions)
        return Losses(total, 1 - hits(embeddings).float(), extra)


class ClassifyObjective:
    """Softmax cross-entropy over class names: the baseline of the paper's Table 1."""

    def __init__(self, recipe: ClassifyRecipe, labels: Sequence[str]) -> None:
        self.config: Config = ClassifierConfig(_shape(recipe, SigLIPConfig).vision, tuple(labels))
        self.model = build_adaptable(self.config, recipe)
        self.encoder: Encoder = LabelEncoder(tuple(labels))
        self.smoothing = recipe.label_smoothing

    def weight(self, batch: Batch) -> float:
        return float(len(batch["label"]))

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        logits = cast(Classifier, self.model)(batch["images"]).float()
        rows = F.cross_entropy(logits, batch["label"], reduction="none", label_smoothing=self.smoothing)
        return Losses(rows.sum() / total_weight, rows.detach())


class SequenceObjective:
    """Cross-entropy of the target given images and prompt: stages 0b (UL2), 1, 2 and 3."""

    def __init__(self, recipe: SequenceRecipe, tokenizer: Tokenizer) -> None:
        shape = cast(SequenceConfig, _shape(recipe, PaliModelConfig, PaliGemmaConfig, T5Gemma2Config))
        self.config: Config = _for_sequences(shape, recipe, tokenizer)
        self.model = build_adaptable(self.config, recipe)
        cast(VisionLanguageModel, self.model).check_pad(tokenizer.pad_id)
        self.encoder: Encoder = SequenceEncoder(
            tokenizer, recipe.max_prompt, recipe.max_target, cut=recipe.too_long == "cut"
        )
        self.recipe = recipe

    def weight(self, batch: Batch) -> float:
        if self.recipe.loss_mean == "example":
            return float(len(batch["target"]))
        return float(len(batch["places"]))

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        target, places = batch["target"], batch["places"]
        hidden = self.model(batch.get("images"), batch["prompt"], target, batch.get("frames"))
        real = target != VisionLanguageModel.pad  # [B, T]
        lengths = real.sum(1, keepdim=True)
        weights = real / total_weight
        if self.recipe.loss_mean == "example":
            weights = weights / lengths
        head = cast(VisionLanguageModel, self.model).head  # after the forward pass, which gathers it if sharded
        total, nll = cross_entropy(
            hidden.flatten(0, 1).index_select(0, places),  # not hidden[real], which the host would wait for
            head.matrix,
            target.take(places),
            weights.take(places),
            label_smoothing=self.recipe.label_smoothing,
            z_loss=self.recipe.z_loss,
            cap=head.cap,
        )
        per_row = nll.new_zeros(real.numel()).index_copy(0, places, nll).view(real.shape).sum(1)
        return Losses(total, per_row / lengths[:, 0])


class MaskObjective:
    """Reconstruction of masks from 16 codes."""

    def __init__(self, recipe: MaskRecipe) -> None:
        self.config: Config = _shape(recipe, MaskVQVAEConfig)
        self.model = build_adaptable(self.config, recipe)
        self.encoder: Encoder = MaskEncoder()

    def weight(self, batch: Batch) -> float:
        return float(len(batch["masks"]))

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        masks = batch["masks"]
        out = cast(MaskVQVAE, self.model)(masks)
        rows = F.binary_cross_entropy_with_logits(4 * out.masks, masks, reduction="none").mean((1, 2))
        total = (rows.sum() + out.commitment * len(masks)) / total_weight
        inside, truth = out.masks > 0, masks > 0.5
        iou = (inside & truth).sum((1, 2)) / (inside | truth).sum((1, 2)).clamp(min=1)
        codes = torch.tensor(float(len(out.codes.unique())))
        return Losses(total, rows.detach(), {"iou": iou.mean(), "codes": codes})


class FindObjective:
    """Where lines of text are: a linear head on every patch."""

    def __init__(self, recipe: FindRecipe) -> None:
        self.config: Config = _shape(recipe, FinderConfig)
        self.model = build_adaptable(self.config, recipe)
        self.encoder: Encoder = FindingEncoder()

    def weight(self, batch: Batch) -> float:
        return float(len(batch["images"]))

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        cells = cast(Cells, self.model(batch["images"]))
        truth = Truth(batch["text"], batch["up"], batch["down"])
        rows = finding_loss(cells, truth)
        found, text, free = cells.logits.detach() > 0, truth.text > 0, truth.text == 0
        extra = {"missed": (text & ~found).sum() / text.sum(), "false": (free & found).sum() / free.sum()}
        return Losses(rows.sum() / total_weight, rows.detach(), extra)


class ReadObjective:
    """What lines of text say: a character for every column, by CTC."""

    def __init__(self, recipe: ReadRecipe) -> None:
        shape = _shape(recipe, ReaderConfig)
        config = shape if shape.characters else dataclasses.replace(shape, characters=CHARACTERS)
        self.config: Config = config
        self.model = build_adaptable(config, recipe)
        self.encoder: Encoder = ReadingEncoder(recipe.pieces)

    def weight(self, batch: Batch) -> float:
        return float(len(batch["lines"]))

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        characters, columns = batch["characters"], batch["columns"]
        logits = self.model(batch["lines"], columns)
        steps = columns * CELLS
        lines = reading_loss(logits, steps, characters) / (characters > 0).sum(1)
        rows = batch["row"]
        per_row = lines.new_zeros(int(rows[-1]) + 1).index_add_(0, rows, lines.detach()) / rows.bincount()
        misread = (best_path(logits.detach(), steps, characters.shape[1]) != characters).any(1).float().mean()
        return Losses(lines.sum() / total_weight, per_row, {"misread": misread})


@torch.no_grad()
def hits(embeddings: Embeddings, chunk: int = 1024) -> Tensor:
    """Whether the nearest text of the batch to each image is its own: bool ``[B]``.

    Similarities are computed for ``chunk`` images at a time.
    """
    image, text, *_ = embeddings
    nearest = torch.cat([(rows @ text.T).argmax(1) for rows in torch.split(image, chunk)])
    return nearest == torch.arange(len(image), device=image.device)


@torch.no_grad()
def region_misses(embeddings: Embeddings, regions: Regions) -> Tensor:
    """Share of the regions whose nearest name of the batch is not their own, a scalar."""
    assert embeddings.region is not None
    assert embeddings.name is not None
    nearest = regions.names[(embeddings.region @ embeddings.name.T).argmax(1)]  # [R, L]
    real = regions.named >= 0
    missed = (nearest != regions.names[regions.named]).any(-1) & real
    return missed.sum() / real.sum().clamp(min=1)


def add_blank_images(batch: Batch, size: Size) -> Batch:
    """Add a blank image of ``size``, marked as padding, to each row of a text-only batch.

    Loss and gradients stay the same, but the ViT runs: gathering its shards is collective, so a rank without images
    must run it when another rank has images.
    """
    rows = len(batch["prompt"])
    blank = torch.zeros(rows, 1, *size, 3, dtype=torch.uint8)
    return {**batch, "images": blank, "frames": torch.zeros(rows, dtype=torch.long)}


def build_objective(recipe: Recipe, tokenizer: Tokenizer, labels: Sequence[str]) -> Objective:
    """The objective of a recipe. ``labels`` are the class names of the classifier."""
    match recipe:
        case SiglipRecipe():
            return SiglipObjective(recipe, tokenizer)
        case ClassifyRecipe():
            return ClassifyObjective(recipe, labels)
        case SequenceRecipe():
            return SequenceObjective(recipe, tokenizer)
        case MaskRecipe():
            return MaskObjective(recipe)
        case FindRecipe():
            return FindObjective(recipe)
        case ReadRecipe():
            return ReadObjective(recipe)
        case _:
            raise TypeError(f"{type(recipe).__name__} has no objective")


def _for_sequences(shape: SequenceConfig, recipe: SequenceRecipe, tokenizer: Tokenizer) -> SequenceConfig:
    """The shape with the recipe's vocabulary and dropout; a Gemma's are its own."""
    if isinstance(shape, PaliModelConfig):
        text = dataclasses.replace(shape.text, vocab_size=tokenizer.vocab_size, dropout=recipe.model.dropout)
        return dataclasses.replace(shape, text=text)
    if recipe.model.dropout:
        raise ValueError(f"model.dropout = {recipe.model.dropout}, but a Gemma has no dropout: remove it")
    rows = (shape.text if isinstance(shape, PaliGemmaConfig) else shape.decoder).vocab_size
    if tokenizer.vocab_size > rows:
        raise ValueError(
            f"model.tokenizer has {tokenizer.vocab_size} ids, more than the {rows} rows of the model's embedding: "
            "remove it, and the start model's is used"
        )
    return shape


def _shape(recipe: Recipe, *kinds: type[C]) -> C:
    """The configuration that ``model.preset`` names: a size, or that of a model folder."""
    name = recipe.model.preset
    known: Sequence[Config]
    match SIZES.get(name):
        case None:
            known = [_of_folder(name)]
        case Preset() as preset:
            known = [preset.siglip, preset.pali, preset.masks, preset.finder, preset.reader]
        case config:
            known = [config]
    for each in known:
        if isinstance(each, kinds):
            return each
    raise ValueError(
        f"model.preset = {name!r} is not a model that objective = {recipe.objective} trains: name another"
    )


def _of_folder(name: str) -> Config:
    try:
        return open_model(find_model(name)).config
    except FileNotFoundError as error:
        raise ValueError(
            f"model.preset = {name!r} is neither one of {', '.join(SIZES)} nor a model folder"
        ) from error
