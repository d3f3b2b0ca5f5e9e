"""The trainer: every stage of PaLI-3 is a recipe that runs through this loop.

A step is a pure function of weights, optimizer state and counter: batches come from the counter, and so does
the seed of what is random in the model. So a run that is killed and resumed is the run that was not.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from openpali.bundle import transplant, write_bundle
from openpali.data.encode import Batch
from openpali.data.images import Preprocess
from openpali.data.stream import Loaded, Stream, load
from openpali.model.vit import ViT, resample_positions
from openpali.text.tokenizer import Tokenizer
from openpali.train.checkpoint import Checkpoints, allocate, checkpoints, read_state, tensors_of
from openpali.train.diagnose import Finding, find_not_finite
from openpali.train.machine import count_flops, matmul_peak, peak_memory, quick_attention, resolve_precision
from openpali.train.objectives import Losses, Objective, build_objective, run_without_pictures
from openpali.train.optim import build_optimizer, clip_gradients, freeze, rate
from openpali.train.parallel import is_sharded, place, whole
from openpali.train.phases import open_phases
from openpali.train.progress import Progress, Report, rewind
from openpali.train.qk_clip import attentions, clip_queries_and_keys
from openpali.train.ranks import Ranks
from openpali.train.recipe import Recipe

LOG_EVERY = 20  # steps
NAMED = 8  # samples listed where a step goes wrong

AfterSave = Callable[[Path], None]


@dataclass
class Window:
    """What happened on this rank since the last report."""

    sums: dict[str, tuple[float, int]] = field(default_factory=dict)  # entry -> sum of its rows' losses, rows
    total: float = 0.0  # sum over steps of what is optimised
    updates: int = 0  # steps in that sum
    extra: dict[str, float] = field(default_factory=dict)
    steps: int = 0  # of this process, for its speed
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
        return {"sums": self.sums, "total": self.total, "updates": self.updates}

    @classmethod
    def joined(cls, states: Sequence[dict[str, Any]]) -> Window:
        """One window of all ranks'."""
        window = cls(total=sum(s["total"] for s in states), updates=states[0]["updates"])
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
        with nullcontext() if starts else torch.device("meta"):
            self.objective: Objective = build_objective(recipe, tokenizer, getattr(first, "labels", ()))
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
        self.window.updates = state["window"]["updates"] if found else 0
        self._set_resolution(self.phase)
        if starts and not found:
            for part, origin in recipe.model.init.items():
                transplant(self.model, part, origin)
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
            rewind(run / "metrics.jsonl", self.samples)
            rewind(run / "quarantine.jsonl", self.samples - 1)  # written before the step
        # what has had no gradient so far, of a run that starts
        self.unreached = set() if found else set(self.learning)

    def train(self, after_save: AfterSave | None = None) -> Path:
        """Train to the end; returns the model folder. ``after_save`` is called on rank 0 with each checkpoint.

        Raises:
            InterruptedError: SIGTERM or ctrl-C, after a checkpoint was written.
            ValueError: a step that is not finite, too many bad samples, or parameters without gradient.
            OSError: a checkpoint cannot be written.
        """
        try:
            self._run(after_save)
            self._save(after_save)
            self.checkpoints.wait()
        except BaseException:
            with suppress(OSError):  # what is being written is wanted all the more
                self.checkpoints.wait(None if self.ranks.world == 1 else 60.0)
            raise
        return self._export()

    def _run(self, after_save: AfterSave | None) -> None:
        recipe, ranks = self.recipe, self.ranks
        progress = Progress(recipe, self.run, self.samples, active=ranks.rank == 0)
        batches = load(
            self.stream,
            start=self.samples,
            batch=recipe.batch,
            micro=recipe.micro,
            rank=ranks.rank,
            world=ranks.world,
            workers=recipe.workers,
        )
        peak = matmul_peak(ranks.device, self.dtype) * ranks.world
        flops = 0.0
        saved = time.monotonic()
        self.window.began = time.perf_counter()
        with progress, quick_attention(ranks.device, self.dtype), _stop_requests() as stop:
            while True:
                asked = time.perf_counter()
                group = next(batches, None)
                if group is None:
                    break
                self.window.waited += time.perf_counter() - asked
                self._enter_phase(self.stream.phase_of(self.samples))
                self._note_problems([p for loaded in group for p in loaded.problems])
                if flops:
                    self._train_step(group)
                elif recipe.parallel.compile:  # compiled code hides its products: count a pass without it
                    with torch.compiler.set_stance("force_eager"):
                        flops = ranks.world * count_flops(partial(self._backward, group))
                    self.optimizer.zero_grad(set_to_none=True)
                    self._train_step(group)
                else:
                    flops = ranks.world * count_flops(partial(self._train_step, group))
                if self.step % LOG_EVERY == 0 or self.samples == recipe.samples:
                    self._check_reached()
                    progress.report(self._report(flops, peak))
                    self.window = Window()
                self.checkpoints.check()
                late = time.monotonic() - saved > 60 * recipe.save_minutes
                halt, due = ranks.sums([stop.requested, late])
                if halt or due or self._keeps():
                    self._save(after_save)
                    saved = time.monotonic()
                if halt:
                    self.checkpoints.wait()
                    raise InterruptedError(f"stopped at sample {self.samples}; the same command goes on")

    def _keeps(self) -> bool:
        """Whether a multiple of ``keep_every`` samples was just reached."""
        every = self.recipe.keep_every
        return bool(every) and self.samples // every > (self.samples - self.recipe.batch) // every

    def _train_step(self, group: list[Loaded]) -> None:
        recipe = self.recipe
        factor = rate(recipe.optimizer, self.samples, recipe.samples)
        for settings in self.optimizer.param_groups:
            settings["lr"] = settings["peak_lr"] * factor
        names = [entry.name for entry in self.phases[self.phase].entries]
        for loaded, losses in zip(group, self._backward(group), strict=True):
            self.window.add([names[entry] for entry in loaded.entries], losses)
        if self.unreached:
            self.unreached -= {name for name, p in self.learning.items() if p.grad is not None}
        learning = list(self.learning.values())
        for parameter in learning:  # a step without pictures does the same to the ViT on one rank as on many
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.ranks.sum_gradients([p for p in learning if not isinstance(p, DTensor)])
        if not torch.isfinite(clip_gradients(learning, recipe.optimizer.clip)):
            raise ValueError(self._not_finite(group))
        self.optimizer.step()
        clip_queries_and_keys(self.clipped, recipe.optimizer.qk_clip)
        self.optimizer.zero_grad(set_to_none=True)
        for name, average in self.average.items():
            average.lerp_(self.learning[name].detach(), 1 - recipe.ema)
        self.step += 1
        self.samples += recipe.batch
        self.window.steps += 1
        self.window.updates += 1

    def _backward(self, group: list[Loaded]) -> list[Losses]:
        """Gradients of a global batch, of which ``group`` is this rank's share; the loss of each micro-batch."""
        torch.manual_seed(hash((self.recipe.seed, self.step, self.ranks.rank)) % 2**63)
        batches = [loaded.batch for loaded in group]
        own = sum(self.objective.weight(batch) for batch in batches)
        weight, *pictures = self.ranks.sums([own, *("images" in batch for batch in batches)])
        if self.sharded:
            size = self.recipe.phases[self.phase].size
            batches = [
                run_without_pictures(batch, size) if anywhere and "images" not in batch else batch
                for batch, anywhere in zip(batches, pictures, strict=True)
            ]
        everything = []
        for batch in map(self._to_device, batches):
            with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                losses = self.objective.losses(batch, weight)
            losses.total.backward()  # type: ignore[no-untyped-call]
            everything.append(losses)
        return everything

    def _to_device(self, batch: Batch) -> Batch:
        return {key: value.to(self.ranks.device, non_blocking=True) for key, value in batch.items()}

    def _enter_phase(self, phase: int) -> None:
        if phase == self.phase:
            return
        self.phase = phase
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
        dead = set.intersection(*cast(list[set[str]], self.ranks.gather(self.unreached)))
        if dead:
            raise ValueError(
                f"no gradient has reached {min(dead)} ({len(dead)} tensors in all) in {self.step} steps: name the "
                "part in model.frozen, or give the mixture samples that it sees"
            )
        self.unreached = set()

    def _note_problems(self, problems: list[str]) -> None:
        gathered = [p for many in self.ranks.gather(problems) for p in cast(list[str], many)]
        if not gathered:
            return
        self.bad += len(gathered)
        if self.ranks.rank == 0:
            with (self.run / "quarantine.jsonl").open("a", encoding="utf-8") as file:
                for problem in gathered:
                    file.write(json.dumps({"samples": self.samples, "problem": problem}, ensure_ascii=False) + "\n")
        if self.bad > self.recipe.bad_limit(self.samples):
            raise ValueError(
                f"{self.bad} bad samples, more than max_bad = {self.recipe.max_bad}; they are listed in "
                f"{self.run / 'quarantine.jsonl'}. The last: {gathered[-1]}"
            )

    def _report(self, flops: float, peak: float) -> Report:
        window, ranks = self.window, self.ranks
        seconds = time.perf_counter() - window.began
        everywhere = self._whole_window()
        return Report(
            samples=self.samples,
            step=self.step,
            loss=everywhere.total / everywhere.updates,
            losses={name: total / rows for name, (total, rows) in sorted(everywhere.sums.items())},
            extra=window.extra,
            samples_per_second=window.steps * self.recipe.batch / seconds,
            share_of_peak=window.steps * flops / seconds / peak,
            data_wait=window.waited / seconds,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            memory=max(cast(list[int], ranks.gather(peak_memory(ranks.device)))),
            drawn=self.stream.drawn(self.samples),
            bad=self.bad,
        )

    def _whole_window(self) -> Window:
        return Window.joined(cast(list[dict[str, Any]], self.ranks.gather(self.window.state)))

    def _save(self, after_save: AfterSave | None) -> None:
        state = {
            "samples": self.samples,
            "bad": self.bad,
            "phase": self.phase,
            "window": self._whole_window().state,
        }
        path = self.checkpoints.save(self.step, tensors_of(self.model, self.optimizer, self.average), state)
        if after_save is not None and self.ranks.rank == 0:
            after_save(path)

    def _export(self) -> Path:
        folder = self.run / "model"
        weights: dict[str, Tensor] = {}
        for name, value in {**self.model.state_dict(), **self.average}.items():
            complete = whole(value)
            if self.ranks.rank == 0:
                weights[name] = complete.cpu()
        if self.ranks.rank == 0:
            vit = _vit_of(self.model)
            config = self.objective.config
            if vit is not None:
                config = dataclasses.replace(cast(Any, config), vision=vit.config)
            write_bundle(
                folder,
                weights,
                config,
                preprocess=None if vit is None else Preprocess(*vit.config.image_size),
                tokenizer=self.tokenizer,
                facts={
                    "run": self.recipe.name,
                    "samples": self.samples,
                    "max_prompt": self.recipe.max_prompt,
                    "tasks": {e.task: e.task_options for p in self.recipe.phases for e in p.mixture},
                    "recipe": self.recipe.model_dump(mode="json"),
                },
            )
        return folder

    def _claim_folder(self) -> None:
        if self.ranks.rank:
            return
        file = self.run / "recipe.json"
        if file.is_file() and checkpoints(self.run):
            try:
                before = Recipe.model_validate_json(file.read_text(encoding="utf-8"))
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
        try:
            self.run.mkdir(parents=True, exist_ok=True)
            written = file.with_name(".recipe.json")
            written.write_text(json.dumps(resolved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            written.replace(file)
        except OSError as error:
            raise OSError(f"{self.run} cannot be written to ({error}): name another folder with --run") from error

    def _not_finite(self, group: list[Loaded]) -> str:
        """Says what went wrong in a step, which is repeated for it. All ranks come here together."""
        found: list[Losses] = []

        def again() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            found.extend(self._backward(group))

        with torch.compiler.set_stance("force_eager"):
            found_here = find_not_finite(self.model, again)
        rows = [
            (key, finite)
            for loaded, losses in zip(group, found, strict=True)
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


def _vit_of(model: torch.nn.Module) -> ViT | None:
    vit = getattr(model, "vit", None)
    return vit if isinstance(vit, ViT) else None
