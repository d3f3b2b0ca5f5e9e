"""Runs on several ranks for `test_parallel.py`: ``python rank_jobs.py FOLDER JOB...``."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import torch
import torch._dynamo  # once, before ranks are forked
from safetensors.torch import load_file
from tiny_runs import VARIED, Killed, kill_at, losses_of, parallel_recipe, plain_sgd
from torch.distributed.tensor import DTensor

import openpali.train.checkpoint as checkpoint_module
import openpali.train.step as step_module
from _ranks import fork_ranks
from openpali.data.sources.registry import open_source
from openpali.distributed import join_ranks
from openpali.train.checkpoint import checkpoints
from openpali.train.objectives.sequence import Lockstep
from openpali.train.parallel import blocks_of
from openpali.train.recipe import Recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer

ALWAYS = 1e-9  # minutes between checkpoints: one after every step
PATIENCE = 300.0  # seconds to wait for the first checkpoint before a signal, and for ranks to end after it
CAPTIONS = {"source": "nano/single", "task": "caption"}
TEXT = {"source": "nano/text", "task": "denoise"}
LONG = {"max_prompt": 200, "max_target": 200}


@dataclass(frozen=True)
class Job:
    """A run on ``world`` ranks.

    Attributes:
        changes: of the recipe, as `make_recipe` takes them.
        sgd: use SGD instead of the recipe's optimizer, which amplifies rounding errors.
        dies: the step in which the run dies; 0: none.
        spoilt: in the second step, the ViT of the last rank outputs NaN for its first image.
        struck: a signal sent once there are checkpoints: SIGTERM to all ranks, SIGKILL to the last.
        full: the last rank cannot write its part of the second checkpoint, and learns late that it failed.
        folder: of the run, if jobs share one.
        slow: runs only if slow tests do.
    """

    name: str
    world: int
    objective: str
    changes: dict[str, Any] = field(default_factory=dict)
    mean: str = "token"
    sgd: bool = True
    dies: int = 0
    spoilt: bool = False
    struck: signal.Signals | None = None
    full: bool = False
    folder: str = ""
    slow: bool = False

    @property
    def recipe(self) -> Recipe:
        return parallel_recipe(self.objective, self.mean, **self.changes)

    def alone(self) -> Recipe:
        """The same recipe on one rank."""
        return self.recipe.model_copy(update={"parallel": type(self.recipe.parallel)()})


def sharded(kind: str = "full", **more: Any) -> dict[str, Any]:
    return {"parallel": {"shard": kind, **more}}


CAPTIONED = {"phases__0__mixture": [CAPTIONS], "max_target": 40}  # samples have so many tokens
MIXED = {
    **LONG,
    "phases__0__samples": 24,
    "phases__0__mixture": [{**TEXT, "weight": 0.6}, {**CAPTIONS, "weight": 0.4}],
}
SHORT = {"phases__0__samples": 8, "phases__0__mixture": [CAPTIONS]}  # each length is compiled
ELASTIC = {
    **sharded(),
    **LONG,
    "ema": 0.9,
    "save_minutes": ALWAYS,
    "keep": 9,
    "optimizer": {"lr": 1e-3, "schedule": "rsqrt", "warmup": 8, "cooldown": 8},
    "phases": [
        {"samples": 12, "size": 48, "mixture": [CAPTIONS, TEXT]},
        {"samples": 12, "size": 72, "mixture": [*VARIED, {"source": "easy-vqa", "task": "vqa"}]},
    ],
}
TOY = {"model__preset": "toy", "phases__0__size": 8, "phases__0__mixture": [CAPTIONS]}  # of `toy_architecture.py`
NATIVE = {
    "model__resize": "native",
    "softmax": True,
    "regions": 1.0,
    "dense": True,
    "sides": 1.0,
    "phases": [{"samples": 24, "tokens": 40, "mixture": [{"source": "nano/scene", "task": "contrastive"}]}],
}
PATCHES = {
    "model__resize": "native",
    "phases": [{"samples": 24, "tokens": 40, "mixture": MIXED["phases__0__mixture"]}],
}
STRUCK = {**sharded(), "ema": 0.9, "save_minutes": ALWAYS, "keep": 20, "phases__0__samples": 24}
JOBS = [
    Job("siglip-3", 3, "siglip"),  # 4 pairs on 3 ranks: 1 + 1 + 2
    Job("siglip-3-sharded", 3, "siglip", {**sharded(), "regions": 1.0}),
    Job("native-2-sharded", 2, "siglip", {**sharded(checkpointing="full"), **NATIVE}),
    Job("native-text-2-sharded", 2, "sequence", {**sharded(), **LONG, **PATCHES, "micro": 2}),
    Job("classify-2-sharded", 2, "classify", sharded()),
    Job("sequence-2", 2, "sequence"),
    Job("sequence-4-sharded", 4, "sequence", {**sharded(checkpointing="selective"), **CAPTIONED}),
    Job("sequence-4-hybrid", 4, "sequence", sharded("hybrid", checkpointing="full"), mean="example"),
    Job("frozen-2-sharded", 2, "sequence", {**sharded(), "model__frozen": ["vit"]}),
    Job("text-2-sharded", 2, "sequence", {**sharded(), **MIXED, "micro": 2}),  # images on one rank only
    Job("toy-2-sharded", 2, "sequence", {**sharded(checkpointing="full"), **TOY}),
    Job("siglip-2-sharded-bf16", 2, "siglip", {**sharded(), "precision": "bf16"}, slow=True),
    Job("sequence-2-sharded-bf16", 2, "sequence", {**sharded(), "precision": "bf16"}),
    Job("sequence-2-sharded-compiled", 2, "sequence", {**sharded(compile=True), **SHORT}, slow=True),
    Job(
        "classify-2-sharded-compiled",
        2,
        "classify",
        {**sharded(compile=True), "phases__0__samples": 8},
        slow=True,
    ),
    Job("mask_vqvae-2", 2, "mask_vqvae"),
    Job("muon-2", 2, "siglip", {"optimizer__name": "muon"}, sgd=False),  # matrices are divided among ranks
    Job("clipped-2", 2, "sequence", {"optimizer": {"name": "muon", "lr": 1e-2, "qk_clip": 0.5}}, sgd=False),
    Job("muon-2-sharded", 2, "siglip", {**sharded(), "optimizer__name": "muon"}, sgd=False),
    Job("adafactor-2-sharded", 2, "sequence", {**sharded(), "optimizer__name": "adafactor"}, sgd=False),
    Job("nan-2-sharded", 2, "sequence", sharded(), spoilt=True),
    Job("full-2", 2, "sequence", {"save_minutes": ALWAYS, "phases__0__samples": 400}, full=True),
    Job("elastic-1", 1, "sequence", ELASTIC, sgd=False, dies=3, folder="elastic"),
    Job("elastic-4", 4, "sequence", ELASTIC, sgd=False, dies=5, folder="elastic"),
    Job("elastic-2", 2, "sequence", ELASTIC, sgd=False, folder="elastic"),
    Job("whole-2", 2, "siglip", STRUCK, sgd=False, folder="whole"),
    Job("stopped-2", 2, "siglip", STRUCK, sgd=False, struck=signal.SIGTERM, folder="stopped"),
    Job("stopped-2-again", 2, "siglip", STRUCK, sgd=False, folder="stopped"),
    Job("bereft-2", 2, "siglip", STRUCK, sgd=False, struck=signal.SIGKILL, folder="bereft"),
    Job("bereft-2-again", 2, "siglip", STRUCK, sgd=False, folder="bereft"),
]
EVALS = {
    "evals": [
        {"name": "vqa", "benchmark": "nano/vqa", "every": 16, "limit": 3, "batch": 2},
        {"name": "captions", **CAPTIONS, "every": 8, "limit": 2},
    ],
    "keep_best": "captions/loss",
}
TRAINED = {
    "ema": 0.5,
    "model__dropout": 0.1,
    "max_target": 40,
    "phases": [{"samples": 16, "size": 72, "mixture": [CAPTIONS]}],
}
FROM_A_MODEL = {"model__init": {"": "start-of-ranks"}}  # which is asked before anything else runs on the ranks
EVALUATED = [  # only by name, for `test_evals.py`
    Job(
        f"{'evaluated' if evals else 'plain'}-{kind}",
        world,
        "sequence",
        {**TRAINED, **FROM_A_MODEL, **placed, **evals},
        sgd=False,
    )
    for kind, world, placed in (
        ("3", 3, {}),  # a rank without captions
        ("2-sharded-bf16", 2, {**sharded(checkpointing="selective"), "precision": "bf16"}),
    )
    for evals in ({}, EVALS)
]


def run_jobs(folder: Path, home: Path, names: Iterable[str], seconds: float) -> Path:
    """Run jobs in a process of their own; returns the folder. A deadlock of ranks would last for ever."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENPALI_HOME": str(home)}
    command = [sys.executable, __file__, str(folder), *names]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        assert process.wait(timeout=seconds) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return folder


def record_of(folder: Path, name: str, rank: int) -> dict[str, Any]:
    """What a rank of a job that ran has recorded."""
    error = folder / f"{name}.error"
    assert not error.is_file(), error.read_text()
    found: dict[str, Any] = json.loads((folder / f"{name}-{rank}.json").read_text())
    return found


def shares_of(run: Path) -> dict[tuple[str, str], torch.Tensor]:
    """The tensors of each rank in the newest checkpoint, and those of the exported model."""
    files = [*checkpoints(run)[-1].glob("*.safetensors"), *(run / "model").glob("*.safetensors")]
    return {(file.name, key): value for file in files for key, value in load_file(file).items()}


def run(job: Job, folder: Path) -> None:
    """The work of one rank."""
    if job.sgd:
        step_module.build_optimizer = plain_sgd
    with join_ranks() as ranks:
        trainer = Trainer(job.recipe, folder / (job.folder or job.name), ranks, open_tokenizer("nano-vocabulary"))
        losses = losses_of(trainer)
        if job.dies:
            kill_at(trainer, job.dies)
        if job.spoilt and ranks.rank == job.world - 1:
            trainer.model.vit.encoder.norm.register_forward_hook(partial(spoil, trainer))  # type: ignore[union-attr]
        if job.full and ranks.rank == job.world - 1:
            fill_disk(trainer)
        held = spy_on_shards(trainer)
        message = ""
        try:
            trainer.train()
        except (OSError, ValueError) as error:
            stopped = isinstance(error, InterruptedError) and job.struck == signal.SIGTERM
            if not (stopped or job.full or job.spoilt):
                raise
            message = str(error)
        except Killed:
            del losses[-job.recipe.micro :]  # of the step in which it died
        gradients = sum(p.numel() for group in trainer.optimizer.param_groups for p in group["params"])
        record = {
            "losses": losses,
            "trained": gradients,
            "local": _local_bytes(trainer),
            "message": message,
            "held": held,
            "sharded": sorted({type(block).__name__ for block in blocks_of(trainer.model) if _is_sharded(block)}),
        }
        (folder / f"{job.name}-{ranks.rank}.json").write_text(json.dumps(record))


def spoil(trainer: Trainer, module: object, inputs: object, output: torch.Tensor) -> None:
    if trainer.step == 1:
        output[0, 0] = float("nan")


def spy_on_shards(trainer: Trainer) -> list[float]:
    """A list that receives, for each generated token, the share of the blocks' weights that this rank holds."""
    held: list[float] = []
    original = Lockstep.step

    def step(self: Lockstep, *args: Any) -> torch.Tensor:
        weights = [p for block in blocks_of(trainer.model) for p in block.parameters() if p.ndim > 1]
        local = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in weights)
        held.append(local / sum(p.numel() for p in weights))
        return original(self, *args)

    Lockstep.step = step  # type: ignore[method-assign]
    return held


def fill_disk(trainer: Trainer) -> None:
    seal, async_save = checkpoint_module._seal, checkpoint_module.async_save

    def refuse(file: Path) -> None:
        if "step-00000002" in file.parent.name:
            raise OSError(28, "No space left on device")
        seal(file)

    class Late(Future[Any]):
        """Completes half a second late."""

        def __init__(self, of: Future[Any]) -> None:
            super().__init__()
            of.add_done_callback(lambda done: threading.Timer(0.5, self.end, [done]).start())

        def end(self, done: Future[Any]) -> None:
            error = done.exception()
            self.set_exception(error) if error else self.set_result(done.result())

    def save(*args: Any, **options: Any) -> Any:
        return Late(async_save(*args, **options))

    checkpoint_module._seal, checkpoint_module.async_save = refuse, save


def _is_sharded(block: torch.nn.Module) -> bool:
    return all(isinstance(p, DTensor) for p in block.parameters() if p.ndim > 1)


def _local_bytes(trainer: Trainer) -> int:
    tensors = [*trainer.model.parameters(), *(v for s in trainer.optimizer.state.values() for v in s.values())]
    return sum(t.to_local().nbytes if hasattr(t, "to_local") else t.nbytes for t in tensors)


def fork(job: Job, folder: Path) -> None:
    """Run a job. If a rank fails, its traceback goes to ``NAME.error`` and the other ranks are killed.

    The ranks of a struck job are left to end by themselves; their exit codes go to ``NAME.struck``.
    """

    def body(rank: int) -> None:
        code = 0
        try:
            run(job, folder)
        except BaseException:
            with (folder / f"{job.name}.error").open("a") as file:
                traceback.print_exc(file=file)
            code = 1
        if job.struck:
            sys.exit(code)  # as a command ends: threads that still run would delay it
        os._exit(code)

    started = fork_ranks(job.world, 2, body)  # four ranks are two nodes of two
    children = {child: rank for rank, child in enumerate(started)}
    found = strike(job, folder, list(children)) if job.struck else []
    struck, ends = time.monotonic(), {}
    while children:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended:
            ends[children.pop(ended)] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.01)
        if (status and not job.struck) or (job.struck and time.monotonic() > struck + PATIENCE):
            for child in children:
                os.kill(child, signal.SIGKILL)
    if job.struck:
        (folder / f"{job.name}.struck").write_text(json.dumps({"found": found, "ends": ends}))


def strike(job: Job, folder: Path, children: list[int]) -> list[str]:
    """Send a job its signal shortly after its first checkpoint; returns the checkpoints of that time."""
    assert job.struck
    end = time.monotonic() + PATIENCE
    while not (found := checkpoints(folder / job.folder)) and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.1))
    for child in children if job.struck == signal.SIGTERM else children[-1:]:
        os.kill(child, job.struck)
    return [path.name for path in found]


if __name__ == "__main__":
    sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "toy")]
    import unmeasured

    torch.set_num_threads(1)
    unmeasured.leave_out()
    torch.compile = partial(torch.compile, backend="aot_eager")  # type: ignore[assignment] # needs no C++ compiler
    open_source("nano/single", {})  # loads its world, once for all jobs
    wanted = [job for job in [*JOBS, *EVALUATED] if job.name in sys.argv[2:]]
    if any(job.recipe.parallel.compile for job in wanted):
        import torch._inductor.pattern_matcher  # 600 modules, which each rank would import when it compiles
    gc.freeze()  # each run ends with a collection of garbage
    for job in wanted:
        fork(job, Path(sys.argv[1]))
