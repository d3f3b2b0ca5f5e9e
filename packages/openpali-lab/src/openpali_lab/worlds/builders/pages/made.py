"""Pages in any colours, fonts and measures, drawn by chance: see :mod:`.writer`."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

from openpali_lab.worlds.builders.pages.writer import Page
from openpali_lab.worlds.builders.texts import Texts

CONTRAST = 0.35  # least difference in lightness of text and what is behind it
_CSS = """
* { box-sizing: border-box }
body { margin: 0 }
a { color: inherit; text-decoration: none }
button { font-family: inherit }
h1, h2, h3, h4, h5, h6 { margin: 0 0 8px }
table { border-collapse: collapse }
th { text-align: left }
.plain { background: none; border: 0; color: inherit }
.row > * + * { margin-left: 6px }
.drawn { appearance: none; vertical-align: -.2em; margin: 0; border: 1px solid var(--line); background: none }
.drawn:checked { background: var(--accent) }
.drawn[type=radio] { border-radius: 50% }
.drawn[role=switch] { border-radius: 99px; background: radial-gradient(circle at 25%, white 35%, #8888 36%) }
.drawn[role=switch]:checked { background: radial-gradient(circle at 75%, white 35%, var(--accent) 36%) }
"""
_BOXES = """
bar menu card button field select chosen page page-on alert segment-on tray step step-on link-card addon
""".split()
"""Kinds of elements with a box: a ground, room and maybe a border; tools and chosen tabs have one now and then."""
_TYPES = {
    (8, 13): "small title tiny badge count",
    (9, 16): "button segment segment-on tab tab-on page page-on table block avatar",
    (10, 17): "text prose link-card label field select entry chosen alert step step-on person name",
    (13, 28): "heading brand tool",
    (18, 56): "large",
}
_SIZES = {kind: size for size, kinds in _TYPES.items() for kind in kinds.split()}
"""Kind of an element -> least and most pixels of its font."""
_COLOURED = ("badge", "count", "avatar", "tint", "block", "column", "fill", "ground")
"""Kinds with a ground of their own, without a border."""
_PLAIN = ("tool", "entry", "tab", "tab-on", "segment", "person", "close")
"""Kinds that may be buttons and are drawn without the browser's look."""
_UNEVEN = ("text", "small", "tiny", "large", "heading", "link", "badge", "block", "column", "avatar", "ground")
"""Kinds that differ from each other on even pages, too."""


def hex_colour(hue: float, light: float, saturation: float) -> str:
    """A colour in CSS; all in 0..1."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))


class MadePage(Page):
    """A page whose elements have styles of their own."""

    def __init__(self, texts: Texts, icons: Sequence[Path]) -> None:
        super().__init__(texts, icons)
        self.hue, self.dark, self.even = texts.uniform(0, 1), texts.chance(0.5), texts.chance(0.6)
        self._styles: dict[str, str] = {}

    def head(self) -> str:
        return f"<style>{_CSS}</style>"

    def dress(self, kind: str) -> dict[str, str]:
        classes = "plain" if kind in _PLAIN else "row" if kind == "row" else ""
        if kind in ("checkbox", "radio", "switch"):
            classes = "drawn" if kind == "switch" or self.t.chance(0.5) else ""
        if not self.even or kind in _UNEVEN or self.t.chance(0.15):
            return {"class": classes, "style": self.style(kind)}
        if kind not in self._styles:  # on even pages those of a kind are mostly equal
            self._styles[kind] = self.style(kind)
        return {"class": classes, "style": self._styles[kind]}

    def style(self, kind: str) -> str:
        """CSS of an element."""
        t, css = self.t, ""
        if kind in _BOXES or (kind in ("tool", "tab-on") and t.chance(0.4)):
            css += self.box()
        elif kind in _COLOURED:
            ground, light = self.ground()
            css += f"background:{ground};color:{self.ink(light)};"
            css += f"border-radius:{t.pick([0, 3, 6, 99])}px;" if kind != "ground" else ""
            css += (
                f"padding:{t.integer(0, 3)}px {t.integer(2, 8)}px;" if kind in ("badge", "count", "block") else ""
            )
        elif kind in (*_PLAIN, "cell", "row"):
            css += f"padding:{t.integer(1, 12)}px {t.integer(2, 16)}px;border-radius:{t.integer(0, 11)}px;"
        if kind in _SIZES:
            css += self.type(*_SIZES[kind])
        return css + self._own(kind)

    def _own(self, kind: str) -> str:
        """What is special of a kind."""
        t, accent = self.t, self.colour(0.5, 0.75)
        match kind:
            case "ground":
                family = t.pick(["sans-serif", "serif", "monospace"])
                return f"line-height:{t.uniform(1.1, 1.8):.2f};font-family:{family};"
            case "link":
                line = "text-decoration:underline;" if t.chance(0.4) else ""
                return line + (f"color:{self.ink(0.1 if self.dark else 0.95)};" if t.chance(0.6) else "")
            case "checkbox" | "radio" | "switch":
                high = t.integer(12, 22)
                wide = 2 * high if kind == "switch" else high
                shape = f"width:{wide}px;height:{high}px;border-radius:{t.integer(0, 6)}px;"
                return f"--accent:{accent};--line:{self.colour(0.5, 0.2)};accent-color:{accent};{shape}"
            case "range":
                return f"accent-color:{accent};"
            case "tab-on":
                return f"border-bottom:2px solid {accent};"
            case "cell":
                line = self.colour(t.uniform(0, 1), 0.3)
                return f"border-bottom:1px solid {line};" if t.chance(0.6) else ""
            case "meter":
                return (
                    f"background:{self.colour(0.2 if self.dark else 0.88, 0.2)};border-radius:{t.integer(0, 9)}px;"
                )
            case "tray" | "button-group":
                return "display:inline-flex;gap:2px;"
            case "pages" | "link-card":
                return "display:block;"
            case "page" | "page-on":
                return "display:inline-block;margin:1px;"
            case "step" | "step-on":
                return "display:block;width:100%;text-align:left;"
        return ""

    def ground(self) -> tuple[str, float]:
        """A background, flat or with a gradient, as CSS, and its lightness in 0..1."""
        t, plain = self.t, self.t.chance(0.45)
        light = t.uniform(0.02, 0.25) if self.dark else t.uniform(0.88, 1)
        if not plain and t.chance(0.5):
            light = t.uniform(0.15, 0.8)  # an accent
        saturation = t.uniform(0, 0.35) if plain else t.uniform(0.2, 1)
        one = self.colour(light, saturation)
        if plain or t.chance(0.5):
            return one, light
        other = self.colour(min(1, max(0, light + t.uniform(-0.12, 0.12))), saturation, 0.15)
        kind = f"linear-gradient({t.integer(0, 359)}deg" if t.chance(0.8) else "radial-gradient(circle"
        return f"{kind}, {one}, {other})", light

    def colour(self, light: float, saturation: float, spread: float = 0.06) -> str:
        """A colour near the page's hue, or now and then of any."""
        any_hue = self.t.chance(0.3)
        hue = self.t.uniform(0, 1) if any_hue else (self.hue + float(self.t.rng.normal(0, spread))) % 1
        return hex_colour(hue, light, saturation)

    def ink(self, ground: float) -> str:
        """A colour of text that one can read on a ground of this lightness."""
        low, high = (0.0, ground - CONTRAST) if ground > 0.5 else (ground + CONTRAST, 1.0)
        edge = 0.0 if ground > 0.5 else 1.0
        return self.colour(edge if self.t.chance(0.35) else self.t.uniform(low, high), self.t.uniform(0, 1))

    def box(self) -> str:
        """CSS of a box with a ground, text and room."""
        t, (ground, light) = self.t, self.ground()
        css = f"background:{ground};color:{self.ink(light)};border-radius:{t.integer(0, 17)}px;"
        css += f"padding:{t.integer(3, 15)}px {t.integer(6, 23)}px;"
        if t.chance(0.4):
            css += f"border:{t.integer(1, 2)}px solid {self.colour(t.uniform(0, 1), t.uniform(0, 1))};"
        if t.chance(0.3):
            css += f"box-shadow:0 {t.integer(0, 5)}px {t.integer(1, 23)}px rgba(0,0,0,{t.uniform(0.05, 0.4):.2f});"
        return css

    def type(self, least: float, most: float) -> str:
        """CSS of a font's size, weight and spacing."""
        t = self.t
        css = f"font-size:{t.uniform(least, most):.1f}px;font-weight:{t.pick([300, 400, 400, 500, 600, 700])};"
        css += f"letter-spacing:{t.uniform(-0.02, 0.12):.3f}em;" if t.chance(0.2) else ""
        css += "text-transform:uppercase;" if t.chance(0.12) else ""
        css += "font-style:italic;" if t.chance(0.08) else ""
        return css + ("text-decoration:underline;" if t.chance(0.08) else "")
