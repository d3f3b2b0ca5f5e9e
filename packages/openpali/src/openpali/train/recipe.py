"""A run as data: a typed TOML file. Mistakes are named before anything is loaded.

Here are the keys that several objectives share; those of one alone are in its file (`train/objectives/`). What the
classes say of their attributes is what docs/recipes.md says of the keys (`lab/documents/recipe_page.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from openpali.data.media.images import Policy, Preprocess
from openpali.data.media.native import AnyPreprocess, NativePreprocess
from openpali.model.vit import ViTConfig
from openpali.tasks.example import Size
from openpali.train.recipe_file import quote


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _number_or_share(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if whole or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError(f"max_bad = {value!r}: give a number of samples, or a share of them between 0 and 1")


def _run_name(value: Any) -> Any:
    if isinstance(value, str) and ("\\" in value or not all(part.strip(" .") for part in value.split("/"))):
        raise ValueError(
            f'name = {quote(value)} is no folder in runs/: take a name such as "mine", or "mine/first"'
        )
    return value


def _size(value: Any) -> Any:
    if value == "":
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str):
        Size.parse(value)
        return value
    raise ValueError(f'size = {value!r}: give pixels per side, or "HEIGHTxWIDTH" such as "48x384"')


_Beta = Annotated[float, Field(ge=0, lt=1)]
_Rate = Annotated[float, Field(gt=0)]
FEW = 100  # bad samples that a share of those seen always allows


class EntrySpec(_Table):
    """An entry of a mixture without its weight.

    Attributes:
        source: where its examples come from: a file, folder, pattern or URL, or the name of a data set.
        task: the task that writes prompt and target of each; not for objectives of pages, which have none.
        options: of the source.
        task_options: of the task; those not given are the dialect's, or else the task's.
    """

    source: str
    task: str = ""
    options: dict[str, Any] = {}
    task_options: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Its name in logs."""
        return f"{self.task}@{self.source}" if self.task else self.source


class SourceSpec(EntrySpec):
    """An entry of a mixture with its weight.

    Attributes:
        weight: share of the samples, relative to the weights of the other entries.
    """

    weight: _Rate = 1.0


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
    size: Annotated[int | str, BeforeValidator(_size)] = ""
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

    @model_validator(mode="after")
    def _check_resolution(self) -> PhaseSpec:
        if bool(self.size) == bool(self.tokens):
            raise ValueError("a phase needs either a size, such as 224, or tokens, such as 256 in own proportions")
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> PhaseSpec:
        if not self.lr and (self.warmup or self.cooldown):
            raise ValueError("warmup and cooldown of a phase are those of its own learning rate: set its lr, too")
        return self


class BenchmarkEvalSpec(_Table):
    """An evaluation during training: a benchmark by name.

    Attributes:
        name: prefix of its scores; by default the benchmark, or task and source.
        benchmark: what ``openpali eval`` calls it, such as ``nano/vqa``.
        every: samples of the run from one evaluation to the next; the last one is at the end.
        limit: number of its first samples to ask; 0 is all.
        batch: samples that are answered together.
    """

    name: str = ""
    benchmark: str = ""
    every: int = Field(gt=0)
    limit: int = Field(0, ge=0)
    batch: int = Field(32, gt=0)

    @property
    def label(self) -> str:
        """Its name in logs."""
        return self.name or self.benchmark

    @model_validator(mode="after")
    def _check_data(self) -> BenchmarkEvalSpec:
        if not self.benchmark:
            raise ValueError("an evaluation in [[evals]] needs a benchmark")
        return self


class EvalSpec(BenchmarkEvalSpec):
    """An evaluation during training: a benchmark by name, or a held-out source with the task that asks about it.

    Attributes:
        source: the held-out samples, instead of a benchmark.
        task: the task that asks about the source.
        options: of the source.
        task_options: of the task; they override those of training.
    """

    source: str = ""
    task: str = ""
    options: dict[str, Any] = {}
    task_options: dict[str, Any] = {}

    @property
    def label(self) -> str:
        return super().label or f"{self.task}@{self.source}"

    @model_validator(mode="after")
    def _check_data(self) -> EvalSpec:
        if bool(self.benchmark) == bool(self.source):
            raise ValueError("an evaluation in [[evals]] needs either a benchmark, or a source with a task")
        if self.source and not self.task:
            raise ValueError(f"the evaluation on source = {self.source!r} needs a task")
        if self.benchmark and (self.task or self.options or self.task_options):
            raise ValueError(
                f"the evaluation on benchmark = {self.benchmark!r} has its own task and options: remove task, "
                "options and task_options"
            )
        return self


class PageEvalSpec(BenchmarkEvalSpec):
    """An evaluation during training on pages: whether their lines are found, or read.

    Attributes:
        source: the held-out pages.
    """

    source: str

    @property
    def label(self) -> str:
        return self.name or self.source

    @model_validator(mode="after")
    def _check_data(self) -> PageEvalSpec:
        if self.benchmark:
            raise ValueError(f"no benchmark asks about lines alone: give a source instead of {self.benchmark!r}")
        return self


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

    @model_validator(mode="after")
    def _check_shapes(self) -> ModelSpec:
        for key in ("preset", "tokenizer"):
            if not getattr(self, key) and not self.start:
                raise ValueError(
                    f"model.{key} is missing: name it, or a model that the whole run starts from, as in "
                    'model.init = { "" = "nano/pali" }'
                )
        if self.lora.rank and (not self.start or len(self.init) > 1):
            raise ValueError(
                "model.lora changes one model: name it, and nothing else, in model.init, as in "
                'model.init = { "" = "nano/pali" }'
            )
        if not self.lora.rank and self.lora != LoraSpec():
            raise ValueError("model.lora needs a rank, such as 16")
        return self


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

    @model_validator(mode="after")
    def _check_schedule(self) -> OptimizerSpec:
        self.check_schedule("optimizer")
        return self

    def check_schedule(self, where: str) -> None:
        """Check warmup and cooldown, which the table ``where`` of a recipe gives."""
        if self.schedule == "rsqrt" and not self.warmup:
            raise ValueError(
                f'optimizer.schedule = "rsqrt" takes its time scale from the warmup: set {where}.warmup'
            )
        if self.cooldown and self.schedule in ("cosine", "linear"):
            raise ValueError(
                f'optimizer.schedule = "{self.schedule}" already ends at 0: remove {where}.cooldown, or choose '
                '"rsqrt" or "constant"'
            )


class Schedule(NamedTuple):
    """The learning rate of some of the phases.

    Attributes:
        where: the table of a recipe that it is from.
        spec: the optimizer with this learning rate, warmup and cooldown.
        begin: samples of the run before it.
        samples: its length.
        phases: their indices.
    """

    where: str
    spec: OptimizerSpec
    begin: int
    samples: int
    phases: list[int]

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
    """

    name: Annotated[str, BeforeValidator(_run_name)]
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
    max_bad: Annotated[int | float, BeforeValidator(_number_or_share)] = 100
    model: ModelSpec
    optimizer: OptimizerSpec
    parallel: ParallelSpec = ParallelSpec()
    phases: list[PhaseSpec] = Field(min_length=1)
    parts: ClassVar[bool] = False  # samples are parts of images, which are decoded at full size
    kinds: ClassVar[Sequence[str]] = ()  # of models that are trained; none: all that take prompts
    native: ClassVar[bool] = False  # images may keep their proportions
    writes: ClassVar[bool] = True  # a task writes each sample

    @model_validator(mode="after")
    def _check_lengths(self) -> Recipe:
        if self.batch % self.micro:
            raise ValueError(f"batch = {self.batch} cannot be split into micro = {self.micro} equal parts")
        for number, phase in enumerate(self.phases):
            if excess := phase.samples % self.batch:
                less, more = phase.samples - excess, phase.samples - excess + self.batch
                raise ValueError(
                    f"phases.{number}.samples = {phase.samples} is not a multiple of batch = {self.batch}: "
                    f"take {more}" + (f" (or {less})" if less else "")
                )
        if self.model.lora.rank and len({phase.tokens or phase.pixels for phase in self.phases}) > 1:
            raise ValueError(
                "phases have several sizes, and an adapter holds no position embeddings: with model.lora, give all "
                "phases one size"
            )
        return self

    @model_validator(mode="after")
    def _check_schedules(self) -> Recipe:
        for schedule in self.schedules:
            spec, where = schedule.spec, schedule.where
            spec.check_schedule(where)
            if (needed := spec.warmup + spec.cooldown) > schedule.samples:
                until = "the run" if schedule.samples == self.samples else "the phases that have this learning rate"
                raise ValueError(
                    f"{where}.warmup + {where}.cooldown = {needed} is more than {until}, {schedule.samples} samples"
                )
        return self

    @model_validator(mode="after")
    def _check_tasks(self) -> Recipe:
        for number, phase in enumerate(self.phases):
            for place, entry in enumerate(phase.mixture):
                where = f"phases.{number}.mixture.{place}"
                if self.writes and not entry.task:
                    raise ValueError(f"{where}.task is missing: name the task that writes prompt and target")
                if not self.writes and (entry.task or entry.task_options):
                    raise ValueError(
                        f'{where}: objective = "{self.objective}" asks nothing: remove task and task_options'
                    )
        return self

    @model_validator(mode="after")
    def _check_proportions(self) -> Recipe:
        resize = self.model.resize
        native = resize == "native" or any(phase.tokens for phase in self.phases)
        if native and not self.native:
            raise ValueError(
                f'objective = "{self.objective}" takes images of one size: set model.resize = "squash", and size '
                "instead of tokens in each phase"
            )
        if native and resize not in ("", "native"):
            raise ValueError(
                f'tokens keep the proportions of images, and model.resize = "{resize}" does not: set it to '
                '"native", or set size instead of tokens in each phase'
            )
        for number, phase in enumerate(self.phases):
            if native and not phase.tokens:
                raise ValueError(
                    f"phases.{number}.size does not keep the proportions of images: set phases.{number}.tokens "
                    'instead, such as 256, or model.resize = "squash" and size in each phase'
                )
        return self

    @model_validator(mode="after")
    def _check_shards(self) -> Recipe:
        if self.optimizer.qk_clip and self.parallel.shard != "none":
            raise ValueError(
                f'optimizer.qk_clip needs whole weight matrices, and parallel.shard = "{self.parallel.shard}" cuts '
                'them: remove optimizer.qk_clip, or set parallel.shard = "none"'
            )
        if self.optimizer.qk_clip and self.model.lora.rank:
            raise ValueError("optimizer.qk_clip changes weights that model.lora freezes: remove one of the two")
        return self

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


class EvaluatedRecipe(Recipe):
    """A run that can be evaluated while it trains.

    Attributes:
        evals: evaluations during training.
        keep_best: a score, as "mine/exact_match", or an evaluation, of which it is the score that counts. The
            checkpoint with the best value is kept and exported to ``best/`` in the run's folder.
    """

    evals: Sequence[BenchmarkEvalSpec] = ()
    keep_best: str = ""

    @model_validator(mode="after")
    def _check_evals(self) -> EvaluatedRecipe:
        names = [spec.label for spec in self.evals]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two evaluations are called {twice[0]!r}: give each in [[evals]] a name")
        if self.keep_best and not any(self.keep_best == n or self.keep_best.startswith(f"{n}/") for n in names):
            raise ValueError(
                f"keep_best = {self.keep_best!r}: no evaluation in [[evals]] has that name"
                + (f"; it is one of {', '.join(names)}, with or without a score" if names else "")
            )
        return self


class PageRecipe(EvaluatedRecipe):
    """A run on the lines and the elements of pages, which no task writes: entries have no ``task``."""

    parts: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    evals: list[PageEvalSpec] = Field([])


class PromptedRecipe(EvaluatedRecipe):
    """A run of a model that answers prompts.

    Attributes:
        max_prompt: most tokens of a prompt.
        max_target: most tokens of a target, its end token included; answers may be as long.
    """

    max_prompt: int = Field(64, gt=0)
    max_target: int = Field(64, gt=0)
    model: PromptedModelSpec
    evals: list[EvalSpec] = []


class Named(_Table):
    """What phases refer to by name.

    Attributes:
        entries: ``[entries.NAME]``.
        mixtures: ``[mixtures.NAME]``, with a weight for each entry.
    """

    entries: dict[str, EntrySpec] = {}
    mixtures: dict[str, dict[str, _Rate]] = {}
