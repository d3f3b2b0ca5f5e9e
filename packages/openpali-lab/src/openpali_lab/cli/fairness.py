"""``python -m openpali_lab fairness``: scores and traits of answers by group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.outputs import check_not_input, check_writable

METRIC = "metric"  # the benchmark's own score, among the traits of the result


def fairness(
    predictions: Annotated[
        Path, typer.Argument(help="Answers saved by `openpali eval BENCHMARK --save-predictions FILE`")
    ],
    attributes: Annotated[Path, typer.Argument(help="CSV file with one row per sample and its attributes")],
    column: Annotated[
        list[str], typer.Option(help="Group by this attribute; repeat the option to group by combinations")
    ],
    key: Annotated[str, typer.Option(help="Column with the keys of the samples")] = "key",
    words: Annotated[
        list[Path] | None, typer.Option(help="Word list of a trait to look for in the answers")
    ] = None,
    least: Annotated[int, typer.Option(help="Leave out groups with fewer samples than this", min=1)] = 20,
    file: Annotated[Path | None, typer.Option("--json", help="Write the result to this file")] = None,
) -> None:
    """Compare scores, and traits of the answers, between groups of people or things (docs/fairness.md)."""
    from openpali.eval.predictions import read_predictions
    from openpali_lab import fairness as fair

    if file is not None:
        check_not_input(file, predictions, attributes, *(words or ()))
    check_writable(file)
    if any(path.stem == METRIC for path in words or ()):
        raise ValueError(f"no word list can be named {METRIC!r}, as the benchmark's own score is: rename it")
    rows = [line.answered for line in read_predictions(predictions)]
    if not rows:
        raise ValueError(f"there are no answers in {predictions}: repeat the `openpali eval` that writes them")
    groups = fair.groups_of([row.key for row in rows], fair.read_attributes(attributes, key=key), *column)
    found = {METRIC: fair.benchmark_gap(predictions, groups, least=least)}
    if words:
        found |= fair.toxicity([row.text for row in rows], groups, fair.word_list(*words), least=least)
    typer.echo("\n".join(each.as_markdown() for each in found.values()))
    if file is not None:
        file.write_text(
            json.dumps({name: each.as_json() for name, each in found.items()}, indent=1) + "\n", "utf-8"
        )
