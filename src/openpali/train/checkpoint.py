"""Checkpoints of a run: written beside training, complete or invisible, checksummed, never a pickle.

A checkpoint is a folder ``checkpoints/step-00001234`` with a ``.safetensors`` file of each rank and ``state.json``,
each with its ``.sha256`` (as ``sha256sum -c`` reads it). It is written under another name, flushed and renamed.
All randomness of a run is a pure function of its seed and counter, so these are all of its state. Tensors are
those of torch's distributed checkpoint, so that any number of ranks can read what any other number wrote.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TextIO, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from openpali.distributed import Ranks

Json = dict[str, Any]
PATIENCE = 60.0  # seconds for what is being written, where another rank has failed

warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")  # as it may be


class Checkpoints:
    """The checkpoints of a run's folder. All ranks call each method, at the same step.

    Args:
        run: the folder.
        ranks: this process among all.
        keep: so many of the newest stay.
        keep_every: of those that are older, the first in each stretch of so many steps stays (0: none).
    """

    def __init__(self, run: Path, ranks: Ranks, keep: int, keep_every: float = 0) -> None:
        self.run, self.ranks, self.keep, self.keep_every = run, ranks, keep, keep_every
        self._pending: Future[Any] | None = None
        self._writing = ""
        if ranks.rank == 0:
            for unfinished in (run / "checkpoints").glob(".writing-*"):  # the run was killed there
                shutil.rmtree(unfinished)
            self._drop_old()  # or before it had dropped them

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Json) -> Path:
        """Copy ``tensors`` and write them in the background as the checkpoint of ``step``, unless it is there.

        Raises:
            OSError: this one, or the one before, cannot be written; those before it are untouched. All ranks raise
                the same.
        """
        self.wait()
        final = self.run / "checkpoints" / f"step-{step:08d}"
        why = ""
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = self.unwritable(final, error)
        there = self._together(why, final.is_dir())
        if there:
            return final
        self._writing = final.name
        writer = _Writer(final, {**state, "step": step}, self._drop_old)
        try:
            saving = async_save(dict(tensors), storage_writer=writer, **_among(self.ranks.background))
            self._pending = cast("Future[Any]", saving)
        except (OSError, CheckpointException) as error:  # on this rank: the others hear of it as of a later failure
            self._pending = Future()
            self._pending.set_exception(error)
        return final

    @property
    def failed(self) -> bool:
        """Whether this rank knows that the checkpoint in the background has failed. Others may not know it yet."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def wait(self, seconds: float | None = None) -> None:
        """Until the checkpoint in the background is there, or for ``seconds``.

        Raises:
            OSError: it cannot be written; all ranks raise the same.
        """
        self._together(self.settle(seconds))

    def settle(self, seconds: float | None = None) -> str:
        """As :meth:`wait`, but this rank for itself: what is wrong with the checkpoint, or ""."""
        if self._pending is None:
            return ""
        try:
            self._pending.result(seconds)
        except (Exception, CheckpointException) as error:
            if not self._pending.done():  # the time is over
                return ""
            self._pending = None
            unfinished = self.run / "checkpoints" / self._writing
            if self.ranks.rank == 0:
                shutil.rmtree(_temporary(unfinished), ignore_errors=True)
            return self.unwritable(unfinished, error)
        self._pending = None
        return ""

    def unwritable(self, path: Path, error: BaseException) -> str:
        """What to say where something in the run's folder cannot be written: why, and what the run goes on from."""
        before = [checkpoint.name for checkpoint in checkpoints(self.run)]
        kind = "checkpoint " if path.parent.name == "checkpoints" else ""
        return (
            f"{kind}{path} cannot be written ({_cause(error)}): mend that, and the same command goes on from "
            f"{before[-1] if before else 'the beginning'}"
        )

    def _together(self, why: str, there: bool = False) -> bool:
        """Let all ranks raise where one has a reason to; returns whether something is there for any of them."""
        heard = cast(list[tuple[str, bool]], self.ranks.gather((why, there)))
        if said := next((reason for reason, _ in heard if reason), ""):
            raise OSError(said)
        return any(seen for _, seen in heard)

    def load(self, checkpoint: Path, tensors: Mapping[str, Tensor]) -> None:
        """Fill ``tensors`` from a checkpoint, whatever the number of ranks that wrote it.

        Raises:
            ValueError: a damaged file, or tensors that do not fit.
        """
        found = cast(list[str], self.ranks.gather(self._damage(checkpoint)))
        if any(found):
            raise _damaged(checkpoint, "; ".join(filter(None, found)))
        reader = HuggingFaceStorageReader(str(checkpoint))
        try:
            load(dict(tensors), storage_reader=reader, **_among(self.ranks.background))
        except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
            raise ValueError(f"checkpoint {checkpoint} is of another model: {_cause(error)}") from error

    def _damage(self, checkpoint: Path) -> str:
        """What is wrong with those files that fall to this rank."""
        for name in read_state(checkpoint)["files"][self.ranks.rank :: self.ranks.world]:
            try:
                _verify(checkpoint / name)
            except (OSError, ValueError) as error:
                return str(error)
        return ""

    def _drop_old(self) -> None:
        """All but the newest and those to keep."""
        kept: set[int] = set()
        for old in checkpoints(self.run)[: -self.keep]:
            stretch = int(step_of(old) // self.keep_every) if self.keep_every else 0
            if stretch and stretch not in kept:
                kept.add(stretch)
            else:
                shutil.rmtree(old)


def lock(run: Path) -> TextIO:
    """Keep a run's folder for this process, for as long as it lives and what is returned is open.

    Raises:
        ValueError: another process has it.
    """
    file = (run / ".lock").open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which data workers would inherit
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):  # else the file system knows no locks
            raise ValueError(
                f"{run} is trained by another process: wait for its end, or name another folder with --run"
            ) from error
    return file


def checkpoints(run: Path) -> list[Path]:
    """All complete checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was written after."""
    return int(checkpoint.name.removeprefix("step-"))


def read_state(checkpoint: Path) -> Json:
    """The state saved beside the tensors.

    Raises:
        ValueError: a damaged file.
    """
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
    """What a checkpoint holds, by name: ``model.NAME``, ``optimizer.NAME.KEY``, ``average.NAME``.

    They are the run's own tensors, to be written or to be filled. The optimizer must have made a step, or
    :func:`allocate` its state.
    """
    moments = {
        f"optimizer.{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    return {**weights, **moments, **{f"average.{name}": value for name, value in average.items()}}


def allocate(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer make its state, by a step that goes nowhere."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


class _Writer(HuggingFaceStorageWriter):
    """Writes into a folder of another name; checksums on each rank; ``state.json`` and the rename on rank 0."""

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
                raise FileNotFoundError(f"{name}, which a rank wrote, is not there: do all ranks see one folder?")
        state = self.temporary / "state.json"
        state.write_text(json.dumps({**self.state, "files": files}))
        _seal(state)
        _flush(self.temporary)
        self.temporary.rename(self.final)
        _flush(self.final.parent)
        self.after()


def _temporary(final: Path) -> Path:
    return final.with_name(f".writing-{final.name}")


def _among(group: dist.ProcessGroup | None) -> dict[str, Any]:
    return {"no_dist": True} if group is None else {"process_group": group}


def _seal(file: Path) -> None:
    """Put a file and its checksum on the disk for good."""
    sidecar = file.with_name(f"{file.name}.sha256")
    sidecar.write_text(_checksum(file), encoding="utf-8")
    for each in (file, sidecar):
        _flush(each)


def _verify(file: Path) -> None:
    if file.with_name(f"{file.name}.sha256").read_text(encoding="utf-8") != _checksum(file):
        raise ValueError(f"{file.name} is not what was written")


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n"


def _cause(error: BaseException) -> str:
    """The first failure of any rank, without the traceback that torch adds."""
    if isinstance(error, CheckpointException):
        return str(next(iter(error.failures.values()))[0])
    return str(error)


def _damaged(checkpoint: Path, why: str) -> ValueError:
    return ValueError(f"checkpoint {checkpoint} is damaged ({why}): delete it to resume from the one before")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
