"""Words of whole screens and pages: ours, Tesseract and RapidOCR on the same images, one after the other.

    apt-get install tesseract-ocr tesseract-ocr-{ces,deu,fra,ita,por,rus,spa,swe,ukr}
    pip install -e '.[ocr]'
    openpali data build lines
    OMP_NUM_THREADS=1 python benchmarks/reading.py --json reading.json
    OMP_NUM_THREADS=1 python benchmarks/reading.py --limit 0 --json reading.json   # all, as in the table below

A word is right if its text is equal and its centre lies in the true box (``openpali.metrics.words``). Each engine
has one thread; seconds are CPU seconds a page, without starting, but Tesseract's command starts for each page.
Tesseract is told the language of a page, and gets each image as it is and at twice its size; the better F1 counts.
RapidOCR's words are those of its ``return_word_box``, which has spaces that its lines lost.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image as PilImage

from _report import Result, cost, machine, need, rate, report
from openpali import Pali
from openpali.eval.benchmark import AnswerBenchmark, PageBenchmark
from openpali.eval.pages import PageAnswers, WholePageEvaluator, words_by
from openpali.eval.registry import find_benchmark
from openpali.home import home
from openpali.infer.pages import ReadWord
from openpali.metrics.ocr import ocr
from openpali.metrics.words import word_f1
from openpali.tasks.example import Box, Image
from openpali.worlds.benchmarks.pages import page_suite

rapidocr = need("rapidocr", "rapidocr onnxruntime")

LANGUAGES = dict(cs="ces", de="deu", es="spa", fr="fra", it="ita", pt="por", ru="rus", sv="swe", uk="ukr")
SIDE = 30_000  # pixels that Tesseract takes

Read = Callable[[Image], list[ReadWord]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=20, help="pages of each set; 0: all (12 minutes)")
    parser.add_argument("--json", type=Path, dest="file")
    parser.add_argument("--check", action="store_true", help="only say whether the other engines are here")
    options = parser.parse_args()
    version = check_tesseract()
    if options.check:
        return
    torch.set_num_threads(1)
    pali = Pali.from_pretrained(options.model)
    facts = machine("openpali", "rapidocr", "onnxruntime") | {"tesseract": version}
    report(measure(pali, options.limit), facts, options.file)


def check_tesseract() -> str:
    """Its version; ends the program if it or a language is missing."""
    packages = " ".join(f"tesseract-ocr-{name}" for name in LANGUAGES.values())
    fix = f"run `apt-get install tesseract-ocr {packages}`"
    if shutil.which("tesseract") is None:
        sys.exit(f"tesseract is missing: {fix}")
    version, languages = (
        subprocess.run(["tesseract", option], capture_output=True, check=True, text=True).stdout.split()
        for option in ("--version", "--list-langs")
    )
    if missing := {"eng", *LANGUAGES.values()} - {*languages}:
        sys.exit(f"tesseract lacks {', '.join(sorted(missing))}: {fix}")
    return version[1]


def measure(pali: Pali, limit: int) -> Iterator[Result]:
    """Each engine on each set, and on the dark and light halves of the screens."""
    rapid = Rapid()
    pali.read_words(np.full((64, 64, 3), 255, np.uint8))  # loads the model, as RapidOCR is loaded
    of_words = [each for each in page_suite() if isinstance(each, PageBenchmark) and each.metric == "word_f1"]
    for benchmark in of_words:
        source = benchmark.open(Path())
        drawn = np.random.default_rng(0).permutation(len(source))[: limit or None]
        some = Some(source, sorted(drawn.tolist()))

        runs = {"ours": Timed(pali.read_words), "rapidocr": Timed(rapid.read)}
        runs |= {f"tesseract {scale}x": Timed(Tesseract(some, scale).read) for scale in (1, 2)}
        pages: dict[str, list[PageAnswers]] = {}
        for name, run in runs.items():
            pages[name] = WholePageEvaluator(benchmark.name, some).run(words_by(run))

        kinds = ["", *(kind for kind in benchmark.kinds if any(page.is_of(kind) for page in pages["ours"]))]
        scores = {
            (name, kind): word_f1_of([page for page in read if page.is_of(kind)])
            for name, read in pages.items()
            for kind in kinds
        }
        best = max("tesseract 1x", "tesseract 2x", key=lambda name: scores[name, ""])
        for peer in ("rapidocr", best):
            for kind in kinds:
                name = f"{benchmark.name} {kind}".strip()
                yield rate(f"{name}: word F1", scores["ours", kind], scores[peer, kind], peer, "F1")
            yield cost(f"{benchmark.name}: time", runs["ours"].mean, runs[peer].mean, peer, "CPU s a page")
    yield from compare_lines(pali, rapid)


def compare_lines(pali: Pali, rapid: Rapid) -> Iterator[Result]:
    """Lines that are cut out, as `openpali predict --task ocr` reads them; RapidOCR only recognises them."""
    benchmark = find_benchmark("real/line")
    assert isinstance(benchmark, AnswerBenchmark)
    source = benchmark.open(home() / "data")
    examples = [source[index] for index in range(len(source))]
    images = [example.images[0] for example in examples]
    readers = {"ours": lambda image: pali.read([image])[0], "rapidocr": rapid.line}
    read, seconds = {}, {}
    for name, reader in readers.items():
        reader(images[0])  # loads models
        began = cpu_seconds()
        read[name] = [reader(image) for image in images]
        seconds[name] = 1000 * (cpu_seconds() - began) / len(images)
    right = {
        name: mean(text.split() == example.text.split() for text, example in zip(texts, examples, strict=True))
        for name, texts in read.items()
    }
    truth = [example.text for example in examples]
    errors = {name: ocr(texts, truth).summary["cer"] for name, texts in read.items()}
    yield rate("real/line: lines right", right["ours"], right["rapidocr"], "rapidocr", "share")
    yield cost("real/line: characters wrong", errors["ours"], errors["rapidocr"], "rapidocr", "share")
    yield cost("real/line: time", seconds["ours"], seconds["rapidocr"], "rapidocr", "CPU ms a line")


def word_f1_of(pages: list[PageAnswers]) -> float:
    return word_f1([page.found for page in pages], [page.true for page in pages]).summary["word_f1"]


@dataclass(frozen=True)
class Some:
    """Some samples of a source."""

    source: Any
    chosen: list[int]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int, /) -> Any:
        return self.source[self.chosen[index]]


class Timed:
    """Reads, and counts CPU seconds of this process and of those that it started."""

    def __init__(self, read: Read) -> None:
        self.read, self.seconds, self.pages = read, 0.0, 0

    def __call__(self, image: Image) -> list[ReadWord]:
        began = cpu_seconds()
        words = self.read(image)
        self.seconds += cpu_seconds() - began
        self.pages += 1
        return words

    @property
    def mean(self) -> float:
        return self.seconds / self.pages


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Tesseract:
    """The command ``tesseract`` on pages in turn, whose keys begin with their language if that is not English."""

    def __init__(self, source: Some, scale: int) -> None:
        self.keys = iter([source[i].key for i in range(len(source))])
        self.scale = scale

    def read(self, image: Image) -> list[ReadWord]:
        language = LANGUAGES.get(next(self.keys).rpartition(" ")[2].split("-")[0], "eng")  # "SHARD: LANGUAGE-PAGE"
        page = PilImage.fromarray(image)
        if self.scale > 1:
            page = page.resize((self.scale * page.width, self.scale * page.height), PilImage.Resampling.BICUBIC)
        png = io.BytesIO()
        page.save(png, "PNG", compress_level=1)
        done = subprocess.run(
            ["tesseract", "stdin", "stdout", "-l", language, "tsv"],
            input=png.getvalue(),
            capture_output=True,
            check=True,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
        rows = csv.DictReader(io.StringIO(done.stdout.decode()), delimiter="\t", quoting=csv.QUOTE_NONE)
        return [word for row in rows if row["level"] == "5" for word in self._words(row)]

    def _words(self, row: dict[str, str]) -> Iterator[ReadWord]:
        left, top, width, height = (int(row[key]) / self.scale for key in ("left", "top", "width", "height"))
        if row["text"].strip():
            yield ReadWord(row["text"], Box(top, left, top + height, left + width), float(row["conf"]) / 100)


class Rapid:
    """RapidOCR with the models in its wheel, on one thread."""

    def __init__(self) -> None:
        threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
        params = {"Global.log_level": "critical", "Global.return_word_box": True, **threads}
        self.engine = rapidocr.RapidOCR(params=params)

    def line(self, image: Image) -> str:
        """The text of an image of one line."""
        found = self.engine(PilImage.fromarray(image), use_det=False, use_cls=False, return_word_box=False)
        return " ".join(found.txts or ())

    def read(self, image: Image) -> list[ReadWord]:
        lines = self.engine(PilImage.fromarray(image)).word_results or ()  # of an array it takes red for blue
        words = []
        for text, confidence, corners in (word for line in lines for word in line):
            if text.strip():
                xs, ys = zip(*corners, strict=True)
                words.append(ReadWord(text, Box(min(ys), min(xs), max(ys), max(xs)), float(confidence)))
        return words


if __name__ == "__main__":
    main()
