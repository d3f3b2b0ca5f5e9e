"""The packages that pages are rendered from, and how many windows of each: the table beside this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openpali_lab.tables import table_of

_TABLE = table_of(__file__)
HELP: list[str] = _TABLE["help"]
ADMIN_LANGUAGES: list[str] = _TABLE["admin_languages"]
ADMIN_PAGES: list[str] = _TABLE["admin_pages"]


@dataclass(frozen=True)
class Site:
    """Web pages of packages.

    Attributes:
        packages: their files are looked up in this order.
        pages: glob pattern within ``folder``.
        windows: how many to render.
        folder: where the site is in each of the packages that has such a folder.
        hidden: names of files that are not served.
        language: what the pages are written in.
        files: end of a path that pages ask another host for -> where it is in a package.
    """

    packages: Sequence[str]
    pages: str
    windows: int
    folder: str = ""
    hidden: tuple[str, ...] = ()
    language: str = "en"
    files: Mapping[str, str] = field(default_factory=dict)


def _help(code: str) -> Site:
    language = {"en-us": "en-US", "pt-br": "pt-BR"}.get(code, code)
    return Site(
        [f"libreoffice-help-{code}", "libreoffice-help-common"],
        f"{language}/text/**/*.html",
        240,
        "usr/share/libreoffice/help",
        ("contents.js", "bookmarks.js"),  # these take seconds, for lists that are closed
        language,
    )


SITES: Mapping[str, Mapping[str, Site]] = {
    "help": {code: _help(code) for code in HELP},
    **{
        name: {
            site: Site(**{**each, "packages": [f"npm:{package}" for package in each["packages"].split()]})
            for site, each in sites.items()
        }
        for name, sites in _TABLE["sites"].items()
    },
}
"""Set -> its sites by name."""
ADMIN = ("pypi:django", "pypi:asgiref", "pypi:sqlparse")
SKINS: Mapping[str, Mapping[str, Any]] = _TABLE["skins"]
THEMES: Mapping[str, str] = _TABLE["themes"]
ICONS = "npm:bootstrap-icons"
PDF = "texlive-latex-recommended-doc"
PDFS = ("pdf", "dev-pdf")
"""Pages of the files that are learned from, and of a tenth that is for decisions while training."""
WINDOWS: Mapping[str, int] = _TABLE["windows"]
VERSIONS = dict.fromkeys([*SITES, *WINDOWS], 2)
"""Set -> version of what is rendered, which recipes name. Version 1 had a set for each package, and other pages."""
HELD_OUT: Mapping[str, list[str]] = _TABLE["held_out"]
HELD_OUT_LANGUAGES: list[str] = _TABLE["held_out_languages"]
TESTED: Mapping[str, str] = _TABLE["tested"]
