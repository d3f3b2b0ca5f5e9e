"""``openpali study``: compare ways to train, over sizes and seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpali.cli.options import DataRoot

if TYPE_CHECKING:
    from openpali_lab.study.runs import Job, Plan
    from openpali_lab.study.spec import Study
    from openpali_lab.study.work import Scoring, Training


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
    results: Annotated[
        Path | None,
        typer.Option(help="Folder that takes the recipes and scores of finished jobs; those in it are done"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the table (JSON, Markdown) and its plot; default: --results, or the study's"),
    ] = None,
) -> None:
    """Train and score all arms of a study, and write its table; the same command resumes, or helps another one."""
    from openpali.distributed import join_ranks
    from openpali.home import home
    from openpali_lab.study.results import Results
    from openpali_lab.study.work import Scoring, Unit, check_tests, units_of, work

    spec, plan = open_study(file, overrides or [])
    if unknown := [number for number in job or [] if number >= len(plan.jobs)]:
        raise ValueError(
            f"there is no job {unknown[0]}: {spec.name} has jobs 0 to {len(plan.jobs) - 1}, see --list"
        )
    root, folder = data or home() / "data", out or results or home() / "runs" / spec.name
    store = Results(results, spec, plan, root) if results else None
    if show:
        if store:
            store.take_up()
        for number, each in enumerate(plan.jobs):
            typer.echo(f"{number}: {_state(each, units_of(spec, plan, [each], root))}")
        return

    def keep(unit: Unit) -> None:
        if store and isinstance(unit, Scoring):
            store.keep(unit.job)

    with join_ranks() as ranks:
        if store and ranks.rank == 0:
            store.take_up()
        if not report:
            chosen = [plan.jobs[number] for number in job] if job else plan.jobs
            units = units_of(spec, plan, chosen, root)
            if ranks.rank == 0:
                check_tests(units)
            work(units, ranks, typer.echo, after=keep)
        if ranks.rank == 0:
            if store:
                for each in plan.jobs:
                    store.keep(each)
            _write(spec, plan, root, folder)


def open_study(file: Path, overrides: list[str]) -> tuple[Study, Plan]:
    """A study and its runs. An override that is no key of the study is for each recipe."""
    from openpali_lab.study.runs import plan_study
    from openpali_lab.study.spec import Study, load_study

    own = [each for each in overrides if each.partition("=")[0].partition(".")[0] in Study.model_fields]
    spec = load_study(file, own)
    return spec, plan_study(spec, file.parent, [each for each in overrides if each not in own])


def _state(job: Job, units: Sequence[Training | Scoring]) -> str:
    """What a job is, and what is left to do of it."""
    from openpali_lab.study.work import Scoring, left

    tests = [unit for unit in units if isinstance(unit, Scoring)]
    runs = sum(not isinstance(unit, Scoring) for unit in left(units))
    training = f", {runs} run{'s' * (runs > 1)} to train" if runs else ""
    done = sum(test.done() for test in tests)
    return f"{job}: {done} of {len(tests)} scored{training}"


def _write(spec: Study, plan: Plan, root: Path, folder: Path) -> None:
    """Write table and plot, and print the table."""
    from openpali.whole import write_whole
    from openpali_lab.study.plot import draw_table
    from openpali_lab.study.table import as_json, as_markdown, missing_of, rows_of
    from openpali_lab.study.work import Scoring, units_of

    scorings = [unit for unit in units_of(spec, plan, plan.jobs, root) if isinstance(unit, Scoring)]
    rows, missing = rows_of(spec, scorings), missing_of(scorings)
    table = as_markdown(spec, rows, missing)
    write_whole(folder / "table.json", f"{json.dumps(as_json(spec, rows, missing), indent=1)}\n".encode())
    write_whole(folder / "table.md", table.encode())
    typer.echo(table)
    files = [folder / "table.json", folder / "table.md", *(draw_table(spec, rows, folder) if rows else [])]
    typer.echo(f"written: {', '.join(map(str, files))}")
