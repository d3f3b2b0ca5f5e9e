"""The trainer: every stage of PaLI-3 is a recipe that runs through this loop.

A step is a pure function of weights, optimizer state and the sample counter, from which its batches and its random
seed follow. So a run that is killed and resumed is, bit for bit, the run that was not.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import torch

from openpali.data.pipeline.encode import Batch
from openpali.data.pipeline.stream import Loaded, Stream, load
from openpali.distributed import Ranks
from openpali.model.init import materialise
from openpali.model.vision_language import DTYPES
from openpali.text.tokenizer import Tokenizer
from openpali.train.adapt import load_base
from openpali.train.checkpoint import (
    SETTLE_SECONDS,
    Checkpoints,
    allocate,
    checkpoints,
    load_checkpoint,
    read_state,
    tensors_of,
)
from openpali.train.evals import Evaluations, evaluate
from openpali.train.export import export_model
from openpali.train.log import Report, Window
from openpali.train.machine import kept_memory, peak_memory, resolve_precision
from openpali.train.objectives.registry import build_objective
from openpali.train.optim.optimizer import rate_in
from openpali.train.parallel import is_sharded
from openpali.train.phases import class_names, open_phases
from openpali.train.recipe import Recipe
from openpali.train.run_folder import RunFolder
from openpali.train.step import NotFiniteError, TrainStep, check_sizes, set_resolution
from openpali.train.watch import Watch, explain_not_finite
from openpali.weights.format import open_model
from openpali.weights.transplant import transplant

LOG_EVERY = 20  # steps
RESERVE = 2  # checkpoints of a run that goes on, unless its recipe says how many: the newest may be damaged

FRESH = {"samples": 0, "step": 0, "bad": 0, "phase": 0}  # where a run begins


@dataclass(frozen=True)
class StepMessage:
    """Values that are summed over ranks before each step: a rank sends its own, and all act on the sums."""

    weight: float  # of the loss: this rank's share, then that of the global batch
    images: list[float]  # for each micro-batch, whether it has images; then the number of ranks where it has
    stop: float  # SIGTERM or ctrl-C was received
    due: float  # a checkpoint is due
    failed: float  # the pending checkpoint has failed
    bad: float  # number of samples of this batch that could not be used


class Trainer:
    """A run of a recipe in a folder. Continues from the folder's newest checkpoint, if there is one.

    Args:
        recipe: what to do; a complete one (:func:`openpali.train.start.inherit`).
        run: the folder for ``recipe.json``, ``metrics.jsonl``, ``quarantine.jsonl``, checkpoints and, at the end,
            the ``model`` folder.

    Attributes:
        finished: nothing was left to train when this process began.
    """

    def __init__(self, recipe: Recipe, run: Path, ranks: Ranks, tokenizer: Tokenizer) -> None:
        self.recipe, self.ranks, self.tokenizer = recipe, ranks, tokenizer
        self.folder = RunFolder(run)
        [found, *_] = ranks.gather(checkpoints(run))  # of rank 0: file systems may lag
        newest = found[-1] if found else None
        # The order matters: check data and model before claiming the folder; read the checkpoint's state only once
        # the folder is ours; set the resolution before loading weights.
        drawn = self._build(newest)
        state = self._claim(newest)
        self._place(newest, drawn)
        if ranks.rank == 0:
            self.folder.rewind(self.samples)
        self.window = Window()
        if "window" in state:  # its sums cover all ranks, so rank 0 alone goes on with them
            kept = state["window"]
            self.window = Window.joined([kept if ranks.rank == 0 else {**kept, "sums": {}, "total": 0.0}])
        # parameters that have had no gradient; not checked in a run that was resumed
        self.unreached = set(() if self.step else self.train_step.learning)

    def _build(self, newest: Path | None) -> bool:
        """Open the data and build the model; returns whether this rank drew its initial weights.

        Otherwise they come from an adapter's base, which is in no checkpoint, from rank 0, or from a checkpoint.
        """
        recipe, ranks = self.recipe, self.ranks
        self.phases = open_phases(recipe, self.tokenizer)
        self.sharded = is_sharded(recipe.parallel, ranks)
        adapts = recipe.model.lora.rank > 0
        filled = not self.sharded or (ranks.rank == 0 and (newest is None or adapts))
        torch.manual_seed(recipe.seed)
        self.objective = build_objective(recipe, self.tokenizer, lambda: class_names(self.phases))
        self.model = self.objective.model
        # the fingerprint of what an adapter changes
        self.base = load_base(self.model, recipe) if filled and adapts else ""
        if filled and not adapts:
            materialise(self.model)
        self.stream = Stream(self.phases, self.objective.encoder, recipe.seed)
        check_sizes(recipe, self.objective)
        return filled and not adapts

    def _claim(self, newest: Path | None) -> dict[str, Any]:
        """Claim the folder, and read where its run stands; returns the checkpoint's state."""
        first = self.ranks.rank == 0
        if first:
            self.folder.claim(self.recipe)
        state = {**FRESH, **(read_state(newest) if newest else {})}
        self.classes = list(self.objective.classes)
        for key, what, now in (
            ("base", f"model {self.recipe.model.start}", self.base),
            ("classes", "classes of the data", self.classes),
        ):
            if now and state.get(key, now) != now:
                raise ValueError(
                    f"{self.folder.path}: the {what} changed since the run began: restore what was there, or name "
                    "another folder with --run to start anew"
                )
        self.samples: int = state["samples"]
        self.step: int = state["step"]
        self.bad: int = state["bad"]
        self.phase: int = state["phase"]  # at a boundary the phase that ended: weights have its resolution
        self.evaluations = Evaluations(self.recipe, self.tokenizer, state.get("best"))
        self.finished = self.samples == self.recipe.samples
        if first:
            self.recipe = self.folder.keep_record(self.recipe, finished=self.finished)
        self.checkpoints = Checkpoints(
            self.folder.path,
            self.ranks,
            self.recipe.keep or RESERVE,
            Fraction(self.recipe.keep_every, self.recipe.batch),
            self.evaluations.kept,
        )
        return state

    def _place(self, newest: Path | None, drawn: bool) -> None:
        """Give the model its resolution and its start, place it on the ranks, and load the checkpoint."""
        recipe = self.recipe
        set_resolution(self.model, recipe.phases[: self.phase + 1])
        if drawn and newest is None:
            for part, origin in sorted(recipe.model.init.items()):  # a whole before its parts
                transplant(self.model, part, origin, self.tokenizer)
        precision = resolve_precision(recipe.precision, self.ranks.device)
        # Ranks of a busy machine may measure differently: that of rank 0 counts.
        first = self.ranks.sum(float(self.ranks.rank == 0 and precision == torch.bfloat16))
        precision = torch.bfloat16 if first else torch.float32
        self.train_step = TrainStep(recipe, self.objective, self.ranks, precision)
        self.optimizer = self.train_step.optimizer
        if newest:
            allocate(self.optimizer)
            tensors = tensors_of(self.model, self.optimizer, self.train_step.average)
            load_checkpoint(newest, tensors, self.ranks)

    def train(self, watch: Watch | None = None) -> Path:
        """Train to the end; returns the model folder.

        Args:
            watch: what shows the run; None: nothing.

        Raises:
            InterruptedError: SIGTERM or ctrl-C, after a checkpoint was written.
            ValueError: a step that is not finite, too many bad samples, or parameters without gradient.
            OSError: a checkpoint or a report cannot be written.
        """
        self.watch = watch or Watch(quiet=True)
        with self.watch.running(self.recipe, self.folder.path, self.samples):
            try:
                if self.evaluations.kept == self.step:  # it may have been killed before this
                    self._export("best")
                self._run()
                self._save()
                self.checkpoints.wait()
            except BaseException:
                # let the pending checkpoint finish
                self.checkpoints.settle(None if self.ranks.world == 1 else SETTLE_SECONDS)
                raise
            self.watch.saved(self.model, self.train_step.dtype)
            written = self._export("model")
            if not self.recipe.keep:
                self.checkpoints.keep_last()
            return written

    def summary(self) -> Iterator[str]:
        """Sentences about bad samples and the best score, as far as there are any."""
        if self.bad:
            yield f"{self.bad:,} samples could not be used; they are listed in {self.folder.quarantine}"
        best = self.evaluations.best
        if best is not None and best.value is None:
            yield f"no evaluation gave a number for {best.score}: there is no best model"
        elif best is not None:
            where, precision = self.folder.path / "best", DTYPES[self.train_step.dtype]
            yield f"best {best.score} in {precision}: {best.value:.4f} at sample {best.samples:,}, in {where}"

    # ---- the loop: next batch, step, report, evaluate, save

    def _run(self) -> None:
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
        started = self.step
        # an error that a caller keeps would keep the data workers alive, so close their loader
        with closing(batches), kept_memory(ranks.device), _stop_requests() as stop:
            if self.step == 0 and recipe.model.start and self._evaluate():  # the score of the model before
                self._export("best")
            self.saved, self.window.began = time.monotonic(), time.perf_counter()
            asked = time.perf_counter()
            for group in batches:
                self.window.waited += time.perf_counter() - asked
                problems = [problem for loaded in group for problem in loaded.problems]
                message = self._agree(group, stop.is_set(), len(problems))
                if message.failed:
                    self.checkpoints.wait(SETTLE_SECONDS)
                if self.step > started and (message.stop or message.due or self._passed(recipe.keep_every)):
                    self._save()
                    self.watch.saved(self.model, self.train_step.dtype)
                if message.stop:
                    self.checkpoints.wait()
                    raise InterruptedError(f"stopped at sample {self.samples}; the same command goes on")
                if message.bad:
                    self._note_problems(problems)
                if (phase := self.stream.phase_of(self.samples)) != self.phase:
                    self.phase = phase
                    self.train_step.change_resolution(recipe.phases[phase])
                self._step(group, message)
                best = self._evaluate()
                if self.step % LOG_EVERY == 0 or self.samples == recipe.samples:
                    self._check_reached()
                    self._report()
                if best:
                    self._save()
                    self.checkpoints.wait()
                    self._export("best")
                asked = time.perf_counter()

    def _agree(self, group: list[Loaded], stop: bool, bad: int) -> StepMessage:
        """Tell the other ranks about this step, and hear about theirs. Collective."""
        return self.ranks.sum_message(
            StepMessage(
                weight=sum(self.objective.weight(loaded.batch) for loaded in group),
                images=["images" in loaded.batch for loaded in group],
                stop=stop,
                due=time.monotonic() - self.saved > 60 * self.recipe.save_minutes,
                failed=self.checkpoints.failed,
                bad=bad,
            )
        )

    def _step(self, group: list[Loaded], message: StepMessage) -> None:
        batches = self._batches(group, message)
        try:
            done = self.train_step.run(batches, message.weight, self.step)
        except NotFiniteError as error:
            self.train_step.zero_gradients()
            again = partial(self.train_step.backward, batches, message.weight, self.step)
            keys = [loaded.keys for loaded in group]
            why = explain_not_finite(self.model, again, keys, self.samples, self.ranks)
            raise ValueError(
                f"{why}. Lower optimizer.lr, raise warmup, or leave those samples out, and run the same command: "
                "it goes on from the last checkpoint"
            ) from error
        self.unreached -= done.reached
        names = [entry.name for entry in self.phases[self.phase].entries]
        for loaded, losses in zip(group, done.losses, strict=True):
            self.window.add([names[entry] for entry in loaded.entries], losses)
        self.window.norms += done.norm
        self.window.updates += 1
        self.step += 1
        self.samples += self.recipe.batch
        self.window.steps += 1
        self.watch.advance(self.samples)

    def _batches(self, group: list[Loaded], message: StepMessage) -> list[Batch]:
        """The micro-batches as the model takes them: in shards, all ranks run the ViT if any has images."""
        phase = self.recipe.phases[self.phase]
        return [
            self.objective.add_blank_images(loaded.batch, phase)
            if self.sharded and anywhere and "images" not in loaded.batch
            else loaded.batch
            for loaded, anywhere in zip(group, message.images, strict=True)
        ]

    def _report(self) -> None:
        """Report the steps since the previous report. Collective."""
        window, ranks = self.window, self.ranks
        seconds = time.perf_counter() - window.began
        everywhere, last = self._window_of_all_ranks(), self.samples - self.recipe.batch
        peak = self.recipe.optimizer.lr
        report = Report(
            samples=self.samples,
            step=self.step,
            loss=everywhere.total / everywhere.updates,
            losses={name: total / rows for name, (total, rows) in sorted(everywhere.sums.items())},
            extra={name: value for name, tensor in window.extra.items() if not math.isnan(value := float(tensor))},
            gradient_norm=everywhere.norms / everywhere.updates,
            samples_per_second=window.steps * self.recipe.batch / seconds,
            data_wait=window.waited / seconds,
            learning_rate=peak * rate_in(self.train_step.schedules, peak, last),
            memory=max(ranks.gather(peak_memory(ranks.device))),
            drawn=self.stream.drawn(self.samples),
            bad=self.bad,
        )
        self._log(report)
        self.watch.report(report)
        self.window = Window()

    def _evaluate(self) -> bool:
        """Run the evaluations that are due after the last step; returns whether the best score was reached.

        Before the first step, all are due. Collective.
        """
        over, began, reached = self.samples == self.recipe.samples, time.perf_counter(), False
        for evaluation in self.evaluations.all:
            if over or self._passed(evaluation.every):
                with self.watch.evaluating(evaluation.name):
                    found = evaluate(evaluation, self.train_step, self.samples, self.step)
                self._log(found)
                self.watch.scores(found)
                reached |= self.evaluations.note(found)
        self.window.began += time.perf_counter() - began  # the speed is that of training
        return reached

    def _log(self, row: Any) -> None:
        if self.ranks.rank == 0:
            self.folder.append(self.folder.metrics, [vars(row)])

    def _export(self, name: str) -> Path:
        """Write a model folder into the run's, unless a finished run has written it. Collective."""
        folder = self.folder.path / name
        if self.finished and self.ranks.gather(_samples_of(folder) == self.samples)[0]:  # of rank 0
            return folder
        with self.folder.recording(folder):
            export_model(folder, self.train_step, self.recipe, self.samples, self.tokenizer, self.base)
        return folder

    def _passed(self, every: int) -> bool:
        """Whether the last step reached a multiple of ``every`` samples; true before the first, false for 0."""
        return bool(every) and self.samples // every > (self.samples - self.recipe.batch) // every

    def _save(self) -> None:
        state = {
            "samples": self.samples,
            "bad": self.bad,
            "phase": self.phase,
            "window": self._window_of_all_ranks().state,
            "best": self.evaluations.state,
            "base": self.base,
            "classes": self.classes,
        }
        tensors = tensors_of(self.model, self.optimizer, self.train_step.average)
        self.checkpoints.save(self.step, tensors, state, self.evaluations.kept)
        self.saved = time.monotonic()

    # ---- checks

    def _check_reached(self) -> None:
        """Check that all parameters that learn have had a gradient on some rank. Collective."""
        if dead := set.intersection(*self.ranks.gather(self.unreached)):
            raise ValueError(
                f"no gradient has reached {min(dead)} ({len(dead)} tensors in all) in {self.step} steps: name the "
                "part in model.frozen, or give the mixture samples that use it"
            )
        self.unreached = set()

    def _note_problems(self, problems: list[str]) -> None:
        """Count and record bad samples of all ranks, up to ``max_bad``. Collective."""
        gathered = [p for many in self.ranks.gather(problems) for p in many]
        self.bad += len(gathered)
        if self.ranks.rank == 0:
            lines = [{"samples": self.samples, "problem": problem} for problem in gathered]
            self.folder.append(self.folder.quarantine, lines)
        if self.bad > self.recipe.bad_limit(self.samples):
            raise ValueError(
                f"{self.bad} bad samples, more than max_bad = {self.recipe.max_bad}; they are listed in "
                f"{self.folder.quarantine}. The last: {gathered[-1]}"
            )

    def _window_of_all_ranks(self) -> Window:
        return Window.joined(self.ranks.gather(self.window.state))


def _samples_of(folder: Path) -> int | None:
    """After how many samples a run wrote its model folder; None if it did not, or not to the end."""
    try:
        return open_model(folder).facts.samples
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def _stop_requests() -> Iterator[Event]:
    """Turn SIGTERM and ctrl-C into a request to stop after the current step; a second ctrl-C stops at once."""
    stop = Event()

    def request(number: int, _: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
