"""Rules that change how a page looks, not what it says: few themes are learned from, and each has one look."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_SHARE = 0.4
"""Probability of each rule."""
_BUTTONS = "button, .btn, .button, [role=button], input[type=submit], input[type=button]"
_FIELDS = "input:not([type=checkbox]):not([type=radio]), select, textarea, .form-control"
_HEADINGS = "h1, h2, h3, h4, h5, h6"
_CARDS = ".card, .box, .panel, .module, section > div"


def restyle(rng: np.random.Generator) -> str:
    """CSS for a page: corners, borders, spaces, weights and colours of its buttons, links, headings, fields, tables
    and cards, each with some probability.
    """
    return "\n".join(rule(rng) for rule in _RULES if rng.random() < _SHARE)


def _rule(
    selector: str, *declarations: Callable[[np.random.Generator], str]
) -> Callable[[np.random.Generator], str]:
    """A rule with one of its declarations or more."""

    def write(rng: np.random.Generator) -> str:
        count = 1 + rng.integers(len(declarations))
        chosen = [declarations[i](rng) for i in rng.permutation(len(declarations))[:count]]
        return f"{selector} {{ {' '.join(f'{each} !important;' for each in chosen)} }}"

    return write


def _one(name: str, values: Sequence[str]) -> Callable[[np.random.Generator], str]:
    return lambda rng: f"{name}: {values[int(rng.integers(len(values)))]}"


def _pixels(name: str, low: float, high: float) -> Callable[[np.random.Generator], str]:
    return lambda rng: f"{name}: {rng.uniform(low, high):.1f}px"


def _colour(name: str, low: float, high: float) -> Callable[[np.random.Generator], str]:
    """A colour with a lightness between ``low`` and ``high`` percent."""
    return lambda rng: f"{name}: hsl({rng.integers(360)} {rng.integers(15, 90)}% {rng.uniform(low, high):.0f}%)"


_RADIUS = _one("border-radius", ("0", "2px", "4px", "8px", "12px", "24px"))
_WEIGHT = _one("font-weight", ("300", "400", "500", "600", "700"))
_CAPITALS = _one("text-transform", ("none", "none", "uppercase"))
_SHADOW = _one(
    "box-shadow", ("none", "0 1px 2px rgba(0,0,0,.3)", "0 4px 12px rgba(0,0,0,.15)", "0 0 0 1px rgba(0,0,0,.15)")
)
_LINE = _one("border", ("none", "1px solid rgba(128,128,128,.35)", "1px solid rgba(128,128,128,.7)", "2px solid"))
_RULES: Sequence[Callable[[np.random.Generator], str]] = (
    lambda rng: f"html {{ filter: hue-rotate({rng.integers(360)}deg) saturate({rng.uniform(0.3, 1.5):.2f}); }}",
    _rule(_BUTTONS, _RADIUS, _WEIGHT, _CAPITALS, _SHADOW, _LINE, _pixels("letter-spacing", -0.2, 1)),
    _rule(_BUTTONS, _one("padding", ("2px 6px", "4px 10px", "6px 16px", "8px 24px", "10px 14px"))),
    _rule("a:not(.btn)", _one("text-decoration", ("none", "underline", "underline dotted")), _WEIGHT),
    _rule("p a, td a", _colour("color", 25, 55)),
    _rule(_HEADINGS, _WEIGHT, _CAPITALS, _pixels("letter-spacing", -0.5, 1.5)),
    _rule(_HEADINGS, _one("font-size", ("1em", "1.1em", "1.25em", "1.5em", "1.8em"))),
    _rule(_HEADINGS, _one("border-bottom", ("1px solid rgba(128,128,128,.4)", "2px solid", "none"))),
    _rule(_FIELDS, _RADIUS, _LINE, _SHADOW, _one("background-color", ("transparent", "rgba(128,128,128,.12)"))),
    _rule(_FIELDS, _one("border-width", ("0 0 1px 0", "0 0 2px 0", "1px", "2px"))),
    _rule("th", _WEIGHT, _CAPITALS, _one("text-align", ("left", "center")), _pixels("font-size", 10, 16)),
    _rule("td, th", _one("padding", ("2px 6px", "4px 8px", "8px 12px", "14px 16px"))),
    _rule("td, th", _one("border", ("none", "1px solid rgba(128,128,128,.35)"))),
    _rule("thead th", _one("background-color", ("rgba(128,128,128,.15)", "rgba(64,96,160,.2)", "transparent"))),
    _rule(_CARDS, _RADIUS, _SHADOW, _LINE),
    _rule("nav a, aside a, .sidebar a, .nav-link", _pixels("font-size", 11, 17), _WEIGHT, _CAPITALS),
    _rule("nav a, aside a, .sidebar a, .nav-link", _pixels("padding-top", 2, 14), _pixels("padding-bottom", 2, 14)),
    _rule("body", _one("line-height", ("1.2", "1.4", "1.6", "1.8")), _pixels("letter-spacing", -0.2, 0.5)),
    _rule("body", _pixels("font-size", 11, 18)),
    _rule("img", _RADIUS, _one("filter", ("none", "grayscale(1)", "sepia(.6)"))),
    _rule("i, svg", _one("opacity", ("1", ".7", ".5")), _one("scale", ("1", ".85", "1.2"))),
    _rule("ul, ol", _one("list-style", ("none", "disc", "square"))),
    _rule(".badge, .label, .tag", _RADIUS, _CAPITALS, _WEIGHT),
)
