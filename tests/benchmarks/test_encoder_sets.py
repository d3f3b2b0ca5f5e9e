"""Retrieval and few-shot read their official layouts and run by the real command."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from official_layouts import ANSWERING, XM_LANGUAGES, fewshot

from openpali.data.media.images import load_image
from openpali.eval.benchmark import SeenSamples
from openpali.eval.registry import find_benchmark
from openpali_lab.benchmarks.fewshot import DATA_SETS

WRITERS = {
    "xm3600-retrieval": ANSWERING["xm3600"],
    "fewshot": fewshot,
}
SCORED = {"xm3600-retrieval": 3, "fewshot": 30}  # that are scored


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    for name, root in roots.items():
        WRITERS[name](root)
    return roots


@pytest.mark.parametrize("name", list(WRITERS))
def test_runs_by_the_command(openpali, name: str, roots: dict[str, Path], bundle: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    openpali("eval", name, "--model", bundle, "--data", roots[name], "--json", card)
    written = json.loads(card.read_text("utf-8"))
    scores = written["scores"]
    assert written["n"] == written["data"]["of"] == SCORED[name]
    assert written["data"]["hash"] != SeenSamples().hash
    assert find_benchmark(name).metric in written["intervals"]
    assert written["prompt"] or "pooling" in written["preprocessing"]["siglip"]
    assert find_benchmark(name).metric in scores
    assert all(0 <= value <= 1 for value in scores.values())
    if name == "fewshot":  # even untrained features separate dark from bright images
        assert scores[find_benchmark(name).metric] > 0.8
        assert {f"acc/5-shot/{each.name}" for each in DATA_SETS} <= set(scores)
    if name == "xm3600-retrieval":
        assert {f"txt2img_recall@1/{lang}" for lang in XM_LANGUAGES} <= set(scores)
        assert scores["first/img2txt_recall@1"] <= scores["img2txt_recall@1"]


def test_a_limit_is_also_on_the_images_to_train_on(
    openpali, roots: dict[str, Path], bundle: Path, tmp_path: Path
) -> None:
    card, name, sets = tmp_path / "card.json", "fewshot", len(DATA_SETS)
    openpali("eval", name, "--model", bundle, "--data", roots[name], "--json", card, "--limit", 2)
    written = json.loads(card.read_text("utf-8"))
    assert written["data"]["train"] == 2 * sets < written["data"]["train_of"]  # one of each of two classes
    assert f"probes were trained on {2 * sets} of" in written["note"]


@pytest.mark.parametrize("name", list(WRITERS))
def test_what_is_missing_is_reported(
    openpali, name: str, roots: dict[str, Path], bundle: Path, tmp_path: Path
) -> None:
    code = openpali("eval", name, "--model", bundle, "--data", tmp_path, fails=True)
    assert str(tmp_path) in code
    assert "get it at http" in code
    assert "\n" not in code


def test_splits_of_the_eight(roots: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(roots["fewshot"], root)
    for each in DATA_SETS:
        train, test = each.open(root)
        assert len(train.labels) == len(train.images) > 0
        assert set(train.labels) == set(test.labels)
        assert len(set(train.labels)) == 2
        bright = {label: [] for label in train.labels}
        for load, label in zip([*train.images, *test.images], [*train.labels, *test.labels], strict=True):
            bright[label].append(load().mean() > 125)
        assert sorted(map(tuple, (set(v) for v in bright.values()))) == [(False,), (True,)], each.name
        shutil.rmtree(root / each.layout[0].split("/")[0])
        with pytest.raises(FileNotFoundError):
            each.open(root)


def test_split_by_hash_does_not_depend_on_the_order_of_files(roots: dict[str, Path], tmp_path: Path) -> None:
    uc_merced = next(each for each in DATA_SETS if each.name == "uc_merced")
    copy = tmp_path / "uc_merced"
    for path in reversed(sorted((roots["fewshot"] / "uc_merced").rglob("*.tif"))):
        target = copy / path.relative_to(roots["fewshot"] / "uc_merced")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    one, other = (uc_merced.open(root)[0] for root in (roots["fewshot"], tmp_path))
    assert [(a() == b()).all() for a, b in zip(one.images, other.images, strict=True)] == [True] * 4
    names = [f"image_{i:04d}.tif" for i in range(4)]
    names.sort(key=lambda name: hashlib.sha256(f"bright/{name}".encode()).digest())
    expected = [load_image(copy / "UCMerced_LandUse" / "Images" / "bright" / name) for name in names[:2]]
    assert [(load() == image).all() for load, image in zip(one.images, expected, strict=False)] == [True] * 2
