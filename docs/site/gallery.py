"""Write docs/gallery.md: held-out images with nano's answers, right ones and wrong ones of each task.

    python docs/site/gallery.py

Of each benchmark, the first samples whose answer is right and the first whose answer is wrong, as its task scores
them; none is chosen by hand. Needs the data sets `stamps` and `clipart`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from html import escape
from itertools import islice
from pathlib import Path

from openpali.eval.registry import find_benchmark
from openpali.eval.runner import Run, run
from openpali.home import home
from openpali.infer.pali import Pali
from openpali.reports.drawing import count_mask_tokens
from openpali.reports.eval_page import draw_sample

DOCS = Path(__file__).parents[1]
FOLDER = DOCS / "gallery"
BENCHMARKS = {
    "nano/caption": "Captions in ten languages",
    "nano/ocr": "Words",
    "nano/vqa": "Questions",
    "nano/detect": "Detection",
    "nano/refseg": "Referring segmentation",
    "nano/video": "Videos",
}
EACH, ASKED = 4, 60  # answers of each kind; samples that are asked
SIDE = 256  # pixels
HEAD = """# Gallery

Held-out images with the answers of nano: of each benchmark, the first answers that are right and the first that are
wrong among its first {asked} samples, as its task scores them. [Its card](nano.md#scores) says how often.

This page is written by `python docs/site/gallery.py`. Its images are composed of Tux Paint's stamps and are, like
them, under the GPL-2 or later ([ATTRIBUTION.md](../packages/openpali/src/openpali/demo/ATTRIBUTION.md)).
"""


def main() -> None:
    """Write the page and its images."""
    pali = Pali.from_pretrained("nano")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    sections = [HEAD.format(asked=ASKED)]
    for name, title in BENCHMARKS.items():
        done = run(find_benchmark(name), pali, home() / "data", limit=ASKED)
        figures = "\n".join(figures_of(done, name.replace("/", "-")))
        sections.append(f'## {title}\n\n<div class="gallery">\n{figures}\n</div>\n')
    (DOCS / "gallery.md").write_text("\n".join(sections), "utf-8")


def figures_of(done: Run, stem: str) -> Iterator[str]:
    """Some right answers, then some wrong ones, as HTML; their images are written."""
    assert done.task is not None
    assert done.source is not None
    rights = done.task.rights(done.rows)
    for verdict in (True, False):
        rows = (row for row, right in zip(done.rows, rights, strict=True) if right == verdict)
        for number, row in enumerate(islice(rows, EACH)):
            example, word = done.source[row.index], "right" if verdict else "wrong"
            image = draw_sample(example, done.task.parse(row.text, example.size))
            image.thumbnail((SIDE, SIDE))
            file = FOLDER / f"{stem}-{word}-{number}.jpg"
            image.convert("RGB").save(file, quality=80)
            expected = "" if verdict else f"<br>expected: {_text(row.references[0])}" if row.references else ""
            yield (
                f'<figure><img src="gallery/{file.name}" alt=""><figcaption><span class="{word}">{word}</span> '
                f"<code>{escape(row.prompt)}</code><br>{_text(row.text) or '<i>nothing</i>'}{expected}"
                "</figcaption></figure>"
            )


def _text(text: str) -> str:
    return escape(count_mask_tokens(text))


if __name__ == "__main__":
    main()
