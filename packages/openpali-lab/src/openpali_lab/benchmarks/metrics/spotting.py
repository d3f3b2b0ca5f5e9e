"""Words with their boxes, read from an answer and scored end to end.

As ``spotting_metric.py`` and ``spotting_eval/script.py`` (of the ICDAR competitions on robust reading) in
``OCRBench_v2/eval_scripts`` of Yuliang-Liu/MultimodalOCR do it, quirks included.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from openpali.metrics.boxes import f1

ILLEGIBLE = "###"
"""The text of what nobody need read."""

_ITEM = re.compile(r"[\[(]\s*([^\[\]()]*?)\s*[\])]")
_QUOTED = re.compile(r'\s*"(.*)"\s*')
_MARKS = "!?.:,*\"()·[]/'"


class Word(NamedTuple):
    """A text and its box."""

    left: int
    top: int
    right: int
    bottom: int
    text: str


def spotting(answer: str, truth: Sequence[Sequence[Any]]) -> float:
    """F1 of words, 0..1: a word is right if its IoU is above .5 and its text the same but for case.

    Each true word, in order, is compared with the first free word of the answer that overlaps so, whatever its
    text. Either mark at the ends of a true text (``!?.:,*"()·[]/'``), or both, may be missing in the answer. Words
    that lie by more than half in something :data:`ILLEGIBLE` do not count.

    Args:
        truth: the fields of each true :class:`Word`.
    """
    words = [_as_read_back(Word(*fields)) for fields in truth]
    legible = [word for word in words if word.text != ILLEGIBLE]
    blots = [word for word in words if word.text == ILLEGIBLE]
    said = [_as_read_back(word) for word in read_words(answer) if word.left < word.right and word.top < word.bottom]
    free = [word for word in said if not any(_shared(word, blot) > 0.5 * _area(word) for blot in blots)]
    count, hits = len(free), 0
    for word in legible:
        near = next((i for i, other in enumerate(free) if _iou(word, other) > 0.5), None)
        if near is not None:
            hits += _same_text(word.text, free.pop(near).text)
    return f1(hits, count, len(legible)) if hits else 0.0


def read_words(answer: str) -> list[Word]:
    """The words of a list of lists (x1, y1, x2, y2, text), or of what looks like such lists, each once.

    Numbers are whole and in 0..1000; lists with others are left out (``extract_bounding_boxes_robust``).
    """
    return [*dict.fromkeys(filter(None, map(_word, _items(answer))))]


def _items(answer: str) -> list[Sequence[Any]]:
    try:
        value = ast.literal_eval(answer)
    except Exception:  # of any kind, as the official code has it
        value = None
    if value is None:
        return [item.split(",", 4) for item in _ITEM.findall(answer)]
    return [item for item in value if isinstance(item, list | tuple)] if isinstance(value, list | tuple) else []


def _word(item: Sequence[Any]) -> Word | None:
    try:
        left, top, right, bottom = edges = [int(str(edge).strip()) for edge in item[:4]]
    except ValueError:
        return None
    if len(item) < 5 or not all(0 <= edge <= 1000 for edge in edges):
        return None
    return Word(left, top, right, bottom, str(item[4]).replace("\n", "").strip().strip('"').strip("'"))


def _as_read_back(word: Word) -> Word:
    """With its text as the official code gets it back from the file in which it hands it to the competition's."""
    text = word.text.replace("\r", "")
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1].replace("\\\\", "\\").replace('\\"', '"')
    return word._replace(text=text)


def _same_text(true: str, said: str) -> bool:
    true = true.upper()
    first, last = true[:1] in _MARKS, true[-1:] in _MARKS
    return said.upper() in (true, true[first:], true[: len(true) - last], true[first : len(true) - last])


def _iou(one: Word, other: Word) -> float:
    shared = _shared(one, other)
    return shared / (_area(one) + _area(other) - shared) if shared else 0.0


def _shared(one: Word, other: Word) -> int:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(0, width) * max(0, height)


def _area(word: Word) -> int:
    return (word.right - word.left) * (word.bottom - word.top)
