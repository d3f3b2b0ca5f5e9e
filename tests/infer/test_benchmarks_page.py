"""docs/benchmarks.md is what the scripts say and what they measured, and nothing else."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
document = runpy.run_path(str(ROOT / "benchmarks" / "_document.py"))["document"]


def test_the_page_is_what_scripts_and_results_make() -> None:
    page = document(ROOT / "benchmarks", ROOT / "docs" / "results" / "benchmarks")
    assert (ROOT / "docs" / "benchmarks.md").read_text("utf-8") == page, "run benchmarks/_document.py"


def test_a_script_and_its_results_become_a_section(tmp_path: Path) -> None:
    (tmp_path / "_shared.py").write_text('"""No benchmark."""')
    (tmp_path / "speed.py").write_text(
        '"""How fast.\n\n    python speed.py  # soon\n    python speed.py --all\n\nBoth have ``one`` thread.\n"""'
    )
    machine = {"cpu": "Abacus", "gpu": None, "cores": 2, "threads": 1, "load": 0.5, "system": "Linux x86_64"}
    machine |= {"python": "3.11", "versions": {"torch": "2.9"}, "batch": 16}
    result = {"name": "beads", "ours": 12345.6, "peer": 2.0, "peer_name": "a hand", "unit": "/s", "ratio": 6172.8}
    (tmp_path / "speed-2.json").write_text(json.dumps({"machine": machine, "results": [result]}))
    (tmp_path / "speedy.json").write_text("of another script")
    (tmp_path / "NOTES-speed.md").write_text("Slow on Sundays.\n")
    section = document(tmp_path, tmp_path).partition("## ")[2]
    assert section.splitlines() == [
        "`speed`: How fast",
        "",
        "```bash",
        "python speed.py  # soon",
        "python speed.py --all",
        "```",
        "",
        "Both have `one` thread.",
        "",
        "Abacus, 2 cores, 1 threads, load before 0.5, batch 16; Linux x86_64, Python 3.11, torch 2.9.",
        "",
        "| what | ours | peer | unit | ratio | the peer |",
        "| --- | ---: | ---: | --- | ---: | --- |",
        "| beads | 12,346 | 2 | /s | 6172.80 | a hand |",
        "",
        "Slow on Sundays.",
    ]


def test_a_long_table_leaves_out_equal_rows_unless_they_have_an_interval(tmp_path: Path) -> None:
    machine = {"cpu": "Abacus", "gpu": None, "cores": 2, "threads": 1, "load": 0.5, "system": "Linux x86_64"}
    row = {"ours": 2.0, "peer": 2.0, "peer_name": "a hand", "unit": "/s", "ratio": 1.0}
    rows = [{**row, "name": f"beads {i}"} for i in range(30)] + [{**row, "name": "score", "interval": [-0.1, 0.1]}]
    (tmp_path / "speed.py").write_text('"""How fast."""')
    record = {"machine": machine | {"python": "3.11", "versions": {}}, "results": rows}
    (tmp_path / "speed.json").write_text(json.dumps(record))
    page = document(tmp_path, tmp_path)
    assert "| score | 2 | 2 | /s | 1.00 | a hand | -0.100 .. +0.100 |" in page.splitlines()
    assert "beads" not in page
