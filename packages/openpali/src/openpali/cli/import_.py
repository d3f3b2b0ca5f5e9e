"""``openpali data import``: annotations in another format -> JSONL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpali.cli.data import mention_more
from openpali.cli.options import Json
from openpali.cli.outputs import check_not_input, check_writable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from openpali.data.importers.base import Imported


def import_(
    format: Annotated[str, typer.Argument(help="coco, yolo, voc, csv or docvqa")],
    path: Annotated[Path, typer.Argument(help="The annotations: a file, or for yolo and voc a folder")],
    out: Annotated[Path, typer.Option(help="JSONL file to write, as data of a recipe")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; default: where the format has them")
    ] = None,
    split: Annotated[str, typer.Option(help="Part of the data set, such as train (yolo, voc)")] = "",
    as_json: Json = False,
) -> None:
    """Write annotations in another format as JSONL, and count what cannot be used."""
    from rich.console import Console

    from openpali.data.importers.registry import import_data

    check_not_input(out, path)
    check_writable(out)
    found = import_data(format, path, out, images=images, split=split)
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        Console().print(render(found))
        mention_more(found)


def render(found: Imported) -> RenderableType:
    """What became of an imported data set, to print with rich."""
    from rich.console import Group
    from rich.text import Text

    from openpali.reports.validation import by_count, problems

    counts = f"{found.samples:,} samples, {found.images:,} images, {found.objects:,} objects"
    parts: list[RenderableType] = [Text(f"{found.out}: {counts}", style="bold")]
    parts += [Text(f"{count:,} {what}") for what, count in by_count(found.changed)]
    parts += [Text(note) for note in found.notes]
    if found.ok:
        parts.append(Text("nothing was left out", "green"))
    else:
        parts += [Text("\nleft out:"), *problems(found)]
    return Group(*parts)
