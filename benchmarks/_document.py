"""Write docs/benchmarks.md from the docstrings of the scripts here and the results in docs/results/benchmarks/.

Comments on a table (why a target was missed, what was tried) are written by hand in NOTES-SCRIPT.md beside it, and
follow the tables.

python benchmarks/_document.py
"""

from __future__ import annotations

import ast
import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
HEAD = """# Benchmarks

With this page you can see how fast and how exact OpenPaLI is beside its peers, and measure the same on your machine
by the command of each section. `pip install -e 'packages/openpali-lab[bench]'` installs the peers.

A ratio above 1 means that ours is better; of each script, the least, the median and the greatest ratio are listed
first. Cells of wide tables are ours/peer (ratio). Long tables leave out rows with a ratio near 1, and
settings of a peer that are not its best; of the longest, only the file is linked. Files have all rows.
{machine}

`python benchmarks/_document.py` generates this page from docstrings and from the files that the scripts write with
`--json docs/results/benchmarks/SCRIPT.json`.
"""
LONG = 20  # rows of a table
LARGE, SMALL = 300, 150  # words of tables that are shown: of the first of a script, and of others
EQUAL = 0.02  # a ratio this near to 1 is left out of a longer one, unless it has an interval
MACHINE = ("cpu", "gpu", "cores", "threads", "load", "system", "python", "versions")  # facts of every record


def document(scripts: Path, results: Path) -> str:
    """The page as Markdown.

    Args:
        scripts: folder of the benchmarks, and of helpers whose names begin with ``_``.
        results: folder of their results, SCRIPT.json or SCRIPT-WORD.json, and of notes.
    """
    found = {
        script: [*results.glob(f"{script.stem}.json"), *sorted(results.glob(f"{script.stem}-*.json"))]
        for script in sorted(scripts.glob("[!_]*.py"))
    }
    records = {file: json.loads(file.read_text("utf-8")) for files in found.values() for file in files}
    usual = Counter(fact for record in records.values() for fact in _facts(record["machine"]))
    common = [fact for fact, count in usual.items() if count > len(records) / 2]
    contents = ["| script | rows | ratios |", "| --- | ---: | --- |"]
    sections = []
    for script, files in found.items():
        name = script.stem
        title, _, rest = (ast.get_docstring(ast.parse(script.read_text("utf-8"))) or name).partition("\n")
        contents.append(_row((f"[`{name}`](#{name})", *_summary([records[f] for f in files]))))
        sections.append(f'<a id="{name}"></a>\n\n## `{name}`: {title.rstrip(".")}\n')
        sections += [_block(each) for each in rest.strip("\n").split("\n\n") if each]
        if (notes := results / f"NOTES-{name}.md").is_file():
            sections.append(notes.read_text("utf-8"))
        sections += _folded({file: records[file] for file in files}, common)
    machine = f"Unless a table names others, the machine is: {', '.join(common)}." if common else ""
    return "\n".join([HEAD.format(machine=machine).rstrip() + "\n", *contents, "", *sections])


def _facts(machine: Mapping[str, Any]) -> list[str]:
    """Machine, versions and options of a measurement."""
    return [
        machine["gpu"] or machine["cpu"],
        f"{machine['cores']} cores",
        f"{machine['threads']} threads",
        machine["system"],
        f"Python {machine['python']}",
        *(f"{name} {version}" for name, version in machine["versions"].items()),
        *(f"{name} {value}" for name, value in machine.items() if name not in MACHINE),
    ]


def _summary(records: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Number of rows, and their least, middle and greatest ratio."""
    ratios = [row["ratio"] for record in records for row in record["results"]]
    if not ratios:
        return "0", "not measured"
    return str(len(ratios)), f"{min(ratios):.2f}, {median(ratios):.2f}, {max(ratios):.2f}"


def _folded(records: Mapping[Path, Mapping[str, Any]], common: Sequence[str]) -> list[str]:
    """Tables that open at a click, under the facts in which a machine differs; small ones of equal facts share one.

    Of the others only files are linked.
    """
    groups: list[tuple[list[str], list[Path], list[Mapping[str, Any]]]] = []
    for file, record in records.items():
        facts = [fact for fact in _facts(record["machine"]) if fact not in common]
        for known, files, rows in groups:
            if known == facts and _size([*rows, *record["results"]]) <= SMALL:
                files.append(file)
                rows += record["results"]
                break
        else:
            groups.append((facts, [file], [*record["results"]]))
    sections = []
    for facts, files, rows in groups:
        links = ", ".join(f"[all rows of `{file.stem}`](results/benchmarks/{file.name})" for file in files)
        if _size(rows) > (LARGE if not sections else SMALL):
            sections.append(f"{', '.join((links, *facts))}.\n")
        else:
            names = ", ".join((*(f"<code>{file.stem}</code>" for file in files), *facts))
            summary = f'<details markdown="1"><summary>{names}</summary>'
            sections.append(f"{summary}\n\n{table(rows)}\n{links}\n\n</details>\n")
    return sections


def _size(rows: Sequence[Mapping[str, Any]]) -> int:
    return len(table(rows).split())


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Results of :func:`_report.report` as Markdown: a row each, or wide if that is shorter."""
    return min((text for text in (_narrow(rows), _wide(rows)) if text), key=lambda text: len(text.split()))


def _wide(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row for each ROW of names ROW: COLUMN; nothing where that saves none."""
    cells: dict[str, dict[str, str]] = {}
    for each in rows:
        kind, _, column = each["name"].rpartition(": ") if ": " in each["name"] else (each["name"], "", "")
        column = ", ".join(filter(None, (column, each["unit"], each["peer_name"])))
        if "interval" in each or column in cells.setdefault(kind, {}):
            return ""
        cells[kind][column] = f"{_number(each['ours'])}/{_number(each['peer'])} ({each['ratio']:.2f})"
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    if len(columns) == 1:
        return ""
    lines = [_row(("what", *columns)), _row(("---", *["---:"] * len(columns)))]
    lines += [_row((kind, *(row.get(column, "") for column in columns))) for kind, row in cells.items()]
    return "\n".join(lines) + "\n"


def _narrow(rows: Sequence[Mapping[str, Any]]) -> str:
    rows = [each for each in rows if "(setting)" not in each["name"]]
    if len(rows) > LONG:
        rows = [each for each in rows if "interval" in each or abs(each["ratio"] - 1) > EQUAL]
    peers = {each["peer_name"] for each in rows}
    peer = peers.pop() if len(peers) == 1 else ""
    units = {each["unit"] for each in rows}
    unit = units.pop() if len(units) == 1 else ""
    columns = [f"what, {unit}" if unit else "what", "ours", peer or "peer", "ratio"]
    if any("interval" in each for each in rows):
        columns.append("ours less the peer's, 95 %")
    lines = [_row(columns), _row(("---", *["---:"] * (len(columns) - 1)))]
    for each in rows:
        theirs = _number(each["peer"]) if peer else f"{_number(each['peer'])} {each['peer_name']}"
        interval = " to ".join(f"{value:+.3f}" for value in each.get("interval", ()))
        name = each["name"] if unit else f"{each['name']}, {each['unit']}"
        cells = (name, _number(each["ours"]), theirs, f"{each['ratio']:.2f}", interval)
        lines.append(_row(cells[: len(columns)]))
    return "\n".join(lines) + "\n"


def _block(text: str) -> str:
    """A paragraph, or the commands where it is indented."""
    if text.startswith("    "):
        return f"```bash\n{textwrap.dedent(text)}\n```\n"
    return text.replace("``", "`") + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    (ROOT / "docs" / "benchmarks.md").write_text(
        document(ROOT / "benchmarks", ROOT / "docs" / "results" / "benchmarks"), "utf-8"
    )
