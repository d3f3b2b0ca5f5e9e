"""The world: stamps with captions in many languages, fonts, words and clip art, in memory."""

from __future__ import annotations

import io
import json
import re
import tarfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openpali.synth.build import data_folder
from openpali.synth.splits import Split, is_heldout


@dataclass(frozen=True)
class Stamp:
    """One thing that can be put into a picture.

    Attributes:
        key: its path in the package, joined by "-".
        name: its English caption without the article, "red kangaroo"; the first clause of a longer one, or what
            the world calls it.
        article: that article, in lower case ("" where the caption has none).
        rgba: uint8 [H, W, 4], trimmed to what can be seen, longest side at most 192.
        captions: language -> caption, as in the package, without the full stop.
        category: the package's folder, at most two levels: "animals/mammals".
        photo: whether it looks like a photograph.
        mirror: whether it may be mirrored (not where writing or a way of driving would come out wrong).
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
    """Everything pictures are composed of. Make one with :meth:`load`.

    Attributes:
        languages: those in which every stamp of a hand-picked world has a caption; English first.
        fonts: ISO 15924 script -> font files.
        words: language -> its words.
        patterns: uint8 [H, W, 3] textures; symbols: uint8 [H, W, 4] clip art, for backgrounds.
        canvas: height and width of its pictures in pixels, unless a source says otherwise.
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
        """All different names, sorted: the vocabulary."""
        return tuple(sorted({stamp.name for stamp in self.stamps}))

    @classmethod
    def load(cls, name: str = "nano") -> World:
        """Reads the world ``name`` from the built data sets ``stamps`` and ``clipart``.

        ``nano`` is 128 hand-picked stamps in 10 languages, ``mini`` is all of them in all languages; both are
        described by the ``.toml`` file of that name beside this one. Raises ``ValueError`` for another name and
        ``FileNotFoundError`` where a data set is not built.
        """
        described = Path(__file__).with_name(f"{name}.toml")
        if not described.is_file():
            known = sorted(path.stem for path in described.parent.glob("*.toml"))
            raise ValueError(f"no world is called {name}; there are {', '.join(known)}")
        description = tomllib.loads(described.read_text("utf-8"))
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
            patterns=[_picture(parts).convert("RGB") for _, parts in _samples(clipart, "pattern")],
            symbols=[_picture(parts).convert("RGBA") for _, parts in _samples(clipart, "symbol")],
            canvas=description["canvas"],
        )


def _samples(folder: Path, stem: str, wanted: set[str] | None = None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of the shards ``{stem}-*.tar`` in order, only those whose key is in ``wanted`` if that is given."""
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


def _picture(parts: Mapping[str, bytes]) -> Image.Image:
    return Image.open(io.BytesIO(parts["png"]))


def _stamp(key: str, parts: Mapping[str, bytes], name: str = "") -> Stamp:
    known: dict[str, Any] = json.loads(parts["json"])
    picture = _picture(parts).convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha >= 128)).getbbox()
    caption = known["captions"]["en"]
    first, _, rest = caption.partition(" ")
    has_article = first in ("A", "An", "The")
    clause = re.split(r"[.!?;:—]| \(", rest if has_article else caption)[0]  # some captions go on to tell more
    return Stamp(
        key=key,
        name=name or clause.strip(),
        article=first.lower() if has_article else "",
        rgba=np.asarray(picture.crop(box)),
        captions=known["captions"],
        category=known["category"],
        photo=known["photo"],
        mirror=known["mirror"],
    )
