"""A run as data: a typed TOML file. Values are checked here, combinations of keys in `train/check.py`.

Here are the keys that several objectives share; those of one alone are in its file (`train/objectives/`). What the
classes say of their attributes is what docs/recipes.md says of the keys (`lab/documents/recipe_page.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from openpali.data.media.images import Policy, Preprocess
from openpali.data.media.native import AnyPreprocess, NativePreprocess
from openpali.model.vit import ViTConfig
from openpali.tasks.example import Size


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


_Beta = Annotated[float, Field(ge=0, lt=1)]
_Rate = Annotated[float, Field(gt=0)]
FEW = 100  # bad samples that a share of those seen always allows


class SourceSpec(_Table):
    """An entry of a mixture.

    Attributes:
        source: where its examples come from: a file, folder, pattern or URL, or the name of a data set.
        task: the task that writes prompt and target of each; not for objectives of pages, which have none.
        options: of the source.
        task_options: of the task; those not given are the dialect's, or else the task's.
        weight: share of the samples, relative to the weights of the other entries.
    """

    source: str
    task: str = ""
    options: dict[str, Any] = {}
    task_options: dict[str, Any] = {}
    weight: _Rate = 1.0

    @property
    def name(self) -> str:
        """Its name in logs."""
        return f"{self.task}@{self.source}" if self.task else self.source


class PhaseSpec(_Table):
    """A part of the run.

    Attributes:
        samples: its length; a multiple of ``batch``.
        lr: peak of the learning rate from this phase on, up to the next phase that has one, instead of that of the
            optimizer; 0 goes on with the schedule of the phase before.
        warmup: samples in which it rises from 0, where the phase has a ``lr``.
        cooldown: samples in which it falls to 0, at the end of the last phase that this ``lr`` is for.
        size: resolution of the images, pixels per side or "HEIGHTxWIDTH"; the position embeddings are resampled to
            it.
        tokens: most patches of an image that keeps its proportions, instead of a size; each image resamples the
            position embeddings to its own grid. Those of a model that had fixed sizes and fewer patches are
            resampled once, to a square image of so many.
        mixture: what it draws from: a list of entries, a table of shares by the name of an entry, or the name of a
            mixture.
    """

    samples: int = Field(gt=0)
    lr: float = Field(0.0, ge=0)
    warmup: int = Field(0, ge=0)
    cooldown: int = Field(0, ge=0)
    size: int | str = ""
    tokens: int = Field(0, ge=0)
    mixture: list[SourceSpec] = Field(min_length=1)

    @property
    def pixels(self) -> Size:
        """Height and width of the images; only for a phase with a size."""
        return Size.parse(str(self.size))

    @property
    def resolution(self) -> str:
        """Its size or its budget of patches, in words."""
        return f"up to {self.tokens} patches" if self.tokens else f"{self.size} px"

    def at_resolution(self, vision: ViTConfig) -> ViTConfig:
        """The shape of an image encoder, as the phase before left it, at the resolution of this phase."""
        if self.tokens:
            rows, columns = vision.grid
            side = math.isqrt(self.tokens)
            grown = not vision.tokens and rows * columns < side * side
            return replace(vision, tokens=self.tokens, grid=(side, side) if grown else vision.grid)
        height, width = self.pixels
        resized = replace(vision, grid=(height // vision.patch_size, width // vision.patch_size))
        return replace(resized, tokens=0) if resized.tokens else resized


class EvalSpec(_Table):
    """An evaluation during training: a benchmark by name, or a held-out source with the task that asks about it.

    Attributes:
        name: prefix of its scores; by default the benchmark, or task and source.
        benchmark: what ``openpali eval`` calls it, such as ``nano/vqa``.
        source: the held-out samples, instead of a benchmark; or held-out pages, which have no task.
        task: the task that asks about the source.
        options: of the source.
        task_options: of the task; they override those of training.
        every: samples of the run from one evaluation to the next; the last one is at the end.
        limit: number of its first samples to ask; 0 is all.
        batch: samples that are answered together.
    """

    name: str = ""
    benchmark: str = ""
    source: str = ""
    task: str = ""
    options: dict[str, Any] = {}
    task_options: dict[str, Any] = {}
    every: int = Field(gt=0)
    limit: int = Field(0, ge=0)
    batch: int = Field(32, gt=0)

    @property
    def label(self) -> str:
        """Its name in logs."""
        return self.name or self.benchmark or (f"{self.task}@{self.source}" if self.task else self.source)


class LoraSpec(_Table):
    """An adapter that learns while all other weights stay as they are (LoRA); a run then writes it alone.

    Attributes:
        rank: of the adapter; 0: none.
        alpha: the change is multiplied by ``alpha / rank``.
        dropout: of what enters the change.
        targets: parts of the model or last names of layers, as "query": their linear layers change, except in
            ``frozen`` parts.
    """

    rank: Annotated[int, Field(ge=0)] = 0
    alpha: _Rate = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[str], Field(min_length=1)] = ["text"]


class ModelSpec(_Table):
    """Shapes of the model, and the weights that its parts start from.

    Attributes:
        preset: a size by name, or a model folder or run that has the shapes; by default the start model's.
        tokenizer: its file, a model folder or run that has one, or the name of a built vocabulary; by default the
            start model's.
        init: part of the model ("vit", "text", "project", ...; "" is the whole model) -> the run or model folder
            that it starts from, with ``#part`` for a part of that; scalars as "bias", too. Other parts start from
            scratch.
        frozen: parts that do not learn.
        resize: how images get their size: "squash" changes their proportions, "pad" keeps them and fills up with
            grey on the right and below, "native" keeps them and needs ``tokens`` in each phase; by default as the
            start model does, or else "squash".
        filter: how pixels are interpolated ("bilinear" is without antialiasing); by default as
            the start model does, or else the first.
        lora: an adapter to train instead of the weights, see below.
    """

    preset: str = ""
    tokenizer: str = ""
    init: dict[str, str] = {}
    frozen: list[str] = []
    resize: Literal["", Policy, "native"] = ""
    filter: Literal["", "bilinear-antialias", "bicubic-antialias", "bilinear"] = ""

    lora: LoraSpec = LoraSpec()

    def preprocess(self, size: Size) -> Preprocess:
        """How images get one size."""
        policy: Policy = "pad" if self.resize == "pad" else Preprocess.policy
        return Preprocess(*size, policy=policy, filter=self.filter or Preprocess.filter)

    def preprocess_for(self, vision: ViTConfig) -> AnyPreprocess:
        """How images get the size that an image encoder of this shape takes, or keep their proportions."""
        if vision.tokens:
            return NativePreprocess(vision.patch_size, vision.tokens, self.filter or Preprocess.filter)
        return self.preprocess(Size(*vision.image_size))

    @property
    def start(self) -> str:
        """The model that the whole run starts from; empty if there is none."""
        origin = self.init.get("", "")
        return "" if "#" in origin else origin


class PromptedModelSpec(ModelSpec):
    """A model that answers prompts: a PaLI, or its encoder-decoder alone, for example.

    Attributes:
        masks: run or model folder of the mask VQ-VAE that writes the targets of referring segmentation; by default
            the start model's.
        dialect: format of the prompts; by default the start model's, or else PaLI-3's.
        knows: task -> its options in the start model, which fills this in.
        dropout: of the encoder-decoder, during training.
    """

    masks: str = ""
    dialect: str = ""
    knows: dict[str, dict[str, Any]] = {}
    dropout: float = Field(0.0, ge=0, lt=1)


class OptimizerSpec(_Table):
    """The optimizer and its schedule. Lengths are in samples.

    Attributes:
        name: the optimizer.
        lr: peak of the learning rate.
        lr_scale: part of the model -> factor on its learning rate.
        betas: decay of the first and the second moment; Adafactor has decays of its own.
        weight_decay: multiplied by lr, as in AdamW (big_vision's ``wd`` is this times lr). It applies to matrices
            only, not to embeddings, positions, norms or biases.
        clip: largest norm of the gradient, over all parameters.
        qk_clip: largest spread of attention scores in ViT and T5, in standard deviations
            (`train/optim/qk_clip.py`); 0 sets no bound.
        schedule: how the learning rate falls after the warmup.
        warmup: samples in which it rises from 0.
        cooldown: samples at the end in which it falls to 0 ("rsqrt" and "constant").
    """

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    lr: float = Field(gt=0)
    lr_scale: dict[str, _Rate] = {}
    betas: tuple[_Beta, _Beta] = Field((0.9, 0.95), strict=False)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    qk_clip: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "linear", "rsqrt", "constant"] = "cosine"
    warmup: int = Field(0, ge=0)
    cooldown: int = Field(0, ge=0)


class Schedule(NamedTuple):
    """The learning rate of some of the phases."""

    where: str  # the table of a recipe that it is from
    spec: OptimizerSpec  # the optimizer with this learning rate, warmup and cooldown
    begin: int  # samples of the run before it
    samples: int  # its length
    phases: list[int]  # their indices

    @property
    def end(self) -> int:
        """Samples of the run at its end."""
        return self.begin + self.samples


class ParallelSpec(_Table):
    """How a run spreads over ranks and saves memory; none of it changes what is learned (docs/training.md).

    Attributes:
        shard: "none" keeps the whole model on each rank; "full" shards weights, gradients and optimizer state over
            all ranks; "hybrid" over the ranks of a node, with a copy on each node. A single rank never shards.
        checkpointing: what the backward pass computes again: nothing, all of each block except its matmuls and
            attention ("selective"), or all of each block ("full").
        compile: compile each block with ``torch.compile``.
    """

    shard: Literal["none", "full", "hybrid"] = "none"
    checkpointing: Literal["none", "selective", "full"] = "none"
    compile: bool = False


class Recipe(_Table):
    """A whole run: the options that all objectives share. Each objective has a subclass.

    Attributes:
        name: of the run; its folder is ``runs/NAME`` in the cache.
        objective: what is learned; it decides which other keys there are.
        seed: of the order of samples and of everything else that is random.
        batch: samples per step, over all ranks.
        micro: parts that each rank splits its share of a batch into, one after the other, to save memory.
        precision: of matmuls; "auto" is bf16 where the hardware multiplies it faster.
        ema: decay per step of the exponential moving average (EMA) of the weights, which the run exports; 0: none.
        workers: processes per rank that load data; 0 loads it in the training process.
        save_minutes: minutes from one checkpoint to the next.
        keep: number of checkpoints that stay, the newest; 0 keeps two of a run that goes on, and the last one of a
            finished run.
        keep_every: also keep a checkpoint every so many samples; 0 keeps none.
        max_bad: how many samples may be bad: a number, or below 1 a share of those seen.
        model: shapes, and weights to start from.
        optimizer: the optimizer and its schedule.
        parallel: ranks and memory.
        phases: parts of the run, one after the other.
        evals: evaluations during training.
        keep_best: a score, as "mine/exact_match", or an evaluation, of which it is the score that counts. The
            checkpoint with the best value is kept and exported to ``best/`` in the run's folder.
    """

    name: str
    objective: str
    seed: int = Field(0, ge=0)
    batch: int = Field(gt=0)
    micro: int = Field(1, gt=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    ema: float = Field(0.0, ge=0, lt=1)
    workers: int = Field(1, ge=0)
    save_minutes: float = Field(3.0, gt=0)
    keep: int = Field(0, ge=0)
    keep_every: int = Field(0, ge=0)
    max_bad: Annotated[int | float, Field(ge=0)] = 100
    model: ModelSpec
    optimizer: OptimizerSpec
    parallel: ParallelSpec = ParallelSpec()
    phases: list[PhaseSpec] = Field(min_length=1)
    evals: list[EvalSpec] = []
    keep_best: str = ""
    parts: ClassVar[bool] = False  # samples are parts of images, which are decoded at full size
    kinds: ClassVar[Sequence[str]] = ()  # of models that are trained; none: all that take prompts
    native: ClassVar[bool] = False  # images may keep their proportions
    writes: ClassVar[bool] = True  # a task writes each sample

    def problems(self) -> Iterator[str]:
        """Sentences about combinations that this objective alone cannot take."""
        yield from ()

    @property
    def samples(self) -> int:
        """Length of the run."""
        return sum(phase.samples for phase in self.phases)

    @property
    def schedules(self) -> list[Schedule]:
        """The schedules of the learning rate, one after the other: the optimizer's, and one from each phase with a
        learning rate of its own on."""
        found = [Schedule("optimizer", self.optimizer, 0, 0, [])]
        for number, phase in enumerate(self.phases):
            if phase.lr:
                own = self.optimizer.model_copy(update=phase.model_dump(include={"lr", "warmup", "cooldown"}))
                found.append(Schedule(f"phases.{number}", own, found[-1].end, 0, []))
            last = found[-1]
            found[-1] = last._replace(samples=last.samples + phase.samples, phases=[*last.phases, number])
        return [schedule for schedule in found if schedule.phases]

    def bad_limit(self, seen: int) -> int:
        """How many of the first ``seen`` samples may be bad."""
        return self.max_bad if isinstance(self.max_bad, int) else max(FEW, int(self.max_bad * seen))


class PageRecipe(Recipe):
    """A run on the lines and the elements of pages, which no task writes: entries have no ``task``."""

    parts: ClassVar[bool] = True
    writes: ClassVar[bool] = False


class PromptedRecipe(Recipe):
    """A run of a model that answers prompts.

    Attributes:
        max_prompt: most tokens of a prompt.
        max_target: most tokens of a target, its end token included; answers may be as long.
    """

    max_prompt: int = Field(64, gt=0)
    max_target: int = Field(64, gt=0)
    model: PromptedModelSpec


class Named(_Table):
    """What phases refer to by name.

    Attributes:
        entries: ``[entries.NAME]``.
        mixtures: ``[mixtures.NAME]``, with a weight for each entry.
    """

    entries: dict[str, SourceSpec] = {}
    mixtures: dict[str, dict[str, _Rate]] = {}
