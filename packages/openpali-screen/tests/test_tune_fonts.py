"""`openpali tune --fonts`: words and letters of one's own, on a reader with five characters."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from matplotlib import get_data_path
from PIL import Image
from typer.testing import CliRunner

from openpali.cli.main import app
from openpali.home import FONTS
from openpali.infer.pali import Pali
from openpali.model.init import materialise
from openpali.weights.bundle_config import BundleConfig
from openpali_screen import runtime, tune
from openpali_screen.bundles import torch_networks_of
from openpali_screen.read import font_lines
from openpali_screen.read.fit_language import fit_language, write_language
from openpali_screen.read.font_lines import known, mine, words_of
from openpali_screen.read.network import Reader
from openpali_screen.read.render import draw_line
from openpali_screen.reader import ScreenReader
from page_readers import SHAPES, write_page_readers

SANS, SERIF = (str(Path(get_data_path()) / "fonts" / "ttf" / f"DejaVu{kind}.ttf") for kind in ("Sans", "Serif"))
WORDS = ["".join(word) for word in product("abṣ", repeat=4)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS), "utf-8")
    return path


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that is tuned instead of nano."""
    folder = tmp_path / "tiny"
    write_page_readers(folder)
    write_language(folder / "reader", fit_language(["ab ba", "a&b", "<a"], SHAPES["reader"].characters))
    BundleConfig(parts={part: folder / part for part in SHAPES}).write(folder)
    monkeypatch.setattr(tune, "START", str(folder))
    monkeypatch.setattr(tune, "_RANGES", 4)
    monkeypatch.setattr(font_lines, "_SCORED", 6)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tune", *map(str, arguments)])


def test_the_command_writes_a_bundle_that_drops_in(start: Path, text: Path, tmp_path: Path) -> None:
    command = (
        "--fonts",
        SANS,
        SERIF,
        "--text",
        text,
        "--run",
        tmp_path / "run",
        "--json",
        "scale=0.002",
        "workers=0",
        "max_bad=0.9",
    )
    done = run(*command)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["letters"] == ["Ṣ", "ṣ"]
    assert report["words"]["train"] + report["words"]["held_out"] == len(WORDS)
    assert report["samples"] == 96
    assert report["cpu_seconds"] > 0
    scores = [report["words"]["train"], *report["held_out"].values(), *report["known"].values(), report["int8"]]
    assert all(score >= 0 for score in scores)
    assert "held out" in done.stderr
    assert "96 of 96" in done.stderr

    out = Path(report["model"])
    characters = (*SHAPES["reader"].characters, "Ṣ", "ṣ")
    bundle, graphs = torch_networks_of(Pali.from_pretrained(out)), runtime.open_networks(out)
    assert bundle.reader.characters == characters
    assert tuple(graphs.reader.characters) == characters
    for part in ("finder", "elements", "icons"):
        assert (out / f"{part}.onnx").read_bytes() == (runtime.SHIPPED / f"{part}.onnx").read_bytes()
    for network in (bundle, graphs):
        assert network.language is not None
        assert np.isfinite(network.language.log_prob(1, len(characters)))
        lines, columns = np.full((2, 32, 64, 3), 200, np.uint8), np.array([4, 3])
        assert network.reader.run(lines, columns).shape == (2, 16, 1 + len(characters))
    image = Image.new("RGB", (300, 300), "white")
    assert ScreenReader.open(out).page(image).size == (300, 300)

    again = json.loads(run(*command).stdout)
    assert again["held_out"] == report["held_out"], "a finished run is trained no further"

    text.write_text("\n".join(["áb", *WORDS]), "utf-8")
    other = run(*command)
    assert isinstance(other.exception, ValueError)
    assert "other letters" in str(other.exception)


def test_of_many_fonts_one_is_held_out(tmp_path: Path) -> None:
    write_page_readers(tmp_path)
    recipe = tune.recipe_for("mine", tmp_path / "reader", ["a.ttf"], ["b.ttf"], Path("words.txt"))
    drawn = {each["source"]: each["options"] for each in recipe["phases"][0]["mixture"]}
    assert drawn["fonts/mine"]["fonts"] == ["a.ttf"]
    assert drawn["fonts/known"]["without"] == ["b.ttf"]
    assert {each["name"]: each["options"].get("fonts") for each in recipe["evals"]} == {
        "held_out": ["a.ttf"],
        "held_out_fonts": ["b.ttf"],
        "known": None,
    }


def test_rows_of_old_letters_are_kept() -> None:
    torch.manual_seed(0)
    shape = SHAPES["reader"]
    with torch.device("meta"):
        models = Reader(shape), Reader(tune.dataclasses.replace(shape, characters=(*shape.characters, "ṣ", "ọ")))
    old, new = (materialise(model).eval() for model in models)
    grown = tune.with_rows(old.state_dict(), 2)
    new.load_state_dict(grown)
    assert all(torch.equal(grown[name][: len(tensor)], tensor) for name, tensor in old.state_dict().items())
    assert grown["head.weight"][6:].abs().max() < 0.1
    lines = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)
    assert torch.allclose(new(lines)[..., :6], old(lines), atol=1e-5)


def test_a_language_model_with_more_letters_is_the_same_for_the_others() -> None:
    old = fit_language(["ab ba", "a&b"], " <ab&")
    new = tune.with_letters(old, 5, 7)
    pairs = [(context, number) for context in (1, 3, 3 << 10 | 4) for number in range(1, 6)]
    assert [new.log_prob(*pair) for pair in pairs] == [old.log_prob(*pair) for pair in pairs]
    assert new.log_prob(3, 7) < 0
    assert (np.diff(new.ngrams) > 0).all()


def test_held_out_words_are_not_trained_on(text: Path) -> None:
    text.write_text("\n".join([*WORDS, "ABBA", "Abba!", "zebra"]), "utf-8")
    sides = words_of(text)
    assert sorted([*sides["train"], *sides["held_out"]]) == sorted([*WORDS, "ABBA", "Abba!", "zebra"])
    assert "zebra" in sides["train"], "no other word has a z"
    assert len({side for side, words in sides.items() for word in words if word.lower()[:4] == "abba"}) == 1
    held_out = set(sides["held_out"])
    assert held_out
    drawn = mine([SANS], text, "train")
    shown = {word.strip("().,:;!?…-“”").lower() for i in range(300) for word in drawn[i].text.split()}
    assert len(shown) > 60
    assert not shown & held_out
    scored = mine([SANS, SERIF], text, "held_out")
    assert [scored[i].text for i in range(len(scored))] == sides["held_out"]


def test_what_a_reader_knows_is_made_up_of_its_characters(start: Path) -> None:
    for side in ("train", "held_out"):
        lines = known(str(start), [], side)
        texts = [lines[i].text for i in range(6)]
        assert {*"".join(texts)} <= {*" <ab&"}
        assert [lines[i].text for i in range(6)] == texts
    assert len(lines) == 6


def test_words_are_drawn_in_their_boxes() -> None:
    for seed in range(20):
        image, line = draw_line(["lb", "dg"], SANS, np.random.default_rng(seed), worn=False)
        first, second = (word.box for word in line.words)
        assert line.text == "lb dg"
        assert 0 < first.xmin < first.xmax < second.xmin < second.xmax < image.shape[1]
        assert 0 <= line.box.ymin < line.box.ymax <= image.shape[0]
        ground = np.abs(image.astype(int) - image[0, 0]).max(-1) > 40
        rows, columns = np.flatnonzero(ground.any(1)), np.flatnonzero(ground.any(0))
        assert line.box.ymin - 2 < rows[0] < rows[-1] < line.box.ymax + 2
        assert line.box.xmin - 2 < columns[0] < columns[-1] < line.box.xmax + 2
        assert not ground[:, round(first.xmax) + 2 : round(second.xmin) - 1].any(), "between words"


@pytest.mark.parametrize(
    ("words", "font", "told"),
    [
        ("ab ṣa", str(FONTS / "NotoSans-Subset.ttf"), ["NotoSans-Subset.ttf", "ṣ"]),
        ("", SANS, ["words.txt", "0 different words"]),
        ("one", SANS, ["words.txt", "held out"]),
        ("ab", "words.txt", ["words.txt", "no font"]),
        ("ab", "none.ttf", ["none.ttf"]),
        ("שלום", SANS, ["right to left", "ש"]),
    ],
)
def test_what_cannot_be_learnt_is_named(
    words: str, font: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    full = (
        words
        if len(words) < 2 or words == "one"
        else f"{words} {' '.join(words[0] + words[1] * n for n in range(40))}"
    )
    Path("words.txt").write_text(full, "utf-8")
    done = run("--fonts", font, "--text", "words.txt")
    assert done.exit_code == 1
    assert isinstance(done.exception, ValueError | OSError)
    assert all(each in str(done.exception) for each in told), done.exception


def test_files_of_text_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        words_of(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"M\xfcller " * 40)
    for name in ("latin.txt", ""):
        with pytest.raises(ValueError, match="UTF-8"):
            words_of(tmp_path / name)


def test_options_that_do_not_go_together(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--fonts", SANS], ["--text", text], [], ["mine.jsonl", "--json"]):
        assert run(*arguments).exit_code == 2
    monkeypatch.setattr("openpali.extensions.added", lambda kind: {})
    done = run("--fonts", SANS, "--text", text)
    assert "openpali-screen" in str(done.exception)
