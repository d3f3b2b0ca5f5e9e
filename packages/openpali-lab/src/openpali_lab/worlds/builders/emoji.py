"""``emoji``: the same emoji drawn by three artists, in Unicode's groups; only for evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image, ImageDraw

from openpali.reports.fonts import font, has_glyph
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import write_licences

SIDE = 64  # pixels, as Twemoji and EmojiOne are packaged
_NOTO, _EMOJIONE, _TWEMOJI = "fonts-noto-color-emoji", "ruby-gemojione", "npm:emoji-datasource-twitter"
_NOTO_SIZE = 109  # of the only bitmaps in the font
GROUPS = {
    "Smileys & Emotion": "smileys",
    "People & Body": "people",
    "Animals & Nature": "animals",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Activities": "activities",
    "Objects": "objects",
    "Symbols": "symbols",
}
"""Unicode's groups of emoji and the names of their folders, without flags."""
ARTISTS = ("noto", "twemoji", "emojione")
"""Names of folders: the artist that probes train on, then those that are held out."""

Draw = Callable[[str], Image.Image | None]
"""A character -> its image by an artist; None if there is none."""


def needed() -> list[str]:
    """The packages that it is built from."""
    return [_NOTO, _EMOJIONE, _TWEMOJI]


def build(folder: Path) -> None:
    """Write ``ARTIST/GROUP/CODE.png``, on white, of each emoji of one character that all artists drew."""
    artists: Mapping[str, Draw] = dict(zip(ARTISTS, (_noto, _twemoji, _emojione), strict=True))
    for emoji in json.loads((packages.fetch(_TWEMOJI) / "emoji.json").read_text("utf-8")):
        code, group = emoji["unified"].lower().removesuffix("-fe0f"), GROUPS.get(emoji["category"])
        if group is None or "-" in code:
            continue
        drawn = {name: draw(chr(int(code, 16))) for name, draw in artists.items()}
        if not all(drawn.values()):
            continue
        for name, image in drawn.items():
            assert image is not None
            place = folder / name / group
            place.mkdir(parents=True, exist_ok=True)
            _on_white(image).save(place / f"{code}.png")
    write_licences(folder, [_NOTO, _EMOJIONE])
    with (folder / "ATTRIBUTION.md").open("a", encoding="utf-8") as file:
        file.write(
            f"- `{_TWEMOJI}` (MIT licence); its images are Twemoji, copyright Twitter and other "
            "contributors, CC-BY 4.0\n"
        )


def _noto(character: str) -> Image.Image | None:
    file = packages.fetch(_NOTO) / "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
    if not has_glyph(file, character, _NOTO_SIZE):
        return None
    face = font(file, _NOTO_SIZE)
    left, top, right, bottom = (round(edge) for edge in face.getbbox(character))
    image = Image.new("RGBA", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), character, font=face, fill="black", embedded_color=True)
    return image


def _twemoji(character: str) -> Image.Image | None:
    return _image(packages.fetch(_TWEMOJI) / "img/twitter/64", character)


def _emojione(character: str) -> Image.Image | None:
    [folder] = (packages.fetch(_EMOJIONE) / "usr/share/rubygems-integration/all/gems").glob("*/assets/png")
    return _image(folder, character)


def _image(folder: Path, character: str) -> Image.Image | None:
    """The image that is named by a character, with or without the variation selector."""
    for name in (f"{ord(character):04x}", f"{ord(character):04x}-fe0f"):
        if (file := folder / f"{name}.png").is_file():
            with Image.open(file) as opened:
                return opened.convert("RGBA")
    return None


def _on_white(image: Image.Image) -> Image.Image:
    """In the middle of a white square."""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = Image.new("RGBA", (SIDE, SIDE), "white")
    out.alpha_composite(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return out.convert("RGB")


DATASET = Dataset(build, needed, minutes=0.2, megabytes=91, in_all=False)  # needs npm, and is for one probe alone
