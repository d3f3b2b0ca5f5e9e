"""OCRBench v2: scores equal those of its owners' code, and questions are read as they distribute them."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from official_layouts import ANSWERING, draw, dump
from tiny_wordnet import write_wordnet

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.registry import find_benchmark
from openpali.metrics.scores import mean
from openpali.tasks.scoring import Answered
from openpali_lab.benchmarks import ocrbench, scoring
from openpali_lab.benchmarks.metrics.ocrbench import last_box, number_near, read_dictionary
from openpali_lab.benchmarks.metrics.outlines import Node, outline
from openpali_lab.benchmarks.metrics.spotting import Word, read_words
from openpali_lab.benchmarks.metrics.tables import chart_similarity
from openpali_lab.benchmarks.metrics.wordnet import WordNet
from openpali_lab.benchmarks.ocrbench import CATEGORIES, KINDS, Question, measure

GOLDEN = json.loads(Path(__file__).with_name("golden_ocrbench.json").read_text("utf-8"))
BENCHMARK = find_benchmark("ocrbench-v2")
assert isinstance(BENCHMARK, AnswerBenchmark)


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The WordNet with which the golden scores were made."""
    folder = tmp_path / "wordnet"
    folder.mkdir()
    write_wordnet(folder)
    monkeypatch.setattr(scoring, "wordnet", partial(WordNet, folder))


def answered(root: Path, *rows: dict[str, Any]) -> list[Answered]:
    """Rows in the official format, with answers under ``predict``, as the scorer gets them."""
    draw(root / "ocrbench-v2" / "EN_part" / "0.jpg")
    about = {"dataset_name": "made up", "image_path": "EN_part/0.jpg"}
    asked = [{"question": "What is this?", **row, **about, "id": i} for i, row in enumerate(rows)]
    dump(root / "ocrbench-v2" / "OCRBench_v2.json", asked)
    source = BENCHMARK.open(root)
    found = [source[i] for i in range(len(source))]
    values = json.loads(json.dumps([measure(each) for each in found]))
    return [
        Answered(i, each.key, "p", row["predict"], tuple(each.answers), each.question_kind, own)
        for i, (row, each, own) in enumerate(zip(rows, found, values, strict=True))
    ]


def test_scores_are_those_of_the_official_code(tmp_path: Path) -> None:
    rows = GOLDEN["rows"]
    assert {row["type"] for row in rows} == {*KINDS}
    scores = BENCHMARK.score(answered(tmp_path, *rows))
    for row, score in zip(rows, scores.per_sample["score"], strict=True):
        assert score == pytest.approx(row["score"]), row
    assert scores.summary["score"] == pytest.approx(mean([row["score"] for row in rows]))


def test_means_are_those_of_the_official_table(tmp_path: Path) -> None:
    summary = BENCHMARK.score(answered(tmp_path, *GOLDEN["rows"])).summary
    table = GOLDEN["table"]
    assert {*table} == {*CATEGORIES, "English", "Chinese"}
    for name in CATEGORIES:
        assert summary[f"score/{name}"] == pytest.approx(table[name], abs=5.1e-4), name  # which prints three digits
    assert summary["mean_score_en"] == pytest.approx(table["English"], abs=5.1e-4)
    assert summary["mean_score_cn"] == pytest.approx(table["Chinese"], abs=5.1e-4)


BOX = [0, 0, 10, 10]
SHEET = "handwritten answer extraction cn"
WORDS = [BOX, [20, 0, 40, 0, 40, 10, 20, 10]]


@pytest.mark.parametrize(
    ("kind", "fields", "answer", "score"),
    [  # the results of the official script
        ("text recognition en", {"answers": ["exit"]}, "An EXIT, there", 1),
        ("text recognition en", {"answers": ["exit", 12]}, "24 to 120", 1),
        ("text recognition en", {"answers": ["one two three four"]}, "one two three for", 0),
        ("text recognition en", {"answers": ["one two three four five"]}, "one two three for five", 22 / 23),
        ("cognition VQA en", {"answers": ["Exit"], "eval": "case sensitive"}, "exit", 0),
        ("science QA en", {"answers": "B", "eval": "multiple choice"}, "(B) 12.", 1),
        ("science QA en", {"answers": ["B"], "eval": "multiple choice"}, "B) a dog", 0),
        ("cognition VQA cn", {"answers": ["出 口"]}, "这是出口", 1),
        ("reasoning VQA cn", {"answers": ["a,b,c,d"]}, "a,b,c,e", 6 / 7),
        ("formula recognition en", {"answers": ["x ^ 2"]}, "$$x^2+1$$", 1),
        ("formula recognition cn", {"answers": [r"\text{ab} + 1"]}, "ab+1", 1),
        ("text counting en", {"answers": ["1"], "eval": "exact match"}, "12 words", 1),
        ("text counting en", {"answers": [10], "eval": "regression"}, "about 13.5", 0.7),
        ("text counting en", {"answers": [10], "eval": "regression"}, "15", 0),
        ("text counting en", {"answers": [0], "eval": "regression"}, "1", 0),
        ("text grounding en", {"answers": BOX}, "(0, 0, 10, 10) or [0, 0, 10, 5]", 0.5),
        ("text grounding en", {"answers": BOX}, "(0, 0, 10, 10), (0, 0, 10, 1001)", 1),
        ("text grounding en", {"answers": BOX}, "[[10, 10, 0, 0]]", 0),
        (
            "VQA with position en",
            {"answers": ["Exit"], "bbox": BOX},
            '{"answer": "exits", "bbox": [0,0,9,5.9]}',
            0.725,
        ),
        ("VQA with position en", {"answers": ["Exit"], "bbox": BOX}, "answer: exit, bbox: [0, 0, 10, 10]", 0.5),
        (
            "key information mapping en",
            {"answers": [{"a": ["1", "1.0"], "b": ["May 1"]}]},
            '{"a": 1.0, "b": "MAY1"}',
            1,
        ),
        ("key information mapping en", {"answers": [{"a": ["12"]}]}, "{'a': ['12']}", 0),
        ("key information extraction en", {"answers": ['{"a": "12", "b": null}']}, "A: 11, a: 12", 0.5),
        ("key information extraction en", {"answers": ['\'{"a": "12"}\'']}, "a: 12", 1),
        ("key information extraction cn", {"answers": ["{'总额': '12'}"]}, '```json\n{"总额": 12}\n```', 1),
        ("document parsing en", {"answers": ["# A\nb\nc\n# D\ne"]}, "# X\ny\n\n# Z\n", 5 / 7),
        ("full-page OCR en", {"answers": ["a b c d"]}, "a b c d", (4 - 0.5 / 4**3) / 4),
        (
            "full-page OCR en",
            {"answers": ["a b c d", "e"]},
            "e",
            0,
        ),  # the first answer alone counts; 1 less a distance of 1
        ("fine-grained text recognition en", {"answers": ["a"]}, "", 0),
        ("full-page OCR en", {"answers": ["请勿吸烟"]}, "请勿吸 烟", 0.2),
        ("full-page OCR en", {"answers": ["exit"]}, "出口", 0),
        ("full-page OCR cn", {"answers": ["他来到了网易杭研大厦"]}, "他来到网易杭研大厦", 0.6573574730354391),
        ("full-page OCR cn", {"answers": ["a b c d"]}, "a b c d", (4 - 0.5 / 4**3) / 4),
        ("full-page OCR cn", {"answers": ["出口"]}, "", 0),
        ("text translation cn", {"answers": ["第12页\n请勿吸烟"]}, "第 12 页\n请勿吸烟", 0.6462412587412587),
        (SHEET, {"question": "简答题", "answers": ["中国科学院"]}, "中国科学院计算所", 0.4365530303030303),
        (SHEET, {"question": "简答题", "answers": ["中国科学院"]}, "", 0),
        (SHEET, {"answers": ["ABD"]}, "答案：A、B、D", 1),
        (SHEET, {"answers": ["ABD"]}, "A, B, D", 1),
        (SHEET, {"answers": ["ABD"]}, "A,B, D", 0),
        (SHEET, {"answers": ["对"]}, "不对", 1),
        ("document parsing cn", {"answers": ["题\n\n# 一\n二"]}, "# 一", 0.5),
        ("table parsing cn", {"answers": ["<table><tr><td>ab</td></tr></table>"]}, "<table><tr><td>ac</td>", 0.75),
        ("table parsing cn", {"answers": ["<table><tr><td>ab</td></tr></table>"]}, "<tr><td>ab</td></tr>", 0),
        ("table parsing cn", {"answers": ["<table><tr><td>a</td></tr></table>"]}, "<table><td colspan=x>a", 0),
        (
            "table parsing en",
            {"question": "As Markdown", "answers": ["|a|b|\n|-|-|\n|1|2|"]},
            "|a|b|\n|-|-|\n|1|3|",
            5 / 6,
        ),
        ("chart parsing en", {"answers": [{"a": 12, "b": 1}]}, "x = {'a': 12, 'b': 1} # so", 1),
        ("chart parsing en", {"answers": [{"a": 12}]}, "[12]", 0),
        (
            "text spotting en",
            {"bbox": WORDS, "content": ["Exit!", "In"]},
            "[(0,0,10,9,'exit'),(20,0,40,10,'In!')]",
            0.5,
        ),
        ("text spotting en", {"bbox": WORDS, "content": ["Exit", "###"]}, "(0,0,10,10,exit), (21,0,40,10,x)", 1),
        ("text spotting en", {"bbox": [BOX], "content": ["Exit"]}, "[[0, 0, 10, 5, 'Exit']]", 0),
        ("text spotting en", {"bbox": [BOX, BOX], "content": ["Exit", "exit"]}, "[[0,0,10,10,'exit']]", 2 / 3),
        ("text spotting en", {"bbox": [BOX], "content": ["(Exit)"]}, "[[0, 0, 10, 10, '(exit']]", 1),
        ("text spotting en", {"bbox": [BOX], "content": ['"(a\\"b)"']}, "[[0, 0, 10, 10, 'a\"b']]", 1),
        ("text spotting en", {"bbox": [BOX], "content": ["a\rb"]}, "[[0, 0, 10, 10, 'ab']]", 1),
    ],
)
def test_rules(kind: str, fields: dict[str, Any], answer: str, score: float, tmp_path: Path) -> None:
    rows = answered(tmp_path, {"type": kind, "predict": answer, **fields})
    [category] = [name for name, kinds in CATEGORIES.items() if kind in kinds]
    names = ("score", f"score/{kind}", f"score/{category}", f"mean_score_{kind[-2:]}")
    assert BENCHMARK.score(rows).summary == pytest.approx(dict.fromkeys(names, score))


def test_categories_weigh_the_same(tmp_path: Path) -> None:
    exact = {"answers": ["1"], "eval": "exact match"}
    rows = [{"type": "text counting en", "predict": said, **exact} for said in ("1", "1", "1", "2")]
    rows += [{"type": "math QA en", "answers": ["1"], "predict": "2"}]
    rows += [{"type": "diagram QA en", "answers": ["1"], "predict": "2"}]
    rows += [{"type": "key information extraction cn", "answers": ["{'a': '1'}"], "predict": "a: 1"}]
    scores = BENCHMARK.score(answered(tmp_path, *rows)).summary
    assert scores["score"] == pytest.approx(4 / 7)
    assert scores["score/text counting en"] == pytest.approx(3 / 4)
    assert scores["score/mathematical_calculation en"] == pytest.approx(3 / 5)
    assert scores["mean_score_en"] == pytest.approx((3 / 5 + 0) / 2)
    assert scores["mean_score_cn"] == 1


def test_every_type_is_in_one_category() -> None:
    assert len(KINDS) == 30
    assert sorted(kind for kinds in CATEGORIES.values() for kind in kinds) == sorted(KINDS)


def test_questions_are_read_as_they_are_distributed(tmp_path: Path) -> None:
    ANSWERING["ocrbench-v2"](tmp_path)
    source = BENCHMARK.open(tmp_path)
    found = {}
    for i in range(len(source)):
        each = source[i]
        assert isinstance(each, Question)
        assert each.lang == ("zh" if each.question_kind.endswith("cn") else "en")
        found[each.question_kind] = (each.rule, each.truth)
    assert found == {
        "text recognition en": ("", ["Exit", "12"]),
        "text counting en": ("regression", ["3"]),
        "text grounding en": ("", [100, 200, 300, 400]),
        "VQA with position en": ("", {"answers": ["Exit"], "bbox": [100, 200, 300, 400]}),
        "text spotting en": ("", [[8, 9, 40, 20, "Exit"]]),
        "key information mapping en": ("", {"total": ["12", "12.0"], "date": ["May 1"]}),
        "key information extraction cn": ("", {"总额": ["12"], "日期": ["五月"]}),
        "document parsing en": ("", "# Title\ntext"),
        "table parsing en": ("", ["html", "<table></table>"]),
        "cognition VQA cn": ("", ["出口"]),
        "full-page OCR en": ("", "Exit here"),
        "handwritten answer extraction cn": ("", ["letters", "ABD"]),
    }


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"type": "text reading en", "answers": ["a"]}, "no type 'text reading en'"),
        ({"type": "math QA en", "answers": ["a"], "eval": "regression"}, "'math QA en' has no rule 'regression'"),
        ({"type": "text counting en", "answers": ["1"]}, "'text counting en' has no rule ''"),
        ({"type": "table parsing en", "answers": ["|a|"]}, "asks for no table in html or markdown"),
        ({"type": "chart parsing en", "answers": ["{'a': 1}"]}, "is a list with a dictionary"),
        ({"type": "key information mapping en", "answers": [{"a": 5}]}, "5 in 'answers' is no list of texts"),
        (
            {"type": "text spotting en", "bbox": [[1, 2, 3.5, 4]], "content": ["a"]},
            "'bbox' is .* not lists of whole",
        ),
    ],
)
def test_what_the_official_code_does_not_know_is_reported(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"entry 1: .*{told}.*MultimodalOCR"):
        answered(tmp_path, row)


def test_a_missing_wordnet_is_reported_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "wordnet", partial(WordNet, tmp_path))
    assert answered(tmp_path, {"type": "math QA en", "answers": ["a"], "predict": ""})  # needs none
    with pytest.raises(FileNotFoundError, match="openpali data build wordnet"):
        answered(tmp_path, {"type": "full-page OCR en", "answers": ["a"], "predict": ""})


def test_a_missing_jieba_is_reported_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocrbench, "chinese_words", ocrbench.chinese_words.__wrapped__)  # not what is loaded already
    monkeypatch.setitem(sys.modules, "jieba", None)
    assert answered(tmp_path, {"type": "math QA en", "answers": ["a"], "predict": ""})  # needs none
    for kind in ("full-page OCR en", "text translation cn", SHEET):
        with pytest.raises(ValueError, match=r"jieba: pip install 'openpali-lab\[eval\]'"):
            answered(tmp_path, {"type": kind, "answers": ["a"], "predict": ""})


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"a ": [1], "b": null}', {"a": "[1]", "b": "None"}),
        ("Here:\n```JSON\n{'a': 'x, y'}\n```\n{'b': 1}", {"a": "x, y"}),
        ("a = 1, 'b': \"two words\"\nc: {3}", {"a": "1", "b": "two words", "c": ""}),
        ("['a: b']", {}),
        ("{1: 2}", {}),
    ],
)
def test_dictionaries(answer: str, found: dict[str, str]) -> None:
    assert read_dictionary(answer) == found


def test_words() -> None:
    assert read_words(
        "[[1, 2, 3, 4, 'a, b'], ['5', 6, 7, 8, 'c', 9], [1, 2, 3, 1001, 'd'], [1.5, 2, 3, 4, 'e']]"
    ) == [
        Word(1, 2, 3, 4, "a, b"),
        Word(5, 6, 7, 8, "c"),
    ]
    assert read_words('Words: (1, 2, 3, 4, "a", b) [1,2,3,4] (1, 2, 3, 4, "a", b)') == [Word(1, 2, 3, 4, 'a", b')]


def test_outlines() -> None:
    assert outline("a\n# B *\n c\n## d\n#\ne\n# c\nf") == Node(
        "ROOT",
        [
            Node("TITLE", [Node("a"), Node("e")]),
            Node(" B  ", [Node(" c", [Node("f")])]),  # below the line of that name
            Node(" d"),
            Node(""),
            Node(" c"),
        ],
    )


@pytest.mark.parametrize(
    ("line", "label"),
    [  # the results of the official ``pre_clean``
        ("x { y } \\begin {z} \\end {z}", "x {y} \\begin{z} \\end{z}"),
        ("a ##b \\ c", "ab \\c"),
        ("x * y_z \\end{table}", "x   y z \\end{table}   "),
        (" * * <unk>a", "  a"),
    ],
)
def test_lines_are_cleaned(line: str, label: str) -> None:
    assert outline(line) == Node("ROOT", [Node("TITLE", [Node(label)])])


def test_an_answer_that_python_cannot_read_scores_nothing() -> None:
    for operators in (3_000, 6_000):  # too deep for the recursion, and for the parser's memory
        assert chart_similarity("{'a': " + "-" * operators + "1}", {"a": 1}) == 0
    assert number_near("9" * 5_000, ["12"]) == 0
    assert last_box(f"[{'9' * 5_000}, 1, 1, 1]", [0, 0, 9, 9]) == 0
    assert read_dictionary("{'a': 0x" + "f" * 5_000 + "}").keys() == {"a"}
    assert chart_similarity("{'a': 0x" + "f" * 5_000 + "}", {"a": 1}) == 0


def test_charts_without_lxml_are_an_error_and_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    with pytest.raises(ValueError, match="lxml"):
        chart_similarity("{'a': 1}", {"a": 1})
