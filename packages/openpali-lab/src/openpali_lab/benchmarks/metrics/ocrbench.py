"""Scores of OCRBench v2's answers: texts, numbers, boxes and dictionaries.

As ``vqa_metric.py``, ``IoUscore_metric.py`` and ``TEDS_metric.py`` in ``OCRBench_v2/eval_scripts`` of
Yuliang-Liu/MultimodalOCR compute them, quirks included, since published numbers depend on them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from openpali.metrics.boxes import box_iou
from openpali.metrics.edit import edit_distance
from openpali_lab.benchmarks.metrics.tables import NO_LITERAL

_FENCE = re.compile(r"```(?:python|json)?\n(.*?)\n```", re.S | re.I)
_ITEM = re.compile(r"""["']?([\w\s]+)["']?\s*[:=]\s*["']?([^\n,"'{}]+)["']?""")
_DIGITS = 1_000  # longer numbers count as 0: no reference is so long, and Python refuses to read some
_SEPARATORS = ("", ".", ". ", ",", ", ", "、", ";", "; ", " ", "和")
_BOX = re.compile(r"[(\[]\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*[)\]]")


# ---- texts (vqa_metric.py)


def contained(answer: str, references: Sequence[str]) -> float:
    """1 if a reference of up to four words is in the answer; for longer ones their similarity, if it is .5 or more.

    Case does not matter. Of several references, the best counts (``vqa_evaluation``).
    """
    return contained_as_written(answer.lower(), [text.lower() for text in references])


def contained_as_written(answer: str, references: Sequence[str]) -> float:
    """The same with regard to case (``vqa_evaluation_case_sensitive``)."""
    said, *texts = (text.strip().replace("\n", " ") for text in (answer, *references))
    return max(_contained(said, text, len(text.split()) < 5) for text in texts)


def contained_chinese(answer: str, references: Sequence[str]) -> float:
    """The same without regard to case and spaces (``cn_vqa_evaluation``).

    What counts as words are the parts between ASCII commas, of which a short reference has up to three.
    """
    said, *texts = (_without_spaces(text.lower()) for text in (answer, *references))
    return max(_contained(said, text, len(text.split(",")) < 4) for text in texts)


def _contained(said: str, text: str, short: bool) -> float:
    if short:
        return float(text in said)
    similar = 1 - edit_distance(said, text) / max(len(said), len(text))
    return similar if similar >= 0.5 else 0.0


def choice(answer: str, references: Sequence[str]) -> float:
    """1 if all letters of the answer are the reference: "B." and "(B)" are B, "B) cat" is not (``eval.py``)."""
    return float("".join(filter(str.isalpha, answer)) == references[0])


def letters(answer: str, reference: str) -> float:
    """1 if the characters of the reference are in the answer, with the same of ten separators between them or none.

    A sheet of several choices may say "ABD", "A, B, D" or "A、B、D" (``eval.py``).
    """
    return float(any(separator.join(reference) in answer for separator in _SEPARATORS))


def formula(answer: str, references: Sequence[str]) -> float:
    """1 if a reference is in the answer, without regard to spaces (``math_expression_evaluation``)."""
    said, *texts = (_without_spaces(text) for text in (answer, *references))
    return float(any(text in said for text in texts))


def formula_chinese(answer: str, references: Sequence[str]) -> float:
    r"""The same without ``\text{...}`` around texts (``cn_math_expression_evaluation``)."""
    said, *texts = (re.sub(r"\\text\{([^{}]*)\}", r"\1", text) for text in (answer, *references))
    return formula(said, texts)


def _without_spaces(text: str) -> str:
    return re.sub("[ \n]", "", text.strip())


# ---- numbers (``counting_evaluation`` in vqa_metric.py)


def number_contained(answer: str, references: Sequence[str]) -> float:
    """1 if a reference is in the answer: 1 is in 12, too. References alone are put into lower case."""
    return float(any(text.lower().strip().replace("\n", " ") in answer for text in references))


def number_near(answer: str, references: Sequence[str]) -> float:
    """1 less the relative error of the first whole number in the answer, or 0 from an error of .5 on.

    The number 0, and a reference of 0, score 0.
    """
    found = re.search(r"\d+", answer)
    number = int(found[0]) if found and len(found[0]) <= _DIGITS else 0
    true = [int(text) for text in references] if number else []
    near = [1 - abs(number - one) / one for one in true if one > 0]
    return max((value for value in near if value > 0.5), default=0.0)


# ---- boxes (IoUscore_metric.py)


def last_box(answer: str, box: Sequence[float]) -> float:
    """IoU of a box with the last one in the answer, as (x1, y1, x2, y2) or [x1, y1, x2, y2] in 0..1000.

    The answer is taken as it is, whatever the size of the image.
    """
    found = [[int(edge) for edge in match.groups()] for match in _BOX.finditer(answer)]
    inside = [edges for edges in found if max(edges) <= 1000]
    return _iou(inside[-1], box) if inside else 0.0


def answer_and_box(answer: str, truth: Mapping[str, Any]) -> float:
    """Half for the text ``answer`` in a dictionary (:func:`contained`), half for the IoU of its ``bbox``.

    Args:
        truth: ``answers``, the references, and ``bbox``, as x1, y1, x2, y2.
    """
    said = read_dictionary(answer)
    text = contained(said["answer"], truth["answers"]) if "answer" in said else 0.0
    try:
        box = ast.literal_eval(said.get("bbox", ""))
    except NO_LITERAL:
        box = ()
    return 0.5 * text + 0.5 * _iou(box, truth["bbox"])


def _iou(found: Any, box: Sequence[float]) -> float:
    """Of two boxes, in whole pixels; 0 if one has a far edge first, and for what is no box."""
    try:
        one, other = ([int(edge) for edge in edges] for edges in (found, box))
        return float(box_iou([one[:4]], [other[:4]]).item())
    except (TypeError, ValueError, OverflowError):
        return 0.0


# ---- dictionaries (TEDS_metric.py)


def fields_f1(answer: str, truth: Mapping[str, Sequence[str | None]]) -> float:
    """Share of keys, of a dictionary in the answer and of the true one together, whose values agree.

    Case and spaces of values do not matter. A list in the answer is taken as it is printed, and so agrees with
    nothing (``compute_f1_score``).

    Args:
        truth: key -> the values that are right. Of all dictionaries with one value for each key, the best counts;
            if a key has no value, there is none, and the score is 0. A value may be missing: None.
    """
    said = {key: _plain(value) for key, value in read_dictionary(answer).items()}
    some = (dict(zip(truth, values, strict=True)) for values in product(*truth.values()))
    return max((_fields_f1(said, one) for one in some), default=0.0)


def _fields_f1(said: Mapping[str, str], truth: Mapping[str, str | None]) -> float:
    true = {key: _plain(value) for key, value in truth.items() if value is not None}
    keys = said.keys() | true.keys()
    return sum(said.get(key) == true.get(key) for key in keys) / len(keys) if keys else 0.0


def _plain(text: str) -> str:
    return _without_spaces(text.lower())


def read_dictionary(answer: str) -> dict[str, str]:
    """A dictionary in JSON or Python, or else all that looks like ``key: value``; of code fences, the first alone.

    Values are texts, as Python prints them. Other literals, and dictionaries with keys that are no texts, are empty
    dictionaries (``convert_str_to_dict``).
    """
    fence = _FENCE.search(answer)
    content = fence[1] if fence else answer.strip()
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(content)
            known = isinstance(value, dict) and all(isinstance(key, str) for key in value)
            return {key.strip(): str(each).strip() for key, each in value.items()} if known else {}
        except NO_LITERAL:
            continue
    return {key.strip(): value.strip() for key, value in _ITEM.findall(content)}
