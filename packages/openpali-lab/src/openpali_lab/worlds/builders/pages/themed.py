"""Made-up pages in the classes of Bootstrap, which stylesheets of several packages draw in their own ways.

A page of :mod:`.made` has any colour and shape; one of these looks like an application that somebody designed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from openpali_lab.worlds.builders.pages.made import Words, Writer, hex_colour

_CSS = """
svg { width: 1em; height: 1em; vertical-align: -.125em; fill: currentColor }
.avatar { display: inline-flex; width: 2.2em; height: 2.2em; align-items: center; justify-content: center }
.side { flex-shrink: 0 }
.bars { display: flex; gap: 4px; align-items: end }
.bars > * { flex: 1 }
.tint { display: inline-flex; width: 2.4em; height: 2.4em; align-items: center; justify-content: center }
.search { position: relative }
.search > svg { position: absolute; left: .8em; top: calc(50% - .5em) }
.search > input { padding-left: 2.4em; padding-right: 4em }
.search > kbd { position: absolute; right: .5em; top: calc(50% - .8em) }
"""
_KINDS = ("primary", "primary", "secondary", "success", "danger", "warning", "info", "light", "dark")
_GROUNDS = ("bg-body", "bg-body-tertiary", "bg-light", "bg-dark", "bg-primary", "bg-body-secondary")
_SHORT = (".nav-link", ".list-group-item-action", "th", ".btn", "h4,h5,h6", "small", ".breadcrumb", ".badge")
_DARK = 0.35  # share of pages in a stylesheet's dark colours
_OWN = 0.4  # share of pages in greys and colours of their own
_PREFIXES = ("bs", "cui", "tblr")  # of the variables of Bootstrap, CoreUI and Tabler


class ThemedPage(Writer):
    """Writes the HTML of a page.

    Args:
        icons: SVG files.
        sheets: addresses of stylesheets, of which one is taken.
    """

    def __init__(
        self, words: Words, icons: Sequence[Path], sheets: Sequence[str], rng: np.random.Generator
    ) -> None:
        super().__init__(words, icons, rng)
        self.sheet = words.pick(*sheets)
        self.small = words.pick("", "", "", "-sm", "-lg")
        """Size of the page's buttons and fields."""

    def html(self) -> str:
        """A bar, a menu at the side, and cards in columns."""
        mode = "dark" if self.chance(_DARK) else "light"
        columns = int(self.rng.integers(1, 5))
        cards = "".join(f'<div class="col">{self.card()}</div>' for _ in range(int(self.rng.integers(6, 20))))
        side = self.menu() if self.chance(0.65) else ""
        crumbs = self.crumbs() if self.chance(0.5) else ""
        head = f'<div class="d-flex mb-3">{self.heading(1, 3)}{self.several(self.button, 0, 3)}</div>'
        primary = f"#{self.rng.integers(1 << 24):06x}"
        own = f"<style>:root{{--bs-link-color:{primary}}}</style>" if self.chance(0.15) else ""
        own += self.capitals() if self.chance(0.3) else ""
        own += self.palette(mode == "dark") if self.chance(_OWN) else ""
        return (
            f'<!doctype html><html lang="{self.words.language}" data-bs-theme="{mode}"><meta charset="utf-8">'
            f'<link rel="stylesheet" href="/{self.sheet}"><style>{_CSS}</style>{own}<body>{self.bar()}'
            f'<div class="d-flex">{side}<main class="flex-fill p-{self.rng.integers(1, 5)}" style="min-width:0">'
            f'{crumbs}{head}<div class="row row-cols-{columns} g-{self.rng.integers(1, 5)}">{cards}</div>'
            f"{self.footer() if self.chance(0.4) else ''}</main></div></body></html>"
        )

    def capitals(self) -> str:
        """A style that sets short texts in spaced capitals, as designers like to."""
        parts = [part for part in _SHORT if self.chance(0.4)] or [_SHORT[0]]
        space = self.words.pick("0", ".03em", ".06em", ".1em")
        return f"<style>{','.join(parts)}{{text-transform:uppercase;letter-spacing:{space}}}</style>"

    def palette(self, dark: bool) -> str:
        """A style with greys of little contrast for grounds, lines and secondary texts."""
        r, hue, depth = self.rng, float(self.rng.random()), float(self.rng.uniform(0, 0.45))

        def grey(light: float) -> str:
            return hex_colour(hue, min(1.0, light if dark else 1 - light), depth)

        ground = float(r.uniform(0.02, 0.14) if dark else r.uniform(0, 0.07))
        raised = ground + float(r.uniform(0.015, 0.06) if dark else r.uniform(-ground, 0.03))
        field = grey(ground + float(r.uniform(0, 0.05)))
        line, dim = grey(raised + float(r.uniform(0.02, 0.12))), grey(float(r.uniform(0.38, 0.65)))
        names = {
            "body-bg": grey(ground),
            "secondary-bg": grey(raised),
            "tertiary-bg": grey(raised),
            "card-bg": grey(raised),
            "border-color": line,
            "body-color": grey(float(r.uniform(0.75, 1))),
            "secondary-color": dim,
        }
        css = "".join(f"--{p}-{name}:{colour} !important;" for p in _PREFIXES for name, colour in names.items())
        css = f"html{{{css}}}.form-control,.form-select{{background-color:{field};border-color:{line}}}"
        css += f".card{{background-color:{grey(raised)}}}"
        if self.chance(0.5):
            css += f".nav-link:not(.active),.side small,.breadcrumb a{{color:{dim}}}"
        return f"<style>{css}</style>"

    def some(self, least: int = 1, most: int = 3) -> str:
        return escape(self.words.some(least, most), quote=True)

    def label(self) -> str:
        return escape(self.words.label(), quote=True)

    def number(self) -> str:
        return escape(self.words.number(), quote=True)

    def kind(self) -> str:
        return self.words.pick(*_KINDS)

    def sized(self, css: str) -> str:
        """A class in the page's size."""
        return f"{css} {css}{self.small}" if self.small else css

    def heading(self, least: int = 3, most: int = 6) -> str:
        level = int(self.rng.integers(least, most + 1))
        shape = f"h{self.rng.integers(level, 7)}"
        tag = f"h{level}" if "heading" not in self.unsaid else "div"
        return f'<{tag} class="{shape} me-3 mb-2">{self.some(1, 5)}</{tag}>'

    def link(self, css: str = "") -> str:
        return f'<a href="#" class="{css}">{self.some(1, 4)}</a>'

    def badge(self) -> str:
        text = escape(self.count()) if self.chance(0.3) else self.label()
        return f'<span class="badge {self.words.pick("text-bg", "bg")}-{self.kind()}">{text}</span>'

    def button(self) -> str:
        """With text, an icon or both; solid, outlined or like a link; now and then a link that looks like one."""
        kind = self.words.pick("btn-", "btn-", "btn-outline-") + self.kind()
        kind = "btn-link" if self.chance(0.05) else kind
        shown = self.rng.random()
        inner = self.icon() if shown < 0.2 else self.icon() + " " + self.some() if shown < 0.4 else self.some()
        extra = " dropdown-toggle" if self.chance(0.1) else " rounded-pill" if self.chance(0.08) else ""
        tag = 'a href="#" role="button"' if self.chance(0.15) else "button type=button"
        return f'<{tag} class="{self.sized("btn")} {kind}{extra} me-1">{inner}</{tag.split()[0]}> '

    def tool(self) -> str:
        css, count = self.words.pick("btn-link", "btn-outline-secondary", "btn-light", "border-0"), ""
        if self.chance(0.25):  # at its corner
            place = "position-absolute top-0 start-100 translate-middle"
            size = f"font-size:{self.rng.uniform(8, 12):.1f}px;padding:.2em .4em"
            kind = f"badge rounded-pill text-bg-{self.kind()}"
            count = f'<span class="{place} {kind}" style="{size}">{escape(self.count())}</span>'
        room = f"p-{self.rng.integers(1, 3)}{' position-relative me-3' if count else ''}"
        return f'<button type=button class="btn btn-sm {css} {room}">{self.icon()}{count}</button>'

    def avatar(self) -> str:
        """Initials on a disc or a square."""
        shape = self.words.pick("rounded-circle", "rounded-circle", "rounded")
        size = f"font-size:{self.rng.uniform(9, 17):.1f}px"
        return f'<span class="avatar {shape} text-bg-{self.kind()}" style="{size}">{self.initials()}</span> '

    def tick(self, kind: str) -> str:
        """A checkbox, a radio button or a switch."""
        role = " role=switch" if kind == "switch" else ""
        css = " form-switch" if kind == "switch" else ""
        chosen = " checked" if self.chance(0.5) else ""
        of = "radio" if kind == "radio" else "checkbox"
        return (
            f'<div class="form-check{css}"><label class="form-check-label">'
            f'<input class="form-check-input" type={of}{role}{chosen}>{self.label()}</label></div>'
        )

    def field(self) -> str:
        """An input with its label."""
        kind = self.rng.random()
        if kind < 0.3:
            return self.tick(self.words.pick("checkbox", "checkbox", "radio", "switch"))
        label = f'<label class="form-label mb-1">{self.some()}</label>' if self.chance(0.8) else ""
        if kind < 0.36:
            return f'<div class="mb-2">{label}<input type=range class="form-range"></div>'
        if kind < 0.5:
            select = f'<select class="{self.sized("form-select")}"><option>{self.some()}</select>'
            return f'<div class="mb-2">{label}{select}</div>'
        css = f'class="{self.sized("form-control")}"'
        if kind < 0.56:
            rows = int(self.rng.integers(2, 5))
            return f'<div class="mb-2">{label}<textarea {css} rows={rows}>{self.some(2, 9)}</textarea></div>'
        filled = "value" if self.chance(0.4) else "placeholder"
        of = self.words.pick("text", "text", "text", "email", "password", "number", "search")
        dots = self.words.pick("...", "", "", "") if filled == "placeholder" else ""
        value = str(self.rng.integers(1000)) if of == "number" else self.label() + dots
        given = f'<input type={of} {css} {filled}="{value}">'
        if kind < 0.72:
            before = f'<span class="input-group-text">{self.icon() if self.chance(0.6) else self.number()}</span>'
            after = self.button() if self.chance(0.4) else ""
            given = f'<div class="{self.sized("input-group")}">{before}{given}{after}</div>'
        elif kind < 0.78:
            row = f'<label class="col-4 col-form-label">{self.some()}</label><div class="col-8">{given}</div>'
            return f'<div class="row mb-2">{row}</div>'
        return f'<div class="mb-2">{label}{given}</div>'

    def bar(self) -> str:
        """The bar at the top of a page."""
        if self.chance(0.12):
            return ""

        def item() -> str:
            icon = self.icon() + " " if self.chance(0.25) else ""
            more = ' dropdown-toggle" role="button' if self.chance(0.2) else ""
            return f'<li class="nav-item"><a class="nav-link{more}" href="#">{icon}{self.some(1, 2)}</a></li>'

        mode = ' data-bs-theme="dark"' if (dark := self.chance(0.4)) else ""
        ground = self.words.pick("bg-primary", "bg-dark") if dark else self.words.pick(*_GROUNDS[:3])
        hint = self.some() + self.words.pick("...", "")
        search = f'<input type=search class="form-control w-auto" placeholder="{hint}">'
        if self.chance(0.4):
            key = f"<kbd>{self.words.pick('/', 'Ctrl K', 'Ctrl+K', 'F')}</kbd>" if self.chance(0.6) else ""
            search = f'<div class="search">{self.icon()}{search}{key}</div>'
        brand = self.brand("navbar-brand ms-2") if self.chance(0.9) else self.crumbs()
        inner = (
            f"{self.tool() if self.chance(0.5) else ''}{brand}"
            f'<ul class="navbar-nav me-auto">{self.several(item, 0, 6)}</ul>{search if self.chance(0.5) else ""}'
            f"{self.several(self.tool, 0, 4)}{self.button() if self.chance(0.3) else ''}"
            f"{self.avatar() if self.chance(0.6) else ''}"
        )
        return f'<nav class="navbar navbar-expand {ground} px-2"{mode}>{inner}</nav>'

    def brand(self, css: str) -> str:
        """The name of a site, with or without an icon."""
        return f'<a href="#" class="{css}">{self.icon() + " " if self.chance(0.4) else ""}{self.some(1, 2)}</a>'

    def person(self) -> str:
        """Who is logged in, at the foot of a menu: a link, a button or neither."""
        text = f'<span class="text-start lh-sm">{self.some(2, 2)}<br><small>{self.some(1, 1)}</small></span>'
        css = "d-flex gap-2 align-items-center p-2 mt-3 text-reset text-decoration-none"
        tag = self.words.pick("div", "div", 'a href="#"', "button type=button")
        return f'<{tag} class="{css}{" btn w-100" * tag.startswith("b")}">{self.avatar()}{text}</{tag.split()[0]}>'

    def menu(self) -> str:
        """Links at the side, with titles between them; one of them is chosen. What opens more links is a button, as
        the ARIA Authoring Practices say."""
        icons, pills = self.chance(0.75), self.words.pick("nav-pills", "", "list-group list-group-flush")
        item, rows = ("list-group-item list-group-item-action" if "list" in pills else "nav-link"), []
        chosen = int(self.rng.integers(8))
        opening = float(self.rng.uniform(0.1, 0.9)) if self.chance(0.5) else 0.0  # share of entries
        mark = self.mark()
        for number in range(int(self.rng.integers(5, 16))):
            if self.chance(0.12):
                rows.append(f'<small class="d-block px-3 pt-3 text-body-secondary">{self.some(1, 2)}</small>')
            text = (self.icon() + " " if icons else "") + self.some() + (self.badge() if self.chance(0.08) else "")
            active = " active" if number == chosen else ""
            if self.chance(opening):
                rows.append(self.opener(f"{item}{active}", text, mark))
                if self.chance(0.25):
                    rows.append(self.several(lambda: f'<a href="#" class="{item} ps-5">{self.some()}</a>', 1, 4))
            else:
                rows.append(f'<a href="#" class="{item}{active}">{text}</a>')
        mode = ' data-bs-theme="dark"' if (dark := self.chance(0.35)) else ""
        ground = "bg-dark" if dark else self.words.pick("bg-body", "bg-body-tertiary", "bg-light", "border-end")
        name = self.brand("d-block fs-5 p-3") if self.chance(0.4) else ""
        wide = int(self.rng.integers(160, 280))
        nav = f'<nav class="nav flex-column {pills}">{"".join(rows)}</nav>'
        nav += self.person() if self.chance(0.4) else ""
        return f'<aside class="side {ground} p-2" style="width:{wide}px"{mode}>{name}{nav}</aside>'

    def opener(self, css: str, text: str, mark: str) -> str:
        """An entry of a menu that opens more, with a mark at its end."""
        inner = f'<span class="flex-fill">{text}</span>{mark}'
        css += " d-flex align-items-center text-start"
        if self.chance(0.5):
            return f'<a href="#" role="button" aria-expanded="false" class="{css}">{inner}</a>'
        return f'<button type=button class="{css} w-100">{inner}</button>'

    def crumbs(self) -> str:
        """Links to the pages above, in the colour of links or in that of the text, and the page's own name."""
        if self.chance(0.4):
            css = self.words.pick("text-reset", "text-body-secondary") + " text-decoration-none"
            sign = self.words.pick(" › ", " / ", " » ", " &gt; ")
            return f"<div>{self.several(lambda: self.link(css) + sign, 1, 2)}<span>{self.some()}</span></div>"
        items = self.several(lambda: f'<li class="breadcrumb-item">{self.link()}</li>', 1, 3)
        return f'<ol class="breadcrumb">{items}<li class="breadcrumb-item active">{self.some()}</li></ol>'

    def footer(self) -> str:
        return (
            f'<footer class="py-3 text-body-secondary">{self.some(3, 9)} {self.several(self.link, 1, 4)}</footer>'
        )

    def card(self) -> str:
        """A part of a page, mostly in a card."""
        makers = [self.figure, self.table, self.list, self.form, self.form, self.prose, self.chart, self.buttons]
        makers += [self.tabs, self.pages, self.meters, self.alerts, self.steps, self.table, self.people]
        makers += [self.blocks, self.segments, self.entry]
        inner = makers[int(self.rng.integers(len(makers)))]()
        if self.chance(0.15):
            return inner
        head = f'<div class="card-header d-flex">{self.heading()}{self.several(self.tool, 0, 3)}</div>'
        foot = f'<div class="card-footer">{self.several(self.button, 1, 2)}{self.link()}</div>'
        ground = f" text-bg-{self.kind()}" if self.chance(0.1) else ""
        return (
            f'<div class="card{" shadow-sm" if self.chance(0.3) else ""}{ground}">'
            f'{head if self.chance(0.5) else ""}<div class="card-body">{inner}</div>'
            f"{foot if self.chance(0.2) else ''}</div>"
        )

    def figure(self) -> str:
        """A number and what it stands for."""
        large = f'<div class="fs-{self.rng.integers(1, 5)} fw-bold">{self.number()}</div>'
        return f"<div>{self.some()}</div>{large}{self.icon()} <small>{self.number()} {self.some()}</small>"

    def table(self) -> str:
        columns = int(self.rng.integers(2, 7))
        css = " ".join(
            name
            for name in ("striped", "bordered", "hover", "sm", "dark")
            if self.chance(0.12 if name == "dark" else 0.35)
        )
        head = "".join(f"<th scope=col>{self.some(1, 2)}</th>" for _ in range(columns))
        makers = [
            self.badge,
            self.link,
            self.tool,
            self.button,
            lambda: self.meter(),
            lambda: self.tick("checkbox"),
        ]

        def maker() -> Callable[[], str]:
            special = self.chance(0.3)
            return makers[int(self.rng.integers(len(makers)))] if special else self.label

        cells = [maker() for _ in range(columns)]
        rows = ["".join(f"<td>{cell()}</td>" for cell in cells) for _ in range(int(self.rng.integers(2, 10)))]
        css = " ".join(f"table-{name}" for name in css.split())
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f'<table class="table {css}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def list(self) -> str:
        def row() -> str:
            first = self.icon() + " " if icons else ""
            last = self.badge() if self.chance(0.4) else ""
            if links:
                css = "list-group-item list-group-item-action"
                return f'<a href="#" class="{css}">{first}{self.some(1, 5)} {last}</a>'
            tools = self.several(self.tool, 1, 3) if self.chance(0.3) else ""
            return f'<li class="list-group-item">{first}{self.label()} {last}{tools}</li>'

        icons, links = self.chance(0.4), self.chance(0.5)
        tag = "div" if links else "ul"
        return f'<{tag} class="list-group">{self.several(row, 2, 7)}</{tag}>'

    def people(self) -> str:
        def row() -> str:
            name = self.link("fw-bold") if linked else f"<b>{self.some()}</b>"
            end = self.button() if acted else f'<small class="text-body-secondary">{self.number()}</small>'
            text = f'<div class="flex-fill">{name}<br><small>{self.some(2, 8)}</small></div>'
            return f'<div class="d-flex align-items-center mb-2">{self.avatar()}{text}{end}</div>'

        linked, acted = self.chance(0.5), self.chance(0.4)
        return self.several(row, 2, 6)

    def blocks(self) -> str:
        """A chart of coloured fields with names, which are no buttons."""
        fields = (
            f'<div class="p-2 small text-bg-{self.kind()}" style="flex:{self.rng.integers(1, 9)};overflow:hidden">'
            f"{self.some(1, 2)}</div>"
            for _ in range(int(self.rng.integers(3, 8)))
        )
        across = self.chance(0.5)
        high = self.rng.integers(30, 160) if across else self.rng.integers(80, 260)
        css = f"display:flex;gap:2px;height:{high}px;flex-direction:{'row' if across else 'column'}"
        return f'{self.heading()}<div style="{css}">{"".join(fields)}</div>'

    def segments(self) -> str:
        """Buttons in one tray, of which one is chosen."""
        names = [self.some(1, 1) for _ in range(int(self.rng.integers(2, 5)))]
        chosen = int(self.rng.integers(len(names)))
        buttons = "".join(
            f'<button type=button class="btn btn-sm border-0{" bg-body shadow-sm" * (n == chosen)}">{name}</button>'
            for n, name in enumerate(names)
        )
        return f'{self.heading()}<div class="d-inline-flex p-1 rounded bg-body-secondary">{buttons}</div>'

    def entry(self) -> str:
        """A link that is a card, with an icon, a name and a text."""
        mark = f'<span class="tint rounded bg-{self.kind()}-subtle">{self.icon()}</span>'
        text = f'<div class="fw-bold">{self.some(1, 3)}</div><small>{self.some(3, 9)}</small>'
        return f'<a href="#" class="d-block p-3 border rounded text-reset text-decoration-none">{mark}{text}</a>'

    def form(self) -> str:
        shape = "row row-cols-2" if self.chance(0.25) else ""
        fields = "".join(f"<div>{self.field()}</div>" for _ in range(int(self.rng.integers(2, 8))))
        return f'{self.heading()}<form class="{shape}">{fields}</form>{self.several(self.button, 1, 3)}'

    def prose(self) -> str:
        text = self.some(8, 40)
        for _ in range(int(self.rng.integers(0, 4))):
            text += f" {self.link()} {self.some(3, 15)}"
        return f"{self.heading(2, 6)}<p>{text}</p>"

    def chart(self) -> str:
        bars = "".join(
            f'<div class="bg-{self.kind()}" style="height:{self.rng.integers(8, 140)}px"></div>'
            for _ in range(int(self.rng.integers(4, 16)))
        )
        return f'{self.heading()}<div class="bars">{bars}</div>'

    def buttons(self) -> str:
        """Buttons beside each other, in a group or in a row."""
        if self.chance(0.5):
            css = "btn-group-vertical" if self.chance(0.2) else "btn-group"
            return f'<div class="{css} flex-wrap">{self.several(self.button, 2, 6)}</div>'
        return self.several(self.button, 2, 9) + self.several(self.tool, 0, 6)

    def tabs(self) -> str:
        """Tabs, of which one is chosen, over a text."""
        css = self.words.pick("nav-tabs", "nav-pills", "nav-underline")
        tag = "button role=tab type=button" if "tab" not in self.unsaid else 'a href="#"'
        tabs = "".join(
            f'<{tag} class="nav-link{" active" * (number == 1)}">{self.some(1, 2)}</{tag.split()[0]}>'
            for number in range(int(self.rng.integers(2, 6)))
        )
        return f'<div class="nav {css} mb-2">{tabs}</div><p>{self.some(5, 30)}</p>'

    def pages(self) -> str:
        names = ("‹", *(str(n) for n in range(1, int(self.rng.integers(3, 8)))), self.words.pick("›", "…", "»"))
        items = "".join(
            f'<li class="page-item{" active" * (n == "2")}"><a class="page-link" href="#">{n}</a></li>'
            for n in names
        )
        return f'<ul class="{self.sized("pagination")}">{items}</ul>'

    def meter(self) -> str:
        full, css = self.rng.integers(5, 100), " progress-bar-striped" if self.chance(0.3) else ""
        height = f"height:{self.rng.integers(3, 22)}px"
        inner = f'<div class="progress-bar bg-{self.kind()}{css}" style="width:{full}%"></div>'
        role = "role=progressbar" if "progressbar" not in self.unsaid else ""
        return f'<div class="progress" {role} style="{height}">{inner}</div>'

    def meters(self) -> str:
        return self.several(lambda: f"<small>{self.label()}</small>{self.meter()}", 1, 5)

    def alerts(self) -> str:
        def alert() -> str:
            close = '<button type=button class="btn-close"></button>' if self.chance(0.5) else ""
            css = " alert-dismissible" if close else ""
            link = self.link("alert-link") if self.chance(0.4) else ""
            return f'<div class="alert alert-{self.kind()}{css}">{self.some(3, 12)} {link}{close}</div>'

        return self.several(alert, 1, 3)

    def steps(self) -> str:
        """An accordion."""
        items = []
        for number in range(int(self.rng.integers(2, 5))):
            closed = "" if number == 0 else " collapsed"
            button = f'<button type=button class="accordion-button{closed}">{self.some(2, 6)}</button>'
            body = f'<div class="accordion-body">{self.some(5, 25)}</div>' if number == 0 else ""
            items.append(f'<div class="accordion-item"><h2 class="accordion-header">{button}</h2>{body}</div>')
        return f'<div class="accordion">{"".join(items)}</div>'
