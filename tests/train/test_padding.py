"""Texts of a SigLIP are normalised and padded as in its start model: in training, in evaluation, and in the trained
model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import make_recipe

from openpali.architectures.facts import Facts
from openpali.architectures.registry import build
from openpali.architectures.siglip.architecture import PRESETS
from openpali.data.media.images import Preprocess
from openpali.infer.pali import Pali
from openpali.model.init import init_weights
from openpali.text.tokenizer import Tokenizer
from openpali.train.recipe import Recipe
from openpali.train.start import inherit
from openpali.weights.write import write_model

TEXTS = ["a small red horse", "two BLUE stars", "one dog", ""]


@pytest.fixture
def start(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., Path]:
    """Writes a SigLIP with these facts, as ``openpali convert`` does; returns its folder."""

    def write(**facts: Any) -> Path:
        shape = PRESETS["pico"]
        config = dataclasses.replace(shape, text=dataclasses.replace(shape.text, vocab_size=tokenizer.vocab_size))
        weights, preprocess = init_weights(build(config)).state_dict(), Preprocess(*shape.vision.image_size)
        folder = tmp_path / "start"
        write_model(folder, weights, config, preprocess=preprocess, tokenizer=tokenizer, facts=Facts(**facts))
        return folder

    return write


def tune(start: Path, **changes: Any) -> Recipe:
    """A recipe that starts from a SigLIP; each image may have several objects, for the region loss."""
    named = {"model__init": {"": str(start)}, "model__preset": "", "model__tokenizer": ""}
    mixture = [{"source": "nano/scene", "task": "contrastive"}]
    return make_recipe(
        "siglip", phases=[{"samples": 8, "size": 72, "mixture": mixture}], regions=1.0, **(named | changes)
    )


def seen_by(trainer: Any) -> np.ndarray:
    """Token ids of the texts and names that training sees; trains."""
    seen, losses = [], trainer.objective.losses

    def spy(batch: Any, total: float) -> Any:
        seen.extend([batch["ids"].numpy().copy(), batch["names"].numpy().copy()])
        return losses(batch, total)

    trainer.objective.losses = spy
    trainer.train()
    return np.concatenate(seen)


def test_a_run_pads_as_its_start_model_and_so_does_what_it_writes(
    start: Any, make_trainer: Any, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    folder = start(padding="pad")
    recipe = inherit(tune(folder))
    trainer = make_trainer(recipe)
    theirs = Pali(folder).embedding._encoder
    assert theirs.text("one dog")[-1] == tokenizer.pad_id
    seen = seen_by(trainer)
    written = {text for text in (tokenizer.decode(ids) for ids in seen)}
    known = {text: theirs.text(text).tolist() for text in written}
    assert len(known) > 8
    assert all(ids.tolist() == known[tokenizer.decode(ids)] for ids in seen)

    run = tmp_path / "run" / "model"
    assert json.loads((run / "config.json").read_text())["facts"]["padding"] == "pad"
    evaluated, ours = trainer.objective.evaluated(sharded=False), Pali(run)
    for text in TEXTS:
        ids = theirs.text(text).tolist()
        assert evaluated._encoder.text(text).tolist() == ours.embedding._encoder.text(text).tolist() == ids
    np.testing.assert_allclose(ours.embed_text(TEXTS), evaluated.embed_text(TEXTS), atol=1e-6)
    again = inherit(tune(run))
    assert again.model.padding == "pad"


def test_texts_of_other_runs_are_padded_with_eos(start: Any, make_trainer: Any, tmp_path: Path) -> None:
    """Of those that start from the first SigLIP, from nothing, or from SigLIP 2 with a recipe that says so."""
    first = start(text_normalisation="canonical")
    recipes = [
        inherit(tune(first)),
        tune(first, model__init={}, model__preset="pico", model__tokenizer="nano-vocabulary"),
    ]
    for number, recipe in enumerate(recipes):
        assert recipe.model.padding == ""
        trainer = make_trainer(recipe, f"{number}")
        seen = seen_by(trainer)
        assert (seen[:, -1] == trainer.tokenizer.eos_id).all()
        described = json.loads((tmp_path / f"{number}" / "model" / "config.json").read_text())
        assert "padding" not in described["facts"]
        assert described["facts"].get("text_normalisation", "lower") == ("canonical", "lower")[number]
    named = inherit(tune(start(padding="pad"), model__padding="eos"))
    assert make_trainer(named, "named").objective.encoder.padding == named.model.padding == "eos"


@pytest.mark.parametrize(
    ("theirs", "changes", "expected"),
    [
        ("canonical", {}, "a star"),
        ("as is", {}, "A STAR!"),
        ("lower", {}, "a star!"),
        ("canonical", {"keep_case": True}, "A STAR!"),
        ("canonical", {"model__text_normalisation": "lower"}, "a star!"),
    ],
)
def test_texts_are_normalised_as_by_the_start_model(
    theirs: str, changes: Any, expected: str, start: Any, make_trainer: Any, tokenizer: Tokenizer
) -> None:
    trainer = make_trainer(inherit(tune(start(text_normalisation=theirs), **changes)))
    encoder = trainer.objective.encoder
    written = tokenizer.decode([i for i in encoder.text("A STAR!") if i != tokenizer.eos_id])
    assert written == expected
    facts = Facts(**trainer.objective.facts(), recipe=trainer.recipe.model_dump())
    assert facts.normalisation == encoder.normalisation
