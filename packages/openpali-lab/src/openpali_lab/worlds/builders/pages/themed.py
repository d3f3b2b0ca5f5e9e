"""Pages in the classes of Bootstrap, which stylesheets of several packages draw in their own ways: see
:mod:`.writer`. They look like applications that somebody designed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from openpali_lab.tables import table_of
from openpali_lab.worlds.builders.pages.made import hex_colour
from openpali_lab.worlds.builders.pages.writer import Page
from openpali_lab.worlds.builders.texts import Texts

_CLASSES: Mapping[str, str] = table_of(__file__)
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
