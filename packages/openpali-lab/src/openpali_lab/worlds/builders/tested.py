"""The packages that test sets are made from. Nothing learns from them, or from another package of their authors."""

from __future__ import annotations

from collections.abc import Mapping

TESTED: Mapping[str, str] = {
    "@themesberg/volt-bootstrap-5-dashboard": "Themesberg",
    "themekit": "Lavalite",
    "patternfly": "Red Hat",
    "uikit": "YOOtheme",
    "@keenmate/pure-admin-core": "KeenMate",
    "developers-reference": "Debian Developer's Reference Team",
    "aptitude-doc": "Daniel Burrows",
    "debian-edu-doc": "Debian Edu",
    "lilypond-doc": "LilyPond",
    "poedit": "Vaclav Slavik",
    "xchm": "Razvan Cojocaru",
    "xmlcopyeditor": "Gerald Schmidt",
    "mediainfo-gui": "MediaArea",
    "passwordsafe": "Rony Shapiro",
    "spek": "Alexander Kojevnikov",
    "openyahtzee": "Guy Rutenberg",
    "audmes": "Vaclav Peroutka",
    "survex-aven": "Olly Betts",
    "wxedid": "Tomasz Pawlak",
    "gtkhash": "Tristan Heaven",
    "grsync": "Piero Orsoni",
    "gpick": "Albertas Vyšniauskas",
    "xpad": "Arthur Borsboom",
    "gcolor3": "Jente Hidskes",
    "galculator": "Simon Flöry",
    "mousepad": "Xfce",
    "gucharmap": "GNOME Character Map",
    "gsmartcontrol": "Alexander Shaduri",
    "flrig": "W1HKJ",
    "flmsg": "W1HKJ",
    "flwrap": "W1HKJ",
    "comptext": "W1HKJ",
    "seaview": "Manolo Gouy",
    "posterazor": "Alessandro Portale",
    "htmldoc": "Michael R Sweet",
    "fldiff": "Philippe De Smedt",
    "flpsed": "Johannes Hofmann",
    "dillo": "Dillo",
    "xdiskusage": "Bill Spitzak",
    "fltk1.3-games": "FLTK",
}
"""Package -> author or project. A Debian package stands for those whose names begin so, in other
languages."""
