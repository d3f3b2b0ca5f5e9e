"""The page with nano in int8 answers held-out images as `openpali predict` does. Takes minutes:

    make playground && python -m pytest -m slow -s tests/playground/test_held_out.py

It needs the data sets `stamps` and `clipart`, and prints agreement and seconds in the browser, as
`docs/playground.md` has them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import pytest
from in_browser import BUILT, ask, files_at
from PIL import Image as PilImage
from playwright.sync_api import Page, sync_playwright

from browser_fixture import CHROMIUM
from openpali import Pali
from openpali.data.sources.mask_formats import RunLengths
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import find_benchmark
from openpali.home import DEMO, home
from openpali.infer.pipeline import Prediction
from openpali.metrics.boxes import box_iou
from openpali.rng import generator
from openpali.serve.web import read_examples
from openpali.tasks.example import Example, Image, Size
from openpali.tasks.registry import form_of, get_task
from openpali_lab.worlds.benchmarks import pages

PLAYGROUND = Path(os.environ.get("OPENPALI_PLAYGROUND", BUILT / "playground"))
SAMPLES = int(os.environ.get("OPENPALI_PLAYGROUND_SAMPLES", "50"))
SETS = ("nano/caption", "nano/vqa", "nano/detect", "nano/refseg", "nano/ocr", "real/line")
PAGES = min(20, SAMPLES)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(not (PLAYGROUND / "tables.json").is_file(), reason="no page here: make playground"),
    pytest.mark.skipif(
        not (home() / "data" / "stamps").is_dir(), reason="no data here: openpali data build stamps, and clipart"
    ),
]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with files_at(PLAYGROUND) as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(url)
        page.wait_for_selector("#model:not([hidden])")
        yield page
        browser.close()


def png(image: Image) -> bytes:
    file = io.BytesIO()
    PilImage.fromarray(image).save(file, "png")
    return file.getvalue()


def asked(example: Example, benchmark: AnswerBenchmark, index: int) -> tuple[str, str]:
    """What a benchmark asks about an example: text and language."""
    if benchmark.task == "refseg":
        return example.expression, "en"
    task = get_task(benchmark.task, **benchmark.options)
    slots = task.template.read(task.write(example, generator(0, index)).prompt)
    assert slots is not None
    return slots.get("text", ""), slots.get("lang", "en")


def agreement(ours: Prediction, theirs: dict[str, Any], size: Size) -> float:
    """1 for the same text, or if each object has its like at an IoU of .7 or more: of masks, if there are any."""
    objects, found = ours.answer.objects, theirs["openpali"]["objects"]
    if not objects and not found:
        return float(ours.answer.text == theirs["text"].strip())
    if len(objects) != len(found):
        return 0.0
    if objects[0].mask is not None:
        mask = RunLengths(Size(*found[0]["mask"]["size"]), found[0]["mask"]["counts"]).draw(size)
        return float((mask & objects[0].mask).sum() >= 0.7 * (mask | objects[0].mask).sum())
    overlap = box_iou([thing.box for thing in objects], [each["box"] for each in found])
    return float(overlap.max(0).min() >= 0.7 and overlap.max(1).min() >= 0.7)


def compare(name: str, pali: Pali, page: Page, rows: Sequence[tuple[Image, str, str, str]], least: float) -> None:
    """Ask both about (image, task, text, lang), print how they agree, and check it."""
    same, exact, seconds, odd, sure = [], [], [], [], []
    for image, task_name, text, lang in rows:
        task = pali.task(task_name)
        [ours] = pali.predict([[image]], [pali.write_prompt(task, text, lang)], task=task)
        theirs = ask(page, png(image), task_name, text, lang)
        same.append(agreement(ours, theirs, Size(*image.shape[:2])))
        exact.append(float(ours.answer.text == theirs["text"].strip()))
        seconds.append(theirs["seconds"])
        own = theirs["openpali"]
        odd.append(float(own["out_of_distribution"] == ours.out_of_distribution))
        if ours.answer.confidence is not None and own["confidence"] is not None:
            sure.append(abs(own["confidence"] - ours.answer.confidence))
    told = f"confidence differs by {mean(sure):.3f}, " if sure else ""
    print(
        f"\n{name}: {len(rows)} images, same {mean(same):.2f}, same tokens {mean(exact):.2f}, {told}in or out of "
        f"distribution {mean(odd):.2f}, {median(seconds):.2f} s",
        flush=True,
    )
    assert mean(same) >= least


@pytest.mark.parametrize("name", SETS)
def test_held_out_images_are_answered_as_by_predict(name: str, nano: Pali, page: Page) -> None:
    benchmark = find_benchmark(name)
    assert isinstance(benchmark, AnswerBenchmark)
    source, rows = benchmark.open(home() / "data"), []
    for index in range(min(SAMPLES, len(source))):
        task = form_of(benchmark.task)
        rows.append((np.asarray(source[index].images[0]), task, *asked(source[index], benchmark, index)))
    compare(name, nano, page, rows, 0.8)


def test_the_examples_are_answered_as_by_predict(nano: Pali, page: Page) -> None:
    rows = []
    for each in read_examples():
        if len(each["images"]) == 1 and each["task"] != "read":
            image = np.asarray(PilImage.open(DEMO / each["images"][0]).convert("RGB"))
            rows.append((image, each["task"], each["text"], each["lang"] or "en"))
    compare("demo", nano, page, rows, 0.9)


@pytest.mark.parametrize("name", ["real_screens", "real_documents"])
def test_pages_are_read_as_by_read(name: str, nano: Pali, page: Page) -> None:
    source = open_source(str(Path(pages.__file__).with_name(f"{name}.tar")), {})
    step = max(1, len(source) // PAGES)
    alike, seconds, sizes, counts = [], [], [], []
    for index in range(0, min(len(source), PAGES * step), step):
        image = np.asarray(source[index].images[0])
        ours = [word.text for line in nano.read_page(image) for word in line.words]
        read = ask(page, png(image), "read")
        theirs = [word["text"] for line in read["lines"] for word in line["words"]]
        matching = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
        shared = sum(block.size for block in matching)
        alike.append(2 * shared / max(1, len(ours) + len(theirs)))
        seconds.append(read["seconds"])
        sizes.append(image.shape[0] * image.shape[1] / 1e6)
        counts.append(len(ours))
        print(f"{name}[{index}]: {alike[-1]:.3f} of {len(ours)} words, {seconds[-1]:.1f} s", flush=True)
    print(
        f"\n{name}: {len(alike)} pages of {mean(sizes):.2f} megapixels and {mean(counts):.0f} words, "
        f"the same words in order {mean(alike):.3f}, {median(seconds):.1f} s",
        flush=True,
    )
    assert mean(alike) > 0.9
