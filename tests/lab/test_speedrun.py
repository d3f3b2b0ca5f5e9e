"""``python -m openpali_lab speedrun``, as docs/speedrun.md says: all stages in small, killed and resumed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from torch.distributed.run import parse_args
from typer.testing import CliRunner

import openpali_lab.cli.speedrun as command
from openpali.data.sources.registry import open_source
from openpali.distributed import Ranks
from openpali.infer.pali import Pali
from openpali.train.trainer import Trainer
from openpali.train.watch import Watch
from openpali.weights.bundle import open_bundle
from openpali_lab import speedrun
from openpali_lab.__main__ import app
from openpali_lab.speedrun import FLOORS, SIZES, STAGES, Speedrun, missed
from typed_commands import run_typed

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "speedrun.md").read_text("utf-8")
LINES = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
TINY = ["--size", "pico", "--ranks", "1", "--limit", "4"]
TINY += ["scale=0.0004", "batch=4", "workers=0", "micro=1", "save_minutes=1e-9", "optimizer.cooldown=0"]


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture
def trained(world_with_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The run and the first sample of each training that begins. The model itself is the one that ships, too."""
    monkeypatch.setattr("openpali_lab.speedrun.GLANCE", 4)
    monkeypatch.setattr("openpali_lab.speedrun.CALIBRATED", 4)
    monkeypatch.setattr("openpali.weights.find.SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "nano").symlink_to(world_with_vocabulary / "runs" / "speedrun" / "pico-0" / "model")
    begun: list[tuple[str, int]] = []
    train, gather, pack, load = Trainer.train, Ranks.gather, speedrun.pack_bundle, Pali.from_pretrained
    written = False  # whether rank 0 may write a model that other ranks have not waited for

    def noted(trainer: Trainer, *watch: Watch) -> Path:
        nonlocal written
        begun.append((trainer.recipe.name.rpartition("/")[2], trainer.samples))
        folder, written = train(trainer, *watch), True
        return folder

    def packed(*files: Path) -> dict[str, int]:
        nonlocal written
        sizes, written = pack(*files), True
        return sizes

    def gathered(ranks: Ranks, value: object) -> list[object]:
        nonlocal written
        written = False
        return gather(ranks, value)

    def loaded(*names: object, **options: object) -> Pali:
        assert not written, "other ranks may be here before the model is"
        return load(*names, **options)

    monkeypatch.setattr(Trainer, "train", noted)
    monkeypatch.setattr(speedrun, "pack_bundle", packed)
    monkeypatch.setattr(Ranks, "gather", gathered)
    monkeypatch.setattr(Pali, "from_pretrained", loaded)
    return begun


def test_a_killed_speedrun_goes_on(
    trained: list[tuple[str, int]], world_with_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    folder, step = world_with_vocabulary / "runs" / "speedrun" / "pico-0", Trainer._step

    def die(trainer: Trainer, *batch: object) -> None:
        if trainer.recipe.name.endswith(STAGES[1]) and trainer.step == 1:
            raise Killed
        step(trainer, *batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", die)
        with pytest.raises(Killed):
            CliRunner().invoke(app, ["speedrun", *TINY])
    before = json.loads((folder / "speedrun.json").read_text())
    assert before["seconds"].keys() == {*STAGES[:2]}
    assert before["scores"].keys() == {STAGES[0]}
    before["seconds"][STAGES[1]] += 1000  # of sittings before
    (folder / "speedrun.json").write_text(json.dumps(before))
    printed = run_typed("python -m openpali_lab speedrun", monkeypatch, capsys, {"speedrun": TINY})
    assert trained == [(STAGES[0], 0), (STAGES[1], 0), (STAGES[1], 4), (STAGES[2], 0)]
    log = json.loads((folder / "speedrun.json").read_text())
    answered = {"nano/caption", "nano/ocr", "nano/vqa"}
    asked = dict(zip((*STAGES, "packed"), ({"nano/retrieval"}, answered, answered, {"nano/detect"}), strict=True))
    assert {stage: set(log["scores"][stage]) for stage in asked} == asked
    assert log["seconds"][STAGES[0]] == before["seconds"][STAGES[0]]
    assert log["seconds"][STAGES[1]] > before["seconds"][STAGES[1]] > 1000
    own = [seconds for part, seconds in log["seconds"].items() if not part.startswith("nano,")]
    assert f"{sum(own) / 60:.1f} min; below the floor" in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith("nano/")]
    held_out, of_nano = log["scores"]["held out, 4 samples"], log["scores"]["nano, held out, 4 samples"]
    assert [row[0] for row in rows] == [*FLOORS]
    assert [row[2:4] for row in rows] == [[f"{held_out[name]:.3f}", f"{of_nano[name]:.3f}"] for name in FLOORS]

    # nothing is left to do
    with monkeypatch.context() as patch:
        patch.setattr(Pali, "from_pretrained", None)
        again = run_typed("python -m openpali_lab speedrun", patch, capsys, {"speedrun": TINY})
    assert (len(trained), json.loads((folder / "speedrun.json").read_text())) == (4, log)
    assert again.splitlines()[-8:] == printed.splitlines()[-8:]

    # another recipe is refused
    with pytest.raises(ValueError, match="choose another --seed"):
        CliRunner().invoke(app, ["speedrun", *TINY, "batch=2"], catch_exceptions=False)


def test_the_model_answers_and_retrieves(
    trained: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Each command of the page, on the smallest size; the speedrun is finished if the test above has run."""
    Image.fromarray(open_source("nano/single", {"split": "heldout"})[0].images[0]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    lines = [line.replace("speedrun/nano-", "speedrun/pico-") for line in LINES if not line.startswith("make ")]
    assert len(lines) == len(LINES) - 1 == 4
    for line in lines:
        run_typed(line.replace("--seed 1", ""), monkeypatch, capsys, {"speedrun": TINY, "eval": ["--limit", "4"]})
    folder = Speedrun(SIZES["pico"], 0, 4, []).folder / "model"
    assert open_bundle(folder).parts == {"pali": folder / "pali", "siglip": folder / "siglip"}
    assert open_bundle(folder).tasks == {"detect": ("siglip",)}
    assert len(open_bundle(folder).names) == 128


def test_the_dial_and_the_seed_change_every_stage() -> None:
    assert SIZES.keys() == set(command.SizeName.__args__)
    seeds = set()
    for name, size in SIZES.items():
        for seed in (0, 1):
            for stage in STAGES:
                recipe = Speedrun(size, seed, 300, []).recipe(stage)
                plain = Speedrun(SIZES["nano"], 0, 300, []).recipe(stage)
                assert recipe.name == f"speedrun/{name}-{seed}/{stage}"
                assert set(recipe.model.init.values()) <= {f"speedrun/{name}-{seed}/{each}" for each in STAGES}
                assert recipe.samples == pytest.approx(size.samples * plain.samples, rel=0.02)
                assert recipe.optimizer.lr == pytest.approx(size.rate * plain.optimizer.lr)
                seeds.add((recipe.seed, stage))
    assert len({seed for seed, _ in seeds}) == 2 * len(STAGES)


def test_a_floor_is_missed_below_it_alone() -> None:
    scores = {name: least for name, (_, least) in FLOORS.items()}
    assert missed(scores) == []
    assert missed(scores | {"nano/ocr": 0.499, "nano/vqa": float("nan")}) == ["nano/ocr", "nano/vqa"]


def test_two_ranks_are_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []
    monkeypatch.setattr(command, "_wait", lambda words, **env: commands.append((words, env)) or 0)
    command.speedrun(["batch=2"], size="pico", seed=3, limit=7)
    [(launch, env)] = commands
    parsed = parse_args(launch[3:])
    assert (parsed.nproc_per_node, parsed.module, parsed.training_script) == ("2", True, "openpali_lab")
    assert parsed.training_script_args == ["speedrun", "batch=2", "--size", "pico", "--seed", "3", "--limit", "7"]
    assert env == {"OMP_NUM_THREADS": "1"}


def test_ctrl_c_is_left_to_the_ranks_which_write_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter([KeyboardInterrupt, KeyboardInterrupt, 1])

    def wait(process: object, timeout: float | None = None) -> int:
        if (end := next(ends, 1)) is KeyboardInterrupt:
            raise KeyboardInterrupt
        return end

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    assert command._wait(["true"]) == 1
    assert next(ends, None) is None


def test_make_builds_the_data_sets_and_runs_it() -> None:
    asked = ["make", "-n", "--no-print-directory", "speedrun", "SPEEDRUN=--size pico"]  # make may run this test
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"for name in stamps clipart nano-vocabulary; do \S*openpali data build \$name", told)
    assert told.splitlines()[-1].endswith("python -m openpali_lab speedrun --size pico")


def test_the_page_has_the_floors_and_the_dial() -> None:
    for name, (score, least) in FLOORS.items():
        assert f"| `{name}` | `{score}` | {least:.2f} |" in TEXT
    for name, size in SIZES.items():
        assert f"| `{name}` | `{size.preset}` | x {size.samples:g} | x {size.rate:g} |" in TEXT
    assert all(f"recipes/speedrun/{stage}.toml" in TEXT for stage in STAGES)
