"""Values that objectives report beside their loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import make_recipe

from openpali.data.pipeline.stream import load
from openpali.data.validate import validate
from openpali.infer.pipeline import Pipeline
from openpali.model.losses import Embeddings
from openpali.train.objectives.registry import build_objective
from openpali.train.objectives.siglip import hits
from openpali.train.phases import class_names, describe_phases, open_phases, training_terms


def test_hits_are_the_same_in_chunks_and_have_no_gradient() -> None:
    torch.manual_seed(0)
    image = F.normalize(torch.randn(7, 4, requires_grad=True), dim=1)
    text = image[[0, 1, 2, 4, 3, 5, 6]]
    for chunk in (1, 3, 1024):
        found = hits(Embeddings(image, text, torch.zeros(1), torch.zeros(1)), chunk)
        assert found.tolist() == [True, True, True, False, False, True, True]
        assert not found.requires_grad


def test_a_tokenizer_that_pads_otherwise_than_the_model_is_refused(tokenizer, monkeypatch) -> None:
    recipe = make_recipe()
    model = build_objective(recipe, tokenizer).model
    assert all(p.is_meta for p in model.parameters())  # nobody pays for weights that are read or drawn later
    monkeypatch.setattr(tokenizer, "pad_id", 3)
    for make in (lambda: build_objective(recipe, tokenizer), lambda: Pipeline(model, tokenizer, None)):
        with pytest.raises(ValueError, match="pads with id 3"):
            make()


def test_the_classes_of_a_mixture_are_those_of_all_its_entries(tokenizer) -> None:
    lines = [
        {"source": "nano/scene", "task": "classify", "task_options": {"of": "object"}},
        {"source": "nano/word", "task": "classify", "task_options": {"label": "text"}},
    ]
    names = class_names(open_phases(make_recipe("classify", phases__0__mixture=lines), tokenizer))
    assert len(names) == 129
    assert {"text", "red circle"} <= set(names)
    assert names == sorted(names)
    lines[0]["task_options"]["groups"] = {"red": ["red circle", "red square"]}
    grouped = class_names(open_phases(make_recipe("classify", phases__0__mixture=lines), tokenizer))
    assert set(grouped) == {*names, "red"} - {"red circle", "red square"}
    lines[0]["task_options"]["groups"] = {"red": ["red circel"]}
    with pytest.raises(ValueError, match=r"groups have 'red circel', .*; did you mean 'red circle'"):
        class_names(open_phases(make_recipe("classify", phases__0__mixture=lines), tokenizer))
    categories = class_names(open_phases(make_recipe("classify"), tokenizer))
    assert categories[0].startswith("shapes/")


def test_a_source_that_is_drawn_too_often_is_named(tmp_path, tokenizer) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"images": "a.png", "caption": "a"}\n')
    for samples, count in ((24, 0), (28, 1)):
        recipe = make_recipe(
            phases__0__mixture=[{"source": str(path), "task": "caption"}], phases__0__samples=samples
        )
        lines = [*describe_phases(recipe, open_phases(recipe, tokenizer))]
        assert sum("mostly overfit" in line for line in lines) == count


def test_the_loss_of_places_ends_in_a_run_that_reads(make_trainer) -> None:
    totals: list[list[float]] = []
    for placing, until in ((1.0, 0.5), (1.0, 1.0), (0.0, 1.0)):
        trainer = make_trainer(make_recipe("read", placing=placing, placing_until=until), f"{placing}-{until}")
        [[group]] = [next(iter(load(trainer.stream, start=0, batch=4, workers=0)))]
        steps = []
        for step in (0, 2, 3, 5):  # of six
            trainer.objective.begin_step(step)
            steps.append(trainer.objective.losses(group.batch, 4.0).total.item())
        totals.append(steps)
    ends, stays, never = totals
    assert ends == [*stays[:2], *never[2:]]
    assert stays[0] > never[0]


def test_pages_are_checked_as_recipes_of_pages_use_them(tiny_home, tokenizer) -> None:
    terms = training_terms(make_recipe("find"), tokenizer, "pages/tiny")
    found = validate("pages/tiny", terms)
    assert found.checked == 6
    assert found.feeds == {}
    assert "unusable" not in found.problems
    assert validate("nano/scene", terms, limit=3).problems["unusable"] == 3  # neither lines nor a text
