"""A speedrun: from nothing to a model of one's own, by the recipes in ``recipes/speedrun``.

Each stage is a run of the trainer, which resumes from its checkpoints. A log says what is done and how long it
took. Development sets show what each stage has learned; held-out sets are asked at the end alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from openpali.architectures.pali import PRESETS
from openpali.distributed import Ranks
from openpali.eval.benchmark import DEV, AnswerBenchmark
from openpali.eval.calibrate import calibrate_patches
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import run as evaluate
from openpali.home import home
from openpali.infer.pali import Pali
from openpali.progress import Show
from openpali.reports.progress import progress_bar
from openpali.tasks.detect import Detect
from openpali.train.load import load_recipe
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import as_toml, read_table
from openpali.train.run_folder import RunFolder
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.train.watch import Watch
from openpali.weights.bundle import open_tokenizer, pack_bundle
from openpali.weights.files import MAIN, SIGLIP
from openpali.weights.find import RECIPES
from openpali.whole import write_whole

STAGES = ("0_siglip", "1_multimodal", "2_all")
FLOORS = {  # benchmark -> the score that counts, and its least value for an entry in docs/speedrun.md
    "nano/retrieval": ("r@1/mean", 0.9),
    "nano/caption": ("exact/mean", 0.85),
    "nano/ocr": ("exact", 0.5),
    "nano/detect": ("f1@0.5", 0.75),
    "nano/vqa": ("acc", 0.75),
}
EMBEDS = "nano/retrieval"  # scored on stage 0
DETECTS = "nano/detect"  # scored on the packed model: patches of stage 0 detect, the decoder's part writes prompts
PACKED = "packed"
GLANCE = 100  # samples of each development set
CALIBRATED = 3 * GLANCE  # samples that the confidence in boxes is fitted on

Scores = Mapping[str, float]  # benchmark -> the score that counts


@dataclass(frozen=True)
class Size:
    """What the dial sets: width and depth, by a preset, and factors on the samples and the learning rates."""

    preset: str
    samples: float
    rate: float


SIZES = {each.preset: each for each in (Size("pico", 0.25, 1.0), Size("nano", 1.0, 1.0), Size("mini", 2.0, 0.5))}


@dataclass
class Log:
    """What a speedrun has come to, in a file that rank 0 writes.

    Attributes:
        seconds: that each part of it took, over all sittings.
        scores: by what was scored.
    """

    file: Path
    writes: bool
    seconds: dict[str, float] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the time of a part that is not scored yet."""
        began, known = time.monotonic(), part in self.scores
        try:
            yield
        finally:
            if not known:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - began
            if self.writes:
                told = {"seconds": self.seconds, "scores": self.scores}
                write_whole(self.file, f"{json.dumps(told, indent=1)}\n".encode())


@dataclass(frozen=True)
class Speedrun:
    """A speedrun of a size with a seed.

    Attributes:
        limit: held-out samples of each benchmark.
        overrides: of every recipe, after those of the size.
    """

    size: Size
    seed: int
    limit: int
    overrides: Sequence[str]

    @property
    def name(self) -> str:
        """Of its model, and of the folder of its runs."""
        return f"speedrun/{self.size.preset}-{self.seed}"

    @property
    def folder(self) -> Path:
        return home() / "runs" / self.name

    def recipe(self, stage: str) -> Recipe:
        """The recipe of a stage at this size: images have as many patches at any."""
        path = RECIPES / "speedrun" / f"{stage}.toml"
        whole = load_recipe(path)
        patch, own = (PRESETS[preset].vision.patch_size for preset in (whole.model.preset, self.size.preset))
        changes = {
            "name": f"{self.name}/{stage}",
            "seed": whole.seed + len(STAGES) * self.seed,
            "scale": self.size.samples,
            "model.preset": self.size.preset,
            "optimizer.lr": whole.optimizer.lr * self.size.rate,
            **{f"model.init.{part}": self._own(origin) for part, origin in whole.model.init.items()},
            **{f"phases.{i}.size": phase.pixels.width // patch * own for i, phase in enumerate(whole.phases)},
        }
        return load_recipe(path, [*(f"{key}={value}" for key, value in changes.items()), *self.overrides])

    def do(self, ranks: Ranks, say: Show) -> tuple[Scores, Scores, float]:
        """Do what is left of it; returns the scores of its model and of nano, and the minutes. Collective."""
        file = self.folder / "speedrun.json"
        known = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        log = Log(file, ranks.rank == 0, **ranks.gather(known)[0])
        for stage in STAGES:
            asked = [EMBEDS] if stage == STAGES[0] else [name for name in FLOORS if name not in (EMBEDS, DETECTS)]
            with log.timing(stage):
                self._train(stage, ranks)
                found = self._score(log, stage, f"{self.name}/{stage}", [n + DEV for n in asked], GLANCE, ranks)
            say(f"{stage}: {log.seconds[stage] / 60:.1f} min; {describe(found)}, of {GLANCE} development samples")
        with log.timing(PACKED):
            if ranks.rank == 0 and PACKED not in log.scores:
                self._pack()
            ranks.wait()  # for the model
            found = self._score(log, PACKED, self.name, [DETECTS + DEV], GLANCE, ranks)
        say(f"{PACKED}: {log.seconds[PACKED] / 60:.1f} min; {describe(found)}, of {GLANCE} development samples")
        held_out = f"held out, {self.limit} samples"
        with log.timing(held_out):
            ours = self._score(log, held_out, self.name, FLOORS, self.limit, ranks)
        minutes = sum(log.seconds[part] for part in (*STAGES, PACKED, held_out)) / 60
        of_nano = f"nano, {held_out}"
        with log.timing(of_nano):
            return ours, self._score(log, of_nano, "nano", FLOORS, self.limit, ranks), minutes

    def _is_trained(self, stage: str) -> bool:
        return (self.folder / stage / "model" / "config.json").is_file()

    def _train(self, stage: str, ranks: Ranks) -> None:
        folder = RunFolder(self.folder / stage)
        recipe = inherit(self.recipe(stage), folder.path)
        if self._is_trained(stage):
            folder.check_same(recipe, "choose another --seed")
        else:
            watch = Watch(quiet=ranks.rank > 0)
            Trainer(recipe, folder.path, ranks, open_tokenizer(recipe.model.tokenizer)).train(watch)
        ranks.wait()  # rank 0 writes the model

    def _score(self, log: Log, told: str, model: str, asked: Iterable[str], limit: int, ranks: Ranks) -> Scores:
        """The scores of a model, unless the log has them."""
        if told not in log.scores:
            pali, scores = Pali.from_pretrained(model, device=ranks.device), {}
            with progress_bar(quiet=ranks.rank > 0) as watch:
                for name in asked:
                    benchmark, plain = find_benchmark(name), name.removesuffix(DEV)
                    done = evaluate(benchmark, pali, home() / "data", limit=limit, ranks=ranks, watch=watch(name))
                    scores[plain] = done.card.scores[FLOORS[plain][0]]
            log.scores[told] = scores
        return log.scores[told]

    def _pack(self) -> None:
        """Join encoder and answers to one model, which says that it knows the names and languages of nano."""
        described = read_table(RECIPES / "nano" / "bundle.toml")
        parts = {MAIN: f"{self.name}/{STAGES[-1]}", SIGLIP: f"{self.name}/{STAGES[0]}"}
        known = {
            "languages": described["languages"],
            "names": described["names"],
            "parts": parts,
            "tasks": {Detect.name: SIGLIP},
        }
        write_whole(self.folder / "bundle.toml", as_toml(known).encode())
        pack_bundle(self.folder / "bundle.toml", self.folder / "model")
        detects = find_benchmark(DETECTS)
        assert isinstance(detects, AnswerBenchmark)
        assert detects.calibration
        with suppress(ValueError):  # a model that finds nothing yet has no confidence
            calibrate_patches(
                detects, Pali(self.folder / "model"), detects.calibration(home() / "data"), CALIBRATED
            )

    def _own(self, stage: str) -> str:
        """The run of this speedrun for one that a recipe names."""
        return f"{self.name}/{stage.rpartition('/')[2]}"


def describe(scores: Scores) -> str:
    return ", ".join(f"{name} {FLOORS[name][0]} {value:.3f}" for name, value in scores.items())


def missed(scores: Scores) -> list[str]:
    """The benchmarks whose floors are not met."""
    return [name for name, (_, least) in FLOORS.items() if not scores[name] >= least]
