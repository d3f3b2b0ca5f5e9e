"""What a study says is checked before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openpali.train.load import load_recipe
from openpali_lab.study.runs import plan_study
from openpali_lab.study.spec import load_study

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "recipes" / "study"
TABLE1 = RECIPES / "table1.toml"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=[1, 1]", r"seeds = \[1, 1\]: name each once"),
        ("seeds=[2]", r"arms\.siglip, then classify\.seeds: 1 is not one of seeds = \[2\]"),
        ("compared=classify", "baseline and compared are both 'classify': name two arms"),
        ("name=my study", "'my study' becomes a folder's name: use letters, digits"),
        ("name=../table1", r"'\.\./table1' becomes a folder's name"),
        ("columns.3.task=vqa", "column questions: nano/vqa has its own source, task and options: leave them out"),
        ("columns.3.source=nano/scene", "column questions: nano/vqa has its own source"),
        ("columns.5.task=orc", "unknown task 'orc'; did you mean 'ocr'"),
        ("columns.5.task=", "give either a benchmark, or a source with its task"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_study(TABLE1, [override])


def test_a_study_is_no_recipe() -> None:
    for load, path, kind, fix in (
        (load_study, ROOT / "recipes" / "transfer" / "vqa.toml", ValueError, "use openpali train$"),
        (load_recipe, TABLE1, ValueError, "use openpali study$"),
        (load_study, RECIPES / "tabel1.toml", FileNotFoundError, "did you mean .*table1"),
        (load_study, Path("nowhere/vqa"), FileNotFoundError, "those of the package are in .*study$"),
    ):
        with pytest.raises(kind, match=fix):
            load(path)


@pytest.mark.parametrize(
    ("own", "override", "message"),
    [
        ([], "seed=5", "seed of each recipe is given by the study: leave it out, or change seeds or name there"),
        (['sizes.nano=["name=mine"]'], "batch=64", "name of each recipe is given by the study"),
        ([], 'model.init={"" = "nano/pali"}', 'recipe classify: model.init has "", a whole model'),
    ],
)
def test_recipes_have_what_the_study_gives_them(own: list[str], override: str, message: str) -> None:
    study = load_study(TABLE1, own)
    with pytest.raises(ValueError, match=message):
        plan_study(study, RECIPES, [override])


def test_the_documented_line_with_other_values_runs(openpali, tmp_path: Path, monkeypatch) -> None:
    line = re.search(r"`openpali study FILE (.*?)`", (ROOT / "docs" / "study.md").read_text("utf-8"))
    assert line
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    assert len(openpali("study", TABLE1, *line[1].split(), "--list").splitlines()) == 6
