"""``openpali data build``: build data sets from packages; ``openpali demo``: a page of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.options import Model
from openpali.cli.outputs import check_writable


def build(
    name: Annotated[
        str,
        typer.Argument(
            help="stamps, clipart, easy-vqa, fashion-mnist, wordnet, lines, printed, ood, emoji, pages, native, "
            "page-texts, icons, nano-vocabulary, mini-vocabulary, or all (without emoji, pages, native, printed, "
            "page-texts and icons, which need npm, programs of Debian or many fonts)"
        ),
    ],
    force: Annotated[bool, typer.Option(help="Build again what exists")] = False,
) -> None:
    """Download packages by name and build a data set from them, in the cache."""
    from openpali.progress import working
    from openpali_lab.worlds.builders.base import build as build_one
    from openpali_lab.worlds.builders.base import expect, named

    names = named(name)
    typer.echo(expect(names, force=force))
    for each in names:
        typer.echo(f"{each}: {build_one(each, force=force, working=working, tell=typer.echo)}")


def demo(
    out: Annotated[Path, typer.Option(help="HTML file to write")] = Path("demo/index.html"),
    model: Model = "nano",
) -> None:
    """Answer questions about twelve held-out images, read four screens, and write one self-contained HTML page."""
    from openpali.infer.pali import Pali
    from openpali_lab.worlds.demo_page import write_demo

    check_writable(out)
    shown = write_demo(Pali.from_pretrained(model), out)
    typer.echo(f"{sum(each.right for each in shown)} of {len(shown)} right: open {out}")
