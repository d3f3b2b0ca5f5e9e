"""A stand-in for the built data sets: exactly the layout of the built ``stamps``, ``clipart``, ``lines`` and
``pages``.

``write_world(home)`` fills ``home/data`` so that ``World.load("nano")`` works with ``OPENPALI_HOME=home`` and no
network; the fixtures ``world_home`` and ``world`` do so once per session. 128 stamps carry the keys of the nano
world and are named "red circle", "blue star", ... in every one of its languages; 32 of two more colours are not in
that world.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import openpali_lab.worlds
from openpali_lab.worlds.builders.output import png_bytes, write_shards
from openpali_lab.worlds.world import World

COLOURS = {
    "red": (214, 40, 40),
    "green": (38, 150, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "orange": (245, 130, 30),
    "purple": (130, 50, 170),
    "pink": (245, 150, 190),
    "grey": (128, 128, 128),
}
OTHERS = {"black": (20, 20, 20), "brown": (120, 70, 30)}  # of stamps that are not nano's
SHAPES = [
    *("circle", "square", "bar", "pillar", "diamond", "ring", "cross", "frame"),
    *("moon", "roof", "valley", "dart", "arrow", "stair", "pair", "trio"),
]
SIDE = 96
WORDS = """
box leg net sea ant bee cat dog eel fox hen owl pig rat yak ape bat cow emu gnu jay koi asp elk bear crab deer
duck fish frog goat hare hawk ibis lamb lion lynx mole mule newt orca puma seal swan toad wasp wolf wren bison
camel eagle gecko goose hippo horse koala lemur llama moose mouse otter panda quail raven shark sheep skunk
snail snake squid stork tapir tiger trout whale zebra badger beaver bobcat condor donkey falcon ferret gibbon
iguana jackal jaguar lizard monkey ocelot osprey parrot pigeon python rabbit salmon shrimp spider turkey
turtle walrus weasel
""".split()
FAMILIES = {  # folders as the builder names them: the second is held out
    "DejaVu": ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif"),
    "Libertine": ("STIXGeneral", "STIXGeneralBol"),
}
PROSE = """
1.2. The zebra and the stork of the old camel
"naïve" façade -> seven goats --all
See also whale(1), trout(8) and ~/mole/otter.txt
a horse | two horses; 40 % of the moose!
"""


def draw_shape(shape: str, colour: tuple[int, int, int]) -> Image.Image:
    """One shape on nothing, RGBA; every shape has an outline or a hole of its own."""
    image = Image.new("RGBA", (SIDE, SIDE))
    pen, s, fill = ImageDraw.Draw(image), SIDE - 1, (*colour, 255)
    if shape == "circle":
        pen.ellipse((0, 0, s, s), fill)
    elif shape == "ring":
        pen.ellipse((0, 0, s, s), outline=fill, width=22)
    elif shape == "moon":
        pen.pieslice((0, 0, s, s), 90, 270, fill)
    elif shape == "frame":
        pen.rectangle((0, 0, s, s), outline=fill, width=22)
    elif shape in ("pair", "trio"):
        count = 2 if shape == "pair" else 3
        for i in range(count):
            pen.rectangle((i * s // count, 0, (i + 1) * s // count - 8, s), fill)
    else:
        corners = {
            "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
            "bar": [(0, 0.3), (1, 0.3), (1, 0.8), (0, 0.8)],
            "pillar": [(0.3, 0), (0.8, 0), (0.8, 1), (0.3, 1)],
            "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
            "cross": [
                *((0.3, 0), (0.7, 0), (0.7, 0.3), (1, 0.3), (1, 0.7), (0.7, 0.7)),
                *((0.7, 1), (0.3, 1), (0.3, 0.7), (0, 0.7), (0, 0.3), (0.3, 0.3)),
            ],
            "roof": [(0.5, 0), (1, 1), (0, 1)],
            "valley": [(0, 0), (1, 0), (0.5, 1)],
            "dart": [(0, 0), (1, 0.5), (0, 1)],
            "arrow": [(1, 0), (0, 0.5), (1, 1)],
            "stair": [(0, 0), (0.5, 0), (0.5, 0.5), (1, 0.5), (1, 1), (0, 1)],
        }[shape]
        pen.polygon([(x * s, y * s) for x, y in corners], fill)
    return image


def write_world(home: Path) -> None:
    """Writes the stand-ins for ``stamps``, ``clipart`` and ``lines`` into ``home/data``."""
    nano = Path(openpali_lab.worlds.__file__).with_name("nano.toml")
    described = tomllib.loads(nano.read_text("utf-8"))
    names = [f"{colour} {shape}" for colour in COLOURS | OTHERS for shape in SHAPES]
    keys = [*described["stamps"], *(f"other-{i}" for i in range(len(OTHERS) * len(SHAPES)))]
    stamps = home / "data" / "stamps"
    (stamps / "fonts" / "Latn").mkdir(parents=True)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif"):
        shutil.copy(fonts / f"{name}.ttf", stamps / "fonts" / "Latn")
    (stamps / "words-en.txt").write_text("\n".join(sorted(WORDS)) + "\n", "utf-8")

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for key, name in zip(keys, names, strict=True):
            colour, shape = name.split(" ")
            article = "An" if name.startswith("o") else "A"
            captions = {code: f"{name} {code}" for code in described["languages"]} | {"en": f"{article} {name}"}
            known = {
                "captions": captions,
                "category": f"shapes/{shape}",
                "photo": False,
                "mirror": shape != "stair",
            }
            image = draw_shape(shape, (COLOURS | OTHERS)[colour])
            yield key, {"png": png_bytes(image), "json": json.dumps(known | {"file": f"{key}.png"}).encode()}

    write_shards(stamps, "stamps", samples())
    lines = home / "data" / "lines"
    for family, names in FAMILIES.items():
        (lines / "fonts" / family).mkdir(parents=True)
        for name in names:
            shutil.copy(fonts / f"{name}.ttf", lines / "fonts" / family)
    (lines / "text-en.txt").write_text(PROSE.lstrip(), "utf-8")
    clipart = home / "data" / "clipart"
    clipart.mkdir()
    rng = np.random.default_rng(0)
    for kind, mode in (("pattern", "RGB"), ("symbol", "RGBA")):
        images = [
            Image.fromarray(rng.integers(0, 256, (32, 32, len(mode)), dtype=np.uint8), mode) for _ in range(8)
        ]
        write_shards(clipart, kind, ((f"{kind}-{i}", {"png": png_bytes(p)}) for i, p in enumerate(images)))
    write_pages(home / "data" / "pages")


def write_pages(folder: Path, count: int = 6) -> None:
    """A stand-in for the data set ``pages``: drawn lines with their words and boxes, as ``tiny-00000.tar``."""
    folder.mkdir(parents=True)
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 14)
    texts = [line for line in PROSE.splitlines() if line]

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number in range(count):
            image = Image.new("RGB", (320, 160), (255, 255, 255 - 8 * number))
            pen, lines = ImageDraw.Draw(image), []
            for row, text in enumerate(texts):
                left, baseline, words = 10 + 5 * number, 30 + 30 * row, []
                for word in text.split():
                    pen.text((left, baseline), word, "black", font, anchor="ls")
                    right = left + font.getlength(word)
                    words.append({"text": word, "box": [baseline - 12, left, baseline + 3.5, right]})
                    left = right + font.getlength(" ")
                lines.append({"words": words})
            links = [{"role": "link", "name": word["text"], "box": word["box"]} for word in words]
            record = {"lines": lines, "ignored": [[140, 0, 160, 50]], "objects": links}
            yield f"page-{number}", {"png": png_bytes(image), "json": json.dumps(record).encode()}

    write_shards(folder, "tiny", samples())


@pytest.fixture(scope="session")
def world_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the stand-in world; a test names it by ``OPENPALI_HOME``."""
    home = tmp_path_factory.mktemp("openpali-home")
    write_world(home)
    return home


@pytest.fixture(scope="session")
def world(world_home: Path) -> World:
    """The stand-in world, loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENPALI_HOME", str(world_home))
        world = World.load("nano")
        assert world.families
        assert world.prose  # both are read here, in this home
        return world
