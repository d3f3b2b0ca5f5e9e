"""Made-up web pages: real words in the parts of dashboards, shops and mail. Whatever looks like an element has its
role.

Packages have few styles, and a finder that learns from them misses text on colours and elements of shapes that it
never saw. A page is written once, by chance; :mod:`.made` and :mod:`.themed` give it its looks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from openpali_lab.worlds.builders.texts import Texts

_CSS = """
svg { width: 1.2em; height: 1.2em; vertical-align: -.2em; fill: currentColor }
main { flex: 1; min-width: 0 }
.line { display: flex; gap: 8px; align-items: center }
.line > .wide { flex: 1; min-width: 0; text-align: left }
.body { display: flex; align-items: start }
.cols { display: grid; align-items: start }
.cols > * { min-width: 0; overflow: hidden }
.side { flex-shrink: 0; display: flex; flex-direction: column }
.avatar { display: inline-flex; width: 2.2em; height: 2.2em; flex-shrink: 0 }
.avatar, .tint { align-items: center; justify-content: center }
.tint { display: inline-flex; width: 2.4em; height: 2.4em }
.bars { display: flex; gap: 4px; align-items: end }
.bars > * { flex: 1; text-align: center }
.corner { position: relative; display: inline-block }
.corner > :last-child { position: absolute; line-height: 1.4; min-width: 1.4em; text-align: center }
.search { position: relative }
.search > svg { position: absolute; left: .8em; top: calc(50% - .6em) }
.search > input { padding-left: 2.4em; padding-right: 4em }
.search > kbd { position: absolute; right: .5em; top: calc(50% - .8em) }
"""
_LAYOUT = {
    **dict.fromkeys(("bar", "entry", "chosen", "check", "titles", "person", "crumbs"), "line"),
    **{name: name for name in ("body", "cols", "avatar", "tint", "bars", "corner", "search")},
    "menu": "side",
    "wide": "wide",
}
"""Kind of an element -> classes that say where its parts stand."""
_UNSAID = 0.3
"""Share of pages whose code leaves out each of these roles, as that of many themes does: no one can see it."""
_SELDOM_SAID = ("heading", "tab", "progressbar")
_MORE = ("M4 6l4 4 4-4", "M4 6l4 4 4-4", "M6 4l4 4-4 4", "M10 4l-4 4 4 4", "M8 3v10M3 8h10")
"""Paths of the marks of what opens more: chevrons and a plus, in 16 x 16."""
_LINK, _BUTTON = 'a href="#"', "button type=button"


def element(opening: str, look: str, inner: str) -> str:
    return f"<{opening}{look}>{inner}</{opening.split()[0]}>"


class Page(ABC):
    """Writes the HTML of a page.

    Args:
        icons: SVG files.
    """

    def __init__(self, texts: Texts, icons: Sequence[Path]) -> None:
        self.t, self.icons = texts, icons
        self.unsaid = frozenset(role for role in _SELDOM_SAID if texts.chance(_UNSAID))
        """Roles that the code of this page leaves out."""

    @abstractmethod
    def dress(self, kind: str) -> dict[str, str]:
        """Attributes that give an element of a kind its look, ``class`` and ``style`` among them."""

    @abstractmethod
    def head(self) -> str:
        """Stylesheets."""

    def look(self, kind: str, css: str = "") -> str:
        """The attributes of an element, with more ``css``."""
        found = self.dress(kind)
        found["class"] = f"{_LAYOUT.get(kind, '')} {found.get('class', '')}".strip()
        found["style"] = found.get("style", "") + css
        return "".join(f' {name}="{value}"' for name, value in found.items() if value)

    def tag(self, kind: str, inner: str, opening: str = "div", css: str = "") -> str:
        """An element; ``opening`` is its tag with what it has beside its look."""
        return element(opening, self.look(kind, css), inner)

    def html(self) -> str:
        """A bar, a menu at the side, and cards in columns."""
        t, mode = self.t, self.look("html")
        grid = f"grid-template-columns:repeat({t.integer(1, 4)},1fr);gap:{t.integer(4, 28)}px"
        titles = self.tag("titles", self.heading(1, 3) + self.several(self.button, 0, 3))
        parts = [self.crumbs() if t.chance(0.4) else "", titles if t.chance(0.6) else ""]
        parts += [self.tag("cols", self.several(self.card, 7, 26), css=grid)]
        parts += [self.footer() if t.chance(0.3) else ""]
        main = self.tag("main", "".join(parts), "main", f"padding:{t.integer(4, 28)}px")
        body = self.tag("body", (self.menu() if t.chance(0.62) else "") + main)
        body = (self.bar() if t.chance(0.8) else "") + body
        top = f'<meta charset="utf-8">{self.head()}<style>{_CSS}</style>'
        return f'<!doctype html><html lang="{t.language}"{mode}>{top}{self.tag("ground", body, "body")}</html>'

    # ---- texts and signs

    def several(self, make: Callable[[], str], least: int, most: int) -> str:
        return "".join(make() for _ in range(self.t.integer(least, most)))

    def some(self, least: int = 1, most: int = 3) -> str:
        return escape(self.t.words(least, most))

    def label(self) -> str:
        return escape(self.t.label())

    def number(self) -> str:
        return escape(self.t.value())

    def text(self, kind: str = "text", make: Callable[[], str] | None = None) -> str:
        return self.tag(kind, (make or self.label)(), "span")

    def icon(self) -> str:
        return self.t.pick(self.icons).read_text("utf-8")

    def mark(self) -> str:
        """What stands at the end of an entry that opens more."""
        drawn = f'<path d="{self.t.pick(_MORE)}" style="fill:none;stroke:currentColor;stroke-width:1.5"/>'
        return f'<svg viewBox="0 0 16 16">{drawn}</svg>'

    def count(self) -> str:
        """What a mark at an icon or an entry says, as of unread messages."""
        one, two = str(self.t.integer(1, 9)), str(self.t.integer(10, 99))
        return self.t.pick([one, one, one, two, "99+", escape(self.t.words(1, 1)[:8])])

    def badge(self) -> str:
        return self.tag("badge", self.count() if self.t.chance(0.3) else self.label(), "span") + " "

    def avatar(self) -> str:
        """Initials of a person or a company on a disc or a square."""
        letters = "".join(word[0] for word in self.t.words(2, 2).split()).upper()
        return self.tag("avatar", escape(letters[:1] if self.t.chance(0.35) else letters), "span") + " "

    # ---- elements

    def heading(self, least: int = 2, most: int = 6) -> str:
        opening = f"h{self.t.integer(least, most)}" if "heading" not in self.unsaid else "div"
        return self.tag("heading", self.some(1, 5), opening)

    def link(self) -> str:
        return self.tag("link", self.some(1, 4), _LINK)

    def button(self) -> str:
        """With text, an icon or both; now and then a link that looks like one."""
        shown = self.t.uniform(0, 1)
        inner = self.icon() if shown < 0.15 else self.icon() + " " + self.some() if shown < 0.4 else self.some()
        return self.tag("button", inner, _LINK + " role=button" if self.t.chance(0.13) else _BUTTON) + " "

    def tool(self) -> str:
        """A button with an icon alone, now and then with a count at its corner."""
        inner = self.icon()
        if self.t.chance(0.25):
            place = f"top:{self.t.integer(-10, 1)}px;right:{self.t.integer(-12, 1)}px;"
            inner = self.tag("corner", inner + self.tag("count", self.count(), "span", place), "span")
        return self.tag("tool", inner, _BUTTON)

    def tick(self, kind: str) -> str:
        """A check box, a radio button or a switch, with its label."""
        opening = "input type=checkbox role=switch" if kind == "switch" else f"input type={kind}"
        chosen = " checked" if self.t.chance(0.5) else ""
        return self.tag("check", f"<{opening}{chosen}{self.look(kind)}> {self.text()}", "label")

    def field(self) -> str:
        """An input with its label."""
        t, kind, field = self.t, self.t.uniform(0, 1), self.look("field")
        if kind < 0.28:
            return self.tick(t.pick(["checkbox", "checkbox", "radio", "switch"]))
        label = self.tag("label", self.some(), "label") if t.chance(0.75) else ""
        if kind < 0.35:
            inner = f"<input type=range{self.look('range')}>"
        elif kind < 0.47:
            inner = f"<select{self.look('select')}><option>{self.some(1, 2)}</select>"
        elif kind < 0.53:
            inner = f"<textarea{field} rows={t.integer(2, 4)}>{self.some(2, 9) if t.chance(0.5) else ''}</textarea>"
        else:
            of = t.pick(["text", "text", "text", "email", "password", "number", "search"])
            value = str(t.integer(0, 999)) if of == "number" else self.label()
            given = f'value="{value}"' if t.chance(0.45) else f'placeholder="{value}{t.pick(["...", "", "", ""])}"'
            inner = f"<input type={of}{field} {given}>"
            if kind > 0.85:
                before = self.tag("addon", self.icon() if t.chance(0.6) else self.number(), "span")
                inner = self.tag("group", before + inner + (self.button() if t.chance(0.4) else ""))
        return self.tag("field-row", label + ("<br>" if label and t.chance(0.6) else " ") + inner)

    # ---- bars and menus

    def bar(self) -> str:
        """The bar at the top of a page."""
        t = self.t
        makers = [self.link, lambda: self.tag("item", self.some(1, 2), _LINK)]
        search = f'{self.icon()}<input type=search{self.look("field")} placeholder="{self.some()}...">'
        key = f"<kbd>{t.pick(['/', 'Ctrl K', 'Ctrl+K', 'F'])}</kbd>" if t.chance(0.5) else ""
        parts = [self.tool() if t.chance(0.45) else "", self.brand(), self.several(t.pick(makers), 0, 6)]
        parts += [self.tag("wide", ""), self.tag("search", search + key) if t.chance(0.45) else ""]
        parts += [self.several(self.tool, 0, 4), self.button() if t.chance(0.4) else ""]
        return self.tag("bar", "".join([*parts, self.avatar() if t.chance(0.6) else ""]), "header")

    def brand(self) -> str:
        """The name of a site, with or without an icon, mostly a link."""
        inner = (self.icon() + " " if self.t.chance(0.4) else "") + self.some(1, 2)
        return self.tag("brand", inner, _LINK if self.t.chance(0.7) else "span")

    def menu(self) -> str:
        """Links at the side, with titles between them; one of them is chosen. What opens more is a button, as the
        ARIA Authoring Practices say."""
        t, rows = self.t, [self.brand()] if self.t.chance(0.4) else []
        icons, mark, plain = t.chance(0.75), self.mark(), self.look("entry")
        chosen, opening_share = t.integer(0, 7), t.uniform(0.1, 0.9) if t.chance(0.5) else 0.0
        for number in range(t.integer(4, 15)):
            if t.chance(0.13):
                rows.append(self.tag("title", self.some(1, 2)))
            opens, look = t.chance(opening_share), self.look("chosen") if number == chosen else plain
            end = mark if opens else self.badge() if t.chance(0.12) else ""
            inner = (self.icon() if icons else "") + self.tag("wide", self.some(), "span") + end
            opening = t.pick([_BUTTON, f"{_LINK} role=button aria-expanded=false"]) if opens else _LINK
            rows.append(element(opening, look, inner))
            if opens and t.chance(0.25):
                rows += [element(_LINK, plain, self.some()) for _ in range(t.integer(1, 4))]
        person = self.avatar() + self.tag("wide", f"{self.text()}<br>{self.text('small')}", "span")
        who = self.tag("person", person, t.pick(["div", "div", _LINK, _BUTTON])) if t.chance(0.35) else ""
        return self.tag("menu", "".join(rows) + who, "aside", f"width:{t.integer(130, 280)}px")

    def crumbs(self) -> str:
        """Links to the pages above, and the page's own name."""
        sign = self.t.pick([" › ", " / ", " » ", " &gt; "])
        return self.tag("crumbs", self.several(lambda: self.link() + sign, 1, 3) + self.text())

    def footer(self) -> str:
        return self.tag("footer", f"{self.some(3, 9)} {self.several(self.link, 1, 4)}", "footer")

    # ---- parts of a page

    def card(self) -> str:
        """A part of a page, mostly in a card."""
        makers = [self.figure, self.table, self.table, self.list, self.form, self.form, self.prose, self.chart]
        makers += [
            self.buttons,
            self.tabs,
            self.pages,
            self.meters,
            self.alerts,
            self.steps,
            self.people,
            self.tile,
        ]
        makers += [self.blocks, self.segments, self.entry, lambda: self.several(self.badge, 2, 9)]
        inner = self.t.pick(makers)()
        if self.t.chance(0.15):
            return self.tag("bare", inner, "section")
        head = self.tag("card-head", self.heading() + self.several(self.tool, 0, 3)) if self.t.chance(0.4) else ""
        foot = self.tag("card-foot", self.several(self.button, 1, 2) + self.link()) if self.t.chance(0.2) else ""
        return self.tag("card", head + self.tag("card-body", inner) + foot, "section")

    def figure(self) -> str:
        """A number and what it stands for."""
        large = self.text("large", self.number)
        return f"{self.text()}<br>{large} {self.icon()} {self.text('small', self.number)} {self.text('small')}"

    def table(self) -> str:
        t, cell, columns = self.t, self.look("cell"), self.t.integer(2, 6)
        special: list[Callable[[], str]] = [
            self.badge,
            self.link,
            self.tool,
            self.button,
            self.meter,
            lambda: self.tick("checkbox"),
        ]
        head = "".join(f"<th scope=col{cell}>{self.some(1, 2)}</th>" for _ in range(columns))
        makers = [t.pick(special) if t.chance(0.3) else self.label for _ in range(columns)]
        rows = ["".join(f"<td{cell}>{make()}</td>" for make in makers) for _ in range(t.integer(2, 9))]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return self.tag("table", f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", "table")

    def list(self) -> str:
        """Rows, of which each is a link or holds elements."""
        t, row = self.t, self.look("row")
        icons, ticks, links = t.chance(0.4), t.chance(0.2), t.chance(0.45)

        def make() -> str:
            first = self.icon() + " " if icons else ""
            if links:
                return element(_LINK, row, first + self.some(1, 5) + (self.badge() if t.chance(0.3) else ""))
            first = self.tick("checkbox") if ticks else first + self.text()
            return element("div", row, first + self.several(t.pick([self.tool, self.badge]), 0, 3))

        return (self.heading() if t.chance(0.5) else "") + self.tag("list", self.several(make, 2, 7))

    def people(self) -> str:
        linked, acted = self.t.chance(0.5), self.t.chance(0.4)

        def row() -> str:
            name = self.link() if linked else self.text()
            end = self.button() if acted else self.text("small", self.number)
            wide = self.tag("wide", f"{name}<br>{self.text('small', lambda: self.some(2, 8))}")
            return self.tag("person", self.avatar() + wide + end)

        return self.several(row, 2, 6)

    def blocks(self) -> str:
        """A chart of coloured fields with names, which are no buttons."""
        across = self.t.chance(0.5)
        high = self.t.integer(30, 160) if across else self.t.integer(80, 260)
        css = f"display:flex;gap:2px;height:{high}px;flex-direction:{'row' if across else 'column'}"
        fields = self.several(
            lambda: self.tag("block", self.some(1, 2), css=f"flex:{self.t.integer(1, 8)};overflow:hidden"), 3, 7
        )
        return f'{self.heading()}<div style="{css}">{fields}</div>'

    def segments(self) -> str:
        """Buttons in one tray, of which one is chosen."""
        chosen, plain = self.look("segment-on"), self.look("segment")
        buttons = [element(_BUTTON, look, self.some(1, 1)) for look in [chosen, *[plain] * self.t.integer(1, 3)]]
        return self.heading() + self.tag("tray", "".join(buttons))

    def entry(self) -> str:
        """A link that is a card, with an icon, a name and a text."""
        inner = self.tag("tint", self.icon(), "span") + self.tag("name", self.some(1, 3))
        return self.tag("link-card", inner + self.text("small", lambda: self.some(3, 9)), _LINK)

    def form(self) -> str:
        shape = "display:grid;grid-template-columns:1fr 1fr;gap:8px" if self.t.chance(0.25) else ""
        fields = self.tag("form", self.several(self.field, 2, 7), "form", shape)
        return f"{self.heading()}{fields}{self.several(self.button, 1, 3)}"

    def prose(self) -> str:
        text = self.some(8, 40) + self.several(lambda: f" {self.link()} {self.some(3, 15)}", 0, 3)
        return self.heading(2, 6) + self.tag("prose", text, "p")

    def chart(self) -> str:
        """Bars, mostly with what they stand for."""
        named = self.t.chance(0.6)

        def bar() -> str:
            drawn = self.tag("column", "", css=f"height:{self.t.integer(8, 130)}px")
            return f"<div>{self.text('tiny', self.number)}{drawn}{self.text('tiny')}</div>" if named else drawn

        return self.heading() + self.tag("bars", self.several(bar, 3, 8 if named else 15))

    def buttons(self) -> str:
        """Buttons beside each other, in a group or in a row."""
        if self.t.chance(0.3):
            return self.tag("button-group", self.several(self.button, 2, 6))
        return self.several(self.button, 2, 9) + self.several(self.tool, 0, 6)

    def tabs(self) -> str:
        """Tabs, of which one is chosen, over a text."""
        opening = _LINK if "tab" in self.unsaid else _BUTTON + " role=tab"
        looks = [self.look("tab"), self.look("tab-on"), *[self.look("tab")] * self.t.integer(0, 3)]
        tabs = [element(opening, look, self.some(1, 2)) for look in looks]
        return self.tag("tabs", "".join(tabs), "nav") + self.tag("prose", self.some(5, 30), "p")

    def pages(self) -> str:
        """Links to the pages of a list."""
        names = ["‹", *map(str, range(1, self.t.integer(3, 8))), self.t.pick(["›", "…", "»"])]
        plain, chosen, opening = self.look("page"), self.look("page-on"), self.t.pick([_LINK, _LINK, _BUTTON])
        items = [element(opening, chosen if name == "2" else plain, name) for name in names]
        return self.tag("pages", "".join(items), "nav")

    def meter(self) -> str:
        inner = self.tag("fill", "", css=f"height:100%;width:{self.t.integer(5, 99)}%")
        opening = "div" if "progressbar" in self.unsaid else "div role=progressbar"
        return self.tag("meter", inner, opening, f"height:{self.t.integer(3, 22)}px;overflow:hidden")

    def meters(self) -> str:
        return self.several(lambda: self.text("small") + self.meter(), 1, 5)

    def alerts(self) -> str:
        def alert() -> str:
            close = f"<{_BUTTON}{self.look('close')}></button>" if self.t.chance(0.4) else ""
            return self.tag("alert", f"{self.some(3, 12)} {self.link() if self.t.chance(0.4) else ''} {close}")

        return self.several(alert, 1, 3)

    def steps(self) -> str:
        """An accordion, of which the first part is open."""
        parts = [self.tag("step", self.some(2, 6), _BUTTON) for _ in range(self.t.integer(2, 4))]
        parts[0] = self.tag("step-on", self.some(2, 6), _BUTTON) + self.tag("step-body", self.some(5, 25))
        return self.tag("steps", "".join(self.tag("step-item", part) for part in parts))

    def tile(self) -> str:
        """A picture of colours with text on it."""
        t = self.t
        grounds = ",".join(
            f"radial-gradient(circle at {t.integer(0, 99)}% {t.integer(0, 99)}%, hsl({t.integer(0, 359)} 80% "
            f"{t.integer(0, 99)}%), transparent {t.integer(20, 80)}%)"
            for _ in range(4)
        )
        shade, ink = t.pick([("0,0,0", "#fff"), ("255,255,255", "#111")])
        panel = f"padding:6px;background:rgba({shade},{t.uniform(0.55, 0.9):.2f});color:{ink}"
        return (
            f'<div style="background:{grounds};padding:{t.integer(20, 90)}px 0 0"><div style="{panel}">'
            f"{self.text('large')} {self.text('small')}</div></div>"
        )
