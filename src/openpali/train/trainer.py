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
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from openpali.bundle import transplant, write_bundle
from openpali.data.encode import Batch
from openpali.data.images import Preprocess
from openpali.data.stream import Loaded, Stream, load
from openpali.model.vit import ViT
from openpali.text.tokenizer import Tokenizer
from openpali.train.checkpoint import checkpoints, load_checkpoint, read_state, save_checkpoint
from openpali.train.machine import count_flops, matmul_peak, resolve_precision
from openpali.train.objectives import Losses, Objective, build_objective
from openpali.train.optim import build_optimizer, freeze, rate
from openpali.train.phases import open_phases
from openpali.train.progress import Progress, Report, rewind
from openpali.train.ranks import Ranks
from openpali.train.recipe import Recipe

LOG_EVERY = 20  # steps

AfterSave = Callable[[Path], None]


@dataclass
class Window:
    """What happened since the last report."""

    sums: dict[str, tuple[float, int]] = field(default_factory=dict)  # entry -> sum of its rows' losses, rows
    extra: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    waited: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def add(self, names: Sequence[str], losses: Losses) -> None:
        for name, loss in zip(names, losses.per_row.tolist(), strict=True):
            total, rows = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + loss, rows + 1
        self.extra = losses.extra


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
        torch.manual_seed(recipe.seed)
        first = self.phases[0].entries[0].source
        self.objective: Objective = build_objective(recipe, tokenizer, getattr(first, "labels", ()))
        self.stream = Stream(self.phases, self.objective.encoder, recipe.seed)
        self.dtype = resolve_precision(recipe.precision, ranks.device)
        self.model = self.objective.model
        self._check_sizes()
        self._claim_folder()
        found = checkpoints(run)
        fresh: dict[str, Any] = {"samples": 0, "step": 0, "bad": 0, "phase": 0}
        state = read_state(found[-1]) if found else fresh
        self.samples: int = state["samples"]
        self.step: int = state["step"]
        self.bad: int = state["bad"]
        self.phase: int = state["phase"]  # at a boundary still the one before: the weights are of its resolution
        self.window = Window(sums={name: (*pair,) for name, pair in state.get("window", {}).items()})
        self._set_resolution(self.phase)
        if not found:
            for part, origin in recipe.model.init.items():
                transplant(self.model, part, origin)
        freeze(self.model, recipe.model.frozen)
        self.model.to(ranks.device)
        self.optimizer = build_optimizer(self.model, recipe.optimizer, self.dtype)
        if found:
            load_checkpoint(found[-1], self.model, self.optimizer)
        if ranks.rank == 0:
            rewind(run / "metrics.jsonl", self.samples)
            rewind(run / "quarantine.jsonl", self.samples - 1)  # written before the step
        # what has had no gradient so far, of a run that starts
        self.unreached = set() if found else {n for n, p in self.model.named_parameters() if p.requires_grad}
        if recipe.parallel.compile:
            self.objective.model = cast(torch.nn.Module, torch.compile(self.model))

    def train(self, after_save: AfterSave | None = None) -> Path:
        """Train to the end; returns the model folder. ``after_save`` is called on rank 0 with each checkpoint."""
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
        with progress, _stop_requests() as stop:
            while True:
                asked = time.perf_counter()
                group = next(batches, None)
                if group is None:
                    break
                self.window.waited += time.perf_counter() - asked
                self._enter_phase(self.stream.phase_of(self.samples))
                self._note_problems([p for loaded in group for p in loaded.problems])
                if not flops:
                    flops = ranks.world * count_flops(partial(self._train_step, group))
                else:
                    self._train_step(group)
                if self.step % LOG_EVERY == 0 or self.samples == recipe.samples:
                    self._check_reached()
                    progress.report(self._report(flops, peak))
                    self.window = Window()
                halt = bool(ranks.sum(float(stop.requested)))
                due = ranks.sum(float(time.monotonic() - saved > 60 * recipe.save_minutes)) > 0
                if halt or due:
                    self._save(after_save)
                    saved = time.monotonic()
                if halt:
                    raise InterruptedError(f"stopped at sample {self.samples}; the same command goes on")
        self._save(after_save)
        return self._export()

    def _train_step(self, group: list[Loaded]) -> None:
        recipe = self.recipe
        torch.manual_seed(hash((recipe.seed, self.step, self.ranks.rank)) % 2**63)
        factor = rate(recipe.optimizer, self.samples, recipe.samples)
        for settings in self.optimizer.param_groups:
            settings["lr"] = settings["peak_lr"] * factor
        names = [entry.name for entry in self.phases[self.phase].entries]
        batches = [self._to_device(loaded.batch) for loaded in group]
        weight = self.ranks.sum(sum(self.objective.weight(batch) for batch in batches))
        for loaded, batch in zip(group, batches, strict=True):
            with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                losses = self.objective.losses(batch, weight)
            losses.total.backward()  # type: ignore[no-untyped-call]
            self.window.add([names[entry] for entry in loaded.entries], losses)
        if self.unreached:
            self.unreached -= {n for n, p in self.model.named_parameters() if p.grad is not None}
        learning = [p for p in self.model.parameters() if p.requires_grad]
        self.ranks.sum_gradients(learning)
        norm = torch.nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
        if not torch.isfinite(norm):
            raise ValueError(self._not_finite())
        torch.nn.utils.clip_grads_with_norm_(learning, recipe.optimizer.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.samples += recipe.batch
        self.window.steps += 1

    def _to_device(self, batch: Batch) -> Batch:
        return {key: value.to(self.ranks.device, non_blocking=True) for key, value in batch.items()}

    def _enter_phase(self, phase: int) -> None:
        if phase == self.phase:
            return
        self.phase = phase
        vit = _vit_of(self.model)
        if vit is not None:
            old = vit.positions
            self._set_resolution(phase)
            if vit.positions is not old:  # the optimizer follows; this one parameter's moments start anew
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
        if self.bad > self.recipe.max_bad:
            raise ValueError(
                f"{self.bad} bad samples, more than max_bad = {self.recipe.max_bad}; they are listed in "
                f"{self.run / 'quarantine.jsonl'}. The last: {gathered[-1]}"
            )

    def _report(self, flops: float, peak: float) -> Report:
        window = self.window
        seconds = time.perf_counter() - window.began
        return Report(
            samples=self.samples,
            step=self.step,
            losses={name: total / rows for name, (total, rows) in sorted(window.sums.items())},
            extra=window.extra,
            samples_per_second=window.steps * self.recipe.batch / seconds,
            share_of_peak=window.steps * flops / seconds / peak,
            data_wait=window.waited / seconds,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            bad=self.bad,
        )

    def _save(self, after_save: AfterSave | None) -> None:
        if self.ranks.rank:
            return
        state = {"samples": self.samples, "bad": self.bad, "phase": self.phase, "window": self.window.sums}
        path = save_checkpoint(self.run, self.step, self.model, self.optimizer, state, self.recipe.keep)
        if after_save is not None:
            after_save(path)

    def _export(self) -> Path:
        folder = self.run / "model"
        if self.ranks.rank == 0:
            vit = _vit_of(self.model)
            config = self.objective.config
            if vit is not None:
                config = dataclasses.replace(cast(Any, config), vision=vit.config)
            write_bundle(
                folder,
                self.model.state_dict(),
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

    def _not_finite(self) -> str:
        bad = [n for n, p in self.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        return (
            f"the gradient of {bad[0] if bad else 'the model'} is not finite at sample {self.samples} "
            f"({len(bad)} tensors in all); nothing was changed by this step. Lower optimizer.lr or raise warmup, "
            "and run the same command to go on from the last checkpoint"
        )


_FIXED = ("objective", "seed", "batch", "model", "phases")  # what a run cannot change half-way


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
