"""Write docs/benchmarks.md: what each script here says of itself, and the tables of docs/results/benchmarks/*.json.

What a table means (a target that was missed: why, and what was tried) is written by hand, in NOTES-SCRIPT.md beside
it, and comes after the tables.

python benchmarks/_document.py
"""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAD = """# Benchmarks

Each table is what a script printed, beside the machine it ran on. To measure yours, run the script. This page is
made by `python benchmarks/_document.py` from the scripts' own texts and from what they wrote with
`--json docs/results/benchmarks/SCRIPT.json`. A ratio above 1 means that ours is better. The peers are in the extra
`bench`: `pip install -e '.[bench]'`.
"""
MACHINE = ("cpu", "gpu", "cores", "threads", "load", "system", "python", "versions")  # of every script
COLUMNS = ("what", "ours", "peer", "unit", "ratio", "the peer")


def document(scripts: Path, results: Path) -> str:
    """The page as Markdown.

    Args:
        scripts: folder of the benchmarks; those whose name begins with ``_`` are none.
        results: folder of what they wrote, as SCRIPT.json, or SCRIPT-WORD.json for one of several, and of notes.
    """
    sections = [HEAD]
    for script in sorted(scripts.glob("[!_]*.py")):
        title, _, rest = (ast.get_docstring(ast.parse(script.read_text("utf-8"))) or script.stem).partition("\n")
        sections.append(f"## `{script.stem}`: {title.rstrip('.')}\n")
        sections += [_block(each) for each in rest.strip("\n").split("\n\n") if each]
        for file in [*results.glob(f"{script.stem}.json"), *sorted(results.glob(f"{script.stem}-*.json"))]:
            sections.append(table(json.loads(file.read_text("utf-8"))))
        if (notes := results / f"NOTES-{script.stem}.md").is_file():
            sections.append(notes.read_text("utf-8"))
    return "\n".join(sections)


def table(record: Mapping[str, Any]) -> str:
    """What :func:`_report.report` wrote, as Markdown."""
    facts = record["machine"]
    options = "".join(f", {name} {value}" for name, value in facts.items() if name not in MACHINE)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"{facts['gpu'] or facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, load before "
        f"{facts['load']}{options}; {facts['system']}, Python {facts['python']}, {versions}.",
        "",
        _row(COLUMNS),
        _row("---:" if name in ("ours", "peer", "ratio") else "---" for name in COLUMNS),
    ]
    for each in record["results"]:
        numbers = (_number(each[name]) for name in ("ours", "peer"))
        lines.append(_row((each["name"], *numbers, each["unit"], f"{each['ratio']:.2f}", each["peer_name"])))
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
