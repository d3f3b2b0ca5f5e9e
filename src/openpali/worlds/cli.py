"""``openpali data build``: build data sets from packages."""

from __future__ import annotations

from typing import Annotated

import typer


def build(
    name: Annotated[
        str,
        typer.Argument(
            help="stamps, clipart, easy-vqa, fashion-mnist, wordnet, lines, ood, emoji, pages, nano-vocabulary, "
            "mini-vocabulary, or all (without emoji, which need npm, and pages, which need Chromium and hours)"
        ),
    ],
    force: Annotated[bool, typer.Option(help="Build again what exists")] = False,
) -> None:
    """Download packages by name and build a data set from them, in the cache."""
    from openpali.progress import working
    from openpali.worlds.builders.base import build as build_one
    from openpali.worlds.builders.base import expect, named

    names = named(name)
    typer.echo(expect(names, force=force))
    for each in names:
        typer.echo(f"{each}: {build_one(each, force=force, working=working)}")
