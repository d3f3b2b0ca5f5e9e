"""A run as data: a typed TOML file. Mistakes are named before anything is loaded.

The objective decides which options a recipe has: each of them is a class of its own. What the classes say of
their attributes is what docs/recipes.md says of the keys (`reports/recipe_page.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from openpali.data.media.images import Policy, Preprocess
from openpali.data.pipeline.pages import WIDTHS
from openpali.tasks.example import Size
from openpali.train.recipe_errors import Keys, explain_error
from openpali.train.recipe_file import STUDY, assign, expand_mixtures, quote, read_overrides, read_table


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
        task: the task that writes prompt and target of each.
        options: of the source.
        task_options: of the task; those not given are the dialect's, or else the task's.
    """

    source: str
    task: str
    options: dict[str, Any] = {}
    task_options: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Its name in logs."""
        return f"{self.task}@{self.source}"


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
        size: resolution of the images, pixels per side or "HEIGHTxWIDTH"; the position embeddings are resampled to
            it.
        mixture: what it draws from, written in one of the three ways above.
    """

    samples: int = Field(gt=0)
    size: Annotated[int | str, BeforeValidator(_size)]
    mixture: list[SourceSpec] = Field(min_length=1)

    @property
    def pixels(self) -> Size:
        """Height and width of the images."""
        return Size.parse(str(self.size))


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
        task_options: of the task, on top of those that the run trains it with.
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
        rank: of the change to each layer; 0: no adapter.
        alpha: the change is multiplied by ``alpha / rank``.
        dropout: of what enters the change.
        targets: parts of the model or last names of layers, as "query": their linear layers change.
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
            that it starts from, with ``#part`` for a part of that. Other parts start from scratch.
        frozen: parts that do not learn.
        resize: how images get their size: "squash" changes their proportions, "pad" keeps them and fills up with
            grey on the right and below; by default as the start model does, or else "squash".
        filter: how pixels are interpolated ("bilinear" is without antialiasing); by default as
            the start model does, or else the first.
        lora: an adapter to train instead of the weights, see below.
    """

    preset: str = ""
    tokenizer: str = ""
    init: dict[str, str] = {}
    frozen: list[str] = []
    resize: Literal["", Policy] = ""
    filter: Literal["", "bilinear-antialias", "bicubic-antialias", "bilinear"] = ""

    lora: LoraSpec = LoraSpec()

    def preprocess(self, size: Size) -> Preprocess:
        """How images get their size."""
        return Preprocess(*size, policy=self.resize or Preprocess.policy, filter=self.filter or Preprocess.filter)

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


class SiglipModelSpec(ModelSpec):
    """The two scalars of the sigmoid loss; both are learned.

    Attributes:
        temperature: initial factor on the similarities of images and texts.
        bias: initial offset of the logits; about -ln(batch) for small batches.
    """

    temperature: float = Field(10.0, gt=0)
    bias: float = -10.0


class SequenceModelSpec(ModelSpec):
    """A PaLI, or its encoder-decoder alone.

    Attributes:
        masks: run or model folder of the mask VQ-VAE that writes the targets of referring segmentation; by default
            the start model's.
        dialect: format of the prompts (`tasks/dialects.py`); by default the start model's, or else PaLI-3's.
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
        betas: decay of the first and the second moment.
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
        if self.schedule == "rsqrt" and not self.warmup:
            raise ValueError(
                'optimizer.schedule = "rsqrt" takes its time scale from the warmup: set optimizer.warmup'
            )
        if self.cooldown and self.schedule in ("cosine", "linear"):
            raise ValueError(
                f'optimizer.schedule = "{self.schedule}" already ends at 0: remove optimizer.cooldown, or choose '
                '"rsqrt" or "constant"'
            )
        return self


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
    """A whole run: the options that all objectives share. :func:`parse_recipe` makes one of its subclasses.

    Attributes:
        name: of the run; its folder is ``runs/NAME`` in the cache.
        objective: what is learned; it decides which other keys there are.
        seed: of the order of samples, and of all else that is random.
        batch: samples per step, over all ranks.
        micro: parts that each rank splits its share of a batch into, one after the other, to save memory.
        more_samples: lets a finished run go on in its last phase, by so many samples more than the phases have.
        precision: of matmuls; "auto" is bf16 where the hardware computes it.
        ema: decay per step of an average of the weights, which the run then exports; 0 keeps none.
        workers: processes per rank that load data; 0 loads it in the training process.
        save_minutes: minutes from one checkpoint to the next.
        keep: number of checkpoints that stay, the newest; 0 keeps two of a run that goes on, and the last one of a
            finished run.
        keep_every: also keep a checkpoint every so many samples; 0 keeps none.
        samples_every: samples from one drawing of curves and answers to the next, the last at the end; 0 draws with
            each checkpoint.
        max_bad: how many samples may be bad: a number, or below 1 a share of those seen.
        skip_not_finite: how many steps may be skipped because their gradients are not finite; the next such step
            ends the run.
        wandb: project of Weights & Biases to log to, offline unless ``WANDB_MODE`` is set; empty logs to none.
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
    more_samples: int = Field(0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    ema: float = Field(0.0, ge=0, lt=1)
    workers: int = Field(1, ge=0)
    save_minutes: float = Field(3.0, gt=0)
    keep: int = Field(0, ge=0)
    keep_every: int = Field(0, ge=0)
    samples_every: int = Field(0, ge=0)
    max_bad: Annotated[int | float, BeforeValidator(_number_or_share)] = 100
    skip_not_finite: int = Field(0, ge=0)
    wandb: str = ""
    model: ModelSpec
    optimizer: OptimizerSpec
    parallel: ParallelSpec = ParallelSpec()
    phases: list[PhaseSpec] = Field(min_length=1)
    parts: ClassVar[bool] = False  # samples are parts of images, which are decoded at full size

    @model_validator(mode="after")
    def _check_lengths(self) -> Recipe:
        if self.batch % self.micro:
            raise ValueError(f"batch = {self.batch} cannot be split into micro = {self.micro} equal parts")
        lengths = {f"phases.{number}.samples": phase.samples for number, phase in enumerate(self.phases)}
        for key, samples in {**lengths, "more_samples": self.more_samples}.items():
            if excess := samples % self.batch:
                less, more = samples - excess, samples - excess + self.batch
                raise ValueError(
                    f"{key} = {samples} is not a multiple of batch = {self.batch}: "
                    f"take {more}" + (f" (or {less})" if less else "")
                )
        warmup, cooldown = self.optimizer.warmup, self.optimizer.cooldown
        if warmup + cooldown > self.samples:
            raise ValueError(
                f"optimizer.warmup + optimizer.cooldown = {warmup + cooldown} is more than the run, "
                f"{self.samples} samples"
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
    def lengths(self) -> list[int]:
        """Samples of each phase; ``more_samples`` lengthens the last."""
        *others, last = (phase.samples for phase in self.phases)
        return [*others, last + self.more_samples]

    @property
    def samples(self) -> int:
        """Length of the run."""
        return sum(self.lengths)

    def bad_limit(self, seen: int) -> int:
        """How many of the first ``seen`` samples may be bad."""
        return self.max_bad if isinstance(self.max_bad, int) else max(FEW, int(self.max_bad * seen))


class EvaluatedRecipe(Recipe):
    """A run that can be evaluated while it trains.

    Attributes:
        evals: evaluations during training.
        keep_best: a score, as "mine/exact_match", or an evaluation, of which it is the score that counts. The
            checkpoint with the best value is kept and exported to ``best/`` in the run's folder.
        patience: end the run after so many evaluations in a row without a better value; 0 never ends it early.
    """

    evals: Sequence[BenchmarkEvalSpec] = ()
    keep_best: str = ""
    patience: int = Field(0, ge=0)

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
        if self.patience and not self.keep_best:
            raise ValueError("patience counts evaluations without a better score: set keep_best to that score")
        return self

    def times(self, every: int) -> int:
        """How often an evaluation runs: before training from a model, every so many samples, and at the end."""
        last = self.samples - self.batch
        reached = min(self.samples // self.batch, self.samples // every)
        at_the_end = self.samples // every == last // every  # the last step reaches no multiple
        return bool(self.model.start) + reached + at_the_end


class SiglipRecipe(EvaluatedRecipe):
    """Images and their texts, in pairs, by the sigmoid loss.

    Attributes:
        keep_case: keep upper case in the texts; otherwise they are lowercased.
        regions: weight of the region loss, in which the patch at the centre of each object of an image is matched
            with the object's name; 0 for none, as in SigLIP.
    """

    objective: Literal["siglip"]
    keep_case: bool = False
    regions: float = Field(0.0, ge=0)
    model: SiglipModelSpec
    evals: list[BenchmarkEvalSpec] = []

    @model_validator(mode="after")
    def _check_negatives(self) -> SiglipRecipe:
        if self.micro > 1:
            raise ValueError(
                f"micro = {self.micro} would hide the negatives of one micro-batch from another: "
                'objective = "siglip" needs micro = 1'
            )
        return self


class ClassifyRecipe(Recipe):
    """Classes of images, by name: the baseline of the paper's comparison with SigLIP.

    Attributes:
        label_smoothing: share of the probability that the target spreads over all classes.
    """

    objective: Literal["classify"]
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class SequenceRecipe(EvaluatedRecipe):
    """Targets as text, given images and a prompt; UL2 on text alone is one of its tasks.

    Attributes:
        max_prompt: most tokens of a prompt.
        max_target: most tokens of a target, its end token included.
        too_long: what happens to a sample with more tokens: "skip" counts it as bad and takes a neighbour; "cut"
            truncates its target (a prompt that is too long is still skipped).
        loss_mean: the mean over all target tokens of a batch, or over examples of their mean over tokens.
        label_smoothing: share of the probability that the target spreads over the other tokens.
        z_loss: weight of the squared log of the softmax' denominator, which keeps logits small.
    """

    objective: Literal["sequence"]
    max_prompt: int = Field(64, gt=0)
    max_target: int = Field(64, gt=0)
    too_long: Literal["skip", "cut"] = "skip"
    loss_mean: Literal["token", "example"] = "token"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    z_loss: float = Field(0.0, ge=0)
    model: SequenceModelSpec
    evals: list[EvalSpec] = []


class MaskRecipe(Recipe):
    """The mask VQ-VAE: masks of objects to 16 tokens and back. Its entries have the task ``refseg``."""

    objective: Literal["mask_vqvae"]

    @model_validator(mode="after")
    def _check_codebook(self) -> MaskRecipe:
        if self.micro > 1:
            raise ValueError(
                f"micro = {self.micro} would update the codebook several times in a step: "
                'objective = "mask_vqvae" needs micro = 1'
            )
        if self.parallel != ParallelSpec():
            raise ValueError(
                'objective = "mask_vqvae" has no transformer blocks to shard, checkpoint or compile: '
                "remove the parallel table"
            )
        if self.skip_not_finite:
            raise ValueError(
                "skip_not_finite leaves out the update of weights, but the codebook has changed before: "
                'objective = "mask_vqvae" needs skip_not_finite = 0'
            )
        return self


class FindRecipe(EvaluatedRecipe):
    """Lines of text on pages: where they are. Its entries have ``lines``, and the task ``ocr``."""

    objective: Literal["find"]
    parts: ClassVar[bool] = True
    evals: list[PageEvalSpec] = []


class ReadRecipe(EvaluatedRecipe):
    """Lines of text that are found: what they say. Its entries have ``lines`` or ``text``, and the task ``ocr``.

    A phase's ``size`` is the height at which lines are read, and the widest line.

    Attributes:
        pieces: lines of a page in a sample.
    """

    objective: Literal["read"]
    pieces: int = Field(8, gt=0)
    parts: ClassVar[bool] = True
    evals: list[PageEvalSpec] = []

    @model_validator(mode="after")
    def _check_widths(self) -> ReadRecipe:
        for number, phase in enumerate(self.phases):
            if phase.pixels.width % WIDTHS:
                raise ValueError(
                    f"phases.{number}.size = {phase.size}: the widest line is a multiple of {WIDTHS} pixels"
                )
        return self


class _Named(_Table):
    """What phases refer to by name.

    Attributes:
        entries: ``[entries.NAME]``.
        mixtures: ``[mixtures.NAME]``, with a weight for each entry.
    """

    entries: dict[str, EntrySpec] = {}
    mixtures: dict[str, dict[str, _Rate]] = {}


_AnyRecipe = Annotated[
    SiglipRecipe | ClassifyRecipe | SequenceRecipe | MaskRecipe | FindRecipe | ReadRecipe,
    Field(discriminator="objective"),
]
_BY_NAME = ("entries.", "mixtures.")
_RECIPES: TypeAdapter[Recipe] = TypeAdapter(_AnyRecipe)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are ``key=value`` with dotted keys and TOML values.

    Three keys belong to the file and are resolved here: ``extends`` (:func:`read_table`), ``entries`` and
    ``mixtures`` (:func:`expand_mixtures`). Overrides apply to the resolved recipe; those of entries and mixtures
    apply before. ``phases.0.samples=640`` reaches into lists. ``scale=0.01`` is not a key but a tool for dry runs:
    it shortens every phase, ``more_samples``, the warmup and the cooldown by that factor.

    Raises:
        FileNotFoundError: the file, or one that it extends, does not exist.
        ValueError: a file is not TOML, or has an unknown key or a wrong value; every problem is named.
    """
    path = Path(path)
    raw = read_table(path)
    if STUDY in raw:
        raise ValueError(f"{path} is a study: use openpali study")
    try:
        changes = read_overrides(overrides)
        for key, value in changes:
            if key.startswith(_BY_NAME):
                assign(raw, key, value)
        entries, mixtures = _named(raw)
        expand_mixtures(raw, entries, mixtures)
        scale = 1.0
        for key, value in changes:
            if key == "scale":
                scale = _scale(value)
            elif not key.startswith(_BY_NAME):
                assign(raw, key, value)
        expand_mixtures(raw, entries, mixtures)  # an override may name another mixture
        return _scaled(parse_recipe(raw), scale)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_recipe(raw: Mapping[str, Any]) -> Recipe:
    """A recipe from its keys, with mixtures written out.

    Raises:
        ValueError: an unknown key, one of another objective, or a wrong value; every problem is named.
    """
    try:
        return _RECIPES.validate_python(raw)
    except ValidationError as error:
        raise ValueError(_sentences(error, raw.get("objective"), _KEYS)) from error


def read_record(text: str) -> Recipe:
    """The recipe of a run, from its ``recipe.json``.

    Records of earlier versions hold the options of all objectives. Those that this one does not use are dropped.

    Raises:
        ValueError: it is not JSON, or not a recipe.
    """
    try:
        raw = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(raw, dict):
        raise ValueError(f"it holds a {type(raw).__name__}, not an object")
    known = _KEYS.get(str(raw.get("objective")), ())
    unused = {key for keys in _KEYS.values() for key in keys if key not in known}
    kept = {key: value for key, value in raw.items() if key not in unused}
    if isinstance(kept.get("model"), dict):
        kept["model"] = {key: value for key, value in kept["model"].items() if f"model.{key}" not in unused}
    return parse_recipe(kept)


def _named(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the entries and the mixtures out of a file's table, and check them."""
    named = {key: raw.pop(key, {}) for key in _Named.model_fields}
    try:
        _Named.model_validate(named)
    except ValidationError as error:
        names = named["entries"] if isinstance(named["entries"], dict) else ()
        keys = [f"entries.{name}.{key}" for name in names for key in EntrySpec.model_fields]
        raise ValueError(_sentences(error, "", {"": keys})) from error
    return named["entries"], named["mixtures"]


def _scale(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"scale = {value}: give a positive number")
    return float(value)


def _scaled(recipe: Recipe, scale: float) -> Recipe:
    if scale == 1.0:
        return recipe
    batch = recipe.batch

    def shorter(samples: int) -> int:
        return max(1, round(samples * scale / batch)) * batch

    raw = recipe.model_dump()
    for phase in raw["phases"]:
        phase["samples"] = shorter(phase["samples"])
    if raw["more_samples"]:
        raw["more_samples"] = shorter(raw["more_samples"])
    samples, optimizer = sum(phase["samples"] for phase in raw["phases"]), raw["optimizer"]
    optimizer["warmup"] = min(samples, math.ceil(optimizer["warmup"] * scale))
    optimizer["cooldown"] = min(samples - optimizer["warmup"], math.ceil(optimizer["cooldown"] * scale))
    for key in ("keep_every", "samples_every"):
        raw[key] = math.ceil(raw[key] * scale)
    for evaluation in raw.get("evals", ()):
        evaluation["every"] = math.ceil(evaluation["every"] * scale)
    return parse_recipe(raw)


def _sentences(error: ValidationError, objective: Any, keys: Keys) -> str:
    """Every mistake as a sentence. Locations in a recipe begin with its objective, which is not part of the key."""
    errors: list[Any] = [*error.errors()]
    for each in errors:
        if each["loc"][:1] == (objective,):
            each["loc"] = each["loc"][1:]
    return "; ".join(explain_error(each, objective, keys) for each in errors)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a model and of the models within it; those in lists have the index 0."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner, index = field.annotation, ""
        if get_origin(inner) is list:
            inner, index = get_args(inner)[0], "0."
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.{index}")


_KEYS: dict[str, list[str]] = {
    objective: [*_keys(kind)]
    for kind in (SiglipRecipe, ClassifyRecipe, SequenceRecipe, MaskRecipe, FindRecipe, ReadRecipe)
    for objective in get_args(kind.model_fields["objective"].annotation)
}
