"""What a recipe needs on machines that are not here: memory, operations, traffic, time; and settings that fit.

The step itself is carried out, on imagined tensors and ranks (`ledger.py`), so a plan knows what the model, the
loss, checkpointing, sharding and the optimizer really do. Time is an estimate: operations by a share of the peak,
bytes by the links' rates.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import _disable_current_modes

from openpali.data.pipeline.encode import Batch, PairEncoder
from openpali.distributed import Ranks
from openpali.model.attention import sdpa, set_attention
from openpali.model.init import materialise
from openpali.model.sizes import PRESETS
from openpali.model.vit import ViT
from openpali.plan.ledger import KINDS, Ledger, imagined, shapes_of
from openpali.tasks.example import FRAMES
from openpali.tasks.registry import find_family
from openpali.text.tokenizer import Tokenizer
from openpali.train.machine import matmul_peak, resolve_precision
from openpali.train.objectives import Objective, build_objective
from openpali.train.optim.optimizer import build_optimizer, clip_gradients, freeze
from openpali.train.optim.qk_clip import attentions, clip_queries_and_keys
from openpali.train.parallel import is_sharded, place
from openpali.train.recipe import ParallelSpec, PhaseSpec, Recipe, SequenceRecipe
from openpali.weights.family import open_tokenizer

ROOM = 0.9  # of a device's memory that a plan may fill: allocators fragment, and libraries want their share
CLASSES = 1000  # of a classifier whose data is not here


@dataclass(frozen=True)
class Device:
    """A kind of accelerator, by its maker's data sheet: dense bf16 and fp32 matrix products in FLOP/s, bytes of
    memory, and bytes/s in one direction of memory, of the links within a node, and of a device's share of the
    network between nodes."""

    name: str
    memory: float
    bf16: float
    fp32: float
    bandwidth: float
    node: int  # devices in it
    link: float
    network: float
    cuda: bool = True


DEVICES: Mapping[str, Device] = {
    d.name: d
    for d in (
        Device("h100", 80e9, 989e12, 495e12, 3.35e12, 8, 450e9, 50e9),
        Device("h200", 141e9, 989e12, 495e12, 4.8e12, 8, 450e9, 50e9),
        Device("b200", 180e9, 2250e12, 1100e12, 7.7e12, 8, 900e9, 50e9),
        Device("a100-80", 80e9, 312e12, 156e12, 2.0e12, 8, 300e9, 25e9),
        Device("a100-40", 40e9, 312e12, 156e12, 1.55e12, 8, 300e9, 25e9),
        Device("l40s", 48e9, 362e12, 183e12, 0.86e12, 8, 32e9, 12.5e9),
        Device("rtx4090", 24e9, 165e12, 83e12, 1.0e12, 8, 32e9, 12.5e9),
    )
}


@dataclass(frozen=True)
class Lengths:
    """Of a batch's rows: tokens of prompt and target, and frames of a video (None: the recipe's most)."""

    prompt: int | None = None
    target: int | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Books:
    """Of one step, per rank: bytes at the peak by kind, bytes held between steps, FLOPs of matrix products, bytes
    sent within the node and over the network, and rows of a micro-batch."""

    memory: Mapping[str, int]
    held: int
    flops: float
    sent: Mapping[str, float]
    rows: int

    @property
    def peak(self) -> int:
        """Bytes in all."""
        return sum(self.memory.values())


@dataclass(frozen=True)
class Learner:
    """What a step changes: a model in its objective, its optimizer, layers under QK-clip, the average's tensors."""

    objective: Objective
    optimizer: torch.optim.Optimizer
    clipped: Sequence[nn.Module]
    average: Mapping[str, Tensor]


@dataclass(frozen=True)
class PhasePlan:
    """A phase of the recipe: its step's books, seconds of a step, and days of all its steps."""

    size: int
    steps: int
    books: Books
    seconds: float
    days: float


@dataclass(frozen=True)
class Plan:
    """A recipe on so many devices of a kind. ``suggestion`` are overrides of the recipe with which it fits (none if
    it does as it is), or None where nothing tried does."""

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
        """Whether the recipe fits as it is."""
        return all(_fits(phase.books, self.device) for phase in self.phases)

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
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

    def lines(self) -> Iterator[str]:
        """The same for people."""
        yield (
            f"{self.recipe}: {self.parameters / 1e6:,.1f}M parameters on {self.devices} x {self.device.name} "
            f"({self.device.memory / 1e9:.0f} GB), {self.dtype}"
        )
        yield from _phase_lines(self.phases, self.device)
        if self.suggestion is None:
            yield "does not fit, whatever was tried: take more devices, a larger batch share of which fits, or less"
        elif self.suggestion:
            yield f"does not fit; this does: {' '.join(self.suggestion)}"
            yield from _phase_lines(self.suggested, self.device)
        else:
            yield "fits as it is"
        yield "assumed: " + "; ".join(self.assumptions)


def find_device(name: str, ranks: int) -> Device:
    """A device by name; ``cpu`` is this machine, shared by ``ranks``.

    Raises:
        ValueError: there is none of that name.
    """
    if name == "cpu":
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        here = torch.device("cpu")
        bf16, fp32 = (matmul_peak(here, dtype, 0.1) / ranks for dtype in (torch.bfloat16, torch.float32))
        return Device("cpu", memory / ranks, bf16, fp32, 20e9 / ranks, ranks, 5e9, 1e9, cuda=False)
    if name not in DEVICES:
        raise ValueError(f"no device {name!r}; there are {', '.join(DEVICES)} and cpu, this machine")
    return DEVICES[name]


def make_plan(
    recipe: Recipe, device: Device, devices: int, lengths: Lengths | None = None, efficiency: float = 0.4
) -> Plan:
    """Plan a recipe on ``devices`` ranks.

    Args:
        efficiency: share of the peak rate that matrix products reach, all else of a step included.

    Raises:
        ValueError: the batch cannot be shared so, the recipe cannot be built, or the efficiency is no share.
    """
    if not 0 < efficiency <= 1:
        raise ValueError(f"efficiency is a share of the peak rate, above 0 and up to 1, not {efficiency:g}")
    lengths = lengths or Lengths()
    dtype = _precision(recipe, device)
    # phases of one size have one step; their mixtures do not matter
    phases = _plan_phases(recipe, device, devices, lengths, efficiency)
    suggestion: Sequence[str] | None = ()
    suggested: Sequence[PhasePlan] = ()
    if not all(_fits(phase.books, device) for phase in phases):
        found = _suggest(recipe, device, devices, lengths)
        suggestion = None if found is None else _overrides(recipe, found)
        if found is not None:
            suggested = _plan_phases(found, device, devices, lengths, efficiency)
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
) -> Books:
    """The books of one step (the second: by then the optimizer has its state) on ``devices`` imagined ranks."""
    lengths = lengths or Lengths()
    rows = rows_of(recipe, devices)
    ledger = Ledger(device.node, rows)
    dtype = _precision(recipe, device)
    with imagined(ledger, cuda=device.cuda, world=devices):
        kind = torch.device("cuda" if device.cuda else "cpu")
        ranks = _ImaginedRanks(0, devices, kind, node=device.node)
        learner = prepare(recipe, phase, ranks, dtype, ledger)
        held = ledger.totals
        for step in range(2):
            ledger.kind = "activations"
            batch = make_batch(recipe, phase, learner.objective, rows, lengths)
            if step:
                held = dict(ledger.totals)
                ledger.open()
            once = run_step(recipe, learner, ranks, dtype, [batch] * min(recipe.micro, 2), ledger)
        more = recipe.micro - min(recipe.micro, 2)
        flops = ledger.flops + more * once[0]
        sent = {link: size + more * once[1][link] for link, size in ledger.sent.items()}
        return Books(ledger.peak, sum(held.values()), flops, sent, rows)


def rows_of(recipe: Recipe, devices: int) -> int:
    """Rows of a micro-batch on the rank that has most.

    Raises:
        ValueError: there are not enough for a row each.
    """
    if recipe.batch < devices * recipe.micro:
        raise ValueError(
            f"a batch of {recipe.batch} in micro = {recipe.micro} parts leaves no row for each of {devices} "
            "devices: lower micro, or take fewer devices"
        )
    return math.ceil(recipe.batch / (devices * recipe.micro))


def prepare(
    recipe: Recipe, phase: PhaseSpec, ranks: Ranks, dtype: torch.dtype, ledger: Ledger | None = None
) -> Learner:
    """A model in its place with all that learns with it, as the trainer makes them, but for its data.

    With a ``ledger`` nothing is compiled: what is imagined has no kernels.
    """
    elsewhere = is_sharded(recipe.parallel, ranks) and ranks.rank > 0
    with torch.device("meta") if ledger is None else nullcontext():
        objective: Objective = build_objective(recipe, _vocabulary(recipe), [str(i) for i in range(CLASSES)])
    model = objective.model
    if ledger is None and not elsewhere:
        materialise(model)
    vit = getattr(model, "vit", None)
    if isinstance(vit, ViT):
        side = phase.size // vit.config.patch_size
        if phase.size % vit.config.patch_size:
            raise ValueError(f"size = {phase.size} is no multiple of the patch size {vit.config.patch_size}")
        vit.set_grid((side, side))
    freeze(model, recipe.model.frozen)
    if ledger is not None:
        for move in ("to", "to_empty"):  # there already, and imagined tensors cannot be moved
            setattr(model, move, lambda *_, **__: model)
        if ranks.device.type == "cuda":  # imagined: its tensors are on a CPU
            set_attention(model, sdpa)
        ledger.matrices = shapes_of(list(model.parameters()))
        ledger.columns = _logit_widths(recipe, model, rows_of(recipe, ranks.world))
    parallel = recipe.parallel if ledger is None else recipe.parallel.model_copy(update={"compile": False})
    place(model, parallel, ranks, dtype)
    average: dict[str, Tensor] = {}
    if recipe.ema:
        if ledger is not None:
            ledger.kind = "optimizer"
        average = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    clipped = attentions(model) if recipe.optimizer.qk_clip else []
    return Learner(objective, build_optimizer(model, recipe.optimizer, dtype), clipped, average)


def run_step(
    recipe: Recipe,
    learner: Learner,
    ranks: Ranks,
    dtype: torch.dtype,
    batches: Sequence[Batch],
    ledger: Ledger | None = None,
) -> tuple[float, dict[str, float]]:
    """What the trainer does in a step; returns FLOPs and bytes sent of the first micro-batch.

    The trainer's own step has data, reports and its counter in it; the parts are the same.
    """
    once: tuple[float, dict[str, float]] = 0.0, {}
    books = ledger or Ledger(1, 1)
    model, optimizer = learner.objective.model, learner.optimizer
    for number, batch in enumerate(batches):
        books.kind, books.backward = "activations", False
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses = learner.objective.losses(batch, 1.0)
        books.backward = True
        losses.total.backward()  # type: ignore[no-untyped-call]
        if not number:
            once = books.flops, dict(books.sent)
    del losses
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    learning = list(named.values())
    books.kind = "gradients"
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    books.kind = "communication"
    ranks.sum_gradients([p for p in learning if not isinstance(p, DTensor)])
    books.kind = "optimizer"
    clip_gradients(learning, recipe.optimizer.clip)
    optimizer.step()
    clip_queries_and_keys(learner.clipped, recipe.optimizer.qk_clip)
    optimizer.zero_grad(set_to_none=True)
    for name, average in learner.average.items():
        average.lerp_(named[name].detach(), 1 - recipe.ema)
    return once


def make_batch(recipe: Recipe, phase: PhaseSpec, objective: Objective, rows: int, lengths: Lengths) -> Batch:
    """A batch of the recipe's shapes, every row as long as ``lengths`` says."""
    side = phase.size
    if recipe.objective == "mask_vqvae":
        return {"masks": torch.zeros(rows, 64, 64)}
    images = torch.zeros(rows, side, side, 3, dtype=torch.uint8)
    if recipe.objective == "siglip":
        length = cast(PairEncoder, objective.encoder).length
        return {"images": images, "ids": torch.ones(rows, length, dtype=torch.long)}
    if recipe.objective == "classify":
        return {"images": images, "label": torch.zeros(rows, dtype=torch.long)}
    assert isinstance(recipe, SequenceRecipe)
    batch: dict[str, Tensor] = {
        "prompt": torch.ones(rows, lengths.prompt or recipe.max_prompt, dtype=torch.long),
        "target": torch.ones(rows, lengths.target or recipe.max_target, dtype=torch.long),
    }
    frames = _frames(phase, lengths)
    if frames:
        batch["images"] = images[:, None].repeat(1, frames, 1, 1, 1)
    return batch


@dataclass(frozen=True)
class _ImaginedRanks(Ranks):
    """Ranks of which only this one is there, in nodes of ``node``."""

    node: int = 1

    def sums(self, values: Sequence[float]) -> list[float]:
        return [0.0 for _ in values]  # what is asked: are there values to hand to other ranks?

    def mesh(self, kind: str) -> DeviceMesh:
        local = self.world if kind == "full" else min(self.node, self.world)
        shape = (self.world,) if kind == "full" else (self.world // local, local)
        with _disable_current_modes():  # a mesh is made of numbers that are really there
            return init_device_mesh("cpu", shape, mesh_dim_names=("copy", "shard")[-len(shape) :])


@dataclass(frozen=True)
class _Vocabulary:
    """What is needed of a tokenizer that is not here."""

    vocab_size: int


def _vocabulary(recipe: Recipe) -> Tokenizer:
    try:
        return open_tokenizer(recipe.model.tokenizer)
    except FileNotFoundError:
        preset = PRESETS.get(recipe.model.preset)
        if preset is None:
            raise
        tower = recipe.objective == "siglip"
        size = preset.text_tower.vocab_size if tower else preset.language.vocab_size
        return cast(Tokenizer, _Vocabulary(size))


def _precision(recipe: Recipe, device: Device) -> torch.dtype:
    if device.cuda:
        return torch.float32 if recipe.precision == "fp32" else torch.bfloat16
    return resolve_precision(recipe.precision, torch.device("cpu"))


def _frames(phase: PhaseSpec, lengths: Lengths) -> int:
    """Pictures of a row: of the longest kind in the mixture, to which all are padded."""
    families = {line.task: find_family(line.task) for line in phase.mixture}
    videos = [line.options.get("frames", FRAMES) for line in phase.mixture if families[line.task].video]
    if videos:
        return lengths.frames or max(videos)
    return int(any("images" in family.needs for family in families.values()))


def _logit_widths(recipe: Recipe, model: nn.Module, rows: int) -> set[int]:
    if recipe.objective == "siglip":
        return {rows}
    head = getattr(getattr(model, "text", None), "config", None)
    return {head.vocab_size} if head is not None else {CLASSES}


def _count(recipe: Recipe) -> int:
    with torch.device("meta"):
        model = build_objective(recipe, _vocabulary(recipe), [str(i) for i in range(CLASSES)]).model
    return sum(p.numel() for p in model.parameters())


def _fits(books: Books, device: Device) -> bool:
    return books.peak <= ROOM * device.memory


def _plan_phases(
    recipe: Recipe, device: Device, devices: int, lengths: Lengths, efficiency: float
) -> list[PhasePlan]:
    known: dict[tuple[int, int], Books] = {}
    plans = []
    for phase in recipe.phases:
        key = phase.size, _frames(phase, lengths)
        if key not in known:
            known[key] = rehearse(recipe, phase, device, devices, lengths)
        books, steps = known[key], phase.samples // recipe.batch
        seconds = step_seconds(books, device, _precision(recipe, device), efficiency)
        plans.append(PhasePlan(phase.size, steps, books, seconds, steps * seconds / 86_400))
    return plans


def step_seconds(books: Books, device: Device, dtype: torch.dtype, efficiency: float) -> float:
    """Products, or traffic where that takes longer (it runs beside them), and then the optimizer, which reads and
    writes all that is held once."""
    compute = books.flops / (efficiency * (device.bf16 if dtype == torch.bfloat16 else device.fp32))
    traffic = books.sent["node"] / device.link + books.sent["network"] / device.network
    return max(compute, traffic) + 2 * books.held / device.bandwidth


def _suggest(recipe: Recipe, device: Device, devices: int, lengths: Lengths) -> Recipe | None:
    """The first setting that fits, from what costs least time to what saves most memory."""
    largest = max(recipe.phases, key=lambda phase: (phase.size, _frames(phase, lengths)))
    whole = recipe.objective == "mask_vqvae"  # it has no blocks to cut or to compute again
    micros = [m for m in _divisors(recipe.batch) if m >= recipe.micro and devices * m <= recipe.batch]
    if recipe.objective in ("siglip", "mask_vqvae"):
        micros = [1]
    shards = ["none"]
    if devices > 1 and not (whole or recipe.optimizer.qk_clip):
        shards += ["full"] if devices <= device.node else ["hybrid", "full"]
    for shard in shards:
        for checkpointing in ["none"] if whole else ["none", "selective", "full"]:
            spec = ParallelSpec.model_validate({"shard": shard, "checkpointing": checkpointing})
            tried = [
                recipe.model_copy(update={"parallel": spec, "micro": micro})
                for micro in (micros if checkpointing == "full" else micros[:3])  # each gathers the weights anew
            ]
            fits = bisect_left(
                tried, True, key=lambda r: _fits(rehearse(r, largest, device, devices, lengths), device)
            )
            if fits < len(tried):
                return tried[fits]
    return None


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
    links = f"{device.link / 1e9:g} GB/s within a node of {device.node}, {device.network / 1e9:g} GB/s between"
    said = [
        f"matrix products at {efficiency:.0%} of {device.bf16 / 1e12:,.3g} TFLOP/s (bf16)",
        f"{links}, all of it beside the products",
        f"{ROOM:.0%} of {device.memory / 1e9:.0f} GB may be filled",
        "data never waited for",
    ]
    if isinstance(recipe, SequenceRecipe):
        prompt, target = lengths.prompt or recipe.max_prompt, lengths.target or recipe.max_target
        said.insert(0, f"every row has {prompt} tokens of prompt and {target} of target")
        if (frames := max(_frames(phase, lengths) for phase in recipe.phases)) > 1:
            said.insert(1, f"videos have {frames} frames")
    if recipe.parallel.compile:
        said.append("compiled blocks hold no less than others")
    return said


def _phase_json(phase: PhasePlan) -> dict[str, Any]:
    return {
        "size": phase.size,
        "steps": phase.steps,
        "rows": phase.books.rows,
        "memory": {**phase.books.memory, "all": phase.books.peak, "between_steps": phase.books.held},
        "flops": phase.books.flops,
        "sent": dict(phase.books.sent),
        "step_seconds": phase.seconds,
        "days": phase.days,
    }


def _phase_lines(phases: Sequence[PhasePlan], device: Device) -> Iterator[str]:
    for phase in phases:
        books = phase.books
        kinds = ", ".join(f"{kind} {books.memory[kind] / 1e9:.2f}" for kind in KINDS if books.memory[kind])
        sent = ", ".join(f"{size / 1e9:.2f} GB over the {link}" for link, size in books.sent.items() if size)
        yield f"  {phase.size} px, {books.rows} rows per rank at a time, {phase.steps:,} steps:"
        yield f"    memory {books.peak / 1e9:.2f} GB of {device.memory / 1e9:.0f} per rank: {kinds}"
        yield f"    {books.flops / 1e12:,.2f} TFLOP" + (f" and {sent}" if sent else "") + " per rank and step"
        yield f"    {phase.seconds:.3f} s per step, {phase.days:.2f} days"
