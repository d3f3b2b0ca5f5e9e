"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from openpali.infer.engines import registry

Model = Annotated[
    str,
    typer.Option(
        help="A model folder, a finished run, a run's checkpoint, the name of a shipped model (nano), or hf://ORG/NAME"
    ),
]
Engine = Annotated[
    registry.EngineName,
    typer.Option(help="Engine that generates text; OpenVINO is faster on CPUs and needs the extra cpu"),
]
Dtype = Annotated[registry.Dtype, typer.Option(help="Dtype that torch computes in; bf16 halves the memory")]
Device = Annotated[
    str, typer.Option(help="Device that torch computes on: cpu or cuda; under torchrun, each rank's own GPU")
]
DataRoot = Annotated[
    Path | None, typer.Option("--data", help="Root folder of the official data sets; default: in the cache")
]
Frames = Annotated[int | None, typer.Option(help="Most frames of a video of your data; default: 8", min=1)]
Stride = Annotated[
    int | None, typer.Option(help="Take every n-th frame of a video; default: evenly spaced frames", min=1)
]
Recipe = Annotated[Path, typer.Argument(help="A recipe file, such as recipes/nano/0a_siglip.toml")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value, replaces a value of the recipe; scale=0.01 shortens the run"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]


UsageError = cast(type[typer.BadParameter], typer.BadParameter.__base__)
"""Arguments that a command cannot take. typer exports it by its subclass alone, and has it from click or itself."""


def sampling(frames: int | None, stride: int | None) -> dict[str, int]:
    """The options of a source that were given: which frames of videos it takes."""
    return {name: value for name, value in (("frames", frames), ("stride", stride)) if value is not None}


class _FlagsWithoutType:
    """Shows no type for flags, which take no value, where typer shows <bool>."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in params:
            if getattr(each, "is_flag", False):
                each.display_type_rich = lambda ctx: None
        return params


class Command(_FlagsWithoutType, TyperCommand):
    """A command, for ``app.command``."""


class Group(_FlagsWithoutType, TyperGroup):
    """A group of commands, for ``typer.Typer``."""
