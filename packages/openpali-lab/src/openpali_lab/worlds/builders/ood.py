"""``ood``: photographs, screenshots, icons, plots and pages that no nano is trained on; only for evaluation.

The detector of out-of-distribution (OOD) images was designed while looking at the split ``dev``. The split
``heldout`` is of other packages, and nothing is decided by it.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from openpali_lab.tables import table_of
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import json_bytes, write_licences, write_shards

LONGEST = 288  # pixels of the longer side as stored: no nano sees more
Found = Iterator[tuple[str, Image.Image]]  # name, image
Read = Callable[..., Found]

_BESIDE = ("fonts-dejavu-core", "gimp-help-common")  # the font of pages, and the terms of gimp-help-en


@dataclass(frozen=True)
class Taken:
    """Images of a Debian package.

    Attributes:
        place: folder or file in it.
        reader, options: of :data:`READERS`, finds the images there.
        count: takes so many, evenly spaced in their order; 0: all.
    """

    package: str
    place: str
    reader: str = "files"
    count: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def images(self) -> Found:
        """Name and image of each."""
        found = [*READERS[self.reader](packages.fetch(self.package) / self.place, **self.options)]
        step = max(1.0, len(found) / self.count) if self.count else 1.0
        for number in range(len(found) if not self.count else min(self.count, len(found))):
            yield found[int(number * step)]


def files(folder: Path, pattern: str = "*.[jp][pn]g", names: Sequence[str] = (), side: int = 64) -> Found:
    """The images of a folder, on white where they are transparent, by name.

    Args:
        names: of the files to take, without ending; none: all.
        side: leaves out images whose shorter side is below it, in pixels.
    """
    for path in sorted(folder.glob(pattern)):
        if path.stem in names or not (names or path.is_symlink()):
            with Image.open(path) as opened:
                if min(opened.size) >= side:
                    yield path.stem, _on_white(opened)


def resources(folder: Path, stems: Sequence[str]) -> Found:
    """The WebP images without transparency in Qt's resource files, which store them as they are, in their order."""
    for stem in stems:
        content = (folder / f"{stem}.rcc").read_bytes()
        for number, head in enumerate(re.finditer(rb"RIFF(.{4})WEBP", content, re.DOTALL)):
            size = int.from_bytes(head[1], "little") + 8
            try:
                with Image.open(io.BytesIO(content[head.start() : head.start() + size])) as opened:
                    if opened.mode == "RGB":
                        yield f"{stem}-{number}", opened.copy()
            except UnidentifiedImageError:  # the letters stood in another file
                continue


def pages(file: Path, size: tuple[int, int] = (620, 877), lines: int = 46) -> Found:
    """A gzipped text as black pages in a sans-serif font, in order.

    Args:
        size: width and height of a page in pixels.
        lines: of a page.
    """
    fonts = packages.fetch("fonts-dejavu-core") / "usr/share/fonts/truetype/dejavu"
    font = ImageFont.truetype(fonts / "DejaVuSans.ttf", 13)
    whole = gzip.decompress(file.read_bytes()).decode("utf-8", "replace")
    text = [line for line in whole.splitlines() if line.strip()]
    for number, start in enumerate(range(0, len(text), lines)):
        page = Image.new("RGB", size, "white")
        ImageDraw.Draw(page).multiline_text((40, 40), "\n".join(text[start : start + lines]), "black", font)
        yield f"page-{number}", page


READERS: Mapping[str, Read] = {"files": files, "resources": resources, "pages": pages}
SETS: Mapping[str, Mapping[str, Sequence[Taken]]] = {
    split: {kind: [Taken(**each) for each in found] for kind, found in kinds.items()}
    for split, kinds in table_of(__file__).items()
}
"""Split -> kind of image -> where it is found."""


def needed() -> list[str]:
    """The packages that it is built from."""
    taken = [each for kinds in SETS.values() for sources in kinds.values() for each in sources]
    return [*dict.fromkeys([*(each.package for each in taken), *_BESIDE])]


def shard(folder: Path, split: str, kind: str) -> Path:
    """Where the images of a kind are in the built data set."""
    return folder / f"{split}-{kind}-00000.tar"


def build(folder: Path) -> None:
    """Write a WebDataset shard of JPEG images for each split and kind; their key begins with the package."""
    for split, kinds in SETS.items():
        for kind, sources in kinds.items():
            write_shards(folder, f"{split}-{kind}", _samples(sources))
    write_licences(folder, needed())


def _samples(sources: Sequence[Taken]) -> Iterator[tuple[str, dict[str, bytes]]]:
    for source in sources:
        for name, image in source.images():
            image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            image.save(out, "JPEG", quality=95)
            yield f"{source.package}-{name}".replace(".", "_"), {"jpg": out.getvalue(), "json": json_bytes({})}


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


DATASET = Dataset(build, needed, minutes=0.4, megabytes=302)
