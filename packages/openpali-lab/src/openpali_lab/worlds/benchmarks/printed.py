"""Error of a reader on lines of screens in held-out fonts, by kind, for decisions while training; no test set.

``python -m openpali_lab.worlds.benchmarks.printed``, with the folder of a model if it is not nano's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from openpali.metrics.edit import edit_distance
from openpali.tasks.example import Example
from openpali_lab.worlds.sources import open_world
from openpali_screen.reader import ScreenReader

SEED = 71
KINDS: Mapping[str, tuple[int, dict[str, Any]]] = {
    "smooth": (200, {"script": "Latin", "bitmap": False}),
    "unsmoothed": (200, {"script": "Latin", "bitmap": True}),
    "Cyrillic": (100, {"script": "Cyrillic"}),
    "code": (100, {"script": "code"}),
}


def dev_lines(kind: str) -> list[Example]:
    """The same lines of a kind each time."""
    count, options = KINDS[kind]
    source = open_world("nano/printed", {"split": "heldout", "seed": SEED, **options})
    return [source[number] for number in range(count)]


def errors(reader: ScreenReader, examples: list[Example]) -> dict[str, float]:
    """Share of characters that are wrong, and of lines that are read exactly."""
    pairs = []
    for example in examples:
        words = [word.text for line in reader.line(example.images[0]) for word in line.words]
        pairs.append((" ".join(words), example.text))
    wrong = sum(edit_distance(read, text) for read, text in pairs)
    exact = sum(read == text for read, text in pairs) / len(pairs)
    return {"cer": wrong / sum(len(text) for _, text in pairs), "exact": exact}


if __name__ == "__main__":
    model = ScreenReader.from_pretrained(sys.argv[1] if len(sys.argv) > 1 else "nano")
    print(json.dumps({kind: errors(model, dev_lines(kind)) for kind in KINDS}, indent=2))
