"""``openpali read``: the text of screenshots, scans and PDF files, and where it is."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from openpali.cli.inputs import with_folders
from openpali.cli.models import open_pali, wait_passively
from openpali.cli.options import Device, Model
from openpali.cli.outputs import check_drawable, check_not_input
from openpali.data.media import DPI
from openpali.messages import printable
from openpali_screen.parts import FINDER, READER

if TYPE_CHECKING:
    from openpali.infer.pali import Pali
    from openpali.tasks.example import Image
    from openpali_screen.text import ReadPage


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

    from openpali.data.media.images import check_image_file

    files = with_folders(files, (".pdf",), "PDF files")
    if out is not None:
        check_not_input(out, *files)
        check_drawable(out)
    if len(files) == 1:  # of several, the others are read
        check_image_file(files[0])
    first, last = _range(pages)
    pali = open_pali(model, "torch", "fp32", device)
    from openpali.infer.pipeline import ood_warning
    from openpali_screen.export import FORMATS, draw_page

    for part in (FINDER, READER):  # before any file is read, since the model may lack them
        pali.load(part)
    writer = FORMATS[format]()
    typer.echo(writer.head, nl=False)
    count = 0
    errors: list[str] = []
    seen = len(files) < 2 or sys.stdout.isatty()  # then what is printed shows how far it is
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False, disable=seen) as progress:
        for file in progress.track(files, description="Reading"):
            for number, image, page in _pages(pali, file, dpi, first, last, errors):
                count += 1
                typer.echo(writer.page(page, printable(file), number), nl=False)
                if page.out_of_distribution:
                    typer.echo(f"openpali: {file}, page {number}: {ood_warning(pali.name, page.reason)}", err=True)
                if out is not None:
                    drawn = _numbered(out, count)
                    check_not_input(drawn, *files)
                    draw_page(image, page.lines).save(drawn)
    typer.echo(writer.tail, nl=False)
    if errors:
        raise ValueError("; ".join(errors))


def _pages(
    pali: Pali, file: str, dpi: float, first: int, last: int | None, errors: list[str]
) -> Iterator[tuple[int, Image, ReadPage]]:
    """Number, pixels and text of pages ``first`` to ``last`` of a file; what cannot be read ends in ``errors``."""
    from openpali.data.media.documents import pages_of
    from openpali_screen.reader import ScreenReader

    try:
        for number, open_page in enumerate(pages_of(file, dpi, first), first):
            try:
                image = open_page()
            except (ValueError, OSError) as error:  # the next one may be whole
                errors.append(str(error))
            else:
                yield number, image, ScreenReader.of(pali).page(image)
            if number == last:
                return
    except (ValueError, OSError) as error:
        errors.append(str(error))


def _range(pages: str) -> tuple[int, int | None]:
    """The first and the last of "3" or "3-5"; all have no last one."""
    if not pages:
        return 1, None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", pages)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise ValueError(f"--pages {pages!r} is no page or range of pages, such as 3 or 3-5")
    return first, last


def _numbered(file: Path, number: int) -> Path:
    return file if number == 1 else file.with_stem(f"{file.stem}-{number}")
