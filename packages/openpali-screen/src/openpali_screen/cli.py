"""``openpali-screen``: what screens, scans and PDF files say, and where."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openpali_screen.export import TextFormat
    from openpali_screen.geometry import Image
    from openpali_screen.reader import ScreenReader

DPI = 144.0  # at which pages of PDF files are drawn


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exits with 1 if a file could not be read, and 2 for wrong options."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["mcp"]:
        return serve(arguments[1:])
    about = "Read screens, scans and PDF files. `openpali-screen mcp` serves agents."
    parser = argparse.ArgumentParser("openpali-screen", description=about)
    parser.add_argument("files", metavar="FILE", nargs="+", help="images, PDF files, or folders of them")
    parser.add_argument(
        "--format",
        choices=("tree", "json", "markdown", "text", "hocr", "tsv", "pdf"),
        default="tree",
        help="what to print (default: tree); pdf is a searchable file: redirect it",
    )
    parser.add_argument("--marks", metavar="IMAGE", type=Path, help="draw the elements with their numbers here")
    parser.add_argument("--pages", default="", help="pages of each file, as 3 or 3-5 (default: all)")
    parser.add_argument("--dpi", type=float, default=DPI, help=f"at which PDF pages are drawn (default: {DPI:g})")
    parser.add_argument("--model", metavar="DIR", help="graphs of another model (default: those of the package)")
    given = parser.parse_args(arguments)
    try:
        from openpali_screen.export import FORMATS
        from openpali_screen.reader import ScreenReader

        if given.format == "pdf" and sys.stdout.isatty():
            raise ValueError("a PDF file cannot be shown here: redirect it, as in --format pdf > scan.pdf")
        files, (first, last) = with_folders(given.files), parse_range(given.pages)
        reader = ScreenReader.open(given.model)
        elements = given.format in ("tree", "json") or given.marks is not None
        with _pdf(given.dpi) if given.format == "pdf" else nullcontext(FORMATS[given.format]()) as writer:
            write_pages(reader, files, writer, _print, given.marks, given.dpi, first, last, elements=elements)
    except (ValueError, OSError) as error:
        sys.exit(f"openpali-screen: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def serve(arguments: Sequence[str]) -> None:
    """``openpali-screen mcp``: serve agents over standard input and output."""
    parser = argparse.ArgumentParser(
        "openpali-screen mcp", description="Serve agents by the Model Context Protocol."
    )
    parser.add_argument("--display", help="X display that is captured where no image is given (default: $DISPLAY)")
    parser.add_argument("--model", metavar="DIR", help="graphs of another model (default: those of the package)")
    given = parser.parse_args(arguments)
    try:
        from openpali_screen.mcp_server import server
        from openpali_screen.reader import ScreenReader

        server(ScreenReader.open(given.model), given.display).run()
    except ImportError as error:
        sys.exit(f"openpali-screen mcp needs the package mcp ({error}): pip install 'openpali-screen[mcp]'")
    except (ValueError, OSError) as error:
        sys.exit(f"openpali-screen: {error}")


def write_pages(
    reader: ScreenReader,
    files: Sequence[str],
    writer: TextFormat,
    write: Callable[[str], None],
    out: Path | None = None,
    dpi: float = DPI,
    first: int = 1,
    last: int | None = None,
    track: Callable[[Sequence[str]], Iterable[str]] = iter,
    *,
    elements: bool = False,
) -> None:
    """Write what files say, page by page; what cannot be read is named at the end.

    Args:
        out: where the boxes of words or elements are drawn, of the second page ``NAME-2.png``; None: nowhere.
        dpi: dots per inch at which PDF pages are drawn.
        first, last: page of each file.
        track: shows how far it is.
        elements: whether they are found, too.

    Raises:
        ValueError: files could not be read, after the others were, or ``out`` is one of them.
    """
    from openpali_screen.export import draw_page
    from openpali_screen.reader import warning_of
    from openpali_screen.screen import Screen
    from openpali_screen.tree import draw_marks

    count, errors = 0, list[str]()
    write(writer.head)
    for file in track(files):
        for number, image in _pages(file, dpi, first, last, errors):
            screen, count = Screen.open(image, reader) if elements else None, count + 1
            page, root = (screen.read.page, screen.tree()) if screen else (None, None)
            page = page or reader.page(image)
            writer.show(image)
            write(writer.page(page, file.encode("utf-8", "backslashreplace").decode(), number, root))
            if page.reason:
                print(f"{file}, page {number}: {warning_of(page.reason, reader.name)}", file=sys.stderr)
            if out is not None:
                drawn = out if count == 1 else out.with_stem(f"{out.stem}-{count}")
                if any(drawn.resolve() == Path(each).resolve() for each in files):
                    raise ValueError(f"{drawn} is an input and would be overwritten: choose another output")
                (draw_marks(image, root) if root else draw_page(image, page.lines)).save(drawn)
    write(writer.tail)
    if errors:
        raise ValueError("; ".join(errors))


def with_folders(paths: Sequence[str]) -> list[str]:
    """The paths; a folder stands for the images and PDF files in it, by name."""
    from PIL import Image

    from openpali_screen.files import FORMATS

    endings = {".pdf", *(end for end, format in Image.registered_extensions().items() if format in FORMATS)}
    found: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            inside = sorted(str(each) for each in Path(path).iterdir() if each.suffix.lower() in endings)
            if not inside:
                raise ValueError(f"{path} is a folder without images or PDF files (folders in it do not count)")
            found += inside
        else:
            found.append(path)
    return found


def _pages(file: str, dpi: float, first: int, last: int | None, errors: list[str]) -> Iterator[tuple[int, Image]]:
    """Number and pixels of pages ``first`` to ``last`` of a file; what cannot be read ends in ``errors``."""
    from openpali_screen.files import pages_of

    try:
        for number, open_page in enumerate(pages_of(file, dpi, first), first):
            try:
                image = open_page()
            except (ValueError, OSError) as error:  # the next one may be whole
                errors.append(str(error))
            else:
                yield number, image
            if number == last:
                return
    except (ValueError, OSError) as error:
        errors.append(str(error))


def parse_range(pages: str) -> tuple[int, int | None]:
    """The first and the last of "3" or "3-5"; all have no last one."""
    if not pages:
        return 1, None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", pages)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise ValueError(f"--pages {pages!r} is no page or range of pages, such as 3 or 3-5")
    return first, last


@contextmanager
def _pdf(dpi: float) -> Iterator[TextFormat]:
    """What writes a PDF file to the standard output at the end, also if some files could not be read."""
    from openpali_screen.pdf import PdfFormat

    writer = PdfFormat(dpi)
    try:
        yield writer
    finally:
        writer.save(sys.stdout.buffer)
        if writer.left_out:
            lost = f"{writer.left_out} words are not in the PDF file, as no font has their letters"
            print(f"openpali-screen: {lost}: install DejaVu Sans", file=sys.stderr)


def _print(text: str) -> None:
    sys.stdout.write(text)
