"""A run takes over from its start model: shapes, tokenizer, dialect, mask codec, and the options of each task."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import make_recipe, train_and_kill

from openpali.architectures.facts import Facts
from openpali.architectures.mask_vqvae import MaskVQVAEArchitecture
from openpali.architectures.pali import PRESETS
from openpali.architectures.paligemma import PaliGemmaArchitecture
from openpali.architectures.registry import build
from openpali.data.media.images import Preprocess
from openpali.infer.pali import Pali
from openpali.model.init import init_weights
from openpali.tasks.dialects import PALI3
from openpali.tasks.registry import get_task
from openpali.train.evals import open_evaluations
from openpali.train.load import load_recipe, parse_recipe, read_record
from openpali.train.phases import open_phases, task_options, training_terms
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import as_toml
from openpali.train.start import inherit
from openpali.weights.adapters import read_adapter
from openpali.weights.bundle import mask_codec_of
from openpali.weights.format import BUNDLE, open_model
from openpali.weights.write import write_model

PICO = PRESETS["pico"]
KNOWN = {"detect": {"bins": 16, "order": "reading"}, "vqa": {}, "refseg": {"bins": 16}}
DETECT = {"source": "nano/scene", "task": "detect"}
REFSEG = {"source": "nano/scene", "task": "refseg", "options": {"expressions": True}}
UNNAMED = {"model__preset": "", "model__tokenizer": "", "max_target": 160, "phases__0__samples": 8}


@pytest.fixture
def start(tmp_path, tokenizer) -> str:
    """A model that knows three tasks, in a bundle with a mask VQ-VAE."""
    bundle = tmp_path / "bundle"
    size = PICO.vision.image_size
    shape = dataclasses.replace(PICO.text, vocab_size=tokenizer.vocab_size)
    config = dataclasses.replace(PICO, text=shape)
    _write(bundle / "pali", config, preprocess=Preprocess(*size), tokenizer=tokenizer, facts=Facts(tasks=KNOWN))
    _write(bundle / "masks", MaskVQVAEArchitecture.presets["pico"], preprocess=None, tokenizer=None)
    (bundle / BUNDLE).write_text(json.dumps({"parts": {"pali": "pali", "mask_vqvae": "masks"}, "tasks": {}}))
    return str(bundle / "pali")


def test_a_whole_start_model_comes_before_its_parts(make_trainer: Any) -> None:
    runs = [make_trainer(make_recipe(seed=seed, phases__0__samples=4), f"{seed}").train() for seed in (1, 2)]
    init = {"vit": str(runs[1]), "": str(runs[0])}  # as a recipe has it that extends one with a part
    recipe = make_recipe(model__init=init, phases__0__samples=4, optimizer__lr=1e-12)
    trained = open_model(make_trainer(inherit(recipe), "mine").train()).weights()
    whole, part = (open_model(run).weights() for run in runs)
    for name, value in trained.items():
        start = (part if name.startswith("vit.") else whole)[name]
        torch.testing.assert_close(value, start, rtol=0, atol=1e-9)
    assert not torch.equal(part["vit.positions"], whole["vit.positions"])


def test_a_scaled_or_printed_recipe_inherits_the_loss_too(make_trainer: Any, tmp_path: Path) -> None:
    begun = make_trainer(make_recipe("siglip", softmax=True, phases__0__samples=4), "begun").train()
    recipe = make_recipe("siglip", model={"init": {"": str(begun)}})
    file = tmp_path / "mine.toml"
    file.write_text(as_toml(recipe.model_dump(exclude_unset=True)), "utf-8")
    scaled = load_recipe(file, ["scale=0.5"])
    assert scaled.samples == 12
    assert inherit(scaled).softmax


def test_the_loss_is_the_start_models(make_trainer: Any) -> None:
    """A bias of the sigmoid that was never trained is not used all at once; also when the run goes on."""
    begun = make_trainer(make_recipe("siglip", softmax=True, phases__0__samples=4), "begun").train()
    unnamed = {"model__init": {"": str(begun)}, "model__preset": "", "model__tokenizer": ""}
    recipe = inherit(make_recipe("siglip", **unnamed))
    assert recipe.softmax
    run = make_trainer(recipe, "more").train().parent
    assert inherit(make_recipe("siglip", **unnamed), run) == recipe
    assert open_model(run / "model").facts.softmax


def _write(folder: Path, config: Any, **other: Any) -> None:
    write_model(folder, init_weights(build(config)).state_dict(), config, **other)


def rewrite_facts(folder: str, **facts: Any) -> None:
    config = Path(folder) / "config.json"
    described = json.loads(config.read_text())
    described["facts"] |= facts
    config.write_text(json.dumps(described))


Tune = Callable[..., Recipe]


@pytest.fixture
def tune(start) -> Tune:
    """A recipe that starts from the model, and names neither shapes nor tokenizer."""

    def recipe(entry: dict[str, Any], **changes: Any) -> Recipe:
        return make_recipe(**{**UNNAMED, "model__init": {"": start}, "phases__0__mixture": [entry], **changes})

    return recipe


def test_detection_trains_evaluates_and_answers_in_the_bins_of_the_start_model(
    tune, start, tokenizer, make_trainer, tmp_path
) -> None:
    evals = [{**DETECT, "every": 8, "limit": 1}, {"benchmark": "nano/detect", "every": 8, "limit": 1}]
    recipe = inherit(tune(DETECT, evals=evals))
    [phase] = open_phases(recipe, tokenizer)
    evaluated = [evaluator.task for each in open_evaluations(recipe, tokenizer) for evaluator in each.evaluators]
    tasks = [phase.entries[0].task, *training_terms(recipe, tokenizer, "nano/scene").tasks, *evaluated]
    assert {task.bins for task in tasks} == {16}
    assert len(tasks) == 6
    make_trainer(recipe.model_copy(update={"evals": []})).train()
    assert Pali.from_pretrained(tmp_path / "run").task("detect") == get_task("detect", **KNOWN["detect"])


def test_what_a_run_does_not_train_stays_as_the_start_model_knew_it(tune, make_trainer, tmp_path) -> None:
    vqa = {"source": "easy-vqa", "task": "vqa", "options": {"split": "train"}}
    recipe = inherit(tune(vqa))
    trainer = make_trainer(recipe)
    assert trainer.objective.evaluated(sharded=False).task("detect").bins == 16
    trainer.train()
    pali = Pali.from_pretrained(tmp_path / "run")
    assert open_model(tmp_path / "run" / "model").facts.tasks == KNOWN
    assert pali.task("detect").bins == 16
    assert pali.task("refseg").masks is not None  # the run's own folder has none


def test_an_option_that_the_recipe_names_counts(tune) -> None:
    entries = [{**DETECT, "task_options": {"bins": 1000, "max_names": 2}}, {**DETECT, "weight": 2.0}]
    recipe = inherit(tune({}, phases__0__mixture=entries))
    assert [entry.task_options["bins"] for entry in recipe.phases[0].mixture] == [1000, 16]
    assert task_options(recipe)["detect"] == {"order": "reading"}  # of two entries what they agree on


def test_a_complete_recipe_inherits_nothing_more(tune, tmp_path) -> None:
    recipe = inherit(tune(DETECT))
    assert inherit(recipe) == recipe
    assert read_record(recipe.model_dump_json()) == recipe
    assert parse_recipe(tomllib.loads(as_toml(recipe.model_dump()))) == recipe
    alone = make_recipe()
    assert inherit(alone, tmp_path) == alone


def test_the_dialect_is_the_start_models(tune, start, tokenizer, make_trainer, tmp_path, monkeypatch) -> None:
    other = dataclasses.replace(PALI3, name="other", prompts={**PALI3.prompts, "detect": "find {text}"})
    monkeypatch.setattr(PaliGemmaArchitecture, "dialect", other)
    rewrite_facts(start, dialect="other")
    recipe = inherit(tune(DETECT, evals=[{**DETECT, "every": 8, "limit": 1}]))
    trained, evaluated = open_phases(recipe, tokenizer)[0].entries[0], open_evaluations(recipe, tokenizer)[0]
    tasks = [trained.task, *training_terms(recipe, tokenizer, "nano/scene").tasks, evaluated.evaluators[0].task]
    assert [task.ask("cup") for task in tasks] == ["find cup"] * 3
    trainer = make_trainer(recipe.model_copy(update={"evals": []}))
    assert trainer.objective.evaluated(sharded=False).dialect == other
    trainer.train()
    assert Pali.from_pretrained(tmp_path / "run").task("detect").ask("cup") == "find cup"
    assert inherit(tune(DETECT, model__dialect="pali3")).model.dialect == "pali3"


def test_the_mask_codec_is_the_start_models(tune, start, tokenizer) -> None:
    recipe = inherit(tune(REFSEG))
    task = open_phases(recipe, tokenizer)[0].entries[0].task
    assert (task.bins, task.masks is None) == (16, False)
    assert mask_codec_of(Path(start).parent) == mask_codec_of(Path(start)) == str(Path(start).parent / "masks")


@pytest.mark.parametrize("where", ["phases.0.mixture.0", "evals.0"])
def test_masks_without_a_codec_are_an_error_that_names_the_key(where, tune, start) -> None:
    (Path(start).parent / BUNDLE).unlink()
    entry, evals = (REFSEG, []) if where.startswith("phases") else (DETECT, [{**REFSEG, "every": 8}])
    for recipe in (tune(entry, evals=evals), make_recipe(phases__0__mixture=[entry], evals=evals)):
        with pytest.raises(
            ValueError, match=rf"^{where}: task refseg needs a mask VQ-VAE: set model.masks to one, "
        ):
            inherit(recipe)


def test_a_run_resumes_as_it_began_whatever_its_start_model_says(tune, start, make_trainer, tmp_path) -> None:
    named = tune(DETECT, save_minutes=1e-9)
    train_and_kill(make_trainer(inherit(named, tmp_path / "run")), 2)
    rewrite_facts(start, tasks={"detect": {"bins": 8}})
    make_trainer(inherit(named, tmp_path / "run")).train()
    assert open_model(tmp_path / "run" / "model").facts.tasks["detect"]["bins"] == 16


def test_a_bundle_starts_a_run_with_its_main_part(tune, start, make_trainer) -> None:
    bundle = str(Path(start).parent)
    recipe = inherit(tune(DETECT, model__init={"": bundle}, model__lora={"rank": 2}))
    ours, theirs = recipe.model, inherit(tune(DETECT)).model
    assert (ours.preset, ours.tokenizer, ours.masks, ours.knows) == (start, start, theirs.masks, theirs.knows)
    assert read_adapter(make_trainer(recipe).train()).base == start


def test_a_start_model_that_is_not_here(tune) -> None:
    later = make_recipe(model__init={"": "nowhere"})
    assert inherit(later) == later
    with pytest.raises(FileNotFoundError):
        inherit(tune(DETECT, model__init={"": "nowhere"}))
    with pytest.raises(ValueError, match=r"^model.preset is missing: name it, or a model"):
        make_recipe(**UNNAMED, model__init={"vit": "nowhere"})


def test_the_recipes_for_ones_own_data_name_no_more_than_their_start_model() -> None:
    file = Path(__file__).parents[2] / "recipes" / "transfer" / "refseg.toml"
    recipe = inherit(load_recipe(file))
    assert recipe.model.preset == recipe.model.tokenizer == "nano/pali"
    assert recipe.model.masks == "nano/mask_vqvae"
    assert recipe.phases[0].mixture[0].task_options == {"bins": 48}


def test_classes_are_the_labels_of_ones_own_source(tune, tmp_path, start) -> None:
    rewrite_facts(start, tasks={"classify": {"labels": ["of another", "data set"], "question": "which style?"}})
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"label": label}) + "\n" for label in ("fauvism", " cubism", "fauvism")))
    entry = {"source": str(path), "task": "classify"}
    complete = inherit(tune(entry))
    assert task_options(complete)["classify"] == {"labels": ["cubism", "fauvism"], "question": "which style?"}
    assert inherit(complete) == complete
    named = inherit(tune({**entry, "task_options": {"labels": ["fauvism"]}}))
    assert task_options(named)["classify"]["labels"] == ["fauvism"]
    inherit(tune({**entry, "source": "later.jsonl"}))  # training it will say that there is no such file
