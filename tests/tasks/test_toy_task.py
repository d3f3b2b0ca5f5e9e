"""A new task is one class and one line of registration; then it trains, predicts and is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from openpali.cli.main import main
from openpali.data.sources.registry import open_source
from openpali.distributed import ALONE
from openpali.eval.benchmark import SEED, AnswerBenchmark
from openpali.eval.runner import run
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.tasks import TASKS, Sample, Task, recognise
from openpali.tasks.base import require
from openpali.tasks.example import Example
from openpali.train.load import load_recipe
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer

RECIPE = """
name = "t/toy"
objective = "sequence"
batch = 8
workers = 0
[model]
preset = "pico"
tokenizer = "nano-vocabulary"
[optimizer]
lr = 1e-2
schedule = "constant"
[[phases]]
samples = 320
size = 72
[[phases.mixture]]
source = "nano/word"
task = "first_letter"
task_options = { capital = false }
"""


@dataclass(frozen=True)
class FirstLetter(Task):
    """Name the first letter of the word in the image."""

    name: ClassVar[str] = "first_letter"
    prompt: ClassVar[str] = "First letter in {lang}: <extra_id_0>"
    max_target_tokens: ClassVar[int] = 4

    capital: bool = True

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        letter = require(example.text.strip(), example, "text")[0]
        target = letter.upper() if self.capital else letter.lower()
        return Sample(
            self.ask(lang=example.lang), target, (target,), kind="vowel" if letter in "aeiou" else "other"
        )


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, FirstLetter.name, FirstLetter)  # the one line
        yield


@pytest.fixture(scope="module")
def trained(world_with_vocabulary: Path, _registered: None) -> Path:
    folder = world_with_vocabulary / "toy"
    folder.mkdir()
    (folder / "toy.toml").write_text(RECIPE)
    recipe = load_recipe(folder / "toy.toml")
    return Trainer(recipe, folder / "run", ALONE, open_tokenizer("nano-vocabulary")).train()


def test_it_trains_and_predicts(trained: Path) -> None:
    pali = Pali.from_pretrained(trained)
    task = pali.task("first_letter")
    assert task == FirstLetter(capital=False), "the model folder keeps the options of training"
    example = open_source("nano/word", {"split": "heldout", "seed": SEED})[0]
    prompt = pali.write_prompt(task, lang="en")
    assert prompt == "First letter in en: <extra_id_0>"
    [prediction] = pali.predict([example.images], [prompt])  # the prompt says which task it is
    assert len(prediction.answer.text) == 1
    assert prediction.answer.text == prediction.answer.text.lower()


def test_it_is_evaluated(trained: Path, tmp_path: Path) -> None:
    source = open_source("nano/word", {"split": "heldout", "seed": SEED})
    benchmark = AnswerBenchmark(
        name="first-letter",
        title="First letters",
        split="held out",
        open=lambda root: source,
        task="first_letter",
        decoding=Decoding(max_tokens=FirstLetter.max_target_tokens),
    )
    done = run(benchmark, Pali.from_pretrained(trained), tmp_path, limit=16)
    right = [row.text == row.references[0] for row in done.rows]
    assert done.card.metric == "exact_match"
    assert done.card.scores["exact_match"] == np.mean(right)
    assert sum(slice_["n"] for slice_ in done.card.slices.values()) == 16
    assert done.card.prompt["options"]["capital"] is False


def test_the_command_line_knows_it(trained: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    from PIL import Image

    Image.new("RGB", (72, 72), "white").save(tmp_path / "a.png")
    arguments = ["openpali", "predict", str(tmp_path / "a.png"), "--task", "first_letter", "--model", str(trained)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out.strip()


def test_its_prompts_are_recognised_only_while_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recognise("First letter in de: <extra_id_0>") == "first_letter"
    monkeypatch.delitem(TASKS, "first_letter")
    assert recognise("First letter in de: <extra_id_0>") == "vqa"
