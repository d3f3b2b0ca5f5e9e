"""Words of whole screens and pages: ours, Tesseract and RapidOCR at several settings, on the same images.

    apt-get install tesseract-ocr tesseract-ocr-{ces,deu,fra,ita,pol,por,rus,spa,swe,ukr}
    pip install -e 'packages/openpali[cpu]' -e 'packages/openpali-lab[ocr]'
    openpali data build lines
    OMP_NUM_THREADS=1 python benchmarks/reading.py --json reading.json --answers reading.jsonl.gz
    OMP_NUM_THREADS=1 python benchmarks/reading.py --limit 0   # all, as in the table below: 50 minutes

A word is right if its text is equal and its centre lies in the true box (``openpali.metrics.words``). Each engine
has one thread; seconds are CPU seconds a page, without starting, but Tesseract's command starts for each page.
Each peer is read at its best setting (by F1 to three digits, then by time). RapidOCR runs on ONNX Runtime and
OpenVINO, with and without its classifier of upside-down lines, and with and without words in Chinese, Japanese or
Korean ("no CJK") where a page has none. Tesseract is given the language, the image as it is or at twice its size,
and psm 3 or 11. Intervals are of the difference in F1, from a bootstrap over pages; windows of one page at several
sizes are drawn together.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image as PilImage

from _report import Result, cost, machine, need, rate, report
from openpali import Pali
from openpali.eval.benchmark import AnswerBenchmark, PageBenchmark
from openpali.eval.pages import PageAnswers, WholePageEvaluator
from openpali.eval.provenance import hash_model
from openpali.eval.registry import find_benchmark
from openpali.eval.test_log import record
from openpali.home import home
from openpali.metrics.bootstrap import cluster_interval
from openpali.metrics.ocr import ocr
from openpali.metrics.scores import Scores
from openpali.metrics.words import word_f1
from openpali.tasks.example import Box, Image
from openpali_lab.worlds.benchmarks.pages import page_suite
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.evaluate import words_by
from openpali_screen.text import ReadWord

rapidocr = need("rapidocr", "rapidocr onnxruntime openvino")

LANGUAGES = dict(cs="ces", de="deu", es="spa", fr="fra", it="ita", pl="pol", pt="por", ru="rus", sv="swe", uk="ukr")
OURS = "openpali"
CJK = re.compile("[\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")

Read = Callable[[Image], list[ReadWord]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=10, help="pages of each set; 0: all (50 minutes)")
    parser.add_argument("--json", type=Path, dest="file")
    parser.add_argument("--answers", type=Path, help="write what each engine read on each page (JSONL, gzip)")
    parser.add_argument("--check", action="store_true", help="only say whether the other engines are here")
    options = parser.parse_args()
    version = check_tesseract()
    if options.check:
        return
    torch.set_num_threads(1)
    pali = Pali.from_pretrained(options.model)
    facts = machine("openpali", "rapidocr", "onnxruntime", "openvino") | {"tesseract": version}
    report(measure(pali, options.limit, Answers(options.answers)), facts, options.file)


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


def measure(pali: Pali, limit: int, answers: Answers) -> Iterator[Result]:
    """Each engine on each set, and on its kinds of pages."""
    rapids = {
        "rapidocr onnxruntime, classifier": Rapid(classifier=True),
        "rapidocr onnxruntime": Rapid(),
        "rapidocr openvino": Rapid("openvino"),
    }
    reader_of_bundle(pali).read_words(np.full((64, 64, 3), 255, np.uint8))  # loads the model, as RapidOCR is loaded
    of_words = [each for each in page_suite() if isinstance(each, PageBenchmark) and each.metric == "word_f1"]
    for benchmark in of_words:
        source = benchmark.open(Path())
        drawn = np.random.default_rng(0).permutation(len(source))[: limit or None]
        some = Some(source, sorted(drawn.tolist()))

        runs = {OURS: Timed(reader_of_bundle(pali).read_words)} | {
            name: Timed(rapid.read) for name, rapid in rapids.items()
        }
        for scale, layout in product((1, 2), (3, 11)):
            runs[f"tesseract {scale}x, psm {layout}"] = Timed(Tesseract(some, scale, layout).read)
        pages: dict[str, list[PageAnswers]] = {}
        seconds: dict[str, float] = {}
        for name, run in runs.items():
            pages[name] = WholePageEvaluator(benchmark.name, some).run(words_by(run))
            seconds[name] = run.mean
            answers.add(benchmark.name, name, pages[name], run.seconds)
        score = word_f1_of(pages[OURS]).summary[benchmark.metric]
        record(benchmark, len(pages[OURS]), hash_model(pali, benchmark.parts), score)
        for name in rapids:
            pages[f"{name}, no CJK"], seconds[f"{name}, no CJK"] = [*map(without_cjk, pages[name])], seconds[name]
        yield from compare(benchmark, pages, seconds)
    yield from compare_lines(pali, rapids["rapidocr onnxruntime"])


def compare(
    benchmark: PageBenchmark, pages: Mapping[str, Sequence[PageAnswers]], seconds: Mapping[str, float]
) -> Iterator[Result]:
    """Ours beside the best setting of each peer, by kinds of pages; then beside every setting."""
    scores = {name: word_f1_of(read) for name, read in pages.items()}
    peers = [name for name in pages if name != OURS]

    def rows(peer: str, label: str, patterns: Mapping[str, str]) -> Iterator[Result]:
        for kind, pattern in patterns.items():
            chosen = [i for i, page in enumerate(pages[OURS]) if re.search(pattern, page.key)]
            if not chosen:
                continue
            ours, theirs = (word_f1_of([pages[name][i] for i in chosen]) for name in (OURS, peer))
            clusters = [benchmark.cluster(pages[OURS][i].key) for i in chosen]
            interval = cluster_interval(ours.counts["word_f1"], clusters, theirs.counts["word_f1"])
            values = ours.summary["word_f1"], theirs.summary["word_f1"]
            yield rate(f"{label} {kind}".strip() + ": word F1", *values, peer, "F1", interval)
        yield cost(f"{label}: time", seconds[OURS], seconds[peer], peer, "CPU s a page")

    for engine in ("rapidocr", "tesseract"):
        settings = [name for name in peers if name.startswith(engine)]
        best = max(settings, key=lambda name: (round(scores[name].summary["word_f1"], 3), -seconds[name]))
        yield from rows(best, benchmark.name, {"": "", **benchmark.kinds})
    for name in peers:
        yield from rows(name, f"{benchmark.name} (setting)", {"": ""})


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
    errors = {name: ocr(texts, truth).summary[benchmark.metric] for name, texts in read.items()}
    record(benchmark, len(truth), hash_model(pali, pali.parts), errors["ours"])
    yield rate("real/line: lines right", right["ours"], right["rapidocr"], "rapidocr", "share")
    yield cost("real/line: characters wrong", errors["ours"], errors["rapidocr"], "rapidocr", "share")
    yield cost("real/line: time", seconds["ours"], seconds["rapidocr"], "rapidocr", "CPU ms a line")


def word_f1_of(pages: Sequence[PageAnswers]) -> Scores:
    return word_f1([page.found for page in pages], [page.true for page in pages])


def without_cjk(page: PageAnswers) -> PageAnswers:
    """What a user leaves out who knows that the page has no such script."""
    return replace(page, found=[word for word in page.found if not CJK.search(word.name)])


def language_of(key: str) -> str:
    """What Tesseract calls the language of a page: that at the beginning of its key, or English.

    Keys are "SHARD: LANGUAGE-PAGE" and "SHARD: LANGUAGE_PACKAGE-PAGE"; those of windows have no language.
    """
    return LANGUAGES.get(re.split("[-_]", key.rpartition(" ")[2])[0], "eng")


class Answers:
    """What each engine read on each page, one JSON line a page, in a compressed file."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        if file is not None:
            file.write_bytes(b"")

    def add(self, benchmark: str, engine: str, pages: Sequence[PageAnswers], seconds: Sequence[float]) -> None:
        """Append pages; boxes are [ymin, xmin, ymax, xmax] in pixels."""
        if self.file is None:
            return
        with gzip.open(self.file, "at", encoding="utf-8") as file:
            for page, spent in zip(pages, seconds, strict=True):
                words = [[word.name, *map(round, word.box)] for word in page.found]
                facts = {"benchmark": benchmark, "engine": engine, "page": page.key, "seconds": round(spent, 3)}
                file.write(json.dumps({**facts, "words": words}, ensure_ascii=False) + "\n")


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
    """Reads, and counts CPU seconds of this process and of those that it started, for each page."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.seconds: list[float] = []

    def __call__(self, image: Image) -> list[ReadWord]:
        began = cpu_seconds()
        words = self.read(image)
        self.seconds.append(cpu_seconds() - began)
        return words

    @property
    def mean(self) -> float:
        return mean(self.seconds)


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Tesseract:
    """The command ``tesseract`` on pages in turn, whose keys begin with their language if that is not English."""

    def __init__(self, source: Some, scale: int, layout: int) -> None:
        self.keys = iter([source[i].key for i in range(len(source))])
        self.scale, self.layout = scale, layout

    def read(self, image: Image) -> list[ReadWord]:
        language = language_of(next(self.keys))
        page = PilImage.fromarray(image)
        if self.scale > 1:
            page = page.resize((self.scale * page.width, self.scale * page.height), PilImage.Resampling.BICUBIC)
        png = io.BytesIO()
        page.save(png, "PNG", compress_level=1)
        done = subprocess.run(
            ["tesseract", "stdin", "stdout", "-l", language, "--psm", str(self.layout), "tsv"],
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

    def __init__(self, engine: str = "onnxruntime", *, classifier: bool = False) -> None:
        threads = {"onnxruntime": ("intra_op_num_threads", "inter_op_num_threads")}.get(
            engine, ("inference_num_threads",)
        )
        params = {
            "Global.log_level": "critical",
            "Global.return_word_box": True,
            "Global.use_cls": classifier,
            **{f"{part}.engine_type": rapidocr.EngineType(engine) for part in ("Det", "Cls", "Rec")},
            **{f"EngineConfig.{engine}.{each}": 1 for each in threads},
        }
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
