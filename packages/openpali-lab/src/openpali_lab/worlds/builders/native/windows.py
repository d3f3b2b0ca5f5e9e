"""Descriptions of windows, which drivers of toolkits show: trees of widgets as plain data, by chance.

A widget is a mapping with its kind, ``k``, and what is set below. ``grow``: it takes the room that is left.
``off``: it is disabled. Widgets with children have them in ``c``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openpali_lab.worlds.builders.texts import LANGUAGES, WindowTexts
from openpali_lab.worlds.line_texts import templates

Node = dict[str, Any]
Icons = Mapping[int, Sequence[Path]]
"""Pixels of a side -> files with icons."""
_SIDES = "300x220 360x420 460x340 560x420 640x480 720x560 800x600 960x640 1100x720".split()
_LARGEST = (1380, 860)
_FIRST = templates("{label}   {file}   {word}   {path}   {word} {word} {word}")
_NUMBERS = templates("{count}   {count}.{nn}   {size}   {nn}%   {count},{nnn}")
"""Templates of columns of numbers, which stand at the right."""
_COLUMNS = _NUMBERS + templates(
    """
{year}-{month}-{day}   {day} {Mon} {year}   {hour}:{minute}   {n}.{n}.{nn}   {label}   {label}   {word}   {value}
{word}@{word}.{domain}   {nn}.{nn}.{nn}.{nn}   {hex}{hex}   {path}   {user}
"""
)
_ACCELS = {"Ctrl": "<Control>", "Alt": "<Alt>", "Shift": "<Shift>"}


def draw_window(rng: np.random.Generator, icons: Icons) -> Node:
    """A window: ``title``, ``width``, ``height``, ``tree``, ``language`` and maybe ``bar``, a button in its bar."""
    language = str(rng.choice([*LANGUAGES], p=[*LANGUAGES.values()]))
    return Window(WindowTexts(rng, language), icons).draw()


class Window:
    """Draws the parts of one window."""

    def __init__(self, texts: WindowTexts, icons: Icons) -> None:
        self.t, self.icons = texts, icons

    def icon(self, size: int = 16) -> str:
        """A file with an icon of about that many pixels."""
        sizes = sorted(self.icons, key=lambda each: (abs(each - size), each))
        return str(self.t.pick(self.icons[sizes[0]]))

    def draw(self) -> Node:
        t = self.t
        width, height = map(int, t.pick(_SIDES).split("x")) if t.chance(0.8) else _LARGEST
        width, height = (int(side * t.uniform(0.85, 1.15)) for side in (width, height))
        width, height = min(width, _LARGEST[0]), min(height, _LARGEST[1])
        kind = float(t.rng.random())
        if kind < 0.16:
            tree = self.message()
            width, height = 320, 120
        elif kind < 0.42:
            tree = self.settings()
        else:
            tree = self.application(width)
        node: Node = {"title": t.label(), "width": width, "height": height, "tree": tree, "language": t.language}
        if t.chance(0.25):
            node["bar"] = self.button()
        return node

    # ---- whole windows

    def message(self) -> Node:
        t = self.t
        texts = [{"k": "label", "text": t.label(40), "style": "head" if t.chance(0.5) else ""}]
        texts += [{"k": "label", "text": t.sentence(), "style": "text"} for _ in range(t.integer(1, 2))]
        if t.chance(0.3):
            texts.append(self.check())
        if t.chance(0.3):
            texts.append(self.field())
        icon = [{"k": "icon", "icon": self.icon(t.pick([32, 48]))}] if t.chance(0.7) else []
        column = {"k": "col", "c": texts, "gap": 10, "grow": True}
        body = {"k": "row", "c": [*icon, column], "gap": 14, "grow": True}
        return {"k": "col", "c": [body, self.buttons()], "gap": 14, "pad": 14}

    def settings(self) -> Node:
        t = self.t
        parts = [self.group() for _ in range(t.integer(1, 3))]
        body: Node = {"k": "col", "c": parts, "gap": 10, "grow": True}
        if t.chance(0.4):
            body = self.tabs([t.label(16) for _ in range(t.integer(2, 5))], parts)
        if t.chance(0.3):
            body = {"k": "row", "c": [self.table(rows=t.integer(5, 12), columns=1), body], "gap": 8, "grow": True}
        head = [{"k": "label", "text": t.label(), "style": "head"}] if t.chance(0.4) else []
        return {"k": "col", "c": [*head, body, self.buttons()], "gap": 10, "pad": t.integer(4, 16)}

    def application(self, width: int) -> Node:
        t, parts = self.t, []
        if t.chance(0.8):
            parts.append(self.menubar(width))
        if t.chance(0.7):
            parts.append(self.toolbar(width))
        if t.chance(0.25):
            parts.append({"k": "row", "c": [{"k": "label", "text": t.label(14)}, {**self.field(), "grow": True}]})
        kind = t.integer(0, 4)
        content = self.content()
        if kind >= 2 and width > 420:
            panes = [self.table(rows=t.integer(6, 20), columns=1), self.content()]
            content = {"k": "row", "c": panes if t.chance(0.7) else panes[::-1], "gap": 4, "grow": True}
        if kind == 4 and t.chance(0.6):
            titles = [t.pick([t.file, t.label])()[:24].strip() for _ in range(t.integer(1, 4))]
            content = self.tabs(titles, [content])
        parts.append(content)
        if t.chance(0.5):
            texts = [t.pick([t.label, t.value, t.sentence])()[:40].strip() for _ in range(t.integer(1, 3))]
            parts.append({"k": "status", "texts": texts})
        return {"k": "col", "c": parts, "gap": t.integer(0, 4)}

    def content(self) -> Node:
        t = self.t
        kind = float(t.rng.random())
        if kind < 0.5:
            return self.table(rows=t.integer(4, 24), columns=t.integer(1, 6))
        if kind < 0.85:
            return {**self.text(), "grow": True}
        return {"k": "col", "c": [self.group(), self.group()], "pad": 6, "grow": True}

    # ---- parts

    def tabs(self, titles: Sequence[str], parts: Sequence[Node]) -> Node:
        return {"k": "tabs", "titles": titles, "at": self.t.integer(0, len(titles) - 1), "c": parts, "grow": True}

    def buttons(self) -> Node:
        t = self.t
        end = [self.button() for _ in range(t.integer(1, 3))]
        start = [self.button()] if t.chance(0.3) else []
        return {"k": "row", "c": [*start, {"k": "space", "grow": True}, *end], "gap": 8}

    def button(self) -> Node:
        t = self.t
        text, at = self.t.marked(18)
        node: Node = {"k": "button", "text": text, "mnemonic": at, "off": t.chance(0.12)}
        if t.chance(0.3):
            node["icon"] = self.icon(16)
        return node

    def check(self) -> Node:
        text, at = self.t.marked(40)
        return {"k": "check", "text": text, "mnemonic": at, "on": self.t.chance(0.5), "off": self.t.chance(0.1)}

    def field(self) -> Node:
        t = self.t
        node: Node = {"k": "field", "text": t.value() if t.chance(0.75) else "", "off": t.chance(0.1)}
        if not node["text"]:
            node |= {"hint": t.label(24), "search": t.chance(0.3)}
        elif t.chance(0.06):
            node["secret"] = True
        return {**node, "wide": t.integer(8, 28)}

    def control(self) -> Node:
        """A widget that has a label beside it."""
        t = self.t
        kind = t.integer(0, 9)
        if kind < 4:
            return {**self.field(), "grow": t.chance(0.6)}
        if kind < 6:
            return {"k": "combo", "options": [t.pick([t.label, t.value])()[:28].strip() for _ in range(3)]}
        if kind == 6:
            return {"k": "spin", "value": t.integer(0, 4000)}
        if kind == 7:
            return {"k": "slider", "value": t.integer(0, 100), "grow": t.chance(0.5), "drawn": t.chance(0.4)}
        if kind == 8:
            return {"k": "progress", "value": t.integer(0, 100), "grow": t.chance(0.5)}
        return {"k": "label", "text": t.value()}

    def group(self) -> Node:
        t = self.t
        parts: list[Node] = []
        for _ in range(t.integer(1, 3)):
            kind = t.integer(0, 6)
            if kind < 3:
                colon = t.pick([":", ""])
                rows = [[t.label(20).rstrip(":….") + colon, self.control()] for _ in range(t.integer(2, 5))]
                parts.append({"k": "form", "rows": rows, "gap": t.integer(2, 8)})
            elif kind < 5:
                parts += [self.check() for _ in range(t.integer(1, 4))]
            elif kind == 5:
                texts = [t.marked(32) for _ in range(t.integer(2, 4))]
                on = t.integer(0, len(texts) - 1)
                parts += [
                    {"k": "radio", "text": text, "mnemonic": at, "on": i == on, "off": t.chance(0.08)}
                    for i, (text, at) in enumerate(texts)
                ]
            else:
                parts += [
                    {"k": "switch", "text": t.label(), "on": t.chance(0.5), "wide": t.chance(0.5)} for _ in "ab"
                ]
        if t.chance(0.25):
            parts.append({"k": "label", "text": t.sentence(), "style": t.pick(["text", "note"])})
        if t.chance(0.15):
            parts.append({"k": "link", "text": t.label()})
        if t.chance(0.25):
            parts.append({"k": "row", "c": [self.button() for _ in range(t.integer(1, 2))], "gap": 6})
        if t.chance(0.7):
            return {"k": "group", "text": t.label(26), "c": parts, "gap": t.integer(2, 8)}
        head = {"k": "label", "text": t.label(26), "style": t.pick(["head", ""])}
        return {"k": "col", "c": [head, *parts], "gap": t.integer(3, 9)}

    def table(self, rows: int, columns: int) -> Node:
        t = self.t
        kinds = [t.pick(_FIRST), *(t.pick(_COLUMNS) for _ in range(columns - 1))]
        cells = [[t.fill([kind])[:36].strip() for kind in kinds] for _ in range(rows)]
        icons, depths = [""] * rows, [0] * rows
        if t.chance(0.45):
            few = [self.icon(16) for _ in range(t.integer(1, 6))]
            icons = [t.pick(few) for _ in range(rows)]
        if t.chance(0.35):
            for i in range(1, rows):
                depths[i] = min(depths[i - 1] + 1, t.integer(0, 3))
        return {
            "k": "table",
            "head": [t.label(16) for _ in kinds] if columns > 1 or t.chance(0.3) else [],
            "rows": cells,
            "icons": icons,
            "depths": depths,
            "selected": t.integer(0, rows - 1) if t.chance(0.6) and not any(depths) else -1,
            "right": [i for i, kind in enumerate(kinds) if i and kind in _NUMBERS],
            "grow": True,
        }

    def text(self) -> Node:
        t = self.t
        mono = t.chance(0.4)
        make = t.code if mono else lambda: " ".join(t.sentence() for _ in range(t.integer(1, 3)))
        lines = [make() for _ in range(t.integer(4, 30 if mono else 10))]
        return {"k": "text", "lines": lines, "mono": mono, "fixed": t.chance(0.5)}

    def toolbar(self, width: int) -> Node:
        t = self.t
        style, size = t.pick(["icons", "icons", "both", "text"]), t.pick([16, 22, 24, 32])
        most = max(2, min(16, width // (48 if style == "icons" else 130)))
        items: list[Node | None] = []
        for i in range(t.integer(2, most)):
            if i and t.chance(0.2):
                items.append(None)
            toggle = t.chance(0.15)
            node: Node = {
                "k": "toggle" if toggle else "button",
                "text": t.label(14),
                "on": t.chance(0.5),
                "flat": True,
            }
            node |= {"off": t.chance(0.15), "bare": style == "icons"}
            if style != "text":
                node["icon"] = self.icon(size)
            items.append(node)
        if style == "icons" and t.chance(0.3):
            items.append(self.field())
        return {"k": "bar", "c": items}

    def menubar(self, width: int) -> Node:
        t = self.t
        menus = []
        for _ in range(t.integer(2, max(2, min(9, width // 95)))):
            text, at = t.marked(12)
            menus.append({"text": text.rstrip(".…:"), "mnemonic": at, "items": self.items()})
        return {"k": "menubar", "menus": menus, "open": t.integer(0, len(menus) - 1) if t.chance(0.3) else -1}

    def items(self) -> list[Node | None]:
        t = self.t
        items: list[Node | None] = []
        pictured = t.chance(0.4)
        for i in range(t.integer(3, 14)):
            if i and items[-1] is not None and t.chance(0.2):
                items.append(None)
            text, at = t.marked(30)
            item: Node = {"text": text, "mnemonic": at, "off": t.chance(0.15)}
            if t.chance(0.45):
                item["keys"] = t.keys()
                *held, key = item["keys"].split("+") if not item["keys"].endswith("+") else ["Ctrl", "plus"]
                if all(each in _ACCELS for each in held) and key.isalnum():
                    item["accel"] = "".join(_ACCELS[each] for each in held) + key.replace("Del", "Delete")
            if t.chance(0.12):
                item["check"] = t.chance(0.5)
            elif pictured and t.chance(0.6):
                item["icon"] = self.icon(16)
            items.append(item)
        return items
