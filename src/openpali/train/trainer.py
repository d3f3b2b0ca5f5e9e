"""The trainer: every stage of PaLI-3 is a recipe that runs through this loop.

A step is a pure function of weights, optimizer state and counter: batches come from the counter, and so does
the seed of what is random in the model. So a run that is killed and resumed is the run that was not.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import Batch
from openpali.data.pipeline.stream import Loaded, Stream, load
from openpali.distributed import Ranks
from openpali.model.init import materialise
from openpali.model.vit import ViT, resample_positions
from openpali.rng import derive_seed
from openpali.text.tokenizer import Tokenizer
from openpali.train.checkpoint import PATIENCE, Checkpoints, allocate, checkpoints, lock, read_state, tensors_of
from openpali.train.diagnose import HIGH, Finding, LossWatch, find_not_finite, worst_module
from openpali.train.machine import (
    count_flops,
    kept_memory,
    matmul_peak,
    peak_memory,
    resolve_precision,
)
from openpali.train.monitor import Progress, Report, rewind
from openpali.train.objectives import Losses, Objective, build_objective, run_without_pictures
from openpali.train.optim.optimizer import build_optimizer, clip_gradients, freeze, rate
from openpali.train.optim.qk_clip import attentions, clip_queries_and_keys
from openpali.train.parallel import is_sharded, place, whole
from openpali.train.phases import open_phases
from openpali.train.recipe import Recipe, SequenceRecipe, read_record
from openpali.weights.format import Config, build, write_model
from openpali.weights.transplant import transplant

LOG_EVERY = 20  # steps
NAMED = 8  # samples listed where a step goes wrong

Look = Callable[[nn.Module], None]


class Share(NamedTuple):
    """This rank's micro-batches of a global batch, and what all ranks together make of it: its weight, and whether
    the n-th micro-batch of any of them has pictures."""

    group: list[Loaded]
    weight: float
    pictures: list[bool]


@dataclass
class Window:
    """What happened on this rank since the last report."""

    sums: dict[str, tuple[float, int]] = field(default_factory=dict)  # entry -> sum of its rows' losses, rows
    total: float = 0.0  # sum over steps of what is optimised
    norms: float = 0.0  # sum over steps of the gradient's norm
    updates: int = 0  # steps in those sums
    extra: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0  # of this process, for its speed
    flops: float = 0.0  # of these, on all ranks
    waited: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def add(self, names: Sequence[str], losses: Losses) -> None:
        for name, loss in zip(names, losses.per_row.tolist(), strict=True):
            total, rows = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + loss, rows + 1
        self.total += losses.total.item()
        self.extra = losses.extra

    @property
    def state(self) -> dict[str, Any]:
        """What a report after a resume needs of it."""
        return {"sums": self.sums, "total": self.total, "norms": self.norms, "updates": self.updates}

    @classmethod
    def joined(cls, states: Sequence[dict[str, Any]]) -> Window:
        """One window of all ranks'."""
        first = states[0]
        norms = first.get("norms", 0.0)  # checkpoints of before have none
        window = cls(total=sum(s["total"] for s in states), norms=norms, updates=first["updates"])
        for state in states:
            for name, (total, rows) in state["sums"].items():
                before, seen = window.sums.get(name, (0.0, 0))
                window.sums[name] = before + total, seen + rows
        return window


class Trainer:
    """One run of a recipe in a folder. Continues from the folder's newest checkpoint, if there is one.

    Args:
        recipe: what to do.
        run: the folder; ``recipe.json``, ``metrics.jsonl``, ``quarantine.jsonl``, checkpoints and, at the end,
            the ``model`` folder are written there.
        ranks: this process among all.
        tokenizer: of the recipe.

    Raises:
        ValueError: the recipe does not fit the data or the model, or the folder belongs to another recipe.
    """

    def __init__(self, recipe: Recipe, run: Path, ranks: Ranks, tokenizer: Tokenizer) -> None:
        self.recipe, self.run, self.ranks, self.tokenizer = recipe, run, ranks, tokenizer
        self.phases = open_phases(recipe, tokenizer)
        self.sharded = is_sharded(recipe.parallel, ranks)
        [found, *_] = cast(list[list[Path]], ranks.gather(checkpoints(run)))  # file systems may lag behind
        starts = not self.sharded or (ranks.rank == 0 and not found)  # else values come from there, or a checkpoint
        torch.manual_seed(recipe.seed)
        first = self.phases[0].entries[0].source
        with torch.device("meta"):
            self.objective: Objective = build_objective(recipe, tokenizer, getattr(first, "labels", ()))
        if starts:
            materialise(self.objective.model)
        self.stream = Stream(self.phases, self.objective.encoder, recipe.seed)
        self.dtype = resolve_precision(recipe.precision, ranks.device)
        self.model = self.objective.model
        self._check_sizes()
        self._claim_folder()
        self.checkpoints = Checkpoints(run, ranks, recipe.keep, recipe.keep_every / recipe.batch)
        fresh: dict[str, Any] = {"samples": 0, "step": 0, "bad": 0, "phase": 0}
        state = read_state(found[-1]) if found else fresh
        self.samples: int = state["samples"]
        self.step: int = state["step"]
        self.bad: int = state["bad"]
        self.phase: int = state["phase"]  # at a boundary still the one before: the weights are of its resolution
        self.window = Window.joined([state["window"]]) if found and ranks.rank == 0 else Window()
        if found:
            self.window.updates, self.window.norms = state["window"]["updates"], state["window"].get("norms", 0.0)
        self.flops = 0.0  # of a step on all ranks, at this resolution; 0: not counted yet
        self.watch, self.suspicion = LossWatch(), ""
        self._set_resolution(self.phase)
        if starts and not found:
            for part, origin in recipe.model.init.items():
                transplant(self.model, part, origin, tokenizer)
        freeze(self.model, recipe.model.frozen)
        place(self.model, recipe.parallel, ranks, self.dtype)
        self.learning = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = build_optimizer(self.model, recipe.optimizer, self.dtype)
        self.clipped = attentions(self.model) if recipe.optimizer.qk_clip else []
        self.average: dict[str, Tensor] = {}
        if recipe.ema:
            self.average = {name: p.detach().clone() for name, p in self.learning.items()}
        if found:
            allocate(self.optimizer)
            self.checkpoints.load(found[-1], tensors_of(self.model, self.optimizer, self.average))
        if ranks.rank == 0:
            with self._recording(run):
                rewind(run / "metrics.jsonl", self.samples)
                rewind(run / "quarantine.jsonl", self.samples - 1)  # written before the step
        # what has had no gradient so far
        self.unreached = set(state.get("unreached", ())) if found else set(self.learning)

    def train(self, look: Look | None = None) -> Path:
        """Train to the end; returns the model folder. ``look`` draws pictures of the run: it is called on rank 0
        with the model, every ``samples_every`` samples or with each checkpoint, and may fail.

        Raises:
            InterruptedError: SIGTERM or ctrl-C, after a checkpoint was written.
            ValueError: a step that is not finite, too many bad samples, or parameters without gradient.
            OSError: a checkpoint or a report cannot be written.
        """
        with self._recording(self.run):
            self.progress = Progress(self.recipe, self.run, self.samples, active=self.ranks.rank == 0)
        try:
            self._run(look)
            self._save()
            self.checkpoints.wait()
        except BaseException:
            # what is being written is wanted all the more
            self.checkpoints.settle(None if self.ranks.world == 1 else PATIENCE)
            raise
        self._show(look)
        return self._export()

    def _run(self, look: Look | None) -> None:
        recipe, ranks = self.recipe, self.ranks
        batches = load(
            self.stream,
            start=self.samples,
            batch=recipe.batch,
            micro=recipe.micro,
            rank=ranks.rank,
            world=ranks.world,
            workers=recipe.workers,
            pinned=ranks.device.type == "cuda",
        )
        peak = matmul_peak(ranks.device, self.dtype) * ranks.world
        saved, begun = time.monotonic(), self.step
        self.window.began = time.perf_counter()
        # closed, or an error that somebody keeps would keep the workers, which nothing but their loader ends
        with self.progress, closing(batches), kept_memory(ranks.device), _stop_requests() as stop:
            while True:
                asked = time.perf_counter()
                group = next(batches, None)
                if group is None:
                    break
                self.window.waited += time.perf_counter() - asked
                problems = [p for loaded in group for p in loaded.problems]
                late = time.monotonic() - saved > 60 * recipe.save_minutes
                share, (halt, due, failed, bad) = self._agree(
                    group, [stop.requested, late, self.checkpoints.failed, len(problems)]
                )
                if failed:
                    self.checkpoints.wait(PATIENCE)
                if self.step > begun:  # what follows is about the step before
                    if save := halt or due or self._passes(recipe.keep_every):
                        self._save()
                        saved = time.monotonic()
                    if self._passes(recipe.samples_every) if recipe.samples_every else save:
                        self._show(look)
                if halt:
                    self.checkpoints.wait()
                    raise InterruptedError(f"stopped at sample {self.samples}; the same command goes on")
                self._enter_phase(self.stream.phase_of(self.samples))
                if bad:
                    self._note_problems(problems)
                self._counted_step(share)
                if self.step % LOG_EVERY == 0 or self.samples == recipe.samples:
                    self._check_reached()
                    self._tell(self._report(peak))
                    self.window = Window()

    def _passes(self, every: int) -> bool:
        """Whether the last step reached a multiple of ``every`` samples."""
        return bool(every) and self.samples // every > (self.samples - self.recipe.batch) // every

    def _agree(self, group: list[Loaded], values: Sequence[float]) -> tuple[Share, list[float]]:
        """What ranks must know of each other before a step, with the sums of ``values``, in one message."""
        own = sum(self.objective.weight(loaded.batch) for loaded in group)
        pictures = ["images" in loaded.batch for loaded in group]
        weight, *rest = self.ranks.sums([own, *pictures, *values])
        return Share(group, weight, [seen > 0 for seen in rest[: len(group)]]), rest[len(group) :]

    def _counted_step(self, share: Share) -> None:
        """A step; the first at a resolution also counts its FLOPs."""
        world = self.ranks.world
        if self.flops:
            self._train_step(share)
        elif self.recipe.parallel.compile:  # compiled code hides its products: count a pass without it
            with torch.compiler.set_stance("force_eager"):
                self.flops = world * count_flops(partial(self._backward, share))
            self.optimizer.zero_grad(set_to_none=True)
            self._train_step(share)
        else:
            self.flops = world * count_flops(partial(self._train_step, share))
        self.window.flops += self.flops

    def _train_step(self, share: Share) -> None:
        recipe = self.recipe
        factor = rate(recipe.optimizer, self.samples, recipe.samples)
        for settings in self.optimizer.param_groups:
            settings["lr"] = settings["peak_lr"] * factor
        everything = self._backward(share)
        if self.unreached:
            self.unreached -= {name for name, p in self.learning.items() if p.grad is not None}
        learning = list(self.learning.values())
        for parameter in learning:  # a step without pictures does the same to the ViT on one rank as on many
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.ranks.sum_gradients([p for p in learning if not isinstance(p, DTensor)])
        norm = float(clip_gradients(learning, recipe.optimizer.clip))
        if not math.isfinite(norm):
            raise ValueError(self._not_finite(share))
        self.window.norms += norm
        names = [entry.name for entry in self.phases[self.phase].entries]
        for loaded, losses in zip(share.group, everything, strict=True):
            self.window.add([names[entry] for entry in loaded.entries], losses)
        if self.suspicion:
            self.progress.say(f"{self.suspicion}. {self._suspects(share, everything)}")
            self.suspicion = ""
        self.optimizer.step()
        clip_queries_and_keys(self.clipped, recipe.optimizer.qk_clip)
        self.optimizer.zero_grad(set_to_none=True)
        for name, average in self.average.items():
            average.lerp_(self.learning[name].detach(), 1 - recipe.ema)
        self.step += 1
        self.samples += recipe.batch
        self.window.steps += 1
        self.window.updates += 1

    def _backward(self, share: Share) -> list[Losses]:
        """Gradients of this rank's share of a global batch; the loss of each micro-batch."""
        torch.manual_seed(derive_seed(self.recipe.seed, "step", self.step, self.ranks.rank))
        batches = [loaded.batch for loaded in share.group]
        if self.sharded:
            size = self.recipe.phases[self.phase].size
            batches = [
                run_without_pictures(batch, size) if anywhere and "images" not in batch else batch
                for batch, anywhere in zip(batches, share.pictures, strict=True)
            ]
        everything = []
        for batch in map(self._to_device, batches):
            with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                losses = self.objective.losses(batch, share.weight)
            losses.total.backward()  # type: ignore[no-untyped-call]
            everything.append(losses)
        return everything

    def _to_device(self, batch: Batch) -> Batch:
        return {key: value.to(self.ranks.device, non_blocking=True) for key, value in batch.items()}

    def _enter_phase(self, phase: int) -> None:
        if phase == self.phase:
            return
        self.phase = phase
        self.flops = 0.0
        self.watch = LossWatch()  # another mixture has another loss
        vit = _vit_of(self.model)
        if vit is not None:
            old, grid = vit.positions, vit.config.grid
            self._set_resolution(phase)
            if vit.positions is not old:  # the optimizer follows; this one parameter's moments start anew
                if "vit.positions" in self.learning:
                    self.learning["vit.positions"] = vit.positions
                if "vit.positions" in self.average:
                    average = self.average["vit.positions"]
                    self.average["vit.positions"] = resample_positions(average, grid, vit.config.grid)
                self.optimizer.state.pop(old, None)
                for settings in self.optimizer.param_groups:
                    settings["params"] = [vit.positions if p is old else p for p in settings["params"]]

    def _set_resolution(self, phase: int) -> None:
        vit = _vit_of(self.model)
        if vit is None:
            return
        size, patch = self.recipe.phases[phase].size, vit.config.patch_size
        if vit.config.grid != (size // patch, size // patch):
            vit.set_grid((size // patch, size // patch))

    def _check_sizes(self) -> None:
        vit = _vit_of(self.model)
        for number, phase in enumerate(self.recipe.phases):
            if vit is not None and phase.size % vit.config.patch_size:
                raise ValueError(
                    f"phases.{number}.size = {phase.size} is no multiple of the patch size {vit.config.patch_size}"
                )

    def _check_reached(self) -> None:
        """Whatever learns has had a gradient from some rank by the first report, or nobody would notice."""
        if dead := self._dead():
            raise ValueError(
                f"no gradient has reached {min(dead)} ({len(dead)} tensors in all) in {self.step} steps: name the "
                "part in model.frozen, or give the mixture samples that it sees"
            )
        self.unreached = set()

    def _dead(self) -> set[str]:
        """What no rank has had a gradient of."""
        return set.intersection(*cast(list[set[str]], self.ranks.gather(self.unreached)))

    def _note_problems(self, problems: list[str]) -> None:
        gathered = [p for many in self.ranks.gather(problems) for p in cast(list[str], many)]
        self.bad += len(gathered)
        if self.ranks.rank == 0:
            quarantine = self.run / "quarantine.jsonl"
            with self._recording(quarantine), quarantine.open("a", encoding="utf-8") as file:
                for problem in gathered:
                    file.write(json.dumps({"samples": self.samples, "problem": problem}, ensure_ascii=False) + "\n")
        if self.bad > self.recipe.bad_limit(self.samples):
            raise ValueError(
                f"{self.bad} bad samples, more than max_bad = {self.recipe.max_bad}; they are listed in "
                f"{self.run / 'quarantine.jsonl'}. The last: {gathered[-1]}"
            )

    def _tell(self, report: Report) -> None:
        with self._recording(self.run / "metrics.jsonl"):
            self.progress.report(report)
        median = self.watch.notice(report.loss)  # the same on all ranks
        if median is not None:
            self.suspicion = (
                f"the loss is {report.loss:.4g} at sample {report.samples} and stays above {HIGH} times its "
                f"median, {median:.4g}"
            )

    @contextmanager
    def _recording(self, file: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(self.checkpoints.unwritable(file, error)) from error

    def _report(self, peak: float) -> Report:
        window, ranks = self.window, self.ranks
        seconds = time.perf_counter() - window.began
        everywhere = self._whole_window()
        return Report(
            samples=self.samples,
            step=self.step,
            loss=everywhere.total / everywhere.updates,
            losses={name: total / rows for name, (total, rows) in sorted(everywhere.sums.items())},
            extra={name: float(value) for name, value in window.extra.items()},
            gradient_norm=everywhere.norms / everywhere.updates,
            samples_per_second=window.steps * self.recipe.batch / seconds,
            share_of_peak=window.flops / seconds / peak,
            data_wait=window.waited / seconds,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            memory=max(cast(list[int], ranks.gather(peak_memory(ranks.device)))),
            drawn=self.stream.drawn(self.samples),
            bad=self.bad,
        )

    def _whole_window(self) -> Window:
        return Window.joined(cast(list[dict[str, Any]], self.ranks.gather(self.window.state)))

    def _save(self) -> None:
        state = {
            "samples": self.samples,
            "bad": self.bad,
            "phase": self.phase,
            "window": self._whole_window().state,
            "unreached": sorted(self._dead()),
        }
        self.checkpoints.save(self.step, tensors_of(self.model, self.optimizer, self.average), state)

    def _show(self, look: Look | None) -> None:
        if look is None:
            return
        # answers are drawn of sequences alone; of shards nothing can be asked
        model = self._copy() if self.sharded and self.recipe.objective == "sequence" else self.model
        if self.ranks.rank:
            return
        try:
            look(model.to(self.ranks.device))
        except Exception as error:  # whatever it is, training is worth more
            self.progress.say(f"no pictures of the run at sample {self.samples} ({error!r}); training goes on")

    def _config(self) -> Config:
        """Of the model as it is now."""
        vit, config = _vit_of(self.model), self.objective.config
        return config if vit is None else dataclasses.replace(cast(Any, config), vision=vit.config)

    def _gather(self, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Tensors whole, on the CPU of rank 0 alone; all ranks must ask."""
        gathered: dict[str, Tensor] = {}
        for name, value in tensors.items():
            complete = whole(value)
            if self.ranks.rank == 0:
                gathered[name] = complete.to("cpu", dtype)
        return gathered

    def _copy(self) -> nn.Module:
        """Of a model in shards a whole one on rank 0, in the dtype that it computes in; all ranks must ask."""
        weights = self._gather(self.model.state_dict(), self.dtype)
        model: nn.Module = self.model
        if self.ranks.rank == 0:
            with torch.device("meta"):
                model = build(self._config()).eval()
            model.load_state_dict(weights, assign=True)
        return model

    def _export(self) -> Path:
        folder = self.run / "model"
        weights = self._gather({**self.model.state_dict(), **self.average})
        limits = {"max_prompt": self.recipe.max_prompt} if isinstance(self.recipe, SequenceRecipe) else {}
        if self.ranks.rank == 0:
            vit = _vit_of(self.model)
            write_model(
                folder,
                weights,
                self._config(),
                preprocess=None if vit is None else Preprocess(*vit.config.image_size),
                tokenizer=self.tokenizer,
                facts={
                    "run": self.recipe.name,
                    "samples": self.samples,
                    **limits,
                    "tasks": task_options(self.recipe),
                    "recipe": self.recipe.model_dump(mode="json"),
                },
            )
        return folder

    def _claim_folder(self) -> None:
        if self.ranks.rank:
            return
        file = self.run / "recipe.json"
        with self._claiming():
            self.run.mkdir(parents=True, exist_ok=True)
            self.lock = lock(self.run)
        if file.is_file() and checkpoints(self.run):
            try:
                before = read_record(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{file} is no recipe that this version reads ({error})") from error
            changed = [key for key in _FIXED if getattr(before, key) != getattr(self.recipe, key)]
            if before.optimizer.name != self.recipe.optimizer.name:
                changed.append("optimizer.name")
            if changed:
                raise ValueError(
                    f"{self.run} holds a run with another {', '.join(changed)}: delete it, or name another folder "
                    "with --run"
                )
        resolved = self.recipe.model_dump(mode="json")
        with self._claiming():
            written = file.with_name(".recipe.json")
            written.write_text(json.dumps(resolved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            written.replace(file)

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(f"{self.run} cannot be written to ({error}): name another folder with --run") from error

    def _suspects(self, share: Share, everything: list[Losses]) -> str:
        """Says where the gradient of a step is largest, and which samples have the highest losses, of all ranks."""
        module, part = worst_module({name: p.grad for name, p in self.learning.items() if p.grad is not None})
        rows = [
            (loss, key)
            for loaded, losses in zip(share.group, everything, strict=True)
            for key, loss in zip(loaded.keys, losses.per_row.tolist(), strict=True)
        ]
        highest = sorted(rows, reverse=True)[:NAMED]
        heard = cast(list[list[tuple[float, str]]], self.ranks.gather(highest))
        keys = [key for _, key in sorted((row for rows in heard for row in rows), reverse=True)[:NAMED]]
        return (
            f"{module} has {part:.0%} of the gradient's norm; the highest losses are those of {', '.join(keys)}. "
            "If it does not come down again, stop, delete the checkpoints since, and go on with a lower lr"
        )

    def _not_finite(self, share: Share) -> str:
        """Says what went wrong in a step, which is repeated for it. All ranks come here together."""
        found: list[Losses] = []

        def again() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            found.extend(self._backward(share))

        with torch.compiler.set_stance("force_eager"):
            found_here = find_not_finite(self.model, again)
        rows = [
            (key, finite)
            for loaded, losses in zip(share.group, found, strict=True)
            for key, finite in zip(loaded.keys, losses.per_row.isfinite().tolist(), strict=True)
        ]
        keys = [key for key, finite in rows if not finite] or [key for key, _ in rows]
        heard = cast(list[tuple[Finding, list[str]]], self.ranks.gather((found_here, keys)))
        (_, where), keys = min(heard)
        listed = ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")
        return (
            f"{where} is not finite at sample {self.samples}, with {listed}; nothing was changed by this step. "
            "Lower optimizer.lr or raise warmup, or leave those samples out, and run the same command to go on "
            "from the last checkpoint"
        )


_FIXED = ("objective", "seed", "batch", "ema", "model", "phases")  # what a run cannot change half-way


class _Stop:
    requested = False


@contextmanager
def _stop_requests() -> Iterator[_Stop]:
    """SIGTERM and ctrl-C end the run after the current step, with a checkpoint."""
    stop = _Stop()

    def request(*_: Any) -> None:
        stop.requested = True

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def task_options(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Task -> its options in the last phase that has it; of several entries there, those that all have alike."""
    last = {entry.task: phase for phase in recipe.phases for entry in phase.mixture}
    found = {}
    for task, phase in last.items():
        first, *others = [entry.task_options for entry in phase.mixture if entry.task == task]
        found[task] = {k: v for k, v in first.items() if all(k in other and other[k] == v for other in others)}
    return found


def _vit_of(model: torch.nn.Module) -> ViT | None:
    vit = getattr(model, "vit", None)
    return vit if isinstance(vit, ViT) else None
