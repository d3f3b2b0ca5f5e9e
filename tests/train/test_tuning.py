"""Which recipe fine-tunes on which samples, and how long."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openpali.cli.tune import asking, held_out_share
from openpali.data.media.images import Preprocess
from openpali.tasks.example import Example
from openpali.train.load import load_recipe, parse_recipe
from openpali.train.objectives.sequence import SequenceRecipe
from openpali.train.phases import MANY_EPOCHS
from openpali.train.recipe import Recipe
from openpali.train.recipe_file import as_toml
from openpali.train.tuning import RECIPES, following, length_for, tuning
from openpali.weights.bundle import main_part
from openpali.weights.format import open_model


def samples(height: int, width: int, text: str = "12.5", count: int = 50) -> Sequence[Example]:
    return [Example(str(i), [np.zeros((height, width, 3), np.uint8)], text=text) for i in range(count)]


@pytest.mark.parametrize(
    ("source", "start"),
    [
        (samples(40, 90), "nano/line"),
        (samples(60, 600), "nano/line"),
        (samples(100, 128), "nano/pali"),
        (samples(40, 90, "two\nlines"), "nano/pali"),
        ([*samples(40, 90), *samples(90, 90, count=60)], "nano/pali"),
    ],
)
def test_lines_of_text_start_from_the_reader_of_lines(source: Sequence[Example], start: str) -> None:
    recipe = parse_recipe(tuning("mine-ocr", "ocr", "a.jsonl", "b.jsonl", source).recipe)
    assert isinstance(recipe, SequenceRecipe)
    assert recipe.model.start == start


@pytest.mark.parametrize(("count", "share"), [(3, 0.25), (33, 0.25), (100, 0.2), (200, 0.1), (5000, 0.1)])
def test_of_few_samples_more_are_held_out(count: int, share: float) -> None:
    assert held_out_share(count) == share


class Damaged(list[Example]):
    """Of which the first cannot be read."""

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if index == 0:
            raise ValueError("0.png is damaged")
        return super().__getitem__(index)


def test_a_damaged_image_is_left_to_training() -> None:
    for damaged, start in (
        (Damaged(samples(40, 90)), "nano/line"),
        (Damaged(samples(40, 90, count=1)), "nano/pali"),
    ):
        recipe = parse_recipe(tuning("mine-ocr", "ocr", "a.jsonl", "b.jsonl", damaged).recipe)
        assert isinstance(recipe, SequenceRecipe)
        assert recipe.model.start == start


@pytest.mark.parametrize("task", RECIPES)
def test_each_task_has_a_recipe_that_trains_and_evaluates_it(task: str) -> None:
    recipe = parse_recipe(tuning("mine", task, "a.jsonl", "b.jsonl", samples(40, 40)).recipe)
    assert isinstance(recipe, SequenceRecipe)
    [entry], [held_out] = recipe.phases[0].mixture, recipe.evals
    assert (entry.task, entry.source, held_out.task, held_out.source) == (task, "a.jsonl", task, "b.jsonl")
    assert held_out.every * 5 - recipe.samples in range(5 * recipe.batch)


def test_a_task_without_a_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError):
        tuning("mine", "object_vqa", "a.jsonl", "b.jsonl", samples(40, 40))


def test_few_samples_are_drawn_often_and_many_once() -> None:
    counts = [10, 100, 160, 800, 2_000, 9_600, 40_000, 200_000]
    lengths = [length_for(count, 3_200) for count in counts]
    assert lengths == [200, 2_000, 3_200, 3_200, 8_000, 38_400, 40_000, 200_000]
    assert max(length / count for length, count in zip(lengths, counts, strict=True)) < MANY_EPOCHS


def loaded(tmp_path: Path, task: str, *overrides: str) -> Recipe:
    path = tmp_path / "mine.toml"
    path.write_text(as_toml(tuning("mine", task, "a.jsonl", "b.jsonl", samples(40, 40)).recipe), "utf-8")
    usual, changed = load_recipe(path), load_recipe(path, overrides)
    return load_recipe(path, [*overrides, *following(usual, changed, overrides)])


def test_another_start_model_brings_its_resolution(tmp_path: Path, bundle: Path) -> None:
    start = f'model.init={{"" = "{bundle}"}}'
    preprocess = open_model(main_part(bundle)).preprocess
    assert isinstance(preprocess, Preprocess)
    assert loaded(tmp_path, "vqa").phases[0].size == 144
    assert loaded(tmp_path, "vqa", start).phases[0].pixels == (preprocess.height, preprocess.width) != (144, 144)
    assert loaded(tmp_path, "vqa", start, "phases.0.size=96").phases[0].size == 96


def test_held_out_videos_have_the_frames_of_training(tmp_path: Path) -> None:
    frames = "phases.0.mixture.0.options={frames = 4, stride = 2}"
    recipe = loaded(tmp_path, "video_qa", frames)
    assert isinstance(recipe, SequenceRecipe)
    assert recipe.evals[0].options == recipe.phases[0].mixture[0].options == {"frames": 4, "stride": 2}
    named = loaded(tmp_path, "video_qa", frames, "evals.0.options={frames = 8}")
    assert isinstance(named, SequenceRecipe)
    assert named.evals[0].options == {"frames": 8}


@pytest.mark.parametrize(
    ("options", "sampled"),
    [({}, []), ({"frames": 4}, ["--frames=4"]), ({"frames": 16, "stride": 2}, ["--frames=16", "--stride=2"])],
)
def test_the_printed_command_asks_about_as_many_frames(options: dict[str, int], sampled: list[str]) -> None:
    command = asking("video_qa", Path("run/best"), options)
    assert command == ["openpali", "predict", "--task", "video_qa", "--model", "run/best", *sampled]
