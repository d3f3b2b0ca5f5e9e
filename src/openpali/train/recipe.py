"""A run as data: a typed TOML file. What is wrong in it is said before anything is loaded."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


_Beta = Annotated[float, Field(ge=0, lt=1)]
_Share = Annotated[float, Field(gt=0, lt=1)]
FEW = 100  # samples that may be bad before a share is taken of those seen


class SourceSpec(_Strict):
    """One line of a mixture: a source by name, the task that writes its examples, their options, its rate."""

    source: str
    task: str
    weight: float = Field(1.0, gt=0)
    options: dict[str, Any] = {}
    task_options: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What logs call it."""
        return f"{self.task}@{self.source}"


class PhaseSpec(_Strict):
    """A stretch of the run: how many samples, at what resolution (pixels per side), from what mixture."""

    samples: int = Field(gt=0)
    size: int = Field(gt=0)
    mixture: list[SourceSpec] = Field(min_length=1)


class ModelSpec(_Strict):
    """Which shapes, and where parts start from.

    ``preset`` is a size by name, or a model folder or run that has the shapes.
    ``init`` maps a part of the model ("vit", "text", "project", ...; "" is all of it) to a run of that name or
    a model folder, optionally ``#part`` of it. Whatever is not named starts from scratch. ``masks`` is the mask
    VQ-VAE that writes the targets of referring segmentation.
    """

    preset: str
    tokenizer: str
    init: dict[str, str] = {}
    frozen: list[str] = []
    masks: str = ""
    temperature: float = Field(10.0, gt=0)
    bias: float = -10.0
    dropout: float = Field(0.0, ge=0, lt=1)


class OptimizerSpec(_Strict):
    """``lr`` is the peak; ``lr_scale`` multiplies it for parts by name. Lengths of the schedule are in samples.

    ``weight_decay`` is AdamW's (big_vision's ``wd`` is this times lr); it reaches matrices only, no
    embeddings, positions, norms or biases. ``qk_clip`` bounds how far attention scores spread, in standard
    deviations as `train/optim/qk_clip.py` has it; 0 leaves them alone.
    """

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    lr: float = Field(gt=0)
    lr_scale: dict[str, Annotated[float, Field(gt=0)]] = {}
    betas: tuple[_Beta, _Beta] = Field((0.9, 0.95), strict=False)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    qk_clip: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "linear", "rsqrt", "constant"] = "cosine"
    warmup: int = Field(0, ge=0)
    cooldown: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> OptimizerSpec:
        if self.schedule == "rsqrt" and not self.warmup:
            raise ValueError("schedule = rsqrt decays at the time scale of its warmup: set optimizer.warmup")
        if self.cooldown and self.schedule in ("cosine", "linear"):
            raise ValueError(
                f"schedule = {self.schedule} ends at zero as it is: a cooldown is for rsqrt and constant"
            )
        return self


class ParallelSpec(_Strict):
    """How a run spreads over ranks and saves memory; none of it changes what is learnt (docs/training.md).

    ``shard``: "none" keeps all of the model on each rank; "full" cuts weights, gradients and optimizer state over
    all ranks; "hybrid" over the ranks of a node, with a copy on each node. One rank alone shards nothing.
    ``checkpointing``: what is computed again in the backward pass: nothing, all of each block but its matrix
    products and attention ("selective"), or all of each block ("full").
    ``compile``: each block through ``torch.compile``.
    """

    shard: Literal["none", "full", "hybrid"] = "none"
    checkpointing: Literal["none", "selective", "full"] = "none"
    compile: bool = False


class Recipe(_Strict):
    """A whole run.

    ``ema`` is the decay per step of an average of the weights, which is then what the run exports; 0 keeps none.
    ``too_long`` says what becomes of a sample with more tokens than ``max_prompt`` or ``max_target``: it counts as
    bad and a neighbour takes its place ("skip"), or its target loses what is too much ("cut"; long prompts are
    skipped all the same). ``max_bad`` is how many samples may be bad: a number, or below 1 a share of those seen.
    A checkpoint is written every ``save_minutes``; the newest ``keep`` stay, and with ``keep_every`` also one every
    so many samples. Curves and sample pictures are drawn every ``samples_every`` samples; 0: with each checkpoint.
    ``wandb`` is a project of Weights & Biases to log to, offline unless ``WANDB_MODE`` says else.
    """

    name: str
    objective: Literal["siglip", "classify", "sequence", "mask_vqvae"]
    seed: int = Field(0, ge=0)
    batch: int = Field(gt=0)
    micro: int = Field(1, gt=0)
    max_prompt: int = Field(64, gt=0)
    max_target: int = Field(64, gt=0)
    too_long: Literal["skip", "cut"] = "skip"
    keep_case: bool = False
    loss_mean: Literal["token", "example"] = "token"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    z_loss: float = Field(0.0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    ema: float = Field(0.0, ge=0, lt=1)
    workers: int = Field(1, ge=0)
    save_minutes: float = Field(3.0, gt=0)
    keep: int = Field(2, gt=0)
    keep_every: int = Field(0, ge=0)
    samples_every: int = Field(0, ge=0)
    max_bad: int | _Share = Field(100, ge=0)
    wandb: str = ""
    model: ModelSpec
    optimizer: OptimizerSpec
    parallel: ParallelSpec = ParallelSpec()
    phases: list[PhaseSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        if self.optimizer.qk_clip and self.parallel.shard != "none":
            raise ValueError(
                f"optimizer.qk_clip looks at whole weights, and parallel.shard = {self.parallel.shard} cuts them: "
                'leave the one out, or set the other to "none"'
            )
        if self.batch % self.micro:
            raise ValueError(f"batch = {self.batch} cannot be cut into micro = {self.micro} equal parts")
        if self.objective == "siglip" and self.micro > 1:
            raise ValueError("micro > 1 would hide negatives from each other: siglip needs micro = 1")
        if self.objective == "mask_vqvae" and self.micro > 1:
            raise ValueError("every micro-batch would move the dictionary: mask_vqvae needs micro = 1")
        if self.objective == "mask_vqvae" and self.parallel != ParallelSpec():
            raise ValueError("mask_vqvae has no transformer blocks to shard, checkpoint or compile: drop parallel")
        for phase in self.phases:
            if phase.samples % self.batch:
                raise ValueError(f"phases.samples = {phase.samples} is no multiple of batch = {self.batch}")
        warmup, cooldown = self.optimizer.warmup, self.optimizer.cooldown
        if warmup + cooldown > self.samples:
            raise ValueError(
                f"optimizer.warmup + cooldown = {warmup + cooldown} is more than the run, {self.samples} samples"
            )
        return self

    @property
    def samples(self) -> int:
        """Length of the run."""
        return sum(phase.samples for phase in self.phases)

    def bad_limit(self, seen: int) -> int:
        """How many of the first ``seen`` samples may be bad."""
        return self.max_bad if isinstance(self.max_bad, int) else max(FEW, int(self.max_bad * seen))


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are ``key=value`` with dotted keys and TOML values.

    ``phases.0.samples=640`` reaches into lists; ``scale=0.01`` is no key but a tool for dry runs: it shortens
    every phase, warm-up and cool-down by that factor.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, has an unknown key or a wrong value; every problem is named.
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(str(p.with_suffix("")) for p in path.parent.glob("*.toml"))
        hint = f"; beside it: {', '.join(known)}" if known else ""
        raise FileNotFoundError(f"no recipe {path}{hint}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
    scale = 1.0
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"{override!r} is no override: write key=value")
        value = _toml_value(text)
        if key == "scale":
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"{override!r}: scale is a positive number")
            scale = float(value)
        else:
            _assign(raw, key, value)
    try:
        return _scaled(Recipe.model_validate(raw), scale)
    except ValidationError as error:
        raise ValueError(f"{path}: " + "; ".join(_explain(e) for e in error.errors())) from error


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # an unquoted string, as shells like it


def _assign(raw: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node = raw
    for depth, part in enumerate([*parents, last]):
        place: Any = part
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                raise ValueError(f"override {key}: there is no {part!r} in a list of {len(node)}")
            place = int(part)
        elif not isinstance(node, dict):
            raise ValueError(f"override {key}: {'.'.join(parents[:depth])} is a value, not a table")
        if depth == len(parents):
            node[place] = value
        else:
            node = node[place] if isinstance(node, list) else node.setdefault(place, {})


def _scaled(recipe: Recipe, scale: float) -> Recipe:
    if scale == 1.0:
        return recipe
    batch = recipe.batch

    def shorter(samples: int) -> int:
        return max(1, round(samples * scale / batch)) * batch

    raw = recipe.model_dump()
    for phase in raw["phases"]:
        phase["samples"] = shorter(phase["samples"])
    samples, optimizer = sum(phase["samples"] for phase in raw["phases"]), raw["optimizer"]
    optimizer["warmup"] = min(samples, math.ceil(optimizer["warmup"] * scale))
    optimizer["cooldown"] = min(samples - optimizer["warmup"], math.ceil(optimizer["cooldown"] * scale))
    for key in ("keep_every", "samples_every"):
        raw[key] = math.ceil(raw[key] * scale)
    return Recipe.model_validate(raw)


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg'].removeprefix('Value error, ')}" if where else error["msg"]
    near = difflib.get_close_matches(str(error["loc"][-1]), _keys_at(error["loc"][:-1]), n=1, cutoff=0.4)
    return f"unknown key {where}" + (f" (nearest: {near[0]})" if near else "")


def _keys_at(location: Sequence[str | int]) -> list[str]:
    model: type[BaseModel] = Recipe
    children: dict[str, type[BaseModel]] = {
        "model": ModelSpec,
        "optimizer": OptimizerSpec,
        "parallel": ParallelSpec,
        "phases": PhaseSpec,
        "mixture": SourceSpec,
    }
    for part in location:
        model = children.get(str(part), model)
    return list(model.model_fields)
