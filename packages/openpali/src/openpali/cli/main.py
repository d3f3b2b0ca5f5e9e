"""The command line: one module per verb, errors without tracebacks.

Each verb imports what it needs when it runs, so that ``--help`` and the other verbs start fast.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from openpali import __version__
from openpali.cli import data
from openpali.cli.calibrate import calibrate
from openpali.cli.convert import convert, quantize
from openpali.cli.eval import evaluate
from openpali.cli.explain import explain
from openpali.cli.export import export
from openpali.cli.names import names
from openpali.cli.options import Command, Group, UsageError
from openpali.cli.predict import predict
from openpali.cli.runs import runs
from openpali.cli.serve import serve
from openpali.cli.train import train
from openpali.cli.tune import tune
from openpali.extensions import loaded


def _resumable(verb: Callable[..., None], output: str) -> Callable[..., None]:
    """A verb that says, if it is interrupted, that the file in its option ``output`` keeps the answers."""

    @wraps(verb)
    def run(**options: Any) -> None:
        file: Path | None = options[output]
        before = _written(file)
        try:
            verb(**options)
        except KeyboardInterrupt:
            if _written(file) != before:  # so it is a file of this run
                message = f"{file} keeps what is answered, and the same command goes on"
                typer.echo(f"openpali: interrupted: {message}", err=True)
            raise

    return run


def _written(file: Path | None) -> int:
    """When a file was last written, in ns; 0 if there is none."""
    return file.stat().st_mtime_ns if file is not None and file.is_file() else 0


_standard = warnings.formatwarning


def _format_warning(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
    ours = category.__module__.startswith("openpali.")
    return f"openpali: {message}\n" if ours else _standard(message, category, *place, **line)


# The groups of --help and their verbs in order; those of extensions follow, in the group that they name.
GROUPS: dict[str, dict[str, Callable[..., None]]] = {
    "Ask": {"predict": _resumable(predict, "output"), "serve": serve},
    "Train": {"tune": tune, "train": train, "explain": explain, "runs": runs},
    "Measure": {"eval": _resumable(evaluate, "save_predictions"), "calibrate": calibrate, "names": names},
    "Share": {"convert": convert, "export": export, "quantize": quantize},
}

app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"openpali {__version__}")
        raise typer.Exit


@app.callback()
def _openpali(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit")
    ] = False,
) -> None:
    """PaLI-3 style vision-language models: predict, train, evaluate."""


for panel, verbs in GROUPS.items():
    for name, verb in verbs.items():
        app.command(name, cls=Command, rich_help_panel=panel)(verb)
app.add_typer(data.app, name="data", rich_help_panel="Train")


def _add(key: str, verb: Callable[..., None]) -> Callable[[], object]:
    """What adds a command of an extension, whose key is as :class:`~openpali.extensions.Extension` says."""
    panel, _, words = key.rpartition(": ")
    group, _, name = words.rpartition(" ")
    if group not in ("", "data"):
        raise ValueError(f"its command {words!r} does not begin with data: leave out the space")
    alone = typer.Typer()
    alone.command(name)(verb)
    typer.main.get_command(alone)  # raises what typer would raise at every command
    command = (data.app if group else app).command(name, cls=Command, rich_help_panel=panel or None)
    return partial(command, verb)


warnings.formatwarning = _format_warning
for add in loaded("commands", _add).values():
    add()


def main(app: typer.Typer = app) -> None:
    """Run an app; print a user's error as one sentence on stderr; exit with code 1, of wrong arguments with 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file is UTF-8, as what is written there says
            keeps = stream.isatty() or "PYTHONIOENCODING" in os.environ
            stream.reconfigure(errors="backslashreplace", encoding=None if keeps else "utf-8")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of large images and broken EXIF; real problems are raised
    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        if message := _usage(error):  # of a group without arguments, typer has printed the help
            typer.echo(f"openpali: {message}", err=True)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(1)
    except (ValueError, OSError) as error:
        sys.exit(f"openpali: {_told(error)}")
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which commands without torch do not import
            raise
        sys.exit(
            "openpali: the GPU has too little memory: process less at a time (train: raise micro or lower batch; "
            "serve: lower --slots; else lower --batch-size), or compute in bf16"
        )
    sys.exit(code or 0)


def _usage(error: typer.BadParameter) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message}; `{error.ctx.command_path} --help` shows what it takes" if message and error.ctx else message


def _told(error: ValueError | OSError) -> str:
    if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
        return str(error)
    where = f", where {error.filename} was being written" if error.filename else ""
    return f"no space is left on the disk{where}: free some, and run the same command again"
