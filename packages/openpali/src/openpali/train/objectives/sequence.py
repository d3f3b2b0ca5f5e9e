"""``sequence``: targets as text, given images and a prompt: stages 0b (UL2), 1, 2 and 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from openpali.architectures.registry import architecture_of
from openpali.data.explain import explain_batch
from openpali.data.pipeline.encode import Batch, Encoder, SequenceEncoder, images_in
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.evaluators import AnswerEvaluator, LossEvaluator, count
from openpali.home import home
from openpali.infer.pipeline import Pipeline
from openpali.model.collectives import copy_from_first
from openpali.model.losses import cross_entropy
from openpali.model.patches import Images
from openpali.model.vision_language import VisionLanguageModel, VisualTokens
from openpali.model.vit import vit_of
from openpali.tasks.base import Task
from openpali.tasks.registry import Tools
from openpali.train.evaluation import Evaluation, find_for
from openpali.train.objectives.base import Lengths, Losses, Objective, blank_in_batch, frames_of
from openpali.train.phases import dialect_of, open_run_task, open_tools, task_options
from openpali.train.recipe import EvalSpec, PhaseSpec, PromptedRecipe, Recipe
from openpali.train.shapes import shape_of


class SequenceRecipe(PromptedRecipe):
    """Targets as text, given images and a prompt; UL2 on text alone is one of its tasks.

    Attributes:
        too_long: what happens to a sample with more tokens: "skip" counts it as bad and takes a neighbour; "cut"
            truncates its target (a prompt that is too long is still skipped).
        loss_mean: the mean over all target tokens of a batch, or over examples of their mean over tokens.
        label_smoothing: share of the probability that the target spreads over the other tokens.
        z_loss: weight of the squared log of the softmax' denominator, which keeps logits small.
    """

    too_long: Literal["skip", "cut"] = "skip"
    loss_mean: Literal["token", "example"] = "token"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    z_loss: float = Field(0.0, ge=0)
    native: ClassVar[bool] = True


class SequenceObjective(Objective[SequenceRecipe]):
    """Cross-entropy of the target."""

    recipe_class: ClassVar[type[Recipe]] = SequenceRecipe

    def configure(self) -> Any:
        shape = shape_of(self.recipe)
        vocabulary, dropout = self.tokenizer.vocab_size, self.recipe.model.dropout
        return architecture_of(shape).for_training(shape, vocabulary, dropout)

    def make_encoder(self) -> Encoder:
        cast(VisionLanguageModel, self.model).check_pad(self.tokenizer.pad_id)
        recipe = self.recipe
        return SequenceEncoder(self.tokenizer, recipe.max_prompt, recipe.max_target, cut=recipe.too_long == "cut")

    def weight(self, batch: Batch) -> float:
        return float(len(batch["target"] if self.recipe.loss_mean == "example" else batch["places"]))

    def losses(self, batch: Batch, total_weight: float) -> Losses:
        target, places = batch["target"], batch["places"]
        images = images_in(batch) if "images" in batch else None
        hidden = self.model(images, batch["prompt"], target, batch.get("frames"))
        real = target != self.tokenizer.pad_id  # [B, T]
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

    def example_batch(self, phase: PhaseSpec, rows: int, lengths: Lengths) -> Batch:
        recipe = self.recipe
        batch: dict[str, Tensor] = {
            "prompt": torch.ones(rows, lengths.prompt or recipe.max_prompt, dtype=torch.long),
            "target": torch.ones(rows, lengths.target or recipe.max_target, dtype=torch.long),
        }
        batch["places"] = torch.arange(batch["target"].numel())
        if frames := frames_of(phase, lengths):
            batch |= blank_in_batch(phase, self.config.vision, rows, frames)
        return batch

    def logit_width(self, rows: int) -> int:
        return architecture_of(self.config).vocabulary(self.config)

    def add_blank_images(self, batch: Batch, phase: PhaseSpec) -> Batch:
        rows = len(batch["prompt"])
        blank = blank_in_batch(phase, self.config.vision, rows, 1)
        return {**batch, **blank, "frames": torch.zeros(rows, dtype=torch.long)}

    def explain(self, first: Callable[[], Batch], rows: int) -> Sequence[str]:
        return explain_batch(first(), self.tokenizer, rows=rows)

    def evaluated(self, sharded: bool) -> Pipeline:
        recipe, model, vit = self.recipe, cast(VisionLanguageModel, self.model), vit_of(self.model)
        assert vit is not None
        return Pipeline(
            model,
            self.tokenizer,
            recipe.model.preprocess_for(vit.config),
            engine=Lockstep(model) if sharded else model,
            max_prompt=recipe.max_prompt,
            max_target=recipe.max_target,
            options=task_options(recipe),
            tools=open_tools(recipe, self.tokenizer),
            dialect=dialect_of(recipe),
        )

    @classmethod
    def vocabulary(cls, recipe: SequenceRecipe) -> int:
        shape = shape_of(recipe)
        return architecture_of(shape).vocabulary(shape)

    @classmethod
    def open_evaluation(cls, spec: EvalSpec, recipe: SequenceRecipe, tools: Tools) -> Evaluation:
        """Answers and the held-out loss."""
        if spec.source and not spec.task:
            raise ValueError(f"the evaluation on source = {spec.source!r} needs a task")
        limit = spec.limit or None
        if spec.benchmark:
            benchmark = find_for(recipe, spec.benchmark, AnswerBenchmark, "compares embeddings")
            source, metric = benchmark.open(home() / "data"), benchmark.metric
            task = dataclasses.replace(_task(benchmark.task, recipe, tools, {}), **benchmark.options)
            answers = AnswerEvaluator.of(benchmark, source, task, limit=limit, batch=spec.batch)
        else:
            source = open_source(spec.source, spec.options)
            task = _task(spec.task, recipe, tools, spec.task_options)
            answers, metric = AnswerEvaluator(spec.label, source, task, limit=limit, batch=spec.batch), task.metric
        try:
            n = count(source, answers.limit)
        except ValueError as error:
            raise ValueError(f"{spec.label}: {error}") from error
        if not n:
            raise ValueError(f"{spec.label} has no samples")
        loss = LossEvaluator(spec.label, source, task, answers.limit, spec.batch)
        return Evaluation(spec.label, spec.every, n, metric, [answers, loss])


class Lockstep:
    """A sharded model of which all ranks generate the same tokens: rank 0's logits are sent to the others.

    Otherwise rounding could let a rank end its texts earlier, and others would wait for its shards for ever.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        self.model, self.first, self.precision = model, model.first, model.precision

    def encode_images(self, images: Images, frames: Tensor | None = None) -> VisualTokens:
        return self.model.encode_images(images, frames)

    def encode_tokens(self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None) -> Any:
        return self.model.encode_tokens(visual_BND, prompt, counts)

    def start(self, memory: Any, max_length: int) -> Any:
        return self.model.start(memory, max_length)

    def step(self, ids: Tensor, cache: Any) -> Tensor:
        logits = self.model.step(ids, cache).contiguous()
        copy_from_first(logits)
        return logits


def _task(name: str, recipe: SequenceRecipe, tools: Tools, options: Mapping[str, Any]) -> Task:
    """A task with the options that the run's model will have."""
    return open_run_task(recipe, name, {**task_options(recipe).get(name, {}), **options}, tools)
