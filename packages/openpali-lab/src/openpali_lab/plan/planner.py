"""Plans a recipe for machines that are not at hand: memory, FLOPs, traffic and time, and settings that fit.

A plan runs the trainer's own step (`train/step.py`) on fake tensors and ranks (`ledger.py`), so it includes what
model, loss, checkpointing, sharding and optimizer really do. Time is estimated from FLOPs, bytes and data sheets.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.utils._python_dispatch import _disable_current_modes

from openpali.architectures.registry import architecture_of, presets_named
from openpali.distributed import Ranks
from openpali.messages import duration
from openpali.model.attention import set_attention
from openpali.model.init import materialise
from openpali.model.lora import init_lora
from openpali.model.vision_language import DTYPES, VisionLanguageModel
from openpali.progress import Working, unseen
from openpali.text.tokenizer import Tokenizer
from openpali.train.checkpoint import allocate
from openpali.train.load import parse_recipe
from openpali.train.machine import resolve_precision
from openpali.train.objectives.base import Lengths, Objective, frames_of
from openpali.train.objectives.registry import build_objective, objectives
from openpali.train.recipe import PhaseSpec, PromptedRecipe, Recipe
from openpali.train.step import Stage, TrainStep, check_sizes, set_resolution, weights_of
from openpali.weights.bundle import open_tokenizer
from openpali_lab.plan.flops import matmul_peak
from openpali_lab.plan.ledger import KINDS, Ledger, fused_attention, shapes_of, simulated

ROOM = 0.9  # share of a device's memory that a plan may fill; the rest is for fragmentation and libraries
CLASSES = 1000  # of a classifier, whose data is not read
KIND_OF: Mapping[Stage, str] = {
    "place": "weights",
    "average": "optimizer",
    "forward": "activations",
    "backward": "activations",
    "fill": "gradients",
    "reduce": "communication",
    "update": "optimizer",
}


@dataclass(frozen=True)
class Device:
    """A kind of accelerator, by the maker's data sheet.

    Attributes:
        memory: bytes.
        bf16, fp32: FLOP/s of dense matmuls; fp32 without TF32, which torch does not use by itself.
        bandwidth: of its memory, bytes/s.
        node: devices per node.
        link: bytes/s in one direction to devices of the same node.
        network: bytes/s in one direction to other nodes, per device.
        cuda: whether it has the kernels of a GPU.
    """

    name: str
    memory: float
    bf16: float
    fp32: float
    bandwidth: float
    node: int
    link: float
    network: float
    cuda: bool = True


DEVICES: Mapping[str, Device] = {
    d.name: d
    for d in (
        Device("h100", 80e9, 989e12, 67e12, 3.35e12, 8, 450e9, 50e9),
        Device("h200", 141e9, 989e12, 67e12, 4.8e12, 8, 450e9, 50e9),
        Device("b200", 180e9, 2250e12, 75e12, 7.7e12, 8, 900e9, 50e9),
        Device("a100-80", 80e9, 312e12, 19.5e12, 2.0e12, 8, 300e9, 25e9),
        Device("a100-40", 40e9, 312e12, 19.5e12, 1.55e12, 8, 300e9, 25e9),
        Device("l40s", 48e9, 362e12, 91.6e12, 0.86e12, 8, 32e9, 12.5e9),
        Device("rtx4090", 24e9, 165e12, 83e12, 1.0e12, 8, 32e9, 12.5e9),
    )
}


@dataclass(frozen=True)
class StepCosts:
    """Costs of one step on one rank.

    Attributes:
        memory: bytes of each kind at the time of most bytes.
        held: bytes between steps.
        flops: of matmuls.
        sent: bytes within the node and over the network.
        rows: of a micro-batch.
    """

    memory: Mapping[str, int]
    held: int
    flops: float
    sent: Mapping[str, float]
    rows: int

    @property
    def peak(self) -> int:
        """Most bytes at a time, of all kinds."""
        return sum(self.memory.values())


@dataclass(frozen=True)
class PhasePlan:
    """A phase of the recipe: the costs and the seconds of a step, and the days of all its steps."""

    spec: PhaseSpec
    steps: int
    costs: StepCosts
    seconds: float
    days: float


@dataclass(frozen=True)
class Plan:
    """A recipe on a number of devices.

    Attributes:
        suggestion: overrides with which the recipe fits; empty if it fits as it is; None if none were found.
        suggested: the phases with these overrides.
    """

    recipe: str
    device: Device
    devices: int
    dtype: str
    parameters: int
    phases: Sequence[PhasePlan]
    suggestion: Sequence[str] | None
    assumptions: Sequence[str]
    suggested: Sequence[PhasePlan] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether the recipe fits without overrides."""
        return all(_fits(phase.costs, self.device) for phase in self.phases)

    @property
    def training(self) -> float:
        """Seconds of all steps, with the suggestion if there is one."""
        return sum(phase.steps * phase.seconds for phase in self.suggested or self.phases)

    def as_json(self) -> dict[str, Any]:
        """The plan as JSON data."""
        return {
            "recipe": self.recipe,
            "device": vars(self.device),
            "devices": self.devices,
            "dtype": self.dtype,
            "parameters": self.parameters,
            "fits": self.fits,
            "phases": [_phase_json(phase) for phase in self.phases],
            "suggestion": self.suggestion if self.suggestion is None else list(self.suggestion),
            "suggested": [_phase_json(phase) for phase in self.suggested],
            "assumptions": list(self.assumptions),
        }

    @property
    def times(self) -> str:
        """A sentence that says of which machine the times are."""
        if self.device.name == "cpu":
            return "all times are those of this machine"
        return f"all times are those of {self.devices} x {self.device.name}; --device cpu plans for this machine"

    def lines(self) -> Iterator[str]:
        """The plan as lines of text."""
        yield (
            f"{self.recipe}: {self.parameters / 1e6:,.1f}M parameters on {self.devices} x {self.device.name} "
            f"({self.device.memory / 1e9:.0f} GB), {self.dtype}"
        )
        yield from _phase_lines(self.phases, self.device)
        if self.suggestion is None:
            yield "does not fit with any setting tried: use more devices, or a smaller model, image size or batch"
        elif self.suggestion:
            yield f"does not fit; this does: {' '.join(self.suggestion)}"
            yield from _phase_lines(self.suggested, self.device)
        else:
            yield "fits as it is"
        yield f"the run: {duration(self.training)}"
        yield self.times
        yield "assumed: " + "; ".join(self.assumptions)


def find_device(name: str, ranks: int) -> Device:
    """A device by name; ``cpu`` is this machine, divided by ``ranks``."""
    if name == "cpu":
        if not hasattr(os, "sysconf"):
            raise ValueError(
                "device cpu needs the size of this machine's memory, which Windows does not tell: name a GPU"
            )
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        here = torch.device("cpu")
        bf16, fp32 = (matmul_peak(here, dtype, 0.1) / ranks for dtype in (torch.bfloat16, torch.float32))
        return Device("cpu", memory / ranks, bf16, fp32, 20e9 / ranks, ranks, 5e9, 1e9, cuda=False)
    if name not in DEVICES:
        raise ValueError(f"no device {name!r}; there are {', '.join(DEVICES)}, and cpu for this machine")
    return DEVICES[name]


def make_plan(
    recipe: Recipe,
    device: Device,
    devices: int,
    lengths: Lengths | None = None,
    efficiency: float = 0.4,
    working: Working = unseen,
) -> Plan:
    """Plan a recipe on ``devices`` ranks.

    Args:
        recipe: to plan.
        device: kind of device.
        devices: number of devices, one rank each.
        lengths: of every row.
        efficiency: FLOP/s of a whole step by the peak FLOP/s of the device, above 0 and up to 1.
        working: shows which step is being rehearsed.
    """
    if not 0 < efficiency <= 1:
        raise ValueError(
            f"efficiency = {efficiency:g} is not a share of the peak: give a number above 0 and up to 1"
        )
    lengths = lengths or Lengths()
    dtype = _precision(recipe, device)
    phases = _plan_phases(recipe, device, devices, lengths, efficiency, working)
    suggestion: Sequence[str] | None = ()
    suggested: Sequence[PhasePlan] = ()
    if not all(_fits(phase.costs, device) for phase in phases):
        found = _suggest(recipe, device, devices, lengths, working)
        suggestion = None if found is None else _overrides(recipe, found)
        if found is not None:
            suggested = _plan_phases(found, device, devices, lengths, efficiency, working)
    return Plan(
        recipe.name,
        device,
        devices,
        str(dtype).removeprefix("torch."),
        _count(recipe),
        phases,
        suggestion,
        _assumptions(recipe, device, lengths, efficiency),
        suggested,
    )


def rehearse(
    recipe: Recipe, phase: PhaseSpec, device: Device, devices: int, lengths: Lengths | None = None
) -> StepCosts:
    """The costs of one step on ``devices`` fake ranks: of the last step, when the optimizer has its state and
    all losses have begun.
    """
    lengths = lengths or Lengths()
    rows = rows_of(recipe, devices)
    ledger = Ledger(device.node, rows)
    dtype = _precision(recipe, device)
    accountant = Accountant(ledger)
    objective = build_without_data(recipe, phase, "meta")
    if device.cuda:
        set_attention(objective.model, fused_attention)
    with simulated(ledger, cuda=device.cuda, world=devices):
        step = place_on_ranks(recipe, objective, dtype, devices, accountant)
        ledger.kind = "optimizer"
        allocate(step.optimizer)
        ledger.kind = "communication"
        for module in step.model.modules():
            if isinstance(module, FSDPModule):  # later steps refill its buffers
                module.unshard()
                module.reshard()
        ledger.kind = "activations"
        micro = min(recipe.micro, 2)  # all further ones cost what the first costs
        batch = step.objective.example_batch(phase, rows, lengths)
        ledger.reset()
        held = sum(ledger.totals.values())
        try:
            step.run([batch] * micro, weight=1.0, number=recipe.samples // recipe.batch - 1)
        except DynamicOutputShapeException as error:
            raise ValueError(
                f"objective = {recipe.objective!r} has steps whose shapes depend on their data, which no plan knows"
            ) from error
        more = recipe.micro - micro
        flops = ledger.flops + more * accountant.flops
        sent = {link: size + more * accountant.sent[link] for link, size in ledger.sent.items()}
        return StepCosts(ledger.peak, held, flops, sent, rows)


def rows_of(recipe: Recipe, devices: int) -> int:
    """Rows of a micro-batch on the rank that has most."""
    if recipe.batch < devices * recipe.micro:
        raise ValueError(
            f"a batch of {recipe.batch} in micro = {recipe.micro} parts leaves no row for each of {devices} "
            "devices: lower micro, or use fewer devices"
        )
    return math.ceil(recipe.batch / (devices * recipe.micro))


class Accountant:
    """Tells the ledger what the current stage of a step makes, and notes what the first micro-batch costs."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.micro_batches = 0
        self.flops, self.sent = 0.0, dict[str, float]()  # of the first micro-batch of the present step

    def __call__(self, stage: Stage) -> None:
        ledger = self.ledger
        if self.micro_batches == 1 and stage in ("forward", "fill"):
            self.flops, self.sent = ledger.flops, dict(ledger.sent)
        if stage == "forward":
            self.micro_batches += 1
        elif stage == "fill":
            self.micro_batches = 0
        ledger.kind, ledger.backward = KIND_OF[stage], stage == "backward"


def build_without_data(recipe: Recipe, phase: PhaseSpec, device: str) -> Objective[Any]:
    """The objective of a recipe on a device, at the resolution of ``phase``. Needs neither data nor tokenizer.

    On the meta device, its model has no weights.
    """
    objective = _build(recipe)
    check_sizes(recipe, objective)
    if device != "meta":
        materialise(objective.model, device)
        init_lora(objective.model)  # which its layers do not draw
    set_resolution(objective.model, recipe.phases[: recipe.phases.index(phase) + 1])
    return objective


def _build(recipe: Recipe) -> Objective[Any]:
    return build_objective(recipe, _vocabulary(recipe), lambda: [str(i) for i in range(CLASSES)])


def place_on_ranks(
    recipe: Recipe, objective: Objective[Any], dtype: torch.dtype, devices: int, accountant: Accountant
) -> TrainStep:
    """The training step on rank 0 of ``devices`` fake ranks, under :func:`simulated`. Nothing is compiled."""
    ledger = accountant.ledger
    ledger.matrices = shapes_of(list(objective.model.parameters()))
    ledger.columns = {objective.logit_width(rows_of(recipe, devices))} - {0}
    ranks = _FakeRanks(0, devices, torch.device("cpu"), node=ledger.node)
    eager = recipe.model_copy(update={"parallel": recipe.parallel.model_copy(update={"compile": False})})
    return TrainStep(eager, objective, ranks, dtype, accountant)


@dataclass(frozen=True)
class _FakeRanks(Ranks):
    """Ranks of which only this one exists, ``node`` per node."""

    node: int = 1

    def sums(self, values: Sequence[float]) -> list[float]:
        return [0.0 for _ in values]  # asked only by `place`: are there weights to broadcast?

    @property
    def per_node(self) -> int:
        return min(self.node, self.world)

    def mesh(self, kind: Literal["full", "hybrid"]) -> DeviceMesh:
        with _disable_current_modes():  # a mesh needs real numbers
            return super().mesh(kind)


@dataclass(frozen=True)
class _Vocabulary:
    """Stands in for a tokenizer that has not been built."""

    vocab_size: int
    pad_id: int = VisionLanguageModel.pad


def _vocabulary(recipe: Recipe) -> Tokenizer:
    try:
        return open_tokenizer(recipe.model.tokenizer)
    except FileNotFoundError:
        shapes = presets_named(recipe.model.preset)
        if not shapes:
            raise
        networks = (each.network for each in map(architecture_of, shapes) if each.answers)
        pad = next((each.pad for each in networks if issubclass(each, VisionLanguageModel)), _Vocabulary.pad_id)
        return cast(Tokenizer, _Vocabulary(objectives()[recipe.objective].vocabulary(recipe), pad))


def _precision(recipe: Recipe, device: Device) -> torch.dtype:
    if device.cuda:
        return torch.float32 if recipe.precision == "fp32" else torch.bfloat16
    return resolve_precision(recipe.precision, torch.device("cpu"))


def _count(recipe: Recipe) -> int:
    return sum(count for *_, count in weights_of(_build(recipe).model))


def _area(phase: PhaseSpec) -> int:
    """How large the images of a phase are, by which phases of one recipe compare: patches or pixels."""
    return phase.tokens or math.prod(phase.pixels)


def _fits(costs: StepCosts, device: Device) -> bool:
    return costs.peak <= ROOM * device.memory


def _plan_phases(
    recipe: Recipe, device: Device, devices: int, lengths: Lengths, efficiency: float, working: Working
) -> list[PhasePlan]:
    # phases of one resolution have the same step, whatever their mixtures
    known: dict[tuple[str, int], StepCosts] = {}
    plans = []
    for phase in recipe.phases:
        key = phase.resolution, frames_of(phase, lengths)
        if key not in known:
            with working(f"rehearsing a step at {phase.resolution}"):
                known[key] = rehearse(recipe, phase, device, devices, lengths)
        costs, steps = known[key], phase.samples // recipe.batch
        seconds = step_seconds(costs, device, _precision(recipe, device), efficiency)
        plans.append(PhasePlan(phase, steps, costs, seconds, steps * seconds / 86_400))
    return plans


def _peak(device: Device, dtype: torch.dtype) -> float:
    return device.bf16 if dtype == torch.bfloat16 else device.fp32


def step_seconds(costs: StepCosts, device: Device, dtype: torch.dtype, efficiency: float) -> float:
    """Seconds of a step: compute and traffic overlap, then the optimizer reads and writes all held memory once."""
    compute = costs.flops / (efficiency * _peak(device, dtype))
    traffic = costs.sent["node"] / device.link + costs.sent["network"] / device.network
    return max(compute, traffic) + 2 * costs.held / device.bandwidth


def _suggest(
    recipe: Recipe, device: Device, devices: int, lengths: Lengths, working: Working = unseen
) -> Recipe | None:
    """The first setting that fits, in order of the time it costs; None if there is none."""

    def fits(tried: Recipe) -> bool:
        changes = " ".join(_overrides(recipe, tried)) or "micro and parallel as they are"
        with working(f"does not fit: trying {changes}"):
            return _fits(rehearse(tried, largest, device, devices, lengths), device)

    largest = max(recipe.phases, key=lambda phase: (_area(phase), frames_of(phase, lengths)))
    micros = [m for m in _divisors(recipe.batch) if m >= recipe.micro and devices * m <= recipe.batch]
    shards = ["none"]
    if devices > 1:
        shards += ["full"] if devices <= device.node or devices % device.node else ["hybrid", "full"]
    for shard in shards:
        for checkpointing in ("none", "selective", "full"):
            some = micros if checkpointing == "full" else micros[:3]  # each gathers the weights again
            tried = [*_allowed(recipe, {"shard": shard, "checkpointing": checkpointing}, some)]
            if (first := bisect_left(tried, True, key=fits)) < len(tried):
                return tried[first]
    return None


def _allowed(recipe: Recipe, parallel: Mapping[str, str], micros: Sequence[int]) -> Iterator[Recipe]:
    """The recipe with these settings, as far as its objective allows them."""
    raw = recipe.model_dump()
    for micro in micros:
        with suppress(ValueError):
            changed = {"micro": micro, "parallel": {**raw["parallel"], **parallel}}
            yield parse_recipe({**raw, **changed})


def _divisors(batch: int) -> list[int]:
    return [1 << n for n in range(batch.bit_length()) if batch % (1 << n) == 0]


def _overrides(recipe: Recipe, found: Recipe) -> list[str]:
    changes = []
    if found.micro != recipe.micro:
        changes.append(f"micro={found.micro}")
    for key in ("shard", "checkpointing"):
        if (value := getattr(found.parallel, key)) != getattr(recipe.parallel, key):
            changes.append(f"parallel.{key}={value}")
    return changes


def _assumptions(recipe: Recipe, device: Device, lengths: Lengths, efficiency: float) -> list[str]:
    dtype = _precision(recipe, device)
    links = f"{device.link / 1e9:g} GB/s within a node of {device.node}, {device.network / 1e9:g} GB/s between"
    assumed = [
        f"matmuls at {efficiency:.0%} of {_peak(device, dtype) / 1e12:,.3g} TFLOP/s ({DTYPES[dtype]})",
        f"{links}, all of it overlapping with compute",
        f"{ROOM:.0%} of {device.memory / 1e9:.0f} GB may be filled",
        "no waiting for data, and no time for evaluations",
    ]
    if isinstance(recipe, PromptedRecipe):
        prompt, target = lengths.prompt or recipe.max_prompt, lengths.target or recipe.max_target
        assumed.insert(0, f"every row has a prompt of {prompt} tokens and a target of {target}")
        if (frames := max(frames_of(phase, lengths) for phase in recipe.phases)) > 1:
            assumed.insert(1, f"videos have {frames} frames")
    if recipe.parallel.compile:
        assumed.append("compiled blocks need as much memory as others")
    return assumed


def _phase_json(phase: PhasePlan) -> dict[str, Any]:
    return {
        "size": phase.spec.size,
        "tokens": phase.spec.tokens,
        "steps": phase.steps,
        "rows": phase.costs.rows,
        "memory": {**phase.costs.memory, "all": phase.costs.peak, "between_steps": phase.costs.held},
        "flops": phase.costs.flops,
        "sent": dict(phase.costs.sent),
        "step_seconds": phase.seconds,
        "days": phase.days,
    }


def _phase_lines(phases: Sequence[PhasePlan], device: Device) -> Iterator[str]:
    for phase in phases:
        costs = phase.costs
        kinds = ", ".join(f"{kind} {costs.memory[kind] / 1e9:.2f}" for kind in KINDS if costs.memory[kind])
        sent = ", ".join(f"{size / 1e9:.2f} GB over the {link}" for link, size in costs.sent.items() if size)
        yield f"  {phase.spec.resolution}, {costs.rows} rows per rank at a time, {phase.steps:,} steps:"
        yield f"    memory {costs.peak / 1e9:.2f} GB of {device.memory / 1e9:.0f} per rank: {kinds}"
        yield f"    {costs.flops / 1e12:,.2f} TFLOP" + (f" and {sent}" if sent else "") + " per rank and step"
        yield f"    {phase.seconds:.3f} s per step, {duration(phase.steps * phase.seconds)} in all"
