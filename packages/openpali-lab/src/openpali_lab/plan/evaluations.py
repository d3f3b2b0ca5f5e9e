"""What the evaluations of a recipe cost: how often they run, and a batch of each on tensors without contents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from openpali.data.pipeline.encode import Batch, images_in
from openpali.data.pipeline.mixture import ENDLESS
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import find_benchmark
from openpali.home import home
from openpali.messages import duration
from openpali.model.vision_language import VisionLanguageModel
from openpali.train.machine import count_flops
from openpali.train.recipe import BenchmarkEvalSpec, EvalSpec, PageEvalSpec


@dataclass(frozen=True)
class AnswerCosts:
    """Costs of a batch that is answered, and whose loss is taken, on one rank.

    Attributes:
        once: FLOPs of the encoder, and of the loss.
        token: FLOPs of each generated token of all rows.
        read: bytes of weights that each generated token needs.
        tokens: generated for each row.
    """

    once: float
    token: float
    read: float
    tokens: int

    def seconds(self, flops: float, bandwidth: float) -> float:
        """At this many FLOP/s and bytes/s: a token waits for its FLOPs or for the weights."""
        return self.once / flops + self.tokens * max(self.token / flops, self.read / bandwidth)


@dataclass(frozen=True)
class EvaluationPlan:
    """An evaluation of a recipe.

    Attributes:
        name: of the evaluation.
        times: how often it runs.
        samples: that it asks about; None: unknown, or it compares embeddings.
        seconds: of one time; 0 if the samples are unknown.
    """

    name: str
    times: int
    samples: int | None
    seconds: float

    def line(self) -> str:
        if self.samples is None:
            return f"evaluation {self.name}: {self.times} times, which are not counted: its size is not known"
        return f"evaluation {self.name}: {self.times} times {self.samples:,} samples, {duration(self.seconds)} each"


def samples_of(spec: BenchmarkEvalSpec) -> int | None:
    """How many samples an evaluation asks about; None: it compares embeddings, or has no limit and no data here."""
    try:
        if isinstance(spec, PageEvalSpec):
            source = open_source(spec.source, {})
        elif isinstance(spec, EvalSpec) and spec.source:
            source = open_source(spec.source, spec.options)
        else:
            benchmark = find_benchmark(spec.benchmark)
            if not isinstance(benchmark, AnswerBenchmark):
                return None
            source = benchmark.open(home() / "data")
    except (ValueError, OSError):
        return spec.limit or None
    known = min(len(source), spec.limit or ENDLESS)
    return known if known < ENDLESS else None


def answer_costs(model: VisionLanguageModel, batch: Batch) -> AnswerCosts:
    """Answer a batch as long as its targets, and take their loss.

    Args:
        model: on the meta device.
        batch: on the meta device.
    """
    images = images_in(batch) if "images" in batch else None
    prompt, target = batch["prompt"], batch["target"]
    tokens, text = target.shape[1], model.get_submodule("text")
    with torch.no_grad():
        once = count_flops(lambda: model.encode(images, prompt))
        once += count_flops(lambda: model.logits(model(images, prompt, target)))
        cache = model.start(model.encode(images, prompt), tokens)
        token = count_flops(lambda: model.step(target[:, :1], cache))
    held = {name: 4.0 * p.numel() for name, p in text.named_parameters()}
    held |= {name: float(buffer.nbytes) for name, buffer in text.named_buffers()}  # quantized weights, scales
    if "head.weight" in held:
        held.pop("embed.weight", None)  # of which a token needs a row
    # keys and values of the memory are made once
    read = sum(n for name, n in held.items() if not (name.startswith("encoder") or ".cross.key_value." in name))
    return AnswerCosts(once, token, read, tokens)


def batches_of(samples: int, batch: int, ranks: int) -> int:
    """Batches that the rank with most of them answers."""
    return math.ceil(math.ceil(samples / batch) / ranks)
