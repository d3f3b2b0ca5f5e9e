"""The recipes in the package: all of the repository's, by name, each printed as a file that stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from openpali.tasks.registry import TASKS
from openpali.train.load import load_recipe, recipe_text
from openpali.train.objectives.sequence import SequenceRecipe
from openpali.train.recipe_file import describe_recipe, shipped_recipes
from openpali.weights.find import find_model

ROOT = Path(__file__).parents[2] / "recipes"


def test_the_package_has_the_recipes_of_the_repository() -> None:
    ours = [path for path in ROOT.glob("*/*.toml") if path.stem != "bundle" and path.parent.name != "study"]
    ours += (ROOT / "transfer").glob("*/*.toml")
    assert {path.resolve() for path in shipped_recipes().values()} == {path.resolve() for path in ours}
    assert all(map(describe_recipe, ours))
    assert {"detect", "nano/3_video", "paligemma/refcoco_seg"} <= shipped_recipes().keys()


def test_a_model_that_is_missing_names_the_recipe_that_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    masks = "nano/0c_mask_vqvae"
    for name, fix in (
        (masks, f"`openpali explain --source {masks}` prints"),
        ("transfer/vqa", "finished run$"),  # its runs are called mine-vqa
    ):
        with pytest.raises(FileNotFoundError, match=fix):
            find_model(name)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_printed_recipe_stands_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(recipe_text(name), "utf-8")
    mine, shipped = load_recipe(tmp_path / "mine.toml"), load_recipe(shipped_recipes()[name])
    assert mine == shipped
    assert mine.model_fields_set <= shipped.model_fields_set  # what it does not name may be inherited


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if "/" not in name])
def test_a_recipe_for_ones_own_data_says_its_task_once_and_keeps_the_best(name: str) -> None:
    assert "extends" not in (text := recipe_text(name))
    assert text.startswith("# Fine-tune ")
    recipe = load_recipe(ROOT / "transfer" / f"{name}.toml")
    assert isinstance(recipe, SequenceRecipe)
    [entry], [held_out] = recipe.phases[0].mixture, recipe.evals
    assert (recipe.name, entry.source, held_out.source) == (
        f"mine-{name}", "mine-train.jsonl", "mine-validation.jsonl",
    )  # fmt: skip
    assert entry.task == held_out.task == {"video": "video_qa", "line": "ocr"}.get(name, name)
    assert entry.task in TASKS
    frozen = [] if name == "line" else ["vit"]  # the encoder of lines has seen print alone
    assert (recipe.model.frozen, recipe.keep_best.partition("/")[0]) == (frozen, held_out.name)


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    for name, fix in (("detct", "did you mean 'detect'"), ("nope", r"the nearest of \d+ are: [^,]+(, [^,]+){4}$")):
        with pytest.raises(ValueError, match=fix):
            recipe_text(name)
