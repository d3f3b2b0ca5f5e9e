"""Scores of lines that are found and read, with models that know the answer or a part of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image as PilImage
from typer.testing import CliRunner

import openpali_screen.find.evaluate as finding
import openpali_screen.read.evaluate as reading
from openpali import Pali
from openpali.cli.main import app
from openpali.distributed import Ranks
from openpali.eval.benchmark import PageBenchmark
from openpali.eval.calibrate import calibrate, calibrate_ood, fit_first
from openpali.eval.pages import PageAnswers, WholePageEvaluator
from openpali.eval.provenance import hash_model
from openpali.eval.runner import run as run_benchmark
from openpali.metrics.boxes import detection_f1
from openpali.metrics.calibration import expected_calibration_error
from openpali.metrics.words import pointing, word_f1
from openpali.tasks.example import Box, Example, Image, Line, Object, Word
from openpali.text.characters import CHARACTERS
from openpali.weights.format import copy_fitted, open_model
from openpali_lab.worlds.benchmarks.pages import page_suite, points_by
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.evaluate import elements_by, words_by, words_of
from openpali_screen.find.evaluate import FindingEvaluator
from openpali_screen.find.network import Finder
from openpali_screen.find.predict import FoundLine, FoundText
from openpali_screen.parts import WORDS
from openpali_screen.pointing import ReadScreen
from openpali_screen.read import ctc
from openpali_screen.read.evaluate import ReadingEvaluator
from openpali_screen.read.fit_language import fit_language, fit_reader, read_language, write_language
from openpali_screen.read.network import Reader
from openpali_screen.reader import OutOfDistribution
from openpali_screen.text import ReadLine, ReadWord

LINES = [Line([Word("one", Box(10, 10, 30, 60))]), Line([Word("ﬁve", Box(50, 10, 70, 90))])]
LINES += [Line([Word("שלום", Box(80, 10, 99, 90))], readable=False)]


class Source:
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Example:
        image = np.full((120, 200, 3), index, np.uint8)
        return Example(str(index), [image], lines=LINES, ignored=[Box(0, 100, 120, 200)])


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[FoundLine]:
    lines = [FoundLine(Box(*line.box), 0.9) for line in LINES]
    monkeypatch.setattr(finding, "finder_of", lambda module: module)
    monkeypatch.setattr(finding, "find_text", lambda *_: FoundText(lines, np.zeros(2, np.float32), 0.0))
    return lines


def run(limit: int | None = None) -> dict[str, float]:
    return FindingEvaluator("x", Source(), limit).run(cast(Finder, None)).scores.summary


def test_lines_are_found_or_not(found: list[FoundLine]) -> None:
    assert run() == {"f1@0.5": 1, "precision@0.5": 1, "recall@0.5": 1}
    found[1] = FoundLine(Box(50, 10, 60, 90), 0.9)  # IoU .5
    assert run()["recall@0.5"] == 1
    found[1] = FoundLine(Box(50, 10, 59, 90), 0.9)
    assert run() == pytest.approx({"f1@0.5": 2 / 3, "precision@0.5": 2 / 3, "recall@0.5": 2 / 3})


def test_what_is_found_where_nobody_knows_does_not_count(found: list[FoundLine]) -> None:
    found.append(FoundLine(Box(20, 110, 40, 190), 0.9))
    assert run()["precision@0.5"] == 1
    found.append(FoundLine(Box(20, 70, 40, 95), 0.9))
    assert run()["precision@0.5"] == 3 / 4


def test_readable_lines_are_compared_as_a_reader_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(reader: Reader, image: Image, boxes: list[Box]) -> list[ReadLine]:
        assert boxes == [line.box for line in LINES[:2]]
        texts = ("one", "five" if image[0, 0, 0] else "fve")
        return [ReadLine([ReadWord(text, box, 1.0)], box) for text, box in zip(texts, boxes, strict=True)]

    monkeypatch.setattr(reading, "reader_of", lambda module: module)
    monkeypatch.setattr(reading, "read_lines", read)
    pages = ReadingEvaluator("x", Source()).run(cast(Reader, SimpleNamespace(characters=CHARACTERS)))
    assert pages.n == 4
    assert pages.scores.summary["cer"] == pytest.approx(1 / 28)
    assert pages.scores.summary["exact_match"] == pytest.approx(7 / 8)


def test_ranks_share_the_pages(found: list[FoundLine]) -> None:
    class Two(Ranks):
        def gather(self, value: object) -> list[object]:
            seen.append(len(cast("list[object]", value)))
            return [["0", "2"] if isinstance(value[0], str) else value * 2, value]  # type: ignore[index, operator]

    seen: list[int] = []
    evaluator, ranks = FindingEvaluator("x", Source(), 3), Two(1, 2, finding.ALONE.device)
    evaluator.run(cast(Finder, None), ranks)
    assert seen == [1]  # the second of three
    assert evaluator.each(ranks, lambda example: example.key) == ["0", "1", "2"]  # in the order of the pages


def test_words_count_where_truth_says_what_is_there() -> None:
    evaluator = WholePageEvaluator("x", Source())
    true = [ReadWord("one", Box(12, 12, 28, 58), 1.0), ReadWord("five", Box(50, 10, 70, 90), 1.0)]
    uncounted = [
        ReadWord("word", Box(10, 120, 30, 180), 1.0),  # in an ignored place
        ReadWord("םולש", Box(80, 10, 99, 90), 1.0),  # in text that nobody can read in order
        ReadWord("•", Box(50, 2, 70, 8), 1.0),  # no letter, no digit
    ]
    pages = evaluator.run(words_by(lambda image: [*true, *uncounted]))
    assert scored(pages) == {"word_f1": 1, "word_precision": 1, "word_recall": 1}
    assert [page.key for page in pages] == ["0", "1", "2", "3"]
    wrong = evaluator.run(words_by(lambda image: [ReadWord("One", Box(12, 12, 28, 58), 1.0), *true[1:]]))
    assert scored(wrong)["word_f1"] == 1 / 2


def scored(pages: list[PageAnswers]) -> dict[str, float]:
    return word_f1([page.found for page in pages], [page.true for page in pages]).summary


def test_points_and_elements_are_asked_about_by_name_and_role(monkeypatch) -> None:
    class Knows:
        """Finds each element of the example, the second one elsewhere."""

        def screen(self, image: object) -> ReadScreen:
            return ReadScreen([THINGS[0], replace(THINGS[1], box=Box(80, 10, 99, 90)), THINGS[2]], [])

        def detect(self, images: Sequence[object], names: Sequence[str]) -> list[Sequence[Object]]:
            return [self.screen(image).detect(name) for image, name in zip(images, names, strict=True)]

    class Named(Source):
        def __getitem__(self, index: int, /) -> Example:
            return replace(super().__getitem__(index), objects=THINGS)

    monkeypatch.setattr(ReadScreen, "named", property(lambda self: self.elements))  # nothing is written on it
    monkeypatch.setattr("openpali_screen.evaluate.reader_of_bundle", lambda bundle: bundle)
    knows = cast("Pali", Knows())
    [page, *_] = WholePageEvaluator("x", Named(), 1).run(points_by(knows))
    assert [each.name for each in page.true] == ["Save button", "News link"]  # an icon has no name that one says
    assert pointing([page.found], [page.true]).summary == {"pointing": 1 / 2}
    [page, *_] = WholePageEvaluator("x", Named(), 1).run(elements_by(knows))
    assert detection_f1([page.found], [page.true]).summary["f1@0.5"] == pytest.approx(2 / 3)


THINGS = [
    Object("Save", Box(10, 10, 30, 60), confidence=0.9, role="button"),
    Object("News", Box(50, 10, 70, 90), confidence=0.9, role="link"),
    Object("icon", Box(50, 120, 70, 140), confidence=0.9, role="icon"),
]


def test_confidence_of_words_is_fitted_on_pages_and_scored(bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    pali = Pali.from_pretrained(folder)
    image = np.random.default_rng(4).integers(0, 256, (240, 320, 3), np.uint8)
    read = reader_of_bundle(pali).read_words(image)
    counted = [word for word in read if any(map(str.isalnum, word.text))]
    words = sorted(counted, key=lambda word: -word.confidence)
    assert len(words) > 10
    right = [
        Word(word.text, word.box) for word in (*words[: len(words) // 2], words[-1])
    ]  # the surer half, and one

    class Page:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int, /) -> Example:
            return Example("page", [image], lines=[Line([word]) for word in right])

    benchmark = PageBenchmark(
        name="x",
        title="x",
        split="all",
        part="reader",
        task="ocr",
        parts=WORDS,
        open=lambda root: Page(),
        calibration=lambda root: Page(),
        answer=lambda pali: words_of(pali),
    )
    assert "ece" not in run_benchmark(benchmark, pali, tmp_path).scores.summary
    [fitted] = calibrate([benchmark], pali, tmp_path)
    assert (fitted.part, fitted.task) == ("reader", "ocr")
    assert 0 < fitted.right < 1
    surer = Pali.from_pretrained(folder)
    scores = run_benchmark(benchmark, surer, tmp_path).scores.summary
    counted = [word for word in reader_of_bundle(surer).read_words(image) if any(map(str.isalnum, word.text))]
    hits = [any(word.box == other.box for other in right) for word in counted]
    ece = expected_calibration_error([word.confidence for word in counted], hits)
    assert scores["ece"] == pytest.approx(ece)
    [again] = calibrate([benchmark], Pali.from_pretrained(folder), tmp_path)
    assert again == fitted  # not of calibrated confidences
    stored = open_model(folder / "reader").facts.calibration
    wrong = replace(benchmark, right=lambda found, true: [False] * len(found))
    with pytest.raises(ValueError, match="no confidence"):
        [*calibrate([wrong], Pali.from_pretrained(folder), tmp_path)]
    assert open_model(folder / "reader").facts.calibration == stored  # a fit that fails leaves the one before
    unsure = replace(benchmark, right=None)
    assert "ece" not in run_benchmark(unsure, surer, tmp_path).scores.summary


class Grey:
    """Grey images with a little noise, other ones for each seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int, /) -> Example:
        rng = np.random.default_rng((self.seed, index))
        pixels = 120 + rng.integers(0, 8, (80, 96, 3))
        return Example(str(index), [pixels.astype(np.uint8)])


def test_a_detector_of_pages_is_fitted_to_those_learned_from(bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    noise = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    assert reader_of_bundle(Pali.from_pretrained(folder)).page(noise).ood_score is None
    [screens] = [each for each in page_suite() if each.name == "real/screens"]
    benchmark = replace(screens, learnt=lambda root: [Grey(1), Grey(3)], calibration=lambda root: Grey(2))
    without = Pali.from_pretrained(folder)
    del without.parts["finder"]
    assert [*calibrate_ood([benchmark], without, tmp_path)] == []
    assert [*calibrate_ood([benchmark], Pali.from_pretrained(folder), tmp_path, limit=10)] == []  # too few
    [fitted] = calibrate_ood([benchmark], Pali.from_pretrained(folder), tmp_path)
    assert fitted == ("finder", 200)
    [fewer] = calibrate_ood([benchmark], Pali.from_pretrained(folder), tmp_path, limit=80)
    assert fewer == ("finder", 80)  # 40 of each
    assert [*calibrate_ood([benchmark], Pali.from_pretrained(folder), tmp_path, limit=1)] == []
    nothing = replace(benchmark, learnt=lambda root: [])
    assert [*calibrate_ood([nothing], Pali.from_pretrained(folder), tmp_path)] == []
    pali = Pali.from_pretrained(folder)
    assert cast(float, reader_of_bundle(pali).page(Grey(3)[7].images[0]).ood_score) < 1
    assert reader_of_bundle(pali).page(noise).out_of_distribution
    with pytest.warns(OutOfDistribution):
        reader_of_bundle(pali).read_page(noise)
    [prediction] = pali.predict([[noise]], ["ocr"], part="reader", raw=True)
    assert prediction.out_of_distribution
    file = tmp_path / "noise.png"
    PilImage.fromarray(noise).save(file)
    done = CliRunner().invoke(app, ["read", str(file), "--model", str(folder), "--format", "json"])
    assert json.loads(done.stdout)["out_of_distribution"]
    assert f"{file}, page 1" in done.stderr


def test_the_language_model_of_a_reader_is_fitted_and_goes_with_it(bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    before = hash_model(Pali.from_pretrained(folder), ["reader"])
    assert reader_of_bundle(Pali.from_pretrained(folder)).networks.language is None
    [screens] = [each for each in page_suite() if each.name == "real/screens"]
    benchmark = replace(screens, fit=lambda pali: fit_reader(pali, ["as the world turns"] * 10))
    [fitted] = fit_first([benchmark, *page_suite()[1:]], Pali.from_pretrained(folder))
    pali = Pali.from_pretrained(folder)
    assert reader_of_bundle(pali).networks.language
    assert fitted == f"reader: language model of {len(reader_of_bundle(pali).networks.language.ngrams)} n-grams"
    assert hash_model(pali, ["reader"]) != before
    copy_fitted(folder / "reader", tmp_path)
    copied = read_language(tmp_path)
    assert copied
    assert copied.log_probs.tolist() == reader_of_bundle(pali).networks.language.log_probs.tolist()


def test_the_language_model_reads_pages_and_prompts(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctc, "WEIGHT", 3.0)  # the reader is a random one
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    image = np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)
    before = reader_of_bundle(Pali.from_pretrained(folder)).read_words(image)
    write_language(folder / "reader", fit_language(["bbbb"] * 50, tuple(" <ab&")))
    pali = Pali.from_pretrained(folder)
    words = reader_of_bundle(pali).read_words(image)
    assert [word.text for word in words] != [word.text for word in before]
    shares = [np.mean([c == "b" for word in some for c in word.text]) for some in (words, before)]
    assert shares[0] > shares[1] + 0.1
    [prediction] = pali.predict([[image]], ["ocr"], part="reader", raw=True)
    assert prediction.answer.text.split() == [word.text for word in words]


def test_screens_have_windows_and_dialogs_whose_words_are_in_the_image() -> None:
    [screens] = [each for each in page_suite() if each.name == "real/screens"]
    assert isinstance(screens, PageBenchmark)
    source = screens.open(Path())
    pages = [PageAnswers(source[i].key, "", [], []) for i in range(len(source))]
    assert [sum(bool(re.search(each, page.key)) for page in pages) for each in screens.kinds.values()] == [
        30,
        30,
        14,
    ]
    for index, page in enumerate(pages):
        if page.key.endswith("-dialog"):
            example = source[index]
            height, width = example.size
            assert example.lines
            for word in (word for line in example.lines for word in line.words):
                ymin, xmin, ymax, xmax = word.box
                assert 0 <= ymin < ymax <= height
                assert 0 <= xmin < xmax <= width
