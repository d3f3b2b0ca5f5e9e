"""Made-up web pages: real words in many colours, fonts and places.

Packages have few styles, and a finder that learns from them misses text on colours and elements of shapes that it
never saw. These pages have the parts of dashboards, shops and mail, styled by chance. Whatever looks like an
element has its role.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Callable, Sequence
from html import escape, unescape
from pathlib import Path

import numpy as np

_TAGS = re.compile(r"<[^>]+>")
_PARAGRAPH = re.compile(r"<p [^>]*>(.*?)</p>", re.DOTALL)
_CSS = """
* { box-sizing: border-box }
body { margin: 0 }
svg { width: 1.2em; height: 1.2em; vertical-align: -.2em; fill: currentColor }
table { border-collapse: collapse }
th { text-align: left }
header, .row { display: flex; gap: 12px; align-items: center }
.row > :last-child { margin-left: auto }
.avatar { display: inline-flex; border-radius: 50%; align-items: center; justify-content: center }
.bars { display: flex; gap: 4px; align-items: end }
.bars > * { flex: 1; text-align: center }
main { flex: 1; display: grid; padding: 12px; align-items: start }
main > * { min-width: 0; overflow: hidden }
a { color: inherit; text-decoration: none }
aside > *, nav > button { text-align: left; background: none; border: 0; color: inherit; font: inherit }
aside > * { display: flex; gap: 8px; align-items: center; width: 100% }
h1, h2, h3, h4 { margin: 0 0 8px; font-size: inherit }
button { font-family: inherit }
.switch { display: inline-block; padding: 0; border: 0; border-radius: 99px }
.switch > span { display: block; border-radius: 50%; background: white }
.drawn { appearance: none; vertical-align: -.2em; margin: 0 }
.meter { overflow: hidden }
"""
_UNSAID = 0.3
"""Share of pages whose code leaves out each of these roles, as that of many themes does: no one can see it."""
_SELDOM_SAID = ("heading", "tab", "progressbar")
CONTRAST = 0.35  # least difference in lightness of text and what is behind it
_FILES = 60  # of a language that words are taken from
_MORE = ("M4 6l4 4 4-4", "M4 6l4 4 4-4", "M6 4l4 4-4 4", "M10 4l-4 4 4 4", "M8 3v10M3 8h10")
"""Paths of the marks of what opens more: chevrons and a plus, in 16 x 16."""


class Words:
    """Words and sentences of a manual, and made-up numbers.

    Args:
        manual: folder with HTML files of LibreOffice's help.
        language: its code, by which browsers make capitals.
    """

    def __init__(self, manual: Path, language: str, rng: np.random.Generator) -> None:
        self.language, self.rng = language, rng
        files = sorted(manual.rglob("*.html"))
        chosen = [files[i] for i in rng.permutation(len(files))[:_FILES]]
        found = (
            " ".join(unescape(_TAGS.sub(" ", paragraph)).split())
            for file in chosen
            for paragraph in _PARAGRAPH.findall(file.read_text("utf-8", "replace"))
        )
        self.sentences = [text for text in found if 20 < len(text) < 600]

    def pick(self, *options: str) -> str:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def some(self, least: int, most: int) -> str:
        """``least`` to ``most`` words that stand together."""
        words = self.sentences[int(self.rng.integers(len(self.sentences)))].split()
        count = int(self.rng.integers(least, most + 1))
        start = int(self.rng.integers(max(1, len(words) - count + 1)))
        text = " ".join(words[start : start + count])
        return text[:1].upper() + text[1:] if self.rng.random() < 0.6 else text

    def number(self) -> str:
        """A number as screens show them: counts, prices, dates, times, versions, names of files."""
        n = self.rng.integers
        kind = n(16)
        small, large = int(n(100)), int(n(100_000))
        return (
            f"{small}",
            f"{large:,}",
            f"{large / 100:.2f}",
            f"${large / 100:,.2f}",
            f"{large / 100:.2f} €".replace(".", ","),
            f"{small}%",
            f"{self.pick('+', '-', '↑', '↓')}{small / 10:.1f}%",
            f"{n(24):02}:{n(60):02}",
            f"{2000 + n(40)}-{n(1, 13):02}-{n(1, 29):02}",
            f"{n(1, 29)}.{n(1, 13)}.{2000 + n(40)}",
            f"v{n(10)}.{n(30)}.{n(30)}",
            f"#{large}",
            f"{small} {self.pick('MB', 'KB', 'GB', 'ms', 'km', 'min', 'h')}",
            f"{self.some(1, 1).lower()}_{small}.{self.pick('png', 'pdf', 'txt', 'csv', 'py')}",
            f"{self.some(1, 1).lower()}@{self.some(1, 1).lower()}.{self.pick('com', 'org', 'de', 'ru')}",
            f"{self.pick('INV', 'SKU', 'ID', 'PO', 'TX')}-{large}",
        )[kind]

    def label(self) -> str:
        """A word or three, or a number."""
        return self.number() if self.rng.random() < 0.3 else self.some(1, 3)


def hex_colour(hue: float, light: float, saturation: float) -> str:
    """A colour in CSS; all in 0..1."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))


class Style:
    """Colours and measures of a page, by chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.hue = float(rng.random())
        self.dark = bool(rng.random() < 0.5)
        self.even = bool(rng.random() < 0.6)
        self._boxes: dict[str, str] = {}

    def ground(self) -> tuple[str, float]:
        """A background, flat or with a gradient, as CSS, and its lightness in 0..1."""
        plain = self.rng.random() < 0.45
        light = float(self.rng.uniform(0.02, 0.25) if self.dark else self.rng.uniform(0.88, 1))
        if not plain and self.rng.random() < 0.5:
            light = float(self.rng.uniform(0.15, 0.8))  # an accent
        saturation = float(self.rng.uniform(0, 0.35) if plain else self.rng.uniform(0.2, 1))
        one = self.colour(light, saturation)
        if plain or self.rng.random() < 0.5:
            return one, light
        other = self.colour(min(1, max(0, light + float(self.rng.uniform(-0.12, 0.12)))), saturation, 0.15)
        kind = (
            f"linear-gradient({self.rng.integers(360)}deg" if self.rng.random() < 0.8 else "radial-gradient(circle"
        )
        return f"{kind}, {one}, {other})", light

    def colour(self, light: float, saturation: float, spread: float = 0.06) -> str:
        """A colour near the page's hue, or now and then of any."""
        any_hue = self.rng.random() < 0.3
        hue = float(self.rng.random()) if any_hue else (self.hue + float(self.rng.normal(0, spread))) % 1
        return hex_colour(hue, light, saturation)

    def ink(self, ground: float) -> str:
        """A colour of text that one can read on a ground of this lightness."""
        low, high = (0.0, ground - CONTRAST) if ground > 0.5 else (ground + CONTRAST, 1.0)
        edge = 0.0 if ground > 0.5 else 1.0
        light = edge if self.rng.random() < 0.35 else float(self.rng.uniform(low, high))
        return self.colour(light, float(self.rng.uniform(0, 1)))

    def box(self) -> str:
        """CSS of a box with a ground, text and room."""
        ground, light = self.ground()
        r = self.rng
        border = f"border:{r.integers(1, 3)}px solid {self.colour(float(r.random()), float(r.random()))};"
        shadow = f"box-shadow:0 {r.integers(6)}px {r.integers(1, 24)}px rgba(0,0,0,{r.uniform(0.05, 0.4):.2f});"
        return (
            f"background:{ground};color:{self.ink(light)};border-radius:{r.integers(0, 18)}px;"
            f"padding:{r.integers(3, 16)}px {r.integers(6, 24)}px;"
            f"{border if r.random() < 0.4 else ''}{shadow if r.random() < 0.3 else ''}"
        )

    def box_of(self, kind: str) -> str:
        """CSS of a box: on even pages those of a kind are mostly equal."""
        if not self.even or self.rng.random() < 0.15:
            return self.box()
        return self._boxes.setdefault(kind, self.box())

    def type(self, least: float = 10, most: float = 17) -> str:
        """CSS of a font's size, weight and spacing."""
        r = self.rng
        size = float(r.uniform(least, most))
        spaced = f"letter-spacing:{r.uniform(-0.02, 0.12):.3f}em;" if r.random() < 0.2 else ""
        cased = "text-transform:uppercase;" if r.random() < 0.12 else ""
        slanted = "font-style:italic;" if r.random() < 0.08 else ""
        lined = "text-decoration:underline;" if r.random() < 0.08 else ""
        return f"font-size:{size:.1f}px;font-weight:{r.choice([300, 400, 400, 500, 600, 700])};" + (
            spaced + cased + slanted + lined
        )


def _tag(opening: str, css: str, inner: str) -> str:
    """An element with a style: its opening tag's name and attributes, and what is in it."""
    return f'<{opening} style="{css}">{inner}</{opening.split()[0]}>'


class Writer:
    """What pages are written with.

    Args:
        icons: SVG files.
    """

    def __init__(self, words: Words, icons: Sequence[Path], rng: np.random.Generator) -> None:
        self.words, self.icons, self.rng = words, icons, rng
        self.unsaid = frozenset(role for role in _SELDOM_SAID if self.chance(_UNSAID))
        """Roles that the code of this page leaves out."""

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def several(self, make: Callable[[], str], least: int, most: int) -> str:
        return "".join(make() for _ in range(int(self.rng.integers(least, most + 1))))

    def icon(self) -> str:
        return self.icons[int(self.rng.integers(len(self.icons)))].read_text("utf-8")

    def mark(self) -> str:
        """What stands at the end of an entry that opens more."""
        drawn = f'<path d="{self.words.pick(*_MORE)}" style="fill:none;stroke:currentColor;stroke-width:1.5"/>'
        return f'<svg viewBox="0 0 16 16">{drawn}</svg>'

    def initials(self) -> str:
        """One letter or two, of a person or a company."""
        letters = "".join(word[0] for word in self.words.some(2, 2).split()).upper()
        return escape(letters[:1] if self.chance(0.35) else letters)

    def count(self) -> str:
        """What a mark at an icon or an entry says, as of unread messages."""
        one, two = str(self.rng.integers(1, 10)), str(self.rng.integers(10, 100))
        return self.words.pick(one, one, one, two, "99+", self.words.some(1, 1)[:8])


class Page(Writer):
    """Writes the HTML of a page; arguments as for :class:`Writer`."""

    def __init__(self, words: Words, icons: Sequence[Path], rng: np.random.Generator) -> None:
        super().__init__(words, icons, rng)
        self.style = Style(rng)

    def html(self) -> str:
        """A page of cards in columns, with or without a bar at the top and at the side."""
        r = self.rng
        ground, light = self.style.ground()
        body = f"background:{ground};color:{self.style.ink(light)};line-height:{r.uniform(1.1, 1.8):.2f};"
        body += f"font-family:{self.words.pick('sans-serif', 'serif', 'monospace')}"
        grid = f"grid-template-columns:repeat({r.integers(1, 5)},1fr);gap:{r.integers(4, 28)}px"
        side = f'<aside style="flex:0 0 {r.integers(130, 280)}px;{self.style.box()}">{self.menu()}</aside>'
        cards = "".join(self.card() for _ in range(int(r.integers(8, 30))))
        return (
            f'<!doctype html><html lang="{self.words.language}"><meta charset="utf-8"><style>{_CSS}</style>'
            f'<body style="{body}">{self.bar() if r.random() < 0.7 else ""}<div style="display:flex">'
            f'{side if r.random() < 0.6 else ""}<main style="{grid}">{cards}</main></div></body></html>'
        )

    def text(self, least: float = 10, most: float = 17, *, of: Callable[[], str] | None = None) -> str:
        """A label in a type of its own."""
        return f'<span style="{self.style.type(least, most)}">{escape((of or self.words.label)())}</span>'

    def heading(self, least: float = 13, most: float = 24) -> str:
        tag = f"h{self.rng.integers(1, 5)}" if "heading" not in self.unsaid else "div"
        css = f"font-weight:bold;{self.style.type(least, most)}"
        return _tag(tag, css, escape(self.words.some(1, 4)))

    def link(self) -> str:
        kind = "text-decoration:underline;" if self.chance(0.4) else ""
        colour = f"color:{self.style.ink(0.95 if not self.style.dark else 0.1)};" if self.chance(0.6) else ""
        return f'<a href="#" style="{kind}{colour}">{escape(self.words.some(1, 4))}</a>'

    def chip(self) -> str:
        """A button with text, or a badge, which is none."""
        if self.chance(0.15):
            ground, light = self.style.ground()
            badge = f"background:{ground};color:{self.style.ink(light)};border-radius:{self.rng.integers(2, 12)}px"
            return (
                f'<span style="padding:1px 6px;{self.style.type(8, 12)}{badge}">{escape(self.words.label())}</span>'
            )
        icon = self.icon() + " " if self.chance(0.35) else ""
        tag = "a href=#" if self.chance(0.1) else "button"
        css = f"{self.style.box_of('button')}margin:2px;{self.style.type(9, 16)}"
        role = " role=button" if tag != "button" else ""
        return _tag(f"{tag}{role}", f"display:inline-block;{css}", icon + escape(self.words.some(1, 3)))

    def tool(self) -> str:
        """A button with an icon alone, now and then with a count at its corner."""
        room = f"padding:{self.rng.integers(2, 11)}px;"
        css = self.style.box_of("tool") if self.chance(0.4) else "background:none;border:0;color:inherit;"
        inner = self.icon()
        if self.chance(0.25):
            place = f"position:absolute;top:{self.rng.integers(-10, 2)}px;right:{self.rng.integers(-12, 2)}px;"
            inner = _tag("span", "position:relative;display:inline-block", inner + self.badge(self.count(), place))
        return f'<button style="{css}{room}line-height:1;{self.style.type(11, 20)}">{inner}</button>'

    def badge(self, text: str, place: str = "") -> str:
        """A short text on a small ground of its own."""
        r, side = self.rng, int(self.rng.integers(12, 22))
        light = float(r.uniform(0.25, 0.6))
        shape = f"display:inline-block;min-width:{side}px;height:{side}px;line-height:{side}px;text-align:center;"
        shape += f"border-radius:{r.choice([99, 99, 3])}px;padding:0 {r.integers(0, 5)}px;"
        font = f"font-size:{side * r.uniform(0.55, 0.8):.1f}px;font-weight:{r.choice([400, 500, 600, 700])};"
        colours = f"background:{self.style.colour(light, float(r.uniform(0.4, 1)), 0.3)};color:"
        colours += "white" if self.chance(0.7) else self.style.ink(light)
        return _tag("span", place + shape + font + colours, escape(text))

    def avatar(self) -> str:
        """Initials on a disc or a square."""
        side = int(self.rng.integers(20, 48))
        ground, light = self.style.ground()
        letters = self.initials()
        font = f"font-size:{side * self.rng.uniform(0.32, 0.5):.1f}px;"
        font += f"font-weight:{self.rng.choice([400, 500, 600, 700])};"
        square = f"border-radius:{self.rng.integers(2, 10)}px;" if self.chance(0.25) else ""
        return (
            f'<span class="avatar" style="width:{side}px;height:{side}px;background:{ground};{font}{square}'
            f'color:{self.style.ink(light)}">{letters}</span>'
        )

    def tick(self, kind: str) -> str:
        """A checkbox or a radio button, the browser's or a drawn one."""
        side = self.rng.integers(12, 22)
        chosen, round_ = "checked" if self.chance(0.5) else "", 50 if kind == "radio" else self.rng.integers(0, 30)
        accent = self.style.colour(0.45, 0.7)
        if self.chance(0.5):
            return f'<input type={kind} {chosen} style="accent-color:{accent};width:{side}px;height:{side}px">'
        inner = f"{accent}" if chosen else "transparent"
        edge = f"{self.rng.integers(1, 3)}px solid {self.style.colour(0.5, 0.2)}"
        css = f"width:{side}px;height:{side}px;border:{edge};border-radius:{round_}%"
        return f'<input class="drawn" type={kind} {chosen} style="{css};background:{inner}">'

    def toggle(self) -> str:
        side, on = int(self.rng.integers(10, 24)), self.chance(0.5)
        ground = self.style.colour(0.5, 0.7 if on else 0.1)
        knob = f"width:{side}px;height:{side}px;margin:2px 2px 2px {side if on else 2}px"
        css = f"background:{ground};width:{2 * side + 2}px"
        role = f'button role=switch aria-checked={str(on).lower()} class="switch"'
        return _tag(role, css, _tag("span", knob, ""))

    def field(self) -> str:
        """An input with its label."""
        kind = self.rng.random()
        value = escape(self.words.label(), quote=True)
        style = f'style="{self.style.box_of("field")}{self.style.type(11, 16)}"'
        if kind < 0.25:
            box = self.toggle() if kind < 0.07 else self.tick(self.words.pick("checkbox", "checkbox", "radio"))
            return f"<label>{box} {self.text()}</label><br>"
        if kind < 0.32:
            return (
                f"<div>{self.text()}<br><input type=range style='accent-color:{self.style.colour(0.5, 0.7)}'></div>"
            )
        label = f"{self.text()}<br>" if self.chance(0.7) else ""
        if kind < 0.45:
            return f"<div>{label}<select {style}><option>{escape(self.words.some(1, 2))}</select></div>"
        if kind < 0.5:
            return f"<div>{label}<textarea {style} rows={self.rng.integers(2, 5)}></textarea></div>"
        filled = f'value="{value}"' if kind < 0.7 else f'placeholder="{value}"'
        return f"<div>{label}<input {style} {filled}></div>"

    def bar(self) -> str:
        def item() -> str:
            return self.link() if links else self.text()

        links = self.chance(0.6)
        name = f'<a href="#">{self.text(14, 24)}</a>' if self.chance(0.3) else self.text(14, 24)
        logo = self.avatar() if self.chance(0.2) else ""
        things = [self.tool() if self.chance(0.4) else "", logo, name, self.several(item, 0, 6)]
        things += [self.field() if self.chance(0.4) else "", self.several(self.tool, 0, 4)]
        things += [self.chip() if self.chance(0.5) else "", self.avatar() if self.chance(0.6) else self.icon()]
        return f'<header style="{self.style.box()}">{"".join(things)}</header>'

    def menu(self) -> str:
        """Links as wide as the menu, with titles between them; what opens more is a button with a mark."""
        kind, mark = self.style.type(11, 16), self.mark()
        room, icons, rows = (
            f"padding:{self.rng.integers(2, 14)}px {self.rng.integers(2, 16)}px;",
            self.chance(0.75),
            [],
        )
        shape = f"border-radius:{self.rng.integers(0, 12)}px;"
        opening = float(self.rng.uniform(0.1, 0.9)) if self.chance(0.5) else 0.0  # share of entries
        for _ in range(int(self.rng.integers(4, 14))):
            chosen = self.style.box() if self.chance(0.12) else shape
            label = f'<span style="flex:1">{escape(self.words.some(1, 3))}</span>'
            icon = self.icon() if icons else ""
            if self.chance(opening):
                rows.append(_tag("button", chosen + kind + room, icon + label + mark))
            else:
                end = self.chip() if self.chance(0.1) else self.icon() if self.chance(0.15) else ""
                end = self.badge(self.count()) if self.chance(0.15) else end
                rows.append(_tag("a href=#", chosen + kind + room, icon + label + end))
            if self.chance(0.15):
                title = f"{self.style.type(9, 13)}{room}opacity:.7"
                rows.append(_tag("div", title, escape(self.words.some(1, 2))))
        return "".join(rows)

    def card(self) -> str:
        """A part of a page."""
        makers = [self.number, self.table, self.list, self.form, self.prose, self.chart, self.chips, self.tile]
        makers += [self.tabs, self.pages, self.list, self.meters]
        inner = makers[int(self.rng.integers(len(makers)))]()
        title = (
            f'<div class="row">{self.heading()}{self.several(self.tool, 0, 3)}</div>' if self.chance(0.3) else ""
        )
        return f'<section style="{self.style.box_of("card")}">{title}{inner}</section>'

    def tabs(self) -> str:
        """Tabs, of which one is chosen, over a text."""
        kind, room = self.style.type(11, 15), f"padding:{self.rng.integers(4, 12)}px {self.rng.integers(6, 18)}px;"
        line = f"border-bottom:2px solid {self.style.colour(0.5, 0.8)};"
        tag = "button role=tab" if "tab" not in self.unsaid else "a href=#"
        tabs = [
            _tag(tag, kind + room + line * (i == 1), escape(self.words.some(1, 2)))
            for i in range(int(self.rng.integers(2, 6)))
        ]
        return f"<nav>{''.join(tabs)}</nav><p>{escape(self.words.some(5, 30))}</p>"

    def pages(self) -> str:
        """Links to pages of a list, or to where a page is."""
        if self.chance(0.4):
            return " / ".join(self.link() for _ in range(int(self.rng.integers(2, 5))))
        css = f"{self.style.box_of('page')}display:inline-block;{self.style.type(11, 15)}"
        tag = self.words.pick("a href=#", "button")
        return "".join(
            f'<{tag} style="{css}">{n}</{tag.split()[0]}>'
            for n in ("‹", *range(1, int(self.rng.integers(3, 8))), "›")
        )

    def meters(self) -> str:
        role = "role=progressbar" if "progressbar" not in self.unsaid else ""

        def meter() -> str:
            height, full = self.rng.integers(4, 18), self.rng.integers(5, 100)
            inner = f'<div style="width:{full}%;height:100%;background:{self.style.colour(0.5, 0.8)}"></div>'
            css = f"height:{height}px;background:{self.style.colour(0.2 if self.style.dark else 0.88, 0.2)}"
            shape = f"border-radius:{self.rng.integers(0, 9)}px"
            return f'{self.text(10, 14)}<div {role} class="meter" style="{css};{shape}">{inner}</div>'

        return self.several(meter, 1, 5)

    def number(self) -> str:
        large = self.text(20, 56, of=self.words.number)
        return f"{self.text()}<br>{large} {self.text(9, 13, of=self.words.number)} {self.icon()}"

    def table(self) -> str:
        columns, kind = int(self.rng.integers(2, 6)), self.style.type(10, 15)
        room = f"padding:{self.rng.integers(1, 8)}px {self.rng.integers(4, 14)}px"
        line = f"border-bottom:1px solid {self.style.colour(float(self.rng.random()), 0.3)};" * (
            self.rng.random() < 0.6
        )
        head = "".join(
            f'<th style="{room};text-align:left">{escape(self.words.some(1, 2))}</th>' for _ in range(columns)
        )

        def cell() -> str:
            kind = self.rng.random()
            makers = ((0.07, self.chip), (0.12, self.tool), (0.22, self.link), (0.25, self.meters))
            make = next((make for share, make in makers if kind < share), None)
            text = make() if make else escape(self.words.label())
            return f'<td style="{room};{line}">{text}</td>'

        rows = ["".join(cell() for _ in range(columns)) for _ in range(int(self.rng.integers(2, 9)))]
        return f'<table style="{kind}"><tr>{head}</tr>{"".join(f"<tr>{row}</tr>" for row in rows)}</table>'

    def list(self) -> str:
        def row() -> str:
            first = self.words.pick(*(make() for make in (self.avatar, self.icon, lambda: self.tick("checkbox"))))
            last = self.text(9, 13, of=self.words.number) if self.chance(0.6) else self.several(self.tool, 1, 3)
            title = self.link() if titled else self.text()
            inner = f"{first}<div>{title}<br>{self.text(9, 13)}</div><div>{last}</div>"
            return f'<a href="#" class="row">{inner}</a>' if whole else f'<div class="row">{inner}</div>'

        titled = self.chance(0.3)
        whole = not titled and self.chance(0.15)
        return self.heading(13, 22) + self.several(row, 2, 6)

    def form(self) -> str:
        fields = "".join(self.field() for _ in range(int(self.rng.integers(2, 6))))
        return f"{self.heading(13, 22)}<form>{fields}</form>{self.chip()}{self.chip()}"

    def prose(self) -> str:
        text = escape(self.words.some(8, 40))
        for _ in range(int(self.rng.integers(0, 4))):
            text += f" {self.link()} {escape(self.words.some(3, 15))}"
        return f'{self.heading(14, 34)}<p style="{self.style.type(11, 18)}">{text}</p>'

    def chart(self) -> str:
        """Bars with what they stand for."""
        bars = []
        for _ in range(int(self.rng.integers(3, 9))):
            ground, _ = self.style.ground()
            bars.append(
                f"<div>{self.text(8, 12, of=self.words.number)}"
                f'<div style="height:{self.rng.integers(8, 110)}px;background:{ground}"></div>'
                f"{self.text(8, 12, of=lambda: self.words.some(1, 1))}</div>"
            )
        return f'{self.heading(13, 20)}<div class="bars">{"".join(bars)}</div>'

    def chips(self) -> str:
        return self.several(self.chip if self.chance(0.6) else self.tool, 3, 12)

    def tile(self) -> str:
        """A picture of colours with text on it."""
        grounds = ",".join(
            f"radial-gradient(circle at {self.rng.integers(100)}% {self.rng.integers(100)}%, "
            f"{self.style.colour(float(self.rng.random()), 0.8, 0.3)}, transparent {self.rng.integers(20, 80)}%)"
            for _ in range(4)
        )
        shade, light = ("0,0,0", 0.2) if self.rng.random() < 0.6 else ("255,255,255", 0.9)
        return (
            f'<div style="background:{grounds};padding:{self.rng.integers(20, 90)}px 0 0"><div style="padding:6px;'
            f'background:rgba({shade},{self.rng.uniform(0.55, 0.9):.2f});color:{self.style.ink(light)}">'
            f"{self.text(11, 28)} {self.text(9, 13)}</div></div>"
        )
