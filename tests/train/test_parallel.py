"""Micro-batches, ranks, sharding and checkpointing do not change losses and weights (promise 1), also if a run
continues with another number of ranks (promise 3)."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from rank_jobs import JOBS, Job, record_of, run_jobs, shares_of
from tiny_runs import assert_equal, losses_of, metrics_of, parallel_recipe, plain_sgd, tensors_of

import openpali.train.step as step_module
from openpali.architectures.pali import PRESETS
from openpali.data.pipeline.stream import load
from openpali.distributed import ALONE
from openpali.model.init import init_weights
from openpali.model.vit import ViT
from openpali.train.checkpoint import checkpoints, read_state, step_of
from openpali.train.parallel import place
from openpali.train.recipe import ParallelSpec
from openpali.train.recipe_file import as_toml
from openpali.weights.format import open_model

CLOSE = 1e-6
# the first test that uses `ran` waits for all jobs
pytestmark = [pytest.mark.usefixtures("toy_package"), pytest.mark.timeout(1300)]  # `ran` waits for all jobs


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], close: float = CLOSE) -> None:
    assert ours.keys() == theirs.keys()
    for key in ours:
        distance = torch.linalg.vector_norm(ours[key].float() - theirs[key].float())
        # a bias without gradient stays at zero: compare with the size of a step
        assert distance <= close * max(torch.linalg.vector_norm(theirs[key].float()), torch.tensor(1e-2)), key


@pytest.mark.parametrize(
    ("objective", "mean"), [("classify", "token"), ("sequence", "token"), ("sequence", "example")]
)
def test_micro_batches_change_nothing(objective, mean, make_trainer, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(step_module, "build_optimizer", plain_sgd)
    per_step = {}
    for micro in (1, 2, 4):
        trainer = make_trainer(parallel_recipe(objective, mean, micro=micro), f"micro-{micro}")
        losses = losses_of(trainer)
        trainer.train()
        per_step[micro] = [sum(losses[i : i + micro]) for i in range(0, len(losses), micro)]
    lengths = {len(losses) for losses in per_step.values()}
    assert lengths == {3}
    for micro in (2, 4):
        assert per_step[micro] == pytest.approx(per_step[1], rel=CLOSE)
        assert_close(tensors_of(tmp_path / f"micro-{micro}"), tensors_of(tmp_path / "micro-1"))


def test_the_two_means_differ(make_trainer) -> None:
    """Otherwise the tests above would say little about either."""
    seen = []
    for mean in ("token", "example"):
        trainer = make_trainer(parallel_recipe("sequence", mean), mean)
        losses = losses_of(trainer)
        trainer.train()
        seen.append(losses[0])
    assert abs(seen[0] - seen[1]) > 1e-4 * seen[0]


@pytest.mark.parametrize("objective", ["siglip", pytest.param("sequence", marks=pytest.mark.slow)])
def test_checkpointing_and_compiling_change_nothing(objective, make_trainer, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    seen = {}
    for name, parallel in {
        "plain": {},
        "selective": {"checkpointing": "selective"},
        "full": {"checkpointing": "full"},
        "compiled": {"checkpointing": "full", "compile": True},
    }.items():
        trainer = make_trainer(parallel_recipe(objective, "token", parallel=parallel, phases__0__samples=8), name)
        losses = losses_of(trainer)
        trainer.train()
        seen[name] = losses[-2:]  # the first may be of the pass that counts FLOPs
        assert open_model(tmp_path / name / "model").weights().keys() == trainer.model.state_dict().keys()
    assert seen["selective"] == seen["full"] == seen["plain"]
    assert seen["compiled"] == pytest.approx(seen["plain"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_kernels_compute_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    plain = init_weights(ViT(PRESETS["pico"].vision))
    compiled = copy.deepcopy(plain)
    spec = ParallelSpec(compile=True, checkpointing="selective")
    place(compiled, spec, ALONE, torch.float32)
    images = torch.randint(0, 256, (2, *plain.config.image_size, 3), dtype=torch.uint8)
    outputs = [vit(images) for vit in (plain, compiled)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        (output * torch.linspace(-1, 1, output.shape[-1])).sum().backward()
    for (name, parameter), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_checkpointing_saves_activations(make_trainer) -> None:
    held = {}
    for kind in ("none", "selective", "full"):
        trainer = make_trainer(parallel_recipe("sequence", "token", parallel={"checkpointing": kind}), kind)
        [group] = [next(iter(load(trainer.stream, start=0, batch=4, workers=0)))]
        saved: dict[int, int] = {}

        def pack(tensor: torch.Tensor, saved: dict[int, int] = saved) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trainer.objective.losses(group[0].batch, 1.0)
        held[kind] = sum(saved.values())
    assert held["full"] < 0.7 * held["none"]


# ---- several ranks


@pytest.fixture(scope="module")
def ran(tiny_home: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder of all jobs, after they have run; slow ones only if a slow test waits for them."""
    slow = any(item.get_closest_marker("slow") and "ran" in item.fixturenames for item in request.session.items)
    names = [job.name for job in JOBS if slow or not job.slow]
    return run_jobs(tmp_path_factory.mktemp("ranks"), tiny_home, names, 1200)


def together(ran: Path, job: Job) -> list[float]:
    """The loss of each step of a job, summed over ranks and micro-batches."""
    shares = [record_of(ran, job.name, rank)["losses"] for rank in range(job.world)]
    micro = job.recipe.micro
    summed = [sum(share) for share in zip(*shares, strict=True)]
    return [sum(summed[i : i + micro]) for i in range(0, len(summed), micro)]


def messages_of(ran: Path, job: Job) -> list[str]:
    """The error of each rank."""
    return [record_of(ran, job.name, rank)["message"] for rank in range(job.world)]


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job, id=job.name, marks=[pytest.mark.slow] * job.slow)
        for job in JOBS
        if not job.folder and not job.spoilt and not job.full
    ],
)
def test_ranks_change_nothing(job: Job, ran, make_trainer, monkeypatch) -> None:
    if job.sgd:
        monkeypatch.setattr(step_module, "build_optimizer", plain_sgd)
    trainer = make_trainer(job.alone(), "alone")
    losses = losses_of(trainer)
    alone = trainer.train()
    micro = job.recipe.micro
    per_step = [sum(losses[i : i + micro]) for i in range(0, len(losses), micro)]
    low = job.recipe.precision == "bf16"
    # Adafactor and Muon divide by small values at first, and so amplify rounding
    close = 2e-2 if low else 1e-5 if job.recipe.parallel.compile else CLOSE if job.sgd else 1e-4
    ours_per_step = together(ran, job)[-len(per_step) :]  # a compiled run also counts the FLOPs of a pass
    assert ours_per_step == pytest.approx(per_step, rel=close)
    ours, theirs = (dict(open_model(folder).weights()) for folder in (ran / job.name / "model", alone))
    if not job.sgd:  # the gradient of a key's bias is only rounding, which these optimizers turn into full steps
        for key in [key for key in theirs if key.endswith(("key_value.bias", "qkv.bias"))]:
            del ours[key], theirs[key]
    assert_close(ours, theirs, close if job.sgd else 1e-3)


def test_a_run_continues_with_another_number_of_ranks(ran, make_trainer) -> None:
    """With more, then with fewer, through two resolutions, a mixture, and several epochs of its smallest source."""
    jobs = [job for job in JOBS if job.folder == "elastic"]
    ranks = [job.world for job in jobs]
    assert ranks == [1, 4, 2]
    trainer = make_trainer(jobs[0].alone(), "alone")
    losses = losses_of(trainer)
    trainer.train()
    parts = [together(ran, job) for job in jobs]
    assert [len(part) for part in parts] == [2, 2, 2]
    assert [loss for part in parts for loss in part] == pytest.approx(losses, rel=CLOSE)
    found = checkpoints(ran / "elastic")
    assert [step_of(path) for path in found] == [1, 2, 3, 4, 5, 6]
    assert [len(list(path.glob("*.safetensors"))) for path in found] == [world for world in ranks for _ in range(2)]


def test_blocks_of_an_architecture_of_another_package_are_sharded(ran) -> None:
    assert {"FSDPBottleneck", "FSDPBlock"} <= {*record_of(ran, "toy-2-sharded", 0)["sharded"]}


def test_sharding_saves_memory(ran) -> None:
    whole, shares = record_of(ran, "sequence-2", 0), [record_of(ran, "sequence-4-sharded", i) for i in range(4)]
    assert max(share["local"] for share in shares) < 1.1 * whole["local"] / 4  # positions are unsharded
    assert record_of(ran, "frozen-2-sharded", 0)["trained"] < whole["trained"]


def test_all_ranks_name_the_module_and_the_sample_that_failed_on_one(ran, make_trainer) -> None:
    [job] = [job for job in JOBS if job.spoilt]
    first, second = messages_of(ran, job)
    assert first == second
    stream = make_trainer(job.alone(), "alone").stream
    assert first.startswith(f"the output of vit.encoder.norm is not finite at sample 4, with {stream[6].key}. ")


def test_all_ranks_raise_the_same_if_one_cannot_write_its_checkpoint(ran) -> None:
    """Also if they learn of it at different steps."""
    first, second = messages_of(ran, *[job for job in JOBS if job.full])
    assert first == second
    assert "step-00000002 cannot be written ([Errno 28] No space left on device)" in first
    assert first.endswith("the same command goes on from step-00000001")


def assert_same_shares(run: Path, other: Path) -> None:
    """Bit for bit."""
    ours, theirs = shares_of(run), shares_of(other)
    assert len({file for file, _ in theirs}) == 3
    assert_equal(ours, theirs)
    assert metrics_of(run) == metrics_of(other)


@pytest.mark.parametrize("folder", ["stopped", "bereft"])
def test_ranks_that_get_a_signal_end_and_continue_bit_for_bit(folder: str, ran) -> None:
    """SIGTERM to all ranks: each ends properly, after a checkpoint. ``kill -9`` of one: the other ends by itself,
    with an error. Either way checkpoints are intact, and the continued run equals an uninterrupted one."""
    first, again = [job for job in JOBS if job.folder == folder]
    struck = json.loads((ran / f"{first.name}.struck").read_text())
    if first.struck == signal.SIGTERM:
        assert struck["ends"] == {"0": 0, "1": 0}
        messages = messages_of(ran, first)
        samples = int(messages[0].split()[3].rstrip(";"))
        assert messages == [f"stopped at sample {samples}; the same command goes on"] * 2
    else:
        assert struck["ends"] == {"0": 1, "1": -signal.SIGKILL}
        assert (ran / f"{first.name}.error").is_file()
    resumed = len(together(ran, again))
    assert 0 < resumed <= again.recipe.samples // again.recipe.batch - len(struck["found"])
    assert_same_shares(ran / folder, ran / "whole")
    found = checkpoints(ran / folder)
    assert read_state(found[-1]) == read_state(checkpoints(ran / "whole")[-1])
    assert struck["found"]
    assert {*struck["found"]} <= {path.name for path in found}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_torchrun_restarts_ranks_and_the_run_is_the_same(ran, tmp_path) -> None:
    """With the real launcher and command: a rank is killed, and the result equals an uninterrupted run, bit for
    bit."""
    [job] = [job for job in JOBS if job.folder == "whole"]
    recipe, run, log = tmp_path / "launched.toml", tmp_path / "killed", tmp_path / "killed.log"
    recipe.write_text(as_toml(job.recipe.model_dump()))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job.world)]
    launch += ["--max-restarts", "1", "--monitor-interval", "0.1"]
    command = [*launch, "-m", "--", "openpali", "train", str(recipe), "--run", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        while not (found := checkpoints(run)):
            assert process.poll() is None, log.read_text()
            time.sleep(0.002)
        assert step_of(found[-1]) < 8
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert process.wait(timeout=600) == 0, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert_same_shares(run, ran / "whole")
