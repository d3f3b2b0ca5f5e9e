"""Make ``real_line.tar``, the set of the benchmark ``real/line``: lines cut out of screenshots and printed pages.

    python tests/worlds/make_real_lines.py packages/openpali-lab/src/openpali_lab/worlds/benchmarks/real_line.tar

on Debian 13 with chromium, groff, man-db, poppler-utils, fonts-liberation and fonts-urw-base35, and the manual
pages of curl, locales, postgresql-client and poppler-utils. It was run once: pages change, and so would the set.

- 100 lines of this project's documents, as Chromium shows them in four styles: sizes, light and dark, one to two
  pixels per CSS pixel;
- 50 lines of manual pages as two terminals show them, also by Chromium;
- 50 lines of manual pages in print: groff's PDF, rendered by pdftoppm at 80 to 200 dots per inch.

Texts and boxes come from the DOM (``Range.getClientRects`` of each word) and from pdftotext. Consecutive words of a
line are cut out together, at most 24 characters, with 0 to 4 pixels around their boxes. A generator with a fixed
seed picks the lines; no model has been asked about them before. Images have a palette of 32 colours.
"""

from __future__ import annotations

import html
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markdown_it import MarkdownIt
from PIL import Image

MOST = 24  # characters of a line
DOCUMENTS = (
    "README.md",
    "docs/data.md",
    "docs/training.md",
    "docs/metrics.md",
    "docs/weights.md",
    "CONTRIBUTING.md",
)
STYLES = {  # pixels per CSS pixel, and CSS
    "sans": (1, "body { font: 16px/1.5 sans-serif; color: #24292f; background: #fff } a { color: #0969da }"),
    "arial": (1.5, "body { font: 13px/1.35 Arial; color: #222; background: #f6f6f4 } code { background: #e4e4e0 }"),
    "dark": (1, "body { font: 14px/1.6 Arial; color: #c9d1d9; background: #0d1117 } a { color: #58a6ff }"),
    "serif": (
        2,
        "body { font: 15px/1.4 'Times New Roman'; color: #111; background: #fffdf5 } a { color: #0645ad }",
    ),
}
TERMINALS = {
    "night": (1, "body { font: 14px/1.2 monospace; color: #d3d7cf; background: #2e3436 }"),
    "day": (2, "body { font: 12px/1.15 'Liberation Mono'; color: #000; background: #fff }"),
}
ON_SCREEN = ("curl", "psql", "pdftotext")
IN_PRINT = {"pgbench": 80, "locale": 110, "pdftoppm": 150, "getent": 200}  # page -> dots per inch
WORDS = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), words = [];
for (let node; node = walker.nextNode();) {
  for (const found of node.data.matchAll(/\\S+/g)) {
    const range = document.createRange();
    range.setStart(node, found.index);
    range.setEnd(node, found.index + found[0].length);
    const boxes = range.getClientRects();
    if (boxes.length == 1) {
      words.push([found[0], boxes[0].left, boxes[0].top, boxes[0].right, boxes[0].bottom]);
    } else words.push(null);
  }
}
document.body.insertAdjacentHTML("beforeend", "<pre hidden id=words></pre>");
document.getElementById("words").textContent = JSON.stringify(words);
"""


class Word(NamedTuple):
    """A printed word, and its edges in pixels of the page."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


class Page(NamedTuple):
    """An image, its words in reading order (``None`` where one is broken), and what it shows."""

    image: Image.Image
    words: list[Word | None]
    name: str


def on_screen(name: str, body: str, style: tuple[float, str]) -> Page:
    """A page of HTML as Chromium shows it."""
    ratio, css = style
    with tempfile.TemporaryDirectory() as work:
        page, shot = Path(work) / "page.html", Path(work) / "page.png"
        margins = "body { width: 760px; margin: 20px 30px }"
        page.write_text(
            f"<meta charset=utf-8><style>{margins} {css}</style><body>{body}<script>{WORDS}</script>", "utf-8"
        )
        chromium = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--force-device-scale-factor={ratio}", "--window-size=820,3600"),
        ]
        dumped = _run([*chromium, "--dump-dom", page.as_uri()]).decode("utf-8")
        _run([*chromium, f"--screenshot={shot}", page.as_uri()])
        image = Image.open(shot).convert("RGB")
    found = re.search(r'<pre hidden="" id="words">(.*?)</pre>', dumped, re.DOTALL)
    assert found is not None
    edges = [
        each and Word(each[0], *(ratio * edge for edge in each[1:])) for each in json.loads(html.unescape(found[1]))
    ]
    return Page(image, [*_apart(edges)], name)


def _apart(words: list[Word | None]) -> Iterator[Word | None]:
    """The words, with ``None`` for those that touch another, as before a comma in another font."""
    for before, word, after in zip([None, *words], words, [*words[1:], None], strict=False):
        touches = word and (
            (before and before.bottom > word.top and abs(word.left - before.right) < 1)
            or (after and after.top < word.bottom and abs(after.left - word.right) < 1)
        )
        yield None if touches else word


def printed(name: str, dots: int) -> Page:
    """The first page of a manual page's PDF."""
    with tempfile.TemporaryDirectory() as work:
        pdf = Path(work) / "page.pdf"
        pdf.write_bytes(_run(["man", "-Tpdf", name]))
        boxes = _run(["pdftotext", "-bbox", "-l", "1", str(pdf), "-"]).decode("utf-8")
        _run(["pdftoppm", "-png", "-l", "1", "-singlefile", "-r", str(dots), str(pdf), str(pdf.with_suffix(""))])
        image = Image.open(pdf.with_suffix(".png")).convert("RGB")
    pattern = r'<word xMin="([\d.]+)" yMin="([\d.]+)" xMax="([\d.]+)" yMax="([\d.]+)">(.*?)</word>'
    words = [
        Word(html.unescape(found[4]), *(float(edge) * dots / 72 for edge in found[:4]))
        for found in re.findall(pattern, boxes)
    ]
    return Page(image, [*words], name)


def runs(words: list[Word | None], room: Iterator[int]) -> Iterator[list[Word]]:
    """Consecutive words of one line, as many as fit into the next of ``room`` characters."""
    run: list[Word] = []
    most = next(room)
    for word in [*words, None]:
        if run and (
            word is None
            or abs(word.bottom - run[-1].bottom) > 2
            or not 0 < word.left - run[-1].right < 1.2 * (word.bottom - word.top)
            or len(" ".join(w.text for w in [*run, word])) > most
        ):
            yield run
            run, most = [], next(room)
        if word is not None and len(word.text) <= most:
            run.append(word)
        elif word is not None and run:
            yield run
            run = []


def cut(page: Page, run: list[Word], rng: np.random.Generator) -> tuple[str, Image.Image]:
    """Text and image of a run of words."""
    text = unicodedata.normalize("NFKC", " ".join(word.text for word in run)).replace("\u2010", "-")
    pads = rng.integers(0, 5, 4)
    box = (
        max(0, round(run[0].left) - int(pads[0])),
        max(0, round(min(word.top for word in run)) - int(pads[1])),
        min(page.image.width, round(run[-1].right) + int(pads[2])),
        min(page.image.height, round(max(word.bottom for word in run)) + int(pads[3])),
    )
    return text, page.image.crop(box)


def pages() -> Iterator[tuple[int, Page]]:
    """Each page, and how many of its lines to take."""
    markdown = MarkdownIt("commonmark").enable("table")
    for number, (style, look) in enumerate(STYLES.items()):
        body = "".join(markdown.render(Path(name).read_text("utf-8")) for name in DOCUMENTS[number : number + 2])
        yield 25, on_screen(style, body, look)
    for number, (style, look) in enumerate(TERMINALS.items()):
        text = "".join(
            re.sub(".\b", "", _run(["man", "-Tutf8", name]).decode("utf-8"))
            for name in ON_SCREEN[number : number + 2]
        )
        text = re.sub(r"\x1b\[[\d;]*m", "", text)
        yield 25, on_screen(style, f"<pre style='font: inherit'>{html.escape(text)}</pre>", look)
    for (name, dots), count in zip(IN_PRINT.items(), (13, 13, 12, 12), strict=True):
        yield count, printed(name, dots)


def main(out: Path) -> None:
    """Write the shard."""
    rng = np.random.default_rng(231)
    seen: set[str] = set()
    number = 0
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as shard:
        for count, page in pages():
            room = iter(lambda: int(rng.integers(8, MOST + 1)), None)
            inside = [
                w if w and w.bottom < page.image.height and w.right < page.image.width else None for w in page.words
            ]
            found = [run for run in runs(inside, room) if any(c.isalnum() for w in run for c in w.text)]
            order, taken = rng.permutation(len(found)), 0
            for index in order:
                text, image = cut(page, found[index], rng)
                if text in seen or len(text) > MOST:
                    continue
                seen.add(text)
                png = io.BytesIO()
                image.quantize(32).save(png, "PNG", optimize=True)
                _add(
                    shard, f"{page.name}-{number:03}.json", json.dumps({"text": text}, ensure_ascii=False).encode()
                )
                _add(shard, f"{page.name}-{number:03}.png", png.getvalue())
                number, taken = number + 1, taken + 1
                if taken == count:
                    break
            assert taken == count, f"{page.name} has only {taken} lines"
    print(f"{number} lines, {out.stat().st_size:,} bytes")


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _run(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
