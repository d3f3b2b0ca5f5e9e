"""``openpali study``: compare ways to train, over sizes and seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpali.cli.options import DataRoot

if TYPE_CHECKING:
    from openpali_lab.study.runs import Plan
    from openpali_lab.study.spec import Study


def study(
    file: Annotated[Path, typer.Argument(help="A study, such as recipes/study/table1.toml")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, replaces a value of the study, or else of each of its recipes"),
    ] = None,
    job: Annotated[
        list[int] | None, typer.Option(help="Do only this job of the list, from 0; may be repeated", min=0)
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Only print the jobs and how far each is")] = False,
    report: Annotated[bool, typer.Option(help="Only write the table of what has been scored so far")] = False,
    data: DataRoot = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the table (JSON, Markdown) and its plot; default: the study's"),
    ] = None,
) -> None:
    """Train and score all arms of a study, and write its table; the same command resumes."""
    from openpali.distributed import join_ranks
    from openpali.home import home
    from openpali_lab.study.work import check_runs, is_trained, scorings_of, work

    spec, plan = open_study(file, overrides or [])
    if unknown := [number for number in job or [] if number >= len(plan.jobs)]:
        raise ValueError(
            f"there is no job {unknown[0]}: {spec.name} has jobs 0 to {len(plan.jobs) - 1}, see --list"
        )
    check_runs(plan)
    if show:
        for number, each in enumerate(plan.jobs):
            tests, runs = scorings_of(spec, [each]), plan.runs_of(each)
            scored, trained = sum(bool(test.result()) for test in tests), sum(map(is_trained, runs))
            typer.echo(
                f"{number}: {each}: {trained} of {len(runs)} runs trained, {scored} of {len(tests)} tests scored"
            )
        return
    with join_ranks() as ranks:
        if not report:
            chosen = [plan.jobs[number] for number in job] if job else plan.jobs
            work(spec, plan, chosen, data or home() / "data", ranks, typer.echo)
        if ranks.rank == 0:
            _write(spec, plan, out or home() / "runs" / spec.name)


def open_study(file: Path, overrides: list[str]) -> tuple[Study, Plan]:
    """A study and its runs. An override that is no key of the study is for each recipe."""
    from openpali_lab.study.runs import plan_study
    from openpali_lab.study.spec import Study, load_study

    own = [each for each in overrides if each.partition("=")[0].partition(".")[0] in Study.model_fields]
    spec = load_study(file, own)
    return spec, plan_study(spec, file.parent, [each for each in overrides if each not in own])


def _write(spec: Study, plan: Plan, folder: Path) -> None:
    """Write table and plot, and print the table."""
    from openpali.whole import write_whole
    from openpali_lab.study.plot import draw_table
    from openpali_lab.study.table import as_json, as_markdown, missing_of, rows_of
    from openpali_lab.study.work import scorings_of

    scorings = scorings_of(spec, plan.jobs)
    rows, missing = rows_of(spec, scorings), missing_of(scorings)
    table = as_markdown(spec, rows, missing)
    write_whole(folder / "table.json", f"{json.dumps(as_json(spec, rows, missing), indent=1)}\n".encode())
    write_whole(folder / "table.md", table.encode())
    if rows:
        draw_table(spec, rows, folder / "table.png")
    typer.echo(f"{table}\nwritten to {folder}")
