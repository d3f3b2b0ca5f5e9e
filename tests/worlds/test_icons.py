"""Icons: names made comparable, which are learned from, drawings, and the committed set of the benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from openpali.architectures.registry import build
from openpali.cli.main import app
from openpali.data.media.images import Preprocess
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import Encoders
from openpali.model.init import materialise
from openpali.model.vit import ViTConfig
from openpali.weights.write import write_model
from openpali_lab.worlds.benchmarks.icons import REAL, name_all
from openpali_lab.worlds.builders import icons
from openpali_lab.worlds.builders.icon_names import words_of
from openpali_lab.worlds.icons import CONTRAST, SIDE, IconSource, draw, draw_colours
from openpali_screen.icons.network import IconConfig


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("home-outline-24px", "home"),
        ("user-add-filled", "user plus"),
        ("magnifying-glass", "search"),
        ("house-02", "home"),
        ("number-2", "number 2"),
        ("arrow-left", "arrow left"),
        ("eye-slash", "eye off"),
        ("slash", "slash"),
        ("github-logo", "github"),
        ("bold", "bold"),
        ("envelope-open", "mail open"),
    ],
)
def test_names_lose_their_style_and_synonyms_are_one(name: str, words: str) -> None:
    assert " ".join(words_of(name)) == words


def test_affixes_of_a_set_are_left_out() -> None:
    assert words_of("baseline-home", ["baseline"]) == words_of("home-badged", (), ["", "badged"]) == ("home",)


def test_relatives_are_on_one_side() -> None:
    for prefix in ("tabler", "ph", "carbon", "fluent", "fluent-mdl2", "fa", "fa6-solid", "la", "game-icons"):
        assert icons.split_of(prefix) == "test"
    assert {icons.split_of(prefix) for prefix in ("lucide", "feather", "mdi", "fad", "famicons", "pho")} == {
        "train"
    }


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of five sets, each with "home" and a name of its own: one has colours, one is not for commerce."""
    monkeypatch.setattr(icons, "LEAST_SETS", 3)
    monkeypatch.setattr(icons, "LEAST_LEARNT", 2)
    (tmp_path / "json").mkdir()
    about = {}
    for prefix, more in {"a": {}, "b": {}, "tabler": {}, "nc": {"spdx": "CC-BY-NC-4.0"}, "colour": {}}.items():
        about[prefix] = {
            "name": prefix.upper(),
            "author": {"name": "Ann"},
            "license": {"title": "MIT", "spdx": "MIT", **more},
            "palette": prefix == "colour",
        }
        body = '<g id="x"><path fill="url(#x)" d="M2 2h12v12H2z"/></g>'
        drawn = {"home-outline": {"body": body}, "home": {"body": "<animate/>"}, f"rare-{prefix}": {"body": body}}
        (tmp_path / "json" / f"{prefix}.json").write_text(json.dumps({"icons": drawn, "height": 24, "width": 24}))
    (tmp_path / "collections.json").write_text(json.dumps(about))
    return tmp_path


def test_names_that_several_sets_have_are_chosen(package: Path) -> None:
    chosen = icons.choose(package)
    assert [(icon.set, icon.name, icon.label) for icon in chosen] == [
        (prefix, "home-outline", "home") for prefix in ("a", "b", "tabler")
    ]
    assert 'viewBox="0 0 24 24"' in chosen[0].svg
    ids = [icon.svg.split('id="')[1].split('"')[0] for icon in chosen]
    assert len(set(ids)) == 3
    assert all(f"url(#{own})" in icon.svg for own, icon in zip(ids, chosen, strict=True))
    assert icons.attribution(package, {"a"}).splitlines()[-1].startswith("- A (`a`), Ann, MIT")


def test_copies_of_what_is_learned_are_not_for_tests() -> None:
    square, disc = np.zeros((2, 64, 64), np.uint8)
    square[8:56, 8:56] = 255
    disc[np.hypot(*np.mgrid[-32:32, -32:32]) < 24] = 255
    moved = np.roll(square, 4, 0)
    rows = [("a", square), ("tabler", moved), ("tabler", disc), ("b", np.zeros_like(square)), ("b", square)]
    named = [icons.Icon(prefix, "x", "x", "") for prefix, _ in rows]
    assert icons._kept(named, np.stack([image for _, image in rows])) == [0, 2, 4]


# ---- drawings


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Two classes: one in three sets, one in one."""
    rows = [("a", "home"), ("b", "home"), ("c", "home"), ("a", "star")]
    images = np.zeros((4, 64, 64), np.uint8)
    for number in range(4):
        images[number, 10:50, 8 + 8 * number : 40 + 6 * number] = 255
    for split in ("train", "dev"):
        np.save(tmp_path / f"{split}.npy", images)
        lines = [json.dumps({"set": prefix, "name": label, "label": label}) for prefix, label in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_drawings_are_a_function_of_their_index(built: Path) -> None:
    source, again = IconSource(built), IconSource(built)
    assert source.labels == ["home", "star"]
    assert len(source) == 2**40
    examples = [source[i] for i in range(150)]
    assert {e.images[0].shape for e in examples} == {(SIDE, SIDE, 3)}
    assert all(np.array_equal(e.images[0], again[i].images[0]) for i, e in enumerate(examples[:20]))
    assert 0.5 < np.mean([e.label == "home" for e in examples]) < 0.75  # 3 ** .5 to 1
    assert len(IconSource(built, "dev")) == 4
    with pytest.raises(IndexError):
        IconSource(built, "dev")[4]


def test_ink_stands_out_from_ground_and_plate() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ground, plate, ink = (colour @ (0.299, 0.587, 0.114) / 255 for colour in draw_colours(rng))
        assert min(abs(ink - ground), abs(ink - plate)) >= CONTRAST - 1e-6


def test_an_icon_is_seen_whole() -> None:
    icon = np.zeros((64, 64), np.uint8)
    icon[20:44, 4:60] = 255
    rng = np.random.default_rng(1)
    for _ in range(40):
        image = draw(icon, None, rng).astype(int)
        assert np.abs(image - image[SIDE // 2, SIDE // 2]).sum(-1).max() > 60


# ---- the benchmark


def test_the_real_icons_are_whole() -> None:
    source = open_source(str(REAL), {})
    pages = [source[i] for i in range(len(source))]
    found = [icon for page in pages for icon in page.objects]
    assert len(found) == 1500
    assert len({icon.name for icon in found}) > 900
    assert REAL.stat().st_size < 600_000
    dark = [page.images[0][0, 0].mean() < 128 for page in pages]
    assert sum(dark) == 6
    for page, is_dark in zip(pages, dark, strict=True):
        for icon in page.objects[:20]:
            top, left, bottom, right = map(int, icon.box)
            own = page.images[0][top:bottom, left:right].astype(int)
            assert 16 <= bottom - top == right - left <= 48
            assert np.abs(own - page.images[0][0, 0]).max() > 40, (icon, is_dark)


def test_a_model_is_asked_for_the_names(tmp_path: Path) -> None:
    labels = ("nothing", *sorted({icon.name for icon in open_source(str(REAL), {})[0].objects}))
    config = IconConfig(ViTConfig(16, (3, 3), 32, 1, 32, 2), labels)
    model = build(config)
    materialise(model)
    torch.nn.init.constant_(model.head.bias, 0)
    with torch.no_grad():
        model.head.weight[:] = 0
        model.head.bias[1] = 1  # always says the same
    write_model(tmp_path / "model", model.state_dict(), config, preprocess=Preprocess(48, 48), tokenizer=None)
    card = tmp_path / "card.json"
    asked = ["eval", "real/icons", "--model", str(tmp_path / "model"), "--limit", "100", "--json", str(card)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    written = json.loads(card.read_text())
    named = [icon.name for icon in open_source(str(REAL), {})[0].objects]
    assert written["n"] == 100
    assert written["scores"]["acc"] == named.count(labels[1]) / 100
    assert 0.02 <= written["scores"]["top5"] <= 0.1


def test_a_model_without_icons_says_so(tmp_path: Path) -> None:
    class Nothing:
        name, parts = "nothing", ()

    with pytest.raises(ValueError, match="nothing has no part that names icons"):
        name_all(cast(Encoders, Nothing()), tmp_path, None, lambda done, of: None)
