"""OCRBench v2: questions about text in images, of 30 types, each scored by the rule of its type."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.metrics.scores import Scores, mean, mean_scores
from openpali.tasks.example import Example
from openpali.tasks.scoring import Answered
from openpali_lab.benchmarks import scoring
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing, with_image
from openpali_lab.benchmarks.metrics import ocrbench as rules
from openpali_lab.benchmarks.metrics.outlines import outline_similarity
from openpali_lab.benchmarks.metrics.spotting import spotting
from openpali_lab.benchmarks.metrics.tables import chart_similarity, html_similarity, lxml, markdown_similarity
from openpali_lab.benchmarks.metrics.transcripts import chinese_words, transcript

FOLDER = "ocrbench-v2"
QUESTIONS = f"{FOLDER}/OCRBench_v2.json"
HOME = "https://github.com/Yuliang-Liu/MultimodalOCR (OCRBench_v2)"

Rule = Callable[[str, Any], float]
"""An answer and what is right -> 0..1."""


def _answers(entry: Fields) -> list[str]:
    given = entry.values.get("answers")
    return [given] if isinstance(given, str) else entry.texts("answers")


def _document(entry: Fields) -> str:
    return _answers(entry)[0]


def _table(entry: Fields) -> list[str]:
    """What a table is written in, and the table."""
    question = entry.text("question").lower()
    form = next((form for form in _TABLES if form in question), None)
    if form is None:
        raise ValueError(
            f"{entry.where}: the question asks for no table in {' or '.join(_TABLES)}; the original is at {HOME}"
        )
    return [form, _document(entry)]


def _handwritten(entry: Fields) -> list[str]:
    """How an answer of a pupil is compared, and the answer."""
    return ["sentences" if "简答" in entry.text("question") else "letters", _document(entry)]


def _chart(entry: Fields) -> dict[str, Any]:
    given = entry.values.get("answers")
    if not (isinstance(given, list) and given and isinstance(given[0], dict)):
        raise ValueError(
            f"{entry.where}: 'answers' of a chart is a list with a dictionary; the original is at {HOME}"
        )
    return given[0]


def _transcript(answer: str, text: str) -> float:
    return transcript(answer, text, scoring.wordnet())


def _as_asked(answer: str, truth: Sequence[str]) -> float:
    """By the rule that the question names."""
    rule, right = truth
    return _ASKED[rule](answer, right)


_TABLES: dict[str, Rule] = {"html": html_similarity, "markdown": markdown_similarity}
_ASKED: dict[str, Rule] = {**_TABLES, "letters": rules.letters, "sentences": _transcript}


def _box(entry: Fields) -> list[float]:
    return entry.numbers("answers", 4)


def _answers_and_box(entry: Fields) -> dict[str, Any]:
    return {"answers": _answers(entry), "bbox": entry.numbers("bbox", 4)}


def _words(entry: Fields) -> list[list[Any]]:
    """Texts with the upright boxes around their outlines, as ``spotting_metric.py`` makes them."""
    words: list[list[Any]] = []
    for corners, text in zip(entry.corners("bbox"), entry.texts("content"), strict=False):
        across, down = corners[::2], corners[1::2]
        words.append([min(across), min(down), max(across), max(down), text])
    return words


def _fields(entry: Fields) -> dict[str, list[str | None]]:
    """The right values of each key, of a dictionary or its text (``generate_combinations`` in TEDS_metric.py)."""
    given = entry.values.get("answers")
    if isinstance(given, list) and given and isinstance(given[0], dict):
        # a text in the place of a list is taken for a list of letters
        found = {key: [*values] if isinstance(values, str) else values for key, values in given[0].items()}
    else:
        known = _parsed(_answers(entry)[0])
        found = {key: values if isinstance(values, list) else [values] for key, values in known.items()}
    for values in found.values():
        if not isinstance(values, list) or not all(isinstance(value, str | None) for value in values):
            raise ValueError(
                f"{entry.where}: {values!r} in 'answers' is no list of texts; the original is at {HOME}"
            )
    return found


def _parsed(text: str) -> dict[str, Any]:
    """A dictionary in JSON or Python, or in a text in it; {} if there is none."""
    value: Any = text.strip('"')
    try:
        value = json.loads(value)
    except ValueError:
        try:
            value = ast.literal_eval(value)
            value = value if isinstance(value, dict) else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            value = {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Kind:
    """How questions of a type are scored, as in ``eval_scripts/eval.py``.

    Attributes:
        rules: the field ``eval`` of a question -> its rule; if there is one rule alone, the field is not read.
        truth: reads what is right, for the rule.
    """

    rules: Mapping[str, Rule]
    truth: Callable[[Fields], Any] = _answers


_ENGLISH = Kind(
    {"": rules.contained, "multiple choice": rules.choice, "case sensitive": rules.contained_as_written}
)
_CHINESE = Kind({**_ENGLISH.rules, "": rules.contained_chinese})
_COUNT = Kind({"exact match": rules.number_contained, "regression": rules.number_near})
_DICTIONARY = Kind({"": rules.fields_f1}, _fields)
_DOCUMENT = Kind({"": outline_similarity}, _document)
_TRANSCRIPT = Kind({"": _transcript}, _document)
_TABLE = Kind({"": _as_asked}, _table)
_CHINESE_TABLE = Kind({"": html_similarity}, _document)
_CHART = Kind({"": chart_similarity}, _chart)
_HANDWRITTEN = Kind({"": _as_asked}, _handwritten)

KINDS = {
    "text recognition en": _ENGLISH,
    "fine-grained text recognition en": _TRANSCRIPT,
    "full-page OCR en": _TRANSCRIPT,
    "text grounding en": Kind({"": rules.last_box}, _box),
    "VQA with position en": Kind({"": rules.answer_and_box}, _answers_and_box),
    "text spotting en": Kind({"": spotting}, _words),
    "key information extraction en": _DICTIONARY,
    "key information mapping en": _DICTIONARY,
    "document parsing en": _DOCUMENT,
    "table parsing en": _TABLE,
    "chart parsing en": _CHART,
    "formula recognition en": Kind({"": rules.formula}),
    "math QA en": _ENGLISH,
    "text counting en": _COUNT,
    "document classification en": _ENGLISH,
    "cognition VQA en": _ENGLISH,
    "diagram QA en": _ENGLISH,
    "reasoning VQA en": _ENGLISH,
    "science QA en": _ENGLISH,
    "APP agent en": _ENGLISH,
    "ASCII art classification en": _ENGLISH,
    "full-page OCR cn": _TRANSCRIPT,
    "key information extraction cn": _DICTIONARY,
    "handwritten answer extraction cn": _HANDWRITTEN,
    "document parsing cn": _DOCUMENT,
    "table parsing cn": _CHINESE_TABLE,
    "formula recognition cn": Kind({"": rules.formula_chinese}),
    "cognition VQA cn": _CHINESE,
    "reasoning VQA cn": _CHINESE,
    "text translation cn": _TRANSCRIPT,
}
CATEGORIES = {  # of ``get_score.py``
    "text_recognition en": ("text recognition en", "fine-grained text recognition en", "full-page OCR en"),
    "text_detection en": ("text grounding en", "VQA with position en"),
    "text_spotting en": ("text spotting en",),
    "relationship_extraction en": ("key information extraction en", "key information mapping en"),
    "element_parsing en": (
        *("document parsing en", "chart parsing en", "table parsing en", "formula recognition en"),
    ),
    "mathematical_calculation en": ("math QA en", "text counting en"),
    "visual_text_understanding en": ("document classification en", "cognition VQA en", "diagram QA en"),
    "knowledge_reasoning en": (
        *("reasoning VQA en", "science QA en", "APP agent en", "ASCII art classification en"),
    ),
    "text_recognition cn": ("full-page OCR cn",),
    "relationship_extraction cn": ("key information extraction cn", "handwritten answer extraction cn"),
    "element_parsing cn": ("document parsing cn", "table parsing cn", "formula recognition cn"),
    "visual_text_understanding cn": ("cognition VQA cn",),
    "knowledge_reasoning cn": ("reasoning VQA cn", "text translation cn"),
}


@dataclass(frozen=True)
class Question(Example):
    """A question with the name of its rule (a key of :attr:`Kind.rules`) and what is right, in JSON values."""

    rule: str = ""
    truth: Any = None


def open_ocrbench(root: Path) -> Listing:
    """The questions, without translations of nothing: ``get_score.py`` leaves them out."""
    folder = Folder(root, "OCRBench v2", HOME)
    makers = []
    for entry in folder.rows(QUESTIONS):
        kind = entry.text("type")
        if kind not in KINDS:
            raise ValueError(f"{entry.where}: OCRBench v2 has no type {kind!r}; the original file is at {HOME}")
        if KINDS[kind] in (_TRANSCRIPT, _HANDWRITTEN):  # the scorer needs them: fail before answering, not after
            scoring.wordnet()
            chinese_words()
        elif KINDS[kind] in (_TABLE, _CHINESE_TABLE, _CHART):
            lxml()
        question = _question(entry, kind)
        if kind != "text translation cn" or question.truth:
            makers.append(with_image(question, folder, f"{FOLDER}/{entry.text('image_path')}"))
    return listing(makers, folder, f"questions in {QUESTIONS}")


def _question(entry: Fields, kind: str) -> Question:
    known = KINDS[kind].rules
    rule = entry.text("eval") if "eval" in entry.values and len(known) > 1 else ""
    if rule not in known:
        raise ValueError(f"{entry.where}: {kind!r} has no rule {rule!r}; the original file is at {HOME}")
    truth = KINDS[kind].truth(entry)
    return Question(
        entry.text("id"),
        question=entry.text("question"),
        answers=truth if KINDS[kind].truth is _answers else [json.dumps(truth, ensure_ascii=False)],
        question_kind=kind,
        lang="zh" if kind.endswith("cn") else "en",
        rule=rule,
        truth=truth,
    )


def measure(example: Example) -> dict[str, Any]:
    """The rule of a question, and what is right."""
    assert isinstance(example, Question)
    return {"rule": example.rule, "truth": example.truth}


def score(rows: Sequence[Answered]) -> Scores:
    """Of each question by the rule of its type; means of types and categories, and of those of each language."""
    values = [KINDS[row.kind].rules[row.values["rule"]](row.text, row.values["truth"]) for row in rows]
    whole = mean_scores({"score": values})
    own: dict[str, list[float]] = {}
    for row, value in zip(rows, whole.per_sample["score"], strict=True):
        own.setdefault(row.kind, []).append(value)
    categories = {
        name: mean(some)
        for name, kinds in CATEGORIES.items()
        if (some := [v for k in kinds for v in own.get(k, ())])
    }
    means = {kind: mean(some) for kind, some in own.items()} | categories
    whole.summary.update({f"score/{name}": value for name, value in means.items()})
    for lang in ("en", "cn"):
        if some := [value for name, value in categories.items() if name.endswith(lang)]:
            whole.summary[f"mean_score_{lang}"] = mean(some)
    return whole


BENCHMARKS = (
    AnswerBenchmark(
        name="ocrbench-v2",
        title="OCRBench v2",
        split="all",
        metric="score",
        layout=(QUESTIONS, f"{FOLDER}/EN_part/*.jpg, ...", f"{FOLDER}/CN_part/*.jpg, ..."),
        home=HOME,
        note="`score` is the mean over all questions. `score/CATEGORY en` is the official mean of a category, "
        "`mean_score_en` that of the eight in English and `mean_score_cn` that of the five in Chinese, the "
        "leaderboard's. Transcripts, translations and handwritten answers need WordNet (`openpali data build "
        "wordnet`) and jieba (extra `eval`).",
        open=open_ocrbench,
        task="vqa",
        decoding=Decoding(max_tokens=1024),
        scorer=score,
        measure=measure,
    ),
)
