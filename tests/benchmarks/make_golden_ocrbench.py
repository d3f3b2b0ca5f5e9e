"""Writes golden_ocrbench.json: made-up questions in OCRBench v2's format, answers, and the scores of its own code.

``python tests/benchmarks/make_golden_ocrbench.py CHECKOUT [COUNT]``, with a checkout of
github.com/Yuliang-Liu/MultimodalOCR (November 2025), and with what its OCRBench_v2/requirements.txt lists; with
NLTK 3.9, which is given a tiny WordNet.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_wordnet import write_wordnet

WORDS = (
    *("Red", "Blue", "exit", "12", "a", "THE", "出口", ",", "中", "x,y", "\n", "  ", "é"),
    *(r"\text{ab}", r"\text{x}+1"),
)
VQA = (
    *("text recognition en", "math QA en", "document classification en", "cognition VQA en", "diagram QA en"),
    *("reasoning VQA en", "science QA en", "APP agent en", "ASCII art classification en"),
)
CHINESE = ("cognition VQA cn", "reasoning VQA cn")
FORMULAS = ("formula recognition en", "formula recognition cn")
FIELDS = ("key information extraction en", "key information mapping en", "key information extraction cn")
DOCUMENTS = ("document parsing en", "document parsing cn")
OTHERS = ("text counting en", "text grounding en", "VQA with position en", "text spotting en")
TURN = (*VQA, *CHINESE * 2, *FORMULAS, *FORMULAS[1:], *FIELDS * 2, *DOCUMENTS * 2, *OTHERS * 4, *OTHERS[2:] * 4)
"""The order of types, those with more rules more often."""

TRANSCRIPTS = ("fine-grained text recognition en", "full-page OCR en")

SHEET = "handwritten answer extraction cn"
CUT = (*TRANSCRIPTS, "full-page OCR cn", "text translation cn", SHEET, SHEET)
"""Types whose texts jieba cuts into words."""

TABLES = ("table parsing en", "table parsing cn", "chart parsing en")

Row = dict[str, Any]
Maker = Callable[[random.Random, str], Row]


def text(rng: random.Random, most: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, most)))


def near(rng: random.Random, texts: list[str]) -> str:
    """An answer that may hold one of the texts, in part."""
    said = rng.choice([*texts, text(rng, 12)])
    said = "".join(char for char in said if rng.random() > rng.choice([0, 0, 0.2, 0.5]))
    said = rng.choice([str, str.lower, str.upper])(said)
    return rng.choice(["", "The answer is ", "\n"]) + said + rng.choice(["", ".", " \n", f" {text(rng, 3)}"])


def box(rng: random.Random, most: int = 100) -> list[int]:
    left, top, right, bottom = (rng.randrange(most) for _ in range(4))
    if rng.random() < 0.9:
        left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
    return [left, top, right, bottom]


def moved(rng: random.Random, edges: list[int]) -> list[int]:
    return [max(0, edge + rng.choice([0, 0, 1, -1, 3])) for edge in edges]


def vqa(rng: random.Random, kind: str) -> Row:
    way = rng.choice(["", "", "", "multiple choice", "case sensitive"])
    if way == "multiple choice":
        said = rng.choice(["B", "B.", "(B)", "A", "B) cat", "b", "", "AB", "答案B"])
        right: Any = rng.choice(["B", "B", "AB"])
        return {"answers": right if kind in VQA and rng.random() < 0.3 else [right], "eval": way, "predict": said}
    texts = [text(rng, rng.choice([3, 12])) for _ in range(rng.randrange(1, 3))]
    texts += [rng.choice(["Red 12 , x,y , a , exit", "one two three four Five"])] * (rng.random() < 0.3)
    row: Row = {"answers": texts, "predict": near(rng, texts)}
    if rng.random() < 0.1 and not way:
        row["answers"] = [12, *texts]
    return row | ({"eval": way} if way else {})


def formula(rng: random.Random, kind: str) -> Row:
    texts = [text(rng, 5) for _ in range(1 if kind.endswith("cn") else rng.randrange(1, 3))]
    return {"answers": texts, "predict": near(rng, texts)}


def count(rng: random.Random, kind: str) -> Row:
    said = rng.choice(["There are ", "", "ABOUT\n"]) + rng.choice([str(rng.randrange(25)), "no", "12.5 or 3", "٣"])
    answers: list[Any] = [rng.choice([str, int])(rng.randrange(20)) for _ in range(rng.randrange(1, 3))]
    way = rng.choice(["exact match", "regression", "regression"])
    if way == "exact match" and rng.random() < 0.3:
        answers = [rng.choice(["ABOUT", "no", "No"])]
    return {"answers": answers, "eval": way, "predict": said + rng.choice(["", ".", " Things"])}


def grounding(rng: random.Random, kind: str) -> Row:
    true = box(rng)
    shown = (
        "({}, {},{} , {})",
        "[{},{},{},{}]",
        "{},{},{},{}",
        "({},{},{},{}]",
        "[[{}, {}, {}, {}]]",
        "[-{},{},{},{}]",
    )
    found = []
    for _ in range(rng.randrange(4)):
        found.append(rng.choice(shown).format(*rng.choice([box(rng, 1100), moved(rng, true)])))
    return {"answers": true, "predict": " and ".join([*found, *found[:1]] if rng.random() < 0.3 else found)}


def position(rng: random.Random, kind: str) -> Row:
    texts = [text(rng, rng.choice([3, 9])) for _ in range(rng.randrange(1, 3))]
    true = box(rng)
    at = moved(rng, true)
    odd = (tuple(at), at[:3], [*at, 4], [*map(str, at)], ["a", *at[1:]], [1.9, 2.1, 60.9, 70], "x", None, "1234")
    place = rng.choice([at, at, at, at, str(at), *odd])
    said: Row = {"answer": near(rng, texts), "bbox": place}
    if rng.random() < 0.2:
        del said[rng.choice([*said])]
    return {"answers": texts, "bbox": true, "predict": dictionary(rng, said)}


ODD = (
    *("", "nothing", "[1, 2]", "5", '"abc: d"', "{1: 2}", "'a: b'", "{'company': 'x'}}", "{}", "company = Red"),
    *("null", "```\n[1]\n```", "```\n```\n{}"),
)
FENCED = ("{}", "{}", " {} ", "```json\n{}\n```", "Here:\n```\n{}\n```\n```python\n{{}}\n```")


def dictionary(rng: random.Random, said: Row) -> str:
    """A dictionary as models write it."""
    if rng.random() < 0.15:
        return rng.choice(ODD)
    pairs = "\n".join(f"{key}: {value}" for key, value in said.items())
    shown = rng.choice([json.dumps(said), json.dumps(said, ensure_ascii=False, indent=1), repr(said), pairs])
    return rng.choice(FENCED).format(shown)


def fields(rng: random.Random, kind: str) -> Row:
    keys = rng.sample(["company", "date", "total", "Tax ID", "地址", "x-1"], rng.randrange(1, 4))
    true: Row = {key: [text(rng, 4) for _ in range(rng.choice([0, 1, 1, 1, 1, 2, 3]))] for key in keys}
    if rng.random() < 0.9:
        true = {key: values or [rng.choice(["Red", "Blue", None])] for key, values in true.items()}
    said: Row = {key: rng.choice([*values, text(rng, 3)]) for key, values in true.items() if rng.random() < 0.9}
    if rng.random() < 0.4:
        said[rng.choice(["total", "tax", "company "])] = rng.choice(["RED", 12, ["Red"], None, " red\n"])
    if rng.random() < 0.3 and [None] not in true.values():
        true = {key: values[0] if len(values) == 1 else values for key, values in true.items()}
    answer: Any = true
    if kind.endswith("cn"):
        answer = repr(true)
    elif rng.random() < 0.3:
        answer = rng.choice([json.dumps, repr])(true)
        answer = rng.choice([answer, f'"{answer}"', "no dictionary", repr(answer)])
    return {"answers": [answer], "predict": dictionary(rng, said)}


STARTS = ("# ", "## ", "#", "", "", "", "* ", "<bos>#", " ##")
ENDS = (
    *("Red", "Blue", "TITLE", "ROOT", " ", "", "*", "_ _", "two words"),
    *("a \\end{table} b", "{ x }", "\\begin {y}"),
)


def document(rng: random.Random, kind: str) -> Row:
    def line() -> str:
        return rng.choice(STARTS) + rng.choice(ENDS)

    lines = [line() for _ in range(rng.randrange(12))]
    said = [rng.choice([own, line()]) for own in lines if rng.random() < 0.9]
    return {"answers": ["\n".join(lines)], "predict": "\n".join(said)}


SPOTTED = (
    *("Red", "BLUE!", "(exit)", "12", "'s", "a, b", "###", "·", '"x"', "出口", '\\"y', "[1]", '"Red', "a\rb"),
)


def spotting(rng: random.Random, kind: str) -> Row:
    true = []
    for _ in range(rng.randrange(1, 6)):
        left, top = rng.randrange(60), rng.randrange(60)
        true.append(([left, top, left + rng.randrange(30), top + rng.randrange(30)], rng.choice(SPOTTED)))
    if rng.random() < 0.3:
        true.append(([0, 0, 50, 50], "###"))
    said: list[Any] = []
    for edges, word in true:
        spelled = rng.choice([word, word, word.strip("!()'·"), word.lower(), rng.choice(SPOTTED)])
        if rng.random() < 0.9:
            said.append([*moved(rng, edges), spelled])
    said += [[*box(rng, 1100), rng.choice(SPOTTED)] for _ in range(rng.randrange(2))]
    if said and rng.random() < 0.3:
        first = said[0]
        odd = (first, first[:4], [*first, "x"], [1.5, *first[1:]], "x", [True, *first[1:]])
        said.append(rng.choice(odd))
    shown = repr(said)
    match rng.randrange(6):
        case 0:
            shown = ", ".join("(" + ", ".join(map(str, one)) + ")" for one in said)
        case 1:
            shown = f"Words: {shown}"
        case 2:
            shown = rng.choice([json.dumps(said), "{}", "None", "[]", "[1, 2, 3, 4, 'a']", "12"])
        case 3:
            shown = shown[:-1]
    boxes = []
    for left, top, right, bottom in (edges for edges, _ in true):
        corners = [left, top, right, top, right, bottom, left, bottom]
        boxes.append(rng.choice([corners, [left, top, right, bottom], corners[2:] + corners[:2]]))
    return {"bbox": boxes, "content": [word for _, word in true], "predict": shown}


READ = (
    *(
        "dog",
        "dogs",
        "Hound",
        "hounds",
        "child",
        "kids",
        "CHILDREN",
        "running",
        "runs",
        "dash",
        "dashed",
        "eats",
        "eaten",
    ),
    *(
        "large",
        "big",
        "Exit",
        "exit,",
        "12",
        "$4.50",
        "-",
        "é",
        "relational",
        "relate",
        "happily",
        "happy",
        "king_size",
    ),
)


def transcript(rng: random.Random, kind: str) -> Row:
    """Pages without Chinese characters."""

    def join(words: list[str]) -> str:
        return "".join(word + rng.choice([" ", " ", " ", "\n", "\t", " \u2028"]) for word in words)

    true = [rng.choice(READ) for _ in range(rng.choice([1, 2, 4, 8, 16, 30]))]
    most = rng.choice([1, 0.9, 0.7, 0.2])
    said = [word if rng.random() < most else rng.choice(READ) for word in true if rng.random() < most]
    if rng.random() < 0.3:
        cut = rng.randrange(len(said) + 1)
        said = said[cut:] + said[:cut]
    return {
        "answers": [join(true).strip()],
        "predict": join(said) if rng.random() < 0.9 else rng.choice(["", " ", "a"]),
    }


SENTENCES = (
    *("他来到了网易杭研大厦", "我来到北京清华大学", "小明硕士毕业于中国科学院计算所", "出口", "请勿吸烟", "第12页"),
    *(
        "价格为3.50元",
        "，",
        "。",
        "“",
        "、",
        "running Dogs,",
        "a 10% C++",
        "x_y-z",
        " ",
        "\n",
        "\u3000",
        "é",
        "鿕",
        "〇",
    ),
)


def chinese(rng: random.Random, kind: str) -> Row:
    """Transcripts, translations and answers of pupils, mostly with Chinese characters."""
    if kind == SHEET and rng.random() < 0.6:
        right = "".join(rng.sample("ABCD", rng.randrange(1, 4))) if rng.random() < 0.8 else "对"
        marks = ("", ".", ". ", ",", ", ", "、", ";", "; ", " ", "和", "，", "  ")
        said = rng.choice(marks).join(right[: rng.choice([None, None, None, -1])])
        return {
            "question": "选择题的答案是什么？",
            "answers": [right],
            "predict": rng.choice(["{}", "答案是{}。"]).format(said),
        }
    true = [rng.choice(SENTENCES) for _ in range(rng.choice([1, 2, 4, 8]))]
    most = rng.choice([1, 0.9, 0.7, 0.2])
    read = [
        part if rng.random() < most else rng.choice([*SENTENCES, *READ]) for part in true if rng.random() < most
    ]
    said = "".join(char for char in "".join(read) if rng.random() > rng.choice([0, 0, 0.1]))
    # Without words on one side, the official code fails for the types in Chinese
    row = {"answers": ["".join(true).strip() or "出口"], "predict": said if said.strip() else rng.choice(["", "a"])}
    return row | ({"question": "简答题的答案是什么？"} if kind == SHEET else {})


CELLS = (
    "",
    " ",
    "a",
    "12",
    "4.50",
    "two words",
    "<b>bold</b>",
    "x<sup>2</sup>",
    "中文",
    "a&amp;b",
    "|",
    "é",
    "# 1",
)
SPANS = ("", "", "", "", ' colspan="2"', ' rowspan="3"', " colspan=2", ' colspan="x"', ' class="y"')


def grid(rng: random.Random) -> list[list[str]]:
    columns = rng.randrange(1, 5)
    return [[rng.choice(CELLS) for _ in range(columns)] for _ in range(rng.randrange(1, 6))]


def changed(rng: random.Random, cells: list[list[str]]) -> list[list[str]]:
    """A table that is read a little wrong."""
    kept = [[rng.choice([cell, cell, cell, rng.choice(CELLS)]) for cell in row] for row in cells]
    return [row[: rng.choice([len(row), len(row), 1])] for row in kept if rng.random() < 0.9] or [["a"]]


def in_html(rng: random.Random, cells: list[list[str]]) -> str:
    tag = rng.choice(["td", "td", "td", "th"])
    rows = [
        "<tr>"
        + "".join(f"<{tag}{rng.choice(SPANS)}>{cell}</{tag}>" for cell in row)
        + rng.choice(["</tr>", "</tr>", ""])
        for row in cells
    ]
    inside = rng.choice(["{}", "<tbody>{}</tbody>", "<thead></thead>{}", "<!-- no -->{}"]).format("\n".join(rows))
    around = ("<table>{}</table>", '<table border="1">{}</table>', "<table>{}", "{}</table>", "{}")
    whole = rng.choice(around).format(inside)
    return rng.choice(["{}", "{}", "<body>{}</body>", "<html><body>{}</body></html>", "Here:\n{}"]).format(whole)


def in_markdown(rng: random.Random, cells: list[list[str]]) -> str:
    rows = [
        "|" + "|".join(f" {cell} " if cell else rng.choice(["", " ", "  "]) for cell in row) + "|" for row in cells
    ]
    rows[1:1] = ["|---" * len(cells[0]) + "|"]
    if rng.random() < 0.1:
        rows = rows[:1]
    return rng.choice(["{}", "{}", "```markdown\n{}\n```", "```\n{}\n```"]).format("\n".join(rows))


def table(rng: random.Random, kind: str) -> Row:
    cells = grid(rng)
    html = kind.endswith("cn") or rng.random() < 0.6
    write = in_html if html else in_markdown
    said = write(rng, changed(rng, cells)) if rng.random() < 0.9 else rng.choice(["", "nothing", "<table>", "|a|"])
    form = rng.choice(["HTML", "html"]) if html else rng.choice(["Markdown", "markdown"])
    return {"question": f"Write the table in {form}.", "answers": [write(rng, cells)], "predict": said}


def chart(rng: random.Random, kind: str) -> Row:
    keys = rng.sample(["2019", "Red", "A B", "总额", "x"], rng.randrange(1, 5))
    inner = rng.random() < 0.3
    true: Row = {key: {"a": rng.choice([1, "2"])} if inner else rng.choice([12, 4.5, "12%", "n/a"]) for key in keys}
    said = {key: rng.choice([value, value, 13, "12"]) for key, value in true.items() if rng.random() < 0.9}
    shown = rng.choice(
        [repr(said), json.dumps(said), f"data = {said!r}", f"{said!r}  # read", f"{said!r} and so on"]
    )
    shown = rng.choice(["{}", "{}", "```python\n{}\n```", "```\n1\n```\n```json\n{}\n```"]).replace("{}", shown)
    if rng.random() < 0.1:
        shown = rng.choice(["", "nothing", "[1]", "{}", "{1, 2}", "{'a': ["])
    return {"answers": [true], "predict": shown}


MAKERS = {
    **dict.fromkeys((*VQA, *CHINESE), vqa),
    **dict.fromkeys(FORMULAS, formula),
    **dict.fromkeys(FIELDS, fields),
    **dict.fromkeys(DOCUMENTS, document),
    **dict.fromkeys(TRANSCRIPTS, transcript),
    **dict.fromkeys(TABLES[:2], table),
    TABLES[2]: chart,
    **dict(zip(OTHERS, (count, grounding, position, spotting), strict=True)),
}


def rows(
    rng: random.Random, kinds: Sequence[str], numbers: range, makers: Mapping[str, Maker] = MAKERS
) -> list[Row]:
    """Questions of the types in turn, with answers under ``predict``."""
    made = []
    for i in numbers:
        kind = kinds[i % len(kinds)]
        part = "CN" if kind.endswith("cn") else "EN"
        about = {"dataset_name": "made up", "type": kind, "id": i, "image_path": f"{part}_part/{i}.jpg"}
        made.append({**about, "question": f"Question {i}?", **makers[kind](rng, kind)})
    return made


class Official:
    """``eval.py`` and ``get_score.py``, in a copy of their folder, since they write into it."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        shutil.copytree(checkout / "OCRBench_v2" / "eval_scripts", folder / "eval_scripts")
        wordnet = folder / "nltk_data" / "corpora" / "wordnet"
        wordnet.mkdir(parents=True)
        write_wordnet(wordnet)
        (wordnet / "lexnames").write_text("".join(f"{i:02d} name{i} 1\n" for i in range(4)))
        for name in ("index.sense", "cntlist.rev"):
            (wordnet / name).touch()
        os.environ["NLTK_DATA"] = str(folder / "nltk_data")
        os.chdir(folder)
        sys.path.insert(0, "eval_scripts")
        from eval import process_predictions

        self._process = process_predictions

    def scored(self, made: list[Row]) -> list[Row]:
        """The rows with their ``score``."""
        Path("in.json").write_text(json.dumps(made), "utf-8")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self._process("in.json", "out.json")
        told = json.loads(Path("out.json").read_text("utf-8"))
        return [{**row, "score": each["score"]} for row, each in zip(made, told, strict=True)]

    def table(self, scored: list[Row]) -> dict[str, float]:
        """Means by category, as they are printed."""
        Path("out.json").write_text(json.dumps(scored), "utf-8")
        command = [sys.executable, "eval_scripts/get_score.py", "--json_file", "out.json"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        parts = told.split("Chinese Scores:")
        found = {
            f"{name} {lang}": float(value)
            for lang, part in zip(("en", "cn"), parts, strict=True)
            for name, value in re.findall(r"^(\w+): ([\d.]+) ", part, re.M)
        }
        overall = re.findall(r"(\w+) Overall Score: ([\d.]+)", told)
        return found | {name: float(value) for name, value in overall}


def main() -> None:
    out = Path(__file__).absolute().with_name("golden_ocrbench.json")
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 9 * len(TURN)
    made = rows(random.Random(2), TURN, range(count))
    made += rows(random.Random(3), TRANSCRIPTS, range(count, count + count // 7))
    made += rows(random.Random(4), (*TABLES, TABLES[0]), range(len(made), len(made) + count // 5))
    made += rows(random.Random(5), CUT, range(len(made), len(made) + count // 4), dict.fromkeys(CUT, chinese))
    with tempfile.TemporaryDirectory() as folder:
        official = Official(Path(sys.argv[1]).absolute(), Path(folder))
        scored = official.scored(made)
        table = official.table(scored)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in scored)
    out.write_text(f'{{"table": {json.dumps(table)},\n"rows": [\n{lines}\n]}}\n', "utf-8")


if __name__ == "__main__":
    main()
