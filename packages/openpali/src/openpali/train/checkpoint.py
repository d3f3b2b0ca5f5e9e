"""Checkpoints of a run: written in the background, complete or invisible, checksummed, without pickles.

A checkpoint is a folder ``checkpoints/step-00001234`` with one ``.safetensors`` file per rank and ``state.json``,
each with a ``.sha256`` that ``sha256sum -c`` can check. It is written under a temporary name, flushed, then
renamed. This is the whole state of a run: all randomness is a pure function of the seed and the sample counter.
Tensors are stored by torch's distributed checkpoint, so any number of ranks can read what another number wrote.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from openpali.distributed import Ranks
from openpali.model.lora import lora_names
from openpali.weights.files import CHECKPOINTS

Json = dict[str, Any]
SETTLE_SECONDS = 60.0  # seconds to let a pending checkpoint finish after another rank has failed

# torch warns on every save and load of a single process
warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")

# torch makes two records of each tensor that it saves, and drops them: a seventh of the time of a short run
logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.INFO)


class Checkpoints:
    """The checkpoints in a run's folder. Methods are collective: call them on every rank, at the same step.

    Args:
        keep: how many of the newest checkpoints to keep.
        keep_every: of older ones, keep the first in each interval of this many steps (0: none).
        best: the step of a checkpoint to keep besides; None: none.
    """

    def __init__(
        self, run: Path, ranks: Ranks, keep: int, keep_every: Fraction | int = 0, best: int | None = None
    ) -> None:
        self.run, self.ranks, self.keep, self.keep_every = run, ranks, keep, keep_every
        self._pending: Future[Any] | None = None
        self._writing = ""
        if ranks.rank == 0:
            for unfinished in (run / "checkpoints").glob(".writing-*"):  # the run was killed while it wrote
                shutil.rmtree(unfinished)
            self._drop_old(best)  # the run may have been killed before it did so

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Json, best: int | None = None) -> Path:
        """Copy ``tensors``, then write them in the background as the checkpoint of ``step``, unless it exists.

        Once it is complete, old checkpoints are deleted, but not that of step ``best``.

        Raises:
            OSError: this checkpoint or the previous one cannot be written; earlier ones are untouched. All ranks
                raise the same error.
        """
        self.wait()
        final = self.run / "checkpoints" / f"step-{step:08d}"
        why = ""
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = unwritable(self.run, final, error)
        if self._together(why, final.is_dir()):
            return final
        self._writing = final.name
        writer = _Writer(final, {**state, "step": step}, partial(self._drop_old, best))
        try:
            saving = async_save(dict(tensors), storage_writer=writer, **_process_group(self.ranks.background))
            self._pending = cast("Future[Any]", saving)
        except (OSError, CheckpointException) as error:  # other ranks learn of it with the next step's message
            self._pending = Future()
            self._pending.set_exception(error)
        return final

    @property
    def failed(self) -> bool:
        """Whether the pending checkpoint has failed, as far as this rank knows; other ranks may not know it yet."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the pending checkpoint is written, at most ``seconds`` (None: for ever).

        If it fails, all ranks raise the same OSError.
        """
        self._together(self.settle(seconds))

    def settle(self, seconds: float | None = None) -> str:
        """As :meth:`wait`, for this rank alone; returns what is wrong with the checkpoint, or ""."""
        if self._pending is None:
            return ""
        try:
            self._pending.result(seconds)
        except (Exception, CheckpointException) as error:
            if not self._pending.done():  # timed out
                return ""
            self._pending = None
            unfinished = self.run / "checkpoints" / self._writing
            if self.ranks.rank == 0:
                shutil.rmtree(_temporary(unfinished), ignore_errors=True)
            return unwritable(self.run, unfinished, error)
        self._pending = None
        return ""

    def _together(self, why: str, exists: bool = False) -> bool:
        """Raise on all ranks if any rank has a reason ``why``; otherwise return whether ``exists`` on any rank."""
        answers = self.ranks.gather((why, exists))
        if first := next((reason for reason, _ in answers if reason), ""):
            raise OSError(first)
        return any(found for _, found in answers)

    def keep_last(self) -> None:
        """Delete all checkpoints but the newest and those of ``keep_every``, also the best: the run is finished."""
        self.keep = 1
        if self.ranks.rank == 0:
            self._drop_old(None)

    def _drop_old(self, best: int | None) -> None:
        """Delete all checkpoints but the newest ``keep``, one per ``keep_every`` steps, and that of ``best``."""
        kept: set[int] = set()
        for old in checkpoints(self.run)[: -self.keep]:
            interval = step_of(old) // self.keep_every if self.keep_every else 0
            if interval and interval not in kept:
                kept.add(interval)
            elif step_of(old) != best:
                shutil.rmtree(old, ignore_errors=True)  # the new one is complete; the next one tries again


def load_checkpoint(checkpoint: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Fill ``tensors`` from a checkpoint that any number of ranks may have written. Collective."""
    found = ranks.gather(_damage(checkpoint, ranks))
    if any(found):
        raise _damaged(checkpoint, "; ".join(filter(None, found)))
    reader = HuggingFaceStorageReader(str(checkpoint))
    try:
        load(dict(tensors), storage_reader=reader, **_process_group(ranks.background))
    except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
        raise ValueError(
            f"checkpoint {checkpoint} does not fit this model ({_cause(error)}): name another folder with --run"
        ) from error


def _damage(checkpoint: Path, ranks: Ranks) -> str:
    """Verify this rank's part of the files; returns what is wrong, or ""."""
    for name in read_state(checkpoint)["files"][ranks.rank :: ranks.world]:
        try:
            _verify(checkpoint / name)
        except (OSError, ValueError) as error:
            return str(error)
    return ""


def unwritable(run: Path, path: Path, error: BaseException) -> str:
    """The error message for a ``path`` of a run's folder that cannot be written: why, and where the run resumes."""
    before = [checkpoint.name for checkpoint in checkpoints(run)]
    kind = "checkpoint " if path.parent.name == "checkpoints" else ""
    return (
        f"{kind}{path} cannot be written ({_cause(error)}): fix that, and the same command goes on from "
        f"{before[-1] if before else 'the beginning'}"
    )


def checkpoints(run: Path) -> list[Path]:
    """All complete checkpoints of a run, oldest first."""
    return sorted(run.glob(CHECKPOINTS))


def step_of(checkpoint: Path) -> int:
    """The number of steps before a checkpoint."""
    return int(checkpoint.name.removeprefix("step-"))


def read_state(checkpoint: Path) -> Json:
    """The JSON state saved beside the tensors."""
    file = checkpoint / "state.json"
    try:
        _verify(file)
        state: Json = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(checkpoint, str(error)) from error
    return state


def tensors_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name: ``model.NAME``, ``optimizer.NAME.KEY``, ``average.NAME``.

    Of a model with an adapter, they are the adapter's alone.
    These are the run's own tensors, not copies: for saving, or for :func:`load_checkpoint` to fill. The optimizer
    must have its state, from a step or from :func:`allocate`.
    """
    moments = {
        f"optimizer.{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    changes = lora_names(model)  # of an adapter, which leaves all else as it is
    weights = {f"model.{k}": value for k, value in model.state_dict().items() if not changes or k in changes}
    return {**weights, **moments, **{f"average.{name}": value for name, value in average.items()}}


def allocate(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer create the state of parameters that have had no step, by one with zero gradients.

    Their steps are not counted, weights do not change, and other gradients are dropped.
    """
    optimizer.zero_grad(set_to_none=True)
    new = [p for group in optimizer.param_groups for p in group["params"] if p not in optimizer.state]
    for parameter in new:
        parameter.grad = torch.zeros_like(parameter)
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in (optimizer.state[parameter] for parameter in new):
        if "step" in state:
            state["step"].zero_()


class _Writer(HuggingFaceStorageWriter):
    """Writes to a temporary folder, with checksums on each rank; rank 0 adds ``state.json`` and renames it."""

    def __init__(self, final: Path, state: Json, after: Any) -> None:
        self.final, self.temporary = final, _temporary(final)
        self.state, self.after = state, after
        super().__init__(path=str(self.temporary), save_distributed=True)

    def write_data(self, plan: Any, planner: Any) -> Any:
        written = super().write_data(plan, planner)
        for name in sorted({result.storage_data.relative_path for result in written.value()}):
            _seal(self.temporary / name)
        return written

    def finish(self, metadata: Metadata, results: Any) -> None:
        files = sorted({result.storage_data.relative_path for written in results for result in written})
        for name in files:
            if not (self.temporary / name).is_file():
                raise FileNotFoundError(f"{name}, written by a rank, is missing: give all ranks one shared folder")
        state = self.temporary / "state.json"
        state.write_text(json.dumps({**self.state, "files": files}), "utf-8")
        _seal(state)
        _flush(self.temporary)
        self.temporary.rename(self.final)
        _flush(self.final.parent)
        self.after()


def _temporary(final: Path) -> Path:
    return final.with_name(f".writing-{final.name}")


def _process_group(group: dist.ProcessGroup | None) -> dict[str, Any]:
    return {"no_dist": True} if group is None else {"process_group": group}


def _seal(file: Path) -> None:
    """Write a file's checksum beside it, and flush both to the disk."""
    sidecar = file.with_name(f"{file.name}.sha256")
    sidecar.write_text(_checksum(file), encoding="utf-8")
    for each in (file, sidecar):
        _flush(each)


def _verify(file: Path) -> None:
    if file.with_name(f"{file.name}.sha256").read_text(encoding="utf-8") != _checksum(file):
        raise ValueError(f"{file.name} does not match its checksum")


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n"


def _cause(error: BaseException) -> str:
    """The first failure of any rank, without torch's traceback."""
    if isinstance(error, CheckpointException):
        return str(next(iter(error.failures.values()))[0])
    return str(error)


def _damaged(checkpoint: Path, why: str) -> ValueError:
    return ValueError(f"checkpoint {checkpoint} is damaged ({why}): delete it to resume from the one before")


def _flush(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows cannot flush folders
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
