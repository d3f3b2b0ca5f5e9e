"""docs/benchmarks.md is what the scripts say and what they measured, and nothing else."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
page = runpy.run_path(str(ROOT / "benchmarks" / "_document.py"))
document, table = page["document"], page["table"]


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
        "Slow on Sundays.",
        "",
        '<details markdown="1"><summary><code>speed-2</code></summary>',
        "",
        "| what, /s | ours | a hand | ratio |",
        "| --- | ---: | ---: | ---: |",
        "| beads | 12,346 | 2 | 6172.80 |",
        "",
        "[all rows of `speed-2`](results/benchmarks/speed-2.json)",
        "",
        "</details>",
    ]


def test_rows_of_several_quantities_share_a_line() -> None:
    row = {"ours": 3.0, "peer": 2.0, "peer_name": "a hand", "unit": "/s", "ratio": 1.5}
    rows = [{**row, "name": f"{kind}: {quantity}"} for kind in ("red", "blue") for quantity in ("beads", "knots")]
    assert table(rows).splitlines() == [
        "| what | beads, /s, a hand | knots, /s, a hand |",
        "| --- | ---: | ---: |",
        "| red | 3/2 (1.50) | 3/2 (1.50) |",
        "| blue | 3/2 (1.50) | 3/2 (1.50) |",
    ]


def test_facts_of_a_machine_that_differ_are_named_at_its_table(tmp_path: Path) -> None:
    machine = {"cpu": "Abacus", "gpu": None, "cores": 2, "threads": 1, "load": 0.5, "system": "Linux x86_64"}
    machine |= {"python": "3.11", "versions": {}}
    (tmp_path / "speed.py").write_text('"""How fast."""')
    row = {"name": "beads", "ours": 3.0, "peer": 2.0, "peer_name": "a hand", "unit": "/s", "ratio": 1.5}
    for name, threads in (("a", 1), ("b", 1), ("c", 4)):
        record = {"machine": machine | {"threads": threads}, "results": [row]}
        (tmp_path / f"speed-{name}.json").write_text(json.dumps(record))
    page = document(tmp_path, tmp_path)
    assert "the machine is: Abacus, 2 cores, 1 threads, Linux x86_64, Python 3.11." in page
    assert "<code>speed-a</code>, <code>speed-b</code></summary>" in page
    assert "<code>speed-c</code>, 4 threads</summary>" in page


def test_a_long_table_leaves_out_equal_rows_unless_they_have_an_interval() -> None:
    row = {"ours": 2.0, "peer": 2.0, "peer_name": "a hand", "unit": "/s", "ratio": 1.0}
    rows = [{**row, "name": f"beads {i}"} for i in range(30)] + [{**row, "name": "score", "interval": [-0.1, 0.1]}]
    rows.append({**row, "name": "score (setting)", "ratio": 3.0})
    text = table(rows)
    assert "| score | 2 | 2 | 1.00 | -0.100 to +0.100 |" in text.splitlines()
    assert "beads" not in text
    assert "setting" not in text
