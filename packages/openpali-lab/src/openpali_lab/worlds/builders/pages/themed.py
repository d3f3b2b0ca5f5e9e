"""Pages in the classes of Bootstrap, which stylesheets of several packages draw in their own ways: see
:mod:`.writer`. They look like applications that somebody designed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openpali_lab.worlds.builders.pages.made import hex_colour
from openpali_lab.worlds.builders.pages.writer import Page
from openpali_lab.worlds.builders.texts import Texts

_CLASSES = {
    "bar": "navbar px-2",
    "menu": "nav nav-pills p-2 | nav p-2 | list-group list-group-flush p-2",
    "brand": "navbar-brand fs-5 p-2",
    "item": "nav-link | nav-link | nav-link dropdown-toggle",
    "entry": "nav-link",
    "chosen": "nav-link active",
    "title": "px-3 pt-3 small text-body-secondary",
    "person": "d-flex mb-2 p-1 text-reset text-decoration-none border-0 bg-transparent",
    "crumbs": "breadcrumb | mb-2 | mb-2 text-body-secondary small",
    "titles": "mb-3",
    "footer": "py-3 text-body-secondary",
    "card": "card | card | card shadow-sm | card | card text-bg-{kind}",
    "card-head": "card-header d-flex",
    "card-body": "card-body",
    "card-foot": "card-footer",
    "heading": "h1 me-3 mb-2 | h3 me-3 mb-2 | h5 me-3 mb-2 | h6 me-3 mb-2",
    "link": "|| text-reset | text-body-secondary text-decoration-none",
    "button": "btn btn{size} btn-{kind} me-1 | btn btn{size} btn-outline-{kind} me-1",
    "tool": "btn btn-sm btn-link | btn btn-sm btn-outline-secondary | btn btn-sm btn-light | btn btn-sm border-0",
    "badge": "badge text-bg-{kind} | badge bg-{kind}",
    "count": "badge rounded-pill text-bg-{kind} p-1",
    "avatar": "rounded-circle text-bg-{kind} | rounded-circle text-bg-{kind} | rounded text-bg-{kind}",
    "check": "form-check-label me-2",
    "checkbox": "form-check-input",
    "radio": "form-check-input",
    "switch": "form-check-input form-switch-input",
    "label": "form-label mb-1 | col-form-label",
    "field-row": "mb-2",
    "field": "form-control form-control{size}",
    "select": "form-select form-select{size}",
    "range": "form-range",
    "group": "input-group input-group{size}",
    "addon": "input-group-text",
    "table": "table | table table-striped | table table-bordered table-sm | table table-hover | table table-dark",
    "list": "list-group | list-group list-group-flush",
    "row": "list-group-item list-group-item-action",
    "block": "p-2 small text-bg-{kind}",
    "column": "bg-{kind}",
    "tray": "d-inline-flex p-1 rounded bg-body-secondary",
    "segment": "btn btn-sm border-0",
    "segment-on": "btn btn-sm border-0 bg-body shadow-sm",
    "link-card": "d-block p-3 border rounded text-reset text-decoration-none",
    "tint": "rounded bg-{kind}-subtle",
    "name": "fw-bold",
    "large": "fs-1 fw-bold | fs-3 fw-bold | fs-4 fw-bold",
    "small": "small | small text-body-secondary",
    "tiny": "small",
    "button-group": "btn-group flex-wrap | btn-group flex-wrap | btn-group-vertical",
    "tabs": "nav nav-tabs mb-2 | nav nav-pills mb-2 | nav nav-underline mb-2",
    "tab": "nav-link",
    "tab-on": "nav-link active",
    "pages": "pagination pagination{size}",
    "page": "page-link",
    "page-on": "page-link active",
    "meter": "progress",
    "fill": "progress-bar bg-{kind} | progress-bar bg-{kind} progress-bar-striped",
    "alert": "alert alert-{kind} | alert alert-{kind} alert-dismissible",
    "close": "btn-close",
    "steps": "accordion",
    "step-item": "accordion-item",
    "step": "accordion-button collapsed",
    "step-on": "accordion-button",
    "step-body": "accordion-body",
}
"""Kind of an element -> its classes; ``|`` is between those of which one is taken."""
_KINDS = ("primary", "primary", "secondary", "success", "danger", "warning", "info", "light", "dark")
_GROUNDS = ("bg-body", "bg-body-tertiary", "bg-light", "border-end border-bottom")
_DARK_GROUNDS = ("bg-dark", "bg-dark", "bg-primary")
_SHORT = (".nav-link", ".list-group-item-action", "th", ".btn", "h4,h5,h6", "small", ".breadcrumb", ".badge")
_DARK = 0.35  # share of pages in a stylesheet's dark colours
_OWN = 0.4  # share of pages in greys and colours of their own
_PREFIXES = ("bs", "cui", "tblr")  # of the variables of Bootstrap, CoreUI and Tabler


class ThemedPage(Page):
    """A page in one of some stylesheets.

    Args:
        sheets: addresses of stylesheets.
    """

    def __init__(self, texts: Texts, icons: Sequence[Path], sheets: Sequence[str]) -> None:
        super().__init__(texts, icons)
        self.sheet, self.dark = texts.pick(sheets), texts.chance(_DARK)
        self.size = texts.pick(["", "", "", "-sm", "-lg"])  # of the page's buttons and fields

    def dress(self, kind: str) -> dict[str, str]:
        t = self.t
        if kind == "html":
            return {"data-bs-theme": "dark" if self.dark else "light"}
        classes = t.pick(_CLASSES.get(kind, "").split("|")).strip().format(kind=t.pick(_KINDS), size=self.size)
        if kind == "button":
            classes += t.pick(["", "", "", "", "", "", " btn-link", " dropdown-toggle", " rounded-pill"])
        found = {"class": classes}
        if kind in ("avatar", "count"):
            found["style"] = f"font-size:{t.uniform(8, 12) if kind == 'count' else t.uniform(9, 17):.1f}px;"
        if kind in ("bar", "menu"):
            dark = t.chance(0.4)
            found["class"] += " " + t.pick(_DARK_GROUNDS if dark else _GROUNDS)
            found |= {"data-bs-theme": "dark"} if dark else {}
        return found

    def head(self) -> str:
        t = self.t
        own = f":root{{--bs-link-color:#{t.integer(0, (1 << 24) - 1):06x}}}" if t.chance(0.15) else ""
        own += self.capitals() if t.chance(0.3) else ""
        own += self.palette() if t.chance(_OWN) else ""
        return f'<link rel="stylesheet" href="/{self.sheet}"><style>{own}</style>'

    def capitals(self) -> str:
        """CSS that sets short texts in spaced capitals, as designers like to."""
        parts = [part for part in _SHORT if self.t.chance(0.4)] or [_SHORT[0]]
        space = self.t.pick(["0", ".03em", ".06em", ".1em"])
        return f"{','.join(parts)}{{text-transform:uppercase;letter-spacing:{space}}}"

    def palette(self) -> str:
        """CSS with greys of little contrast for grounds, lines and secondary texts."""
        t, dark, hue, depth = self.t, self.dark, self.t.uniform(0, 1), self.t.uniform(0, 0.45)

        def grey(light: float) -> str:
            return hex_colour(hue, min(1.0, light if dark else 1 - light), depth)

        ground = t.uniform(0.02, 0.14) if dark else t.uniform(0, 0.07)
        raised = ground + (t.uniform(0.015, 0.06) if dark else t.uniform(-ground, 0.03))
        field, line = grey(ground + t.uniform(0, 0.05)), grey(raised + t.uniform(0.02, 0.12))
        names = dict.fromkeys(("secondary-bg", "tertiary-bg", "card-bg"), grey(raised))
        names |= {"body-bg": grey(ground), "border-color": line, "body-color": grey(t.uniform(0.75, 1))}
        names["secondary-color"] = dim = grey(t.uniform(0.38, 0.65))
        css = "".join(f"--{p}-{name}:{colour} !important;" for p in _PREFIXES for name, colour in names.items())
        css = f"html{{{css}}}.form-control,.form-select{{background-color:{field};border-color:{line}}}"
        css += f".card{{background-color:{grey(raised)}}}"
        return css + (f".nav-link:not(.active),.small,.breadcrumb a{{color:{dim}}}" if t.chance(0.5) else "")
