"""``openpali read``: the text of screenshots, scans and PDF files, and where it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from openpali.cli.models import open_pali
from openpali.cli.options import Device, Model
from openpali.cli.outputs import check_drawable, check_not_input

DPI = 144  # a PDF page of letter size then has 1224 x 1584 pixels, as a screen


def read(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Images and PDF files")],
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
) -> None:
    """Read the text of whole screens and pages, in reading order."""
    from rich.console import Console
    from rich.progress import Progress

    from openpali.data.media.documents import open_pages
    from openpali.infer.page_text import FORMATS, ReadPage, draw_page
    from openpali.infer.pipeline import ood_warning

    if out is not None:
        check_not_input(out, *files)
        check_drawable(out)
    pali = open_pali(model, "torch", "fp32", device)
    writer = FORMATS[format]()
    typer.echo(writer.head, nl=False)
    number, errors = 0, []
    seen = len(files) < 2 or sys.stdout.isatty()  # then what is printed shows how far it is
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False, disable=seen) as progress:
        for file in progress.track(files, description="Reading"):
            pages = enumerate(open_pages(file, dpi), 1)
            while True:
                try:
                    page, image = next(pages)
                    said = pali.page(image)
                except StopIteration:
                    break
                except (ValueError, OSError) as error:
                    errors.append(str(error))
                    break
                number += 1
                typer.echo(writer.page(ReadPage.of(image, said, file, page)), nl=False)
                if said.out_of_distribution:
                    typer.echo(f"openpali: {file}, page {page}: {ood_warning(pali.name)}", err=True)
                if out is not None:
                    drawn = _numbered(out, number)
                    check_not_input(drawn, *files)
                    draw_page(image, said.lines).save(drawn)
    typer.echo(writer.tail, nl=False)
    if errors:
        raise ValueError("; ".join(errors))


def _numbered(file: Path, number: int) -> Path:
    return file if number == 1 else file.with_stem(f"{file.stem}-{number}")
