"""The world in memory: stamps with captions in many languages, fonts, words and clip art."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openpali.home import data_folder
from openpali_lab.tables import table_of
from openpali_lab.worlds.splits import Split, is_heldout

WORLDS = ("mini", "nano")


@dataclass(frozen=True)
class Stamp:
    """One thing that can be placed into an image.

    Attributes:
        key: its path in the package, joined by "-".
        name: its English caption without the article, "red kangaroo"; for a longer caption the first clause, or a
            name from the world's description.
        article: that article, in lower case ("" if the caption has none).
        rgba: uint8 [H, W, 4], cropped to the opaque pixels, longest side at most 192.
        captions: language -> caption, as in the package, without the full stop.
        category: the package's folder, at most two levels: "animals/mammals".
        photo: whether it looks like a photograph.
        mirror: whether it may be mirrored (false, for example, if it contains text).
    """

    key: str
    name: str
    article: str
    rgba: NDArray[np.uint8]
    captions: Mapping[str, str]
    category: str
    photo: bool
    mirror: bool

    @property
    def noun(self) -> str:
        """The name with its article: "a red kangaroo"."""
        return f"{self.article} {self.name}".lstrip()

    @cached_property
    def levels(self) -> list[Image.Image]:
        """The stamp with premultiplied alpha (mode RGBa) at full, half, quarter and eighth size."""
        full = Image.fromarray(self.rgba, "RGBA").convert("RGBa")
        return [full, *(full.reduce(factor) for factor in (2, 4, 8) if min(full.size) >= 2 * factor)]

    @cached_property
    def colour(self) -> NDArray[np.float32]:
        """Mean colour of the opaque pixels, float32 [3], 0..255."""
        colour: NDArray[np.float32] = self.rgba[self.rgba[..., 3] >= 128][:, :3].mean(axis=0, dtype=np.float32)
        return colour


@dataclass(frozen=True)
class Words:
    """The lower-case words of one language, in alphabetical order."""

    all: Sequence[str]

    @cached_property
    def by_length(self) -> Mapping[tuple[Split, int], Sequence[str]]:
        """(split, number of letters) -> words of that split."""
        found: dict[tuple[Split, int], list[str]] = {}
        for word in self.all:
            split: Split = "heldout" if is_heldout("word", word) else "train"
            found.setdefault((split, len(word)), []).append(word)
        return found


@dataclass(frozen=True)
class World:
    """Everything that samples are composed of. Create it with :meth:`load`.

    Attributes:
        languages: languages of its captions, English first; in a hand-picked world every stamp has all of them.
        fonts: ISO 15924 script -> font files.
        words: language -> its words.
        patterns: uint8 [H, W, 3] textures; symbols: uint8 [H, W, 4] clip art, for backgrounds.
        canvas: default height and width of its images, pixels.
    """

    name: str
    stamps: Sequence[Stamp]
    languages: Sequence[str]
    fonts: Mapping[str, Sequence[Path]]
    words: Mapping[str, Words]
    patterns: Sequence[Image.Image]
    symbols: Sequence[Image.Image]
    canvas: int

    @cached_property
    def names(self) -> Sequence[str]:
        """All distinct names, sorted: the vocabulary."""
        return tuple(sorted({stamp.name for stamp in self.stamps}))

    @cached_property
    def families(self) -> Mapping[Split, Sequence[Sequence[Path]]]:
        """Split -> families of fonts to print lines with, each a list of font files."""
        found: dict[Split, list[Sequence[Path]]] = {"train": [], "heldout": []}
        for folder in sorted((data_folder("lines") / "fonts").iterdir()):
            found["heldout" if is_heldout("font", folder.name) else "train"].append(sorted(folder.iterdir()))
        return found

    @cached_property
    def prose(self) -> Mapping[str, Sequence[str]]:
        """Language -> lines of text to print parts of."""
        return {
            path.stem.removeprefix("text-"): path.read_text("utf-8").splitlines()
            for path in sorted(data_folder("lines").glob("text-*.txt"))
        }

    @classmethod
    def load(cls, name: str = "nano") -> World:
        """Read the world ``name`` from the built data sets ``stamps`` and ``clipart``.

        ``nano`` is 128 hand-picked stamps in 10 languages, ``mini`` is all stamps in all languages; the ``.toml``
        file of that name beside this module describes each.
        """
        if name not in WORLDS:
            raise ValueError(f"there is no world {name!r}: choose one of {', '.join(WORLDS)}")
        description = table_of(str(Path(__file__).with_name(name)))
        folder, clipart = data_folder("stamps"), data_folder("clipart")
        wanted = None if description["stamps"] == "all" else set(description["stamps"])
        names = description.get("names", {})
        stamps = [_stamp(key, parts, names.get(key, "")) for key, parts in _samples(folder, "stamps", wanted)]
        if wanted is not None and (missing := wanted - {stamp.key for stamp in stamps}):
            raise FileNotFoundError(
                f"{len(missing)} stamps of the world {name} are not in {folder} ({min(missing)}, ...): run "
                "`openpali data build stamps --force`"
            )
        languages = description["languages"]
        if languages == "all":
            languages = ["en", *sorted({code for stamp in stamps for code in stamp.captions} - {"en"})]
        return cls(
            name=name,
            stamps=tuple(stamps),
            languages=tuple(languages),
            fonts={path.name: sorted(path.iterdir()) for path in sorted((folder / "fonts").iterdir())},
            words={
                path.stem.removeprefix("words-"): Words(path.read_text("utf-8").split())
                for path in sorted(folder.glob("words-*.txt"))
            },
            patterns=[_open_png(parts).convert("RGB") for _, parts in _samples(clipart, "pattern")],
            symbols=[_open_png(parts).convert("RGBA") for _, parts in _samples(clipart, "symbol")],
            canvas=description["canvas"],
        )


def _samples(folder: Path, stem: str, wanted: set[str] | None = None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of the shards ``{stem}-*.tar`` in order; with ``wanted``, only those whose key is in it."""
    for shard in sorted(folder.glob(f"{stem}-*.tar")):
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(shard) as archive:
            for member in archive:
                key, extension = member.name.rsplit(".", 1)
                if wanted is None or key in wanted:
                    content = archive.extractfile(member)
                    assert content is not None
                    samples.setdefault(key, {})[extension] = content.read()
        yield from samples.items()


def _open_png(parts: Mapping[str, bytes]) -> Image.Image:
    return Image.open(io.BytesIO(parts["png"]))


def _stamp(key: str, parts: Mapping[str, bytes], name: str = "") -> Stamp:
    known: dict[str, Any] = json.loads(parts["json"])
    image = _open_png(parts).convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha >= 128)).getbbox()
    caption = known["captions"]["en"]
    first, _, rest = caption.partition(" ")
    has_article = first in ("A", "An", "The")
    clause = re.split(r"[.!?;:—]| \(", rest if has_article else caption)[0]  # some captions continue with a story
    return Stamp(
        key=key,
        name=name or clause.strip(),
        article=first.lower() if has_article else "",
        rgba=np.asarray(image.crop(box)),
        captions=known["captions"],
        category=known["category"],
        photo=known["photo"],
        mirror=known["mirror"],
    )
