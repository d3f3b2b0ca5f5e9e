"""``icons``: icons of more than a hundred sets, in black on white, with the names that many sets have for them."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.icon_names import words_of
from openpali_lab.worlds.builders.output import make_parts

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PACKAGE = "npm:@iconify/json"
SIDE = 64  # pixels
LEAST_SETS = 10  # that have a name, for it to be a class
LEAST_LEARNT = 3  # of them that are learned from
_ROW = 32  # icons in a row of a rendered sheet
_SHEET = _ROW * _ROW
Split = Literal["train", "dev", "test"]
_TEST = re.compile(r"tabler|ph|carbon|fluent(-.*)?|fa|fa\d?-.*|la|game-icons")
"""Sets that nothing learns from: six families, and Line Awesome, which redraws one of them."""
_DEV = frozenset({"mingcute", "iconoir", "teenyicons"})
"""Sets for decisions while training, never learned from."""
_SAME = 6.0  # mean difference of two drawings, of 255, up to which they are copies

Grey = NDArray[np.uint8]


class Icon(NamedTuple):
    """An icon: its set, its name there, the class it belongs to, and its SVG as markup."""

    set: str
    name: str
    label: str
    svg: str


def split_of(name: str) -> Split:
    """What the icons of a set are for."""
    if _TEST.fullmatch(name):
        return "test"
    return "dev" if name in _DEV else "train"


def needed() -> list[str]:
    """The packages that it is built from."""
    return [PACKAGE]


def build(folder: Path) -> None:
    """Write ``SPLIT.npy``, uint8 ``[N, 64, 64]``, how black each pixel is, and ``SPLIT.jsonl`` with set, name and
    label of each; a sheet of examples, and the licence of each set.

    Rendering goes on where it was stopped.
    """
    root = packages.fetch(PACKAGE)
    icons = choose(root)
    version = hashlib.sha256(repr(icons).encode()).hexdigest()[:8]  # sheets of other icons are not taken up
    sheets = [icons[start : start + _SHEET] for start in range(0, len(icons), _SHEET)]
    with make_parts("icons", version, {f"{i:05d}.npy": (each,) for i, each in enumerate(sheets)}, _render) as parts:
        images = np.concatenate([np.load(parts / f"{i:05d}.npy") for i in range(len(sheets))])
    kept = _kept(icons, images)
    for split in ("train", "dev", "test"):
        own = [i for i in kept if split_of(icons[i].set) == split]
        np.save(folder / f"{split}.npy", images[own])
        lines = ({"set": icons[i].set, "name": icons[i].name, "label": icons[i].label} for i in own)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    rng = np.random.default_rng(0)
    shown = images[rng.choice(kept, _SHEET, replace=False)]
    Image.fromarray(255 - shown.reshape(_ROW, _ROW, SIDE, SIDE).swapaxes(1, 2).reshape(_ROW * SIDE, -1)).save(
        folder / "sheet.png"
    )
    (folder / "ATTRIBUTION.md").write_text(attribution(root, {icon.set for icon in icons}), "utf-8")


# ---- names


def choose(root: Path) -> list[Icon]:
    """Icons of one colour that may be used commercially, whose name is a class."""
    labels: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)  # words in order -> name -> how often
    sets: dict[tuple[str, ...], set[str]] = defaultdict(set)
    found: list[tuple[tuple[str, ...], str, str, Callable[[], str]]] = []
    for prefix, own in _sets(root):
        for name, icon in own["icons"].items():
            if icon.get("hidden") or re.search("<(animate|set)", icon["body"]):
                continue
            words = words_of(name, own.get("prefixes") or (), own.get("suffixes") or ())
            key = tuple(sorted(words))
            labels[key]["-".join(words)] += 1
            sets[key].add(prefix)
            found.append((key, prefix, name, functools.partial(_svg, icon, own, len(found))))
    classes = {
        key: labels[key].most_common(1)[0][0]
        for key, own in sets.items()
        if len(own) >= LEAST_SETS and sum(split_of(each) == "train" for each in own) >= LEAST_LEARNT
    }
    return [Icon(prefix, name, classes[key], svg()) for key, prefix, name, svg in found if key in classes]


def _sets(root: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    about = json.loads((root / "collections.json").read_text("utf-8"))
    for prefix, each in sorted(about.items()):
        if "NC" not in each["license"].get("spdx", "") and not each.get("palette"):
            yield prefix, json.loads((root / "json" / f"{prefix}.json").read_text("utf-8"))


def _svg(icon: Mapping[str, Any], own: Mapping[str, Any], number: int) -> str:
    """The SVG, with ids of its own: many stand on one page."""
    left, top = (icon.get(key, own.get(key, 0)) for key in ("left", "top"))
    width, height = (icon.get(key, own.get(key, 16)) for key in ("width", "height"))
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>i{number}-", icon["body"])
    return f'<svg viewBox="{left} {top} {width} {height}">{body}</svg>'


def attribution(root: Path, sets: set[str]) -> str:
    """The sets with their authors and licences, as Markdown."""
    about = json.loads((root / "collections.json").read_text("utf-8"))
    lines = [
        f"- {each['name']} (`{prefix}`), {each['author']['name']}, {each['license']['title']}: "
        f"{each['license'].get('url') or each['author'].get('url', '')}"
        for prefix, each in sorted(about.items())
        if prefix in sets
    ]
    return f"Icons of these sets, from the package {PACKAGE}:\n\n" + "\n".join(lines) + "\n"


# ---- images


def _render(path: Path, icons: Sequence[Icon]) -> None:
    from openpali_lab.worlds.builders.pages.browser import chromium

    with chromium() as browser, path.open("wb") as file:
        np.save(file, render_sheet(browser, icons))


def render_sheet(browser: Browser, icons: Sequence[Icon]) -> Grey:
    """Icons as ``[N, 64, 64]``, 255 where they are black."""
    rows = -(-len(icons) // _ROW)
    page = browser.new_page(viewport={"width": _ROW * SIDE, "height": rows * SIDE})
    style = f"body{{margin:0}}svg{{float:left;width:{SIDE}px;height:{SIDE}px}}"
    page.set_content(f"<style>{style}</style>{''.join(icon.svg for icon in icons)}")
    sheet = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    page.close()
    cells = sheet.reshape(rows, SIDE, _ROW, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
    return 255 - cells[: len(icons)]


def _kept(icons: Sequence[Icon], images: Grey) -> list[int]:
    """Icons with something on them, without those for tests that are a copy of another one's of the same class."""
    places = [i for i in range(len(icons)) if (images[i] > 128).sum() >= 16]
    by_class: dict[str, list[int]] = defaultdict(list)
    for i in places:
        by_class[icons[i].label].append(i)
    copies: set[int] = set()
    for own in by_class.values():
        small = np.stack([tight(images[i], 24) for i in own]).reshape(len(own), -1).astype(np.int16)
        splits = np.array([split_of(icons[i].set) for i in own])
        for split, learned in (("test", ("train", "dev")), ("dev", ("train",))):
            others = small[np.isin(splits, learned)]
            for place in np.flatnonzero(splits == split):
                if len(others) and np.abs(others - small[place]).mean(1).min() <= _SAME:
                    copies.add(own[place])
    return [i for i in places if i not in copies]


def tight(image: Grey, side: int) -> Grey:
    """The part of an icon that is drawn, as ``[side, side]``."""
    rows, columns = (np.flatnonzero((image > 32).any(axis)) for axis in (1, 0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX, box))


DATASET = Dataset(build, needed, minutes=10, megabytes=105, in_all=False)  # needs npm and Chromium
