"""The nine small data sets of the few-shot probe, on stand-ins in the layout of the packages."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openpali.eval.registry import find_benchmark
from openpali.infer.pali import Pali
from openpali_lab.benchmarks.fewshot import Labelled
from openpali_lab.worlds.benchmarks import encoders, small_probes
from openpali_lab.worlds.benchmarks.encoders import on_white
from openpali_lab.worlds.benchmarks.small_probes import SETS, TEST, TRAIN, _chosen
from openpali_lab.worlds.world import World
from world_fixture import COLOURS, OTHERS, SHAPES


@pytest.fixture
def home(world_with_vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENPALI_HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stamps").symlink_to(world_with_vocabulary / "data" / "stamps")
    (tmp_path / "data" / "clipart").symlink_to(world_with_vocabulary / "data" / "clipart")
    return tmp_path


def test_digits_and_clip_art_are_read_from_their_packages(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python3-sklearn is not in the cache: run `openpali data"):
        SETS["digits"]()
    folder = home / "packages" / "python3-sklearn/usr/lib/python3/dist-packages/sklearn/datasets/data"
    folder.mkdir(parents=True)
    with gzip.open(folder / "digits.csv.gz", "wt") as file:
        file.writelines(f"{','.join(['16', *['0'] * 63])},{number % 10}\n" for number in range(40))
    train, test = SETS["digits"]()
    assert Counter(train.labels) == Counter(test.labels) == {str(digit): 2 for digit in range(10)}
    image = train.images[0]()
    assert (image.shape, image.dtype, image[0, 0].tolist(), image.sum()) == ((8, 8, 3), np.uint8, [255] * 3, 765)
    root = home / "packages" / "openclipart-png/usr/share/openclipart/png"
    for name in small_probes.CLIPART:
        (root / name / "deeper").mkdir(parents=True)
        for number in range(12):
            colour = (255, 4 * small_probes.CLIPART.index(name), 4 * number, 128)
            Image.new("RGBA", (600, 300), colour).save(root / name / "deeper" / f"{name}{number}.png")
    Image.new("L", (2500, 1700)).save(root / "food" / "large.png")  # left out
    train, test = SETS["clip-art"]()
    assert len(train.labels) + len(test.labels) == 120
    assert set(train.labels) == set(test.labels) == set(small_probes.CLIPART)
    drawn = train.images[0]()
    assert drawn.shape == (256, 256, 3)
    assert drawn[0, 0].tolist() == [255, 255, 255]  # beside the image, which is twice as wide as high
    assert (drawn[128, 128] >= (255, 127, 127)).all()
    trained, *_, background, copy = sorted(
        (root / "tools").rglob("*.png"), key=lambda path: small_probes._hash(path.name)[0] % 2
    )
    (root / "shapes").mkdir()
    shutil.copy(background, root / "shapes" / "of-another-name.png")
    shutil.copy(trained, copy)
    left = SETS["clip-art"]()[1]
    assert len(left.labels) == len(test.labels) - 2
    assert Counter(test.labels)["tools"] == Counter(left.labels)["tools"] + 2


def test_no_stamp_that_nano_is_trained_on_is_tested(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "LEAST", len(COLOURS | OTHERS))
    own = {on_white(stamp.rgba).tobytes() for stamp in World.load("nano").stamps}
    train, test = SETS["stamps"]()
    assert Counter(test.labels) == dict.fromkeys((f"shapes/{shape}" for shape in SHAPES), 1)
    assert Counter(train.labels) == dict.fromkeys((f"shapes/{shape}" for shape in SHAPES), 5)
    assert not own & {load().tobytes() for load in test.images}


def test_shapes_and_colours_are_those_of_easy_vqa(home: Path) -> None:
    folder = home / "data" / "easy-vqa"
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "0.png")
    asked = [("shape", "what is the red shape?", "circle"), ("colour", "what color is the shape?", "red")]
    asked += [("yes/no", "is it red?", "yes")]
    for split in ("train", "test"):
        lines = [
            {"key": str(n), "images": ["0.png"], "question": q, "answers": [a], "question_kind": kind, "lang": "en"}
            for n, (kind, q, a) in enumerate(asked)
        ]
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for name, answer in (("shapes", "circle"), ("colours", "red")):
        train, test = SETS[name]()
        assert list(train.labels) == list(test.labels) == [answer]
        assert test.images[0]().shape == (64, 64, 3)


def test_emoji_are_trained_on_one_artist_and_asked_of_two(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match="openpali data build emoji"):
        SETS["emoji"]()
    for value, artist in enumerate(("noto", "twemoji", "emojione")):
        for group in ("food", "symbols"):
            folder = home / "data/emoji" / artist / group
            folder.mkdir(parents=True)
            for code in range(30):
                Image.new("RGB", (64, 64), (value, 0, 0)).save(folder / f"{code:04x}.png")
    train, test = SETS["emoji"]()
    assert Counter(train.labels) == {"food": TRAIN, "symbols": TRAIN}
    assert {int(load()[0, 0, 0]) for load in train.images} == {0}
    assert Counter(int(load()[0, 0, 0]) for load in test.images) == {1: 60, 2: 60}
    assert Counter(test.labels) == {"food": 60, "symbols": 60}


def test_letters_are_of_26_classes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_probes, "TRAIN", 2)
    monkeypatch.setattr(small_probes, "TEST", 20)
    train, test = SETS["letters"].func("nano/word", {"min_letters": 1, "max_letters": 1}, lambda e: e.text, 26)
    assert len(set(train.labels)) > 20
    assert max(Counter(train.labels).values()) == 2
    assert len(test.labels) == 20


def test_a_split_has_a_few_of_each_class_to_train_on_and_a_share_of_each_to_test_on() -> None:
    rows = [(lambda n=n: n, "ab"[n % 3 == 0]) for n in range(3 * TEST)]
    train, test = _chosen(rows, rows)
    assert Counter(train.labels) == {"a": TRAIN, "b": TRAIN}
    counts = Counter(test.labels)
    assert sum(counts.values()) == TEST
    assert counts["a"] == pytest.approx(2 * counts["b"], abs=3)


def test_the_benchmark_averages_its_sets(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def split(step: int) -> tuple[Labelled, Labelled]:
        images = [rng.integers(0, 60, (20, 20, 3), dtype=np.uint8) + step * (n % 2) for n in range(60)]
        part = Labelled([lambda image=image: image for image in images], ["ab"[n % 2] for n in range(60)])
        return part, part

    monkeypatch.setattr(small_probes, "SETS", {"easy": lambda: split(150), "hard": lambda: split(0)})
    pali = Pali.from_pretrained(bundle)
    found = find_benchmark("small-fewshot").run(pali, Path(), None, lambda done, total: None)
    scores = found.scores.summary
    assert scores["acc/10-shot/easy"] > 0.9 > scores["acc/10-shot/hard"]
    assert scores["acc/10-shot"] == pytest.approx((scores["acc/10-shot/easy"] + scores["acc/10-shot/hard"]) / 2)
    assert np.mean(found.scores.per_sample["acc/10-shot"]) == pytest.approx(scores["acc/10-shot"])
