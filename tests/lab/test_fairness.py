"""Fairness: slices by attribute, gaps with intervals and chance, word lists, parity of occupations, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openpali.eval.predictions import Line, PredictionsFile
from openpali.infer.pali import Pali
from openpali.tasks.scoring import Answered
from openpali_lab.__main__ import app
from openpali_lab.fairness import (
    benchmark_gap,
    gap,
    groups_of,
    occupation_parity,
    parity,
    read_attributes,
    toxicity,
    word_list,
)


def test_attributes_are_read_and_combined(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\ufefffile,gender,age\n1.jpg,Female,30-39\n2.jpg,Male,\n", "utf-8")
    attributes = read_attributes(path, key="file")
    assert groups_of(["2.jpg", "1.jpg", "3.jpg"], attributes, "gender") == ["Male", "Female", ""]
    assert groups_of(["1.jpg", "2.jpg"], attributes, "gender", "age") == ["Female, 30-39", ""]
    with pytest.raises(ValueError):
        groups_of(["1.jpg"], attributes, "race")
    with pytest.raises(ValueError):
        groups_of(["9.jpg"], attributes, "gender")
    with pytest.raises(ValueError):
        read_attributes(path)
    path.write_text("file,gender\n1.jpg,f,too much\n")
    with pytest.raises(ValueError):
        read_attributes(path)
    path.write_text("key,gender\na,f\na,m\n")
    with pytest.raises(ValueError):
        read_attributes(path)
    for data in (b"key,gender\na,\xe4\n", b"key,gender\na," + b"f" * 200_000):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"labels.csv is not a CSV file in UTF-8: "):
            read_attributes(path)
    with pytest.raises(FileNotFoundError):
        read_attributes(tmp_path / "none.csv")


def test_gap_by_hand() -> None:
    values = [1.0] * 15 + [0.0] * 5 + [1.0] * 10 + [0.0] * 20 + [1.0] * 20 + [1.0, 0.0, 1.0]
    groups = ["a"] * 20 + ["b"] * 30 + ["c"] * 20 + ["small", "small", ""]
    found = gap("hit", values, groups)
    assert [(s.name, s.n, s.value) for s in found.slices] == [
        ("a", 20, 0.75),
        ("b", 30, pytest.approx(1 / 3)),
        ("c", 20, 1.0),
    ]
    assert (found.lowest, found.median, found.highest) == (pytest.approx(1 / 3), 0.75, 1.0)
    assert found.overall == pytest.approx(45 / 70)
    assert found.gap == pytest.approx(2 / 3)
    assert 0.4 < found.interval[0] < found.gap < found.interval[1] < 0.9
    assert found.p < 0.01
    assert found.left_out == {"": 1, "small": 2}
    assert "| b | 30 | 0.3333 |" in found.as_markdown()
    assert "left out: without the attribute (1), small (2)" in found.as_markdown()
    json.dumps(found.as_json())


def test_gap_of_chance_is_no_gap() -> None:
    """Over random sets p is uniform: it is below 0.2 about a fifth of the time, however many slices there are."""
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(60):
        values = rng.integers(0, 2, 200).astype(float)
        groups = [str(n) for n in rng.integers(0, 5, 200)]
        small += gap("hit", values.tolist(), groups, resamples=100).p <= 0.2
    assert 4 <= small <= 22


def test_gap_ignores_the_order_of_samples() -> None:
    rng = np.random.default_rng(1)
    values, groups = rng.random(90).tolist(), [("x", "y", "z")[i % 3] for i in range(90)]
    order = rng.permutation(90)
    assert gap("m", values, groups) == gap("m", [values[i] for i in order], [groups[i] for i in order])


def test_gap_needs_two_slices() -> None:
    with pytest.raises(ValueError):
        gap("m", [0.0] * 23, ["a"] * 20 + ["b"] * 3)
    with pytest.raises(ValueError):
        gap("m", [np.nan] * 40, ["a"] * 20 + ["b"] * 20)


def test_word_list_finds_whole_words_and_phrases(tmp_path: Path) -> None:
    (tmp_path / "toxicity.txt").write_text("idiot\nget lost\n\n", "utf-8-sig")
    found = word_list(tmp_path / "toxicity.txt")(["What an IDIOT!", "idiotic", "Get lost, you", "a cat"])
    assert found == {"toxicity": [1.0, 0.0, 1.0, 0.0]}
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"gr\xf6bian\n")
    for names, kind, named in (
        (("toxicity", "toxicity"), ValueError, "a second word list of 'toxicity': join the two, or rename one"),
        (("profanity",), FileNotFoundError, "profanity.txt"),
        (("empty",), ValueError, "empty.txt has no words"),
        (("latin",), ValueError, "latin.txt is not text in UTF-8: "),
    ):
        with pytest.raises(kind, match=named):
            word_list(*(tmp_path / f"{name}.txt" for name in names))


def test_toxicity_is_a_share_at_a_threshold() -> None:
    captions = [f"{i}" for i in range(40)]
    groups = ["a"] * 20 + ["b"] * 20

    def classify(texts):  # type: ignore[no-untyped-def]
        return {"toxicity": [int(text) / 40 for text in texts]}

    found = toxicity(captions, groups, classify)["toxicity"]
    assert [s.value for s in found.slices] == [0.0, 8 / 20]  # 32 .. 39
    with pytest.raises(ValueError):
        toxicity(captions, groups, lambda texts: {"toxicity": [2.0] * len(texts)})
    with pytest.raises(ValueError):
        toxicity(captions, groups, lambda texts: {"toxicity": [0.0]})


def test_parity_by_hand() -> None:
    rng = np.random.default_rng(0)
    groups = ["f"] * 50 + ["m"] * 50 + [""] * 10
    table = rng.normal(5, 0.1, (110, 3))
    table[:50, 0] -= 1.0  # the first goes with f,
    table[50:100, 2] -= 0.5  # the last with m
    table[100:] = 1e6  # samples without the attribute count nowhere
    found = parity(table, groups, ["nurse", "cook", "pilot"])
    assert [each.occupation for each in found.occupations] == ["nurse", "cook", "pilot"]
    assert [each.gap for each in found.occupations] == pytest.approx([-1.0, 0.0, 0.5], abs=0.1)
    assert [each.associated for each in found.occupations][::2] == [True, True]
    assert found.mean_absolute_gap == pytest.approx(0.5, abs=0.05)
    assert found.mean_gap == pytest.approx(-1 / 6, abs=0.05)
    assert found.n == (50, 50)
    swapped = parity(table, groups, ["nurse", "cook", "pilot"], pair=("m", "f"))
    assert swapped.mean_gap == pytest.approx(-found.mean_gap)
    assert "| nurse | -" in found.as_markdown()
    same = parity(np.ones((4, 2)), ["f", "m", "f", "m"], ["a", "b"])
    assert (same.mean_absolute_gap, same.associated) == (0.0, 0.0)


def test_malformed_parity() -> None:
    with pytest.raises(ValueError, match=r"\[samples, occupations\], here \[2, 2\]"):
        parity(np.ones((2, 3)), ["f", "m"], ["a", "b"])
    with pytest.raises(ValueError):
        parity(np.ones((3, 1)), ["f", "m", "x"], ["a"])
    with pytest.raises(ValueError):
        parity(np.ones((2, 1)), ["f", "m"], ["a"], pair=("f", "y"))


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


def test_log_perplexity_is_that_of_the_model(pali: Pali) -> None:
    rng = np.random.default_rng(0)
    images = [[rng.integers(0, 256, (72, 72, 3), dtype=np.uint8)] for _ in range(3)]
    prompt, targets = "Generate the alt_text in en at 0: <extra_id_0>", ["A red circle", "A blue star on a box"]
    found = pali.log_perplexity(images, prompt, targets, batch=2)
    assert found.shape == (3, 2)
    stored, model = pali.load("pali")
    tokenizer = stored.tokenizer
    prompt_ids = torch.tensor([tokenizer.encode(prompt)])
    for row, [image] in enumerate(images):
        for column, target in enumerate(targets):
            ids = torch.tensor([[*tokenizer.encode(target), tokenizer.eos_id]])
            with torch.inference_mode():
                hidden = model(torch.from_numpy(image)[None, None], prompt_ids, ids)
                logs = model.text.logits(hidden).log_softmax(-1)
            expected = -logs[0, torch.arange(ids.shape[1]), ids[0]].mean()
            assert found[row, column] == pytest.approx(float(expected), abs=1e-4)
    with pytest.raises(ValueError):
        pali.log_perplexity(images, prompt, ["a", " "])


def test_occupations_of_a_model(pali: Pali) -> None:
    rng = np.random.default_rng(0)
    images = [[rng.integers(0, 256, (72, 72, 3), dtype=np.uint8)] for _ in range(4)]
    found = occupation_parity(pali, images, ["f", "f", "m", "m"], ["A nurse", "A pilot"])
    assert sorted(each.occupation for each in found.occupations) == ["A nurse", "A pilot"]
    table = pali.log_perplexity(images, "Generate the alt_text in en at 0: <extra_id_0>", ["A nurse", "A pilot"])
    gaps = dict(zip(("A nurse", "A pilot"), table[:2].mean(0) - table[2:].mean(0), strict=True))
    assert {each.occupation: each.gap for each in found.occupations} == pytest.approx(gaps, abs=1e-6)


def test_the_command_slices_saved_predictions(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    answers = tmp_path / "answers.jsonl"
    lines = [
        Line(Answered(i, f"k{i}", "p", "a cat" if i < 40 else "a bad dog", ("a cat",), "en"), "") for i in range(60)
    ]
    PredictionsFile(answers, {"benchmark": "nano/caption"}).go_on()
    PredictionsFile(answers, {"benchmark": "nano/caption"}).write(lines)
    table = tmp_path / "labels.csv"
    table.write_text("key,kind\n" + "".join(f"k{i},{'x' if i < 30 else 'y'}\n" for i in range(60)))
    (tmp_path / "rude.txt").write_text("bad\n")
    groups = groups_of([f"k{i}" for i in range(60)], read_attributes(table), "kind")
    assert benchmark_gap(answers, groups).gap == pytest.approx(2 / 3)  # 30 of 30, and 10 of 30
    command = ["fairness", str(answers), str(table), "--column", "kind", "--words", str(tmp_path / "rude.txt")]
    done = CliRunner().invoke(app, [*command, "--json", str(tmp_path / "new" / "out.json")])
    assert done.exit_code == 0, done.output
    assert "| y | 30 | 0.3333 |" in done.output
    found = json.loads((tmp_path / "new" / "out.json").read_text())
    assert found["rude"]["gap"] == pytest.approx(2 / 3)

    def failed(*arguments: str) -> str:
        return str(CliRunner().invoke(app, [*command, *arguments]).exception)

    assert "named 'metric', as the benchmark's own score" in failed("--words", str(tmp_path / "metric.txt"))
    assert f"{answers} is an input and would be overwritten" in failed("--json", str(answers))
    answers.write_bytes(answers.read_bytes().splitlines(keepends=True)[0])
    assert f"there are no answers in {answers}" in failed()
