"""``openpali read``: the text of screenshots, scans and PDF files, and where it is."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from openpali.cli.models import open_pali, wait_passively, written
from openpali.cli.options import Device, Model
from openpali.cli.outputs import check_drawable, check_not_input
from openpali.weights.find import find_model
from openpali_screen.cli import DPI, parse_range, with_folders, write_pages

if TYPE_CHECKING:
    from openpali_screen.reader import ScreenReader


def open_reader(model: str, device: str) -> ScreenReader:
    """The reader of a model; torch is not imported if graphs can run."""
    from openpali_screen.parts import graphs_of
    from openpali_screen.reader import ScreenReader

    folder = written(model)
    if device == "cpu" and (graphs := graphs_of(find_model(folder))):
        return ScreenReader.open(graphs)
    from openpali_screen.bundles import reader_of_bundle

    return reader_of_bundle(open_pali(folder, "torch", "fp32", device))


def read(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Images, PDF files, or folders of them")],
    model: Model = "nano",
    device: Device = "cpu",
    format: Annotated[
        Literal["text", "json", "hocr", "tsv"],
        typer.Option(help="What to print; json, hocr and tsv have boxes and confidences of lines and words"),
    ] = "text",
    out: Annotated[
        Path | None, typer.Option(help="Draw the words' boxes on the page and write it here; page 2 as NAME-2.png")
    ] = None,
    dpi: Annotated[float, typer.Option(help="Dots per inch at which PDF pages are drawn", min=36, max=600)] = DPI,
    pages: Annotated[str, typer.Option(help="Pages of each file to read, as 3 or 3-5; default: all")] = "",
) -> None:
    """Read the text of whole screens and pages, in reading order."""
    wait_passively()
    from rich.console import Console
    from rich.progress import Progress

    from openpali_screen.export import FORMATS
    from openpali_screen.files import check_file

    files = with_folders(files)
    if out is not None:
        check_not_input(out, *files)
        check_drawable(out)
    if len(files) == 1:  # of several, the others are read
        check_file(files[0])
    first, last = parse_range(pages)
    reader = open_reader(model, device)
    seen = len(files) < 2 or sys.stdout.isatty()  # then what is printed shows how far it is
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False, disable=seen) as progress:
        track = partial(progress.track, description="Reading")
        write_pages(reader, files, FORMATS[format](), partial(typer.echo, nl=False), out, dpi, first, last, track)
