"""HTML pages that are one file and work offline."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from string import Template

from PIL import Image as PilImage

from openpali.reports.fonts import font_faces

STYLE = Path(__file__).with_name("page.css")
PNG_BYTES = 60_000  # larger images are embedded as JPEG


def write_page(path: Path, template: Path, **fields: str) -> None:
    """Fill in a template's ``$name`` fields, which are HTML, and write the page; creates its folder.

    ``$style`` is the CSS of all pages, with the fonts for letters that not every machine has.
    """
    faces, names = font_faces("".join(fields.values()))
    style = Template(STYLE.read_text("utf-8")).substitute(faces=faces, fonts=names)
    page = Template(template.read_text("utf-8")).substitute(fields, style=style)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")


def data_uri(image: PilImage.Image) -> str:
    """An image as the ``src`` of an ``<img>``: PNG if that is small, else JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    kind = "png"
    if buffer.tell() > PNG_BYTES:
        buffer, kind = io.BytesIO(), "jpeg"
        image.convert("RGB").save(buffer, "JPEG", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
