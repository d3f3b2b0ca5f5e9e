"""Make ``real_native.tar`` and ``real_terminals.tar``: windows of programs of Debian that nothing is learnt from.

Programs run under Xvfb. What they draw through Xft, or through Pango and Cairo, is written down as they draw it
(``drawn_text.c``), so that each word and its place are exact; roles and names of elements are AT-SPI's, which FLTK
lacks. Terminals show a text that is known. Run with the folder that the sets go to, and with the packages of
``PACKAGES`` installed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from make_real_pages import write
from PIL import Image, ImageGrab

from openpali.tasks.example import Box
from openpali_lab.worlds.builders.layout import Shot, Written, group
from openpali_lab.worlds.builders.output import png_bytes

SIZE = 1000, 720  # of the display
_HERE = Path(__file__).parent
ROLES = {
    "button": "button",
    "push button": "button",
    "toggle button": "button",
    "check box": "checkbox",
    "radio button": "radio",
    "combo box": "combobox",
    "text": "textbox",
    "entry": "textbox",
    "password text": "textbox",
    "spin button": "spinbutton",
    "page tab": "tab",
    "menu": "menuitem",
    "menu item": "menuitem",
    "link": "link",
    "slider": "slider",
    "switch": "switch",
    "list box": "listbox",
    "progress bar": "progressbar",
    "table column header": "columnheader",
    "column header": "columnheader",
}
"""AT-SPI's role -> ARIA's."""
CACHED = {"text", "table", "tree table", "tree", "list"}


class Program(NamedTuple):
    """A program: its toolkit, its Debian package, its command, and seconds until its window is drawn."""

    toolkit: str
    package: str
    command: str
    seconds: float = 5
    dark: bool = False


PROGRAMS = (
    Program("fltk", "flrig", "flrig"),
    Program("fltk", "flmsg", "flmsg"),
    Program("fltk", "flwrap", "flwrap"),
    Program("fltk", "seaview", "seaview {docs}/sequences.fasta"),
    Program("fltk", "posterazor", "posterazor"),
    Program("fltk", "htmldoc", "htmldoc"),
    Program("fltk", "fldiff", "fldiff /usr/share/common-licenses/GPL-2 /usr/share/common-licenses/GPL-1"),
    Program("fltk", "flpsed", "flpsed"),
    Program("fltk", "dillo", "dillo file://{docs}/hours.html"),
    Program("fltk", "xdiskusage", "xdiskusage {docs}/du"),
    Program("fltk", "fltk1.3-games", "/usr/games/flsudoku"),
    Program("fltk", "comptext", "comptext"),
    Program("wx", "poedit", "poedit {docs}/uk.po", 8),
    Program("wx", "xchm", "xchm"),
    Program("wx", "xmlcopyeditor", "xmlcopyeditor {docs}/books.xml", 6),
    Program("wx", "mediainfo-gui", "mediainfo-gui", 6),
    Program("wx", "passwordsafe", "pwsafe", 6),
    Program("wx", "spek", "spek"),
    Program("wx", "openyahtzee", "/usr/games/openyahtzee", 6, dark=True),
    Program("wx", "audmes", "AudMeS"),
    Program("wx", "survex-aven", "aven", 6),
    Program("wx", "wxedid", "wxedid", 6, dark=True),
    Program("gtk", "gtkhash", "gtkhash /usr/share/common-licenses/GPL-2", 6, dark=True),
    Program("gtk", "grsync", "grsync", 6),
    Program("gtk", "gpick", "gpick", 7, dark=True),
    Program("gtk", "xpad", "xpad"),
    Program("gtk", "gcolor3", "gcolor3", 6),
    Program("gtk", "galculator", "galculator", 6, dark=True),
    Program("gtk", "mousepad", "mousepad {docs}/books.xml", 6),
    Program("gtk", "gucharmap", "gucharmap", 7, dark=True),
    Program("gtk", "gsmartcontrol", "gsmartcontrol", 7, dark=True),
)
"""Those of FLTK and wxWidgets, two toolkits that nothing is learnt from, and some of GTK."""
DOCUMENTS = {
    "sequences.fasta": ">one\nACGTACGTTGCAACGT\n>two\nACGAACGTTGCTACGT\n>three\nTCGAACCTTGCTACGA\n",
    "hours.html": "<title>Library</title><h1>Opening hours</h1><p>The library is open from Monday to Friday, and "
    "on the first Saturday of a month.</p><ul><li>Reading room: 9:00 to 17:00<li>Archive: by appointment</ul>"
    "<table border=1>"
    "<tr><th>Item<th>Days<tr><td>Book<td>28<tr><td>Journal<td>7<tr><td>Map<td>14</table>",
    "du": "".join(
        f"{size}\t./{name}\n" for size, name in ((900, "maps/north"), (400, "maps/south"), (1300, "maps"))
    )
    + "2100\t./letters/1987\n700\t./letters/1988\n2900\t./letters\n1200\t./photographs\n5400\t.\n",
    "uk.po": 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Language: uk\\n"\n\n'
    + "\n".join(
        f'msgid "{one}"\nmsgstr "{other}"\n'
        for one, other in (
            ("Open the folder", "Відкрити теку"),
            ("Save as", "Зберегти як"),
            ("Cannot read %s", "Не вдається прочитати %s"),
            ("Preferences", "Налаштування"),
            ("Print preview", ""),
        )
    ),
    "books.xml": '<?xml version="1.0" encoding="UTF-8"?>\n<catalog>\n  <book id="b101" lang="en">\n    <author>'
    'Moreau, Claire</author>\n    <title>Tides of the North</title>\n    <price currency="EUR">44.95</price>\n'
    "    <year>1998"
    "</year>\n  </book>\n  <!-- TODO: scan the covers -->\n</catalog>\n",
}
"""What some programs open."""


@contextmanager
def display() -> Iterator[str]:
    """A display without a window manager, in a process of its own."""
    read, out = os.pipe()
    size = f"{SIZE[0]}x{SIZE[1]}x24"
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(out), "-screen", "0", size, "-nolisten", "tcp", "-dpi", "96"],
        pass_fds=[out],
        stderr=subprocess.DEVNULL,
    )
    os.close(out)
    with os.fdopen(read) as pipe:
        name = f":{pipe.readline().strip()}"
    try:
        yield name
    finally:
        server.kill()
        server.wait()


def window(program: Program, work: Path, code: Path) -> Shot:
    """The window of a program."""
    log = work / f"{program.package}.tsv"
    home = work / "home"
    with display() as name:
        environment = {
            **os.environ,
            "DISPLAY": name,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "LC_ALL": "C.UTF-8",
            "GDK_BACKEND": "x11",
            "GTK_MODULES": "gail:atk-bridge",
            "GTK_THEME": "Adwaita:dark" if program.dark else "Adwaita",
            "DRAWN_TEXT_CODE": str(code),
        }
        run = ["dbus-run-session", "--", "/usr/bin/python3", str(_HERE / "window_tree.py")]
        process = subprocess.Popen(
            [*run, str(program.seconds), str(log), *program.command.format(docs=home / "documents").split()],
            env=environment,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        told = json.loads(next(line for line in process.stdout if line.startswith("{")))  # the bus talks, too
        picture = ImageGrab.grab(xdisplay=name).convert("RGB")
        process.stdin.close()
        process.wait()
    return truth(picture, log.read_bytes(), told)


def truth(picture: Image.Image, log: bytes, told: Mapping[str, Any]) -> Shot:
    """What is on a picture by what was drawn, the last first: what overlaps that is older and covered by it."""
    again = log[told["mark"] :]
    lines = (again if again.count(b"\n") > 3 else log).decode("utf-8", "replace").splitlines()
    spots: dict[tuple[int, int], tuple[int, int]] = {}
    for width, height, left, top in told["windows"]:
        spots.setdefault((width, height), (left, top))
    shown = told["shown"]
    edge, ceiling = (max(0, min(each[side] for each in shown)) for side in (2, 3))
    right_edge, floor = (min(SIZE[i], max(each[i] + each[i + 2] for each in shown)) for i in (0, 1))
    picture = picture.crop((edge, ceiling, right_edge, floor))
    pieces: list[tuple[Written, bool]] = []
    taken: list[Box] = []
    for line in reversed(lines):
        _, owner, wide, high, *sides, cut, joined, ends, text = line.split("\t", 15)
        if text == "_":
            continue  # FLTK's mark of a letter of a menu
        left, right, base, size, *clip = map(float, sides)
        if int(owner) == 0:
            x, y = told["shown"][0][2:]
        elif int(owner) > 0:
            x = y = 0
        else:
            if (int(wide), int(high)) not in spots:
                continue  # a picture that is no window's
            x, y = spots[int(wide), int(high)]
        left, right, base = left + x - edge, right + x - edge, base + y - ceiling
        clip = [clip[0] + x - edge, clip[1] + y - ceiling, clip[2] + x - edge, clip[3] + y - ceiling]
        box = Box(base - 0.85 * size, left, base + 0.25 * size, right)
        ink = Box(base - 0.6 * size, left, base, right)
        if right <= left or any(_overlap(ink, other) for other in taken):
            continue
        if base < clip[1] or base - 0.5 * size > clip[3] or left >= clip[2] or right <= clip[0]:
            continue
        taken.append(ink)
        whole = left >= clip[0] - 1.5 and right <= clip[2] + 1.5 and base <= clip[3] + 1 and ink.ymin >= clip[1] - 1
        pieces.append((Written(text, box, size, joined == "1", ends == "1"), whole and cut == "0"))
    pieces.sort(key=lambda piece: (round(piece[0].box.ymin + 0.85 * piece[0].size), piece[0].box.xmin))
    words = [word for word, whole in pieces if whole]
    ignored = [word.box for word, whole in pieces if not whole]
    places = [word.box for word in words]
    for each in told["elements"]:
        # GTK draws lists and texts into pictures of its own, and only shows these again.
        box = _within(each["box"], picture, edge, ceiling)
        if each["role"] in CACHED and box.ymax - box.ymin > 40 and not any(_overlap(box, word) for word in places):
            ignored.append(box)
    elements = [
        {
            "role": ROLES[each["role"]],
            "name": each["name"],
            "box": _within(each["box"], picture, edge, ceiling),
            "seen": True,
        }
        for each in told["elements"]
        if each["role"] in ROLES
    ]
    return Shot(png_bytes(picture), group(words), ignored, elements)


UNSAID = {
    "passwordsafe": [Box(25, 160, 65, 400)],
    "gpick": [Box(60, 0, 330, 155)],
    "flrig": [Box(58, 0, 142, 218)],
    "poedit": [Box(134, 0, 346, 594)],
    "xmlcopyeditor": [Box(120, 489, 160, 640)],
    "gucharmap": [Box(97, 0, 313, 78)],
}
"""Package -> boxes of text in pictures, and of lists as above that have a head."""


def _overlap(one: Box, other: Box) -> bool:
    wide = min(one.xmax, other.xmax) - max(one.xmin, other.xmin)
    high = min(one.ymax, other.ymax) - max(one.ymin, other.ymin)
    return wide > 1.5 and high > 1.5


def _within(sides: list[float], picture: Image.Image, edge: int, ceiling: int) -> Box:
    ymin, xmin, ymax, xmax = sides
    high, wide = picture.height, picture.width
    return Box(
        *(max(0, min(high, ymin - ceiling)), max(0, min(wide, xmin - edge))),
        *(max(0, min(high, ymax - ceiling)), max(0, min(wide, xmax - edge))),
    )


def native(work: Path, toolkits: tuple[str, ...]) -> Iterator[tuple[str, Shot]]:
    code = work / "drawn_text.so"
    libraries = ["-ldl", "-lXft", "-lX11", "-lfontconfig", "-lm"]
    command = ["gcc", "-shared", "-fPIC", "-w", "-I/usr/include/freetype2", str(_HERE / "drawn_text.c"), *libraries]
    subprocess.run([*command, "-o", str(code)], check=True)
    for name, text in DOCUMENTS.items():
        path = work / "home/documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    programs = [each for each in PROGRAMS if each.toolkit in toolkits]
    with ThreadPoolExecutor(3) as pool:
        for program, shot in zip(programs, pool.map(lambda each: window(each, work, code), programs), strict=True):
            shown = replace(shot, ignored=[*shot.ignored, *UNSAID.get(program.package, [])])
            yield (
                f"{program.toolkit}_{program.package.replace('.', '-')}-{'dark' if program.dark else 'light'}",
                shown,
            )


FONTS = {
    "6x13": "-misc-fixed-medium-r-semicondensed-*-13-*-*-*-*-*-iso10646-1",
    "9x15": "-misc-fixed-medium-r-normal-*-15-*-*-*-c-90-iso10646-1",
    "10x20": "-misc-fixed-medium-r-normal-*-20-*-*-*-c-100-iso10646-1",
    "8x13b": "-misc-fixed-bold-r-normal-*-13-*-*-*-c-80-iso10646-1",
    "ter-18": "-*-terminus-medium-r-normal-*-18-*-*-*-*-*-iso10646-1",
}
"""Bitmap fonts of the X server; the default of xterm is the first."""
COMMANDS = (
    "ls -l --time-style=long-iso /usr/share/xmlcopyeditor",
    "dpkg-query -W -f ${Package}\\t${Version}\\t${Architecture}\\t${Installed-Size}\\n fl*",
    "cat /usr/share/doc/seaview/copyright",
    "apt-cache show poedit",
    "head -40 {docs}/books.xml {docs}/uk.po",
    "grep -n Name /usr/share/applications/gpick.desktop /usr/share/applications/xmlcopyeditor.desktop",
    "od -A x -t x1z /usr/share/common-licenses/GPL-2",
    "cat /usr/share/applications/gpick.desktop",
    "fold -s -w 78 /usr/share/common-licenses/Artistic",
    "ls -s /usr/share/dict /usr/share/fonts /usr/share/doc/flrig",
)
"""What prints the text of each terminal; no program of a person is among it."""
LOOKS = (
    ("black", "white"),
    ("#e5e5e5", "black"),
    ("#839496", "#002b36"),
    ("black", "#ffffdd"),
    ("#00ff00", "black"),
)
LAST = "\u052f"  # of Cyrillic: beyond are letters that the fonts lack
ROWS, COLUMNS, BORDER = 24, 80, 2


def terminals(work: Path) -> Iterator[tuple[str, Shot]]:
    for index, command in enumerate(COMMANDS):
        font, (ink, ground) = [*FONTS][index % len(FONTS)], LOOKS[(index + index // 5) % len(LOOKS)]
        done = subprocess.run(
            command.replace("{docs}", str(work / "home/documents")).split(),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        lines = [f"$ {command.replace('{docs}', 'documents')}", *done.stdout.expandtabs(8).splitlines()]
        lines = [line[:COLUMNS] for line in lines if max(line, default="") <= LAST][: ROWS - 1]
        text = work / "text"
        text.write_text("\n".join(lines), "utf-8")
        with display() as name:
            process = subprocess.Popen(
                [
                    *("xterm", "-u8", "-fn", FONTS[font], "-geometry", f"{COLUMNS}x{ROWS}+0+0", "-b", str(BORDER)),
                    *("-bw", "0", "+sb", "-fg", ink, "-bg", ground, "-e", "sh", "-c", f"cat {text}; sleep 60"),
                ],
                env={**os.environ, "DISPLAY": name, "LC_ALL": "C.UTF-8"},
            )
            time.sleep(3)
            picture = ImageGrab.grab(xdisplay=name).convert("RGB")
            place = subprocess.run(
                ["xwininfo", "-root", "-tree", "-display", name], capture_output=True, text=True, check=True
            ).stdout
            process.kill()
            process.wait()
        wide, high = map(int, re.findall(r"xterm.* (\d+)x(\d+)\+0\+0", place)[0])
        cell = (wide - 2 * BORDER) / COLUMNS, (high - 2 * BORDER) / ROWS
        size = cell[1] / 1.1  # boxes of words are as high as a cell
        words = [
            Written(
                found.group(),
                Box(
                    *(BORDER + row * cell[1], BORDER + found.start() * cell[0]),
                    *(BORDER + (row + 1) * cell[1], BORDER + found.end() * cell[0]),
                ),
                size,
            )
            for row, line in enumerate(lines)
            for found in re.finditer(r"\S+", line)
        ]
        shot = Shot(png_bytes(picture.crop((0, 0, wide, high))), group(words), [])
        yield f"{font}_{index}-{'light' if ground in ('white', '#ffffdd') else 'dark'}", shot


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    work = Path(tempfile.gettempdir()) / "visitor"  # some programs show it
    work.mkdir()
    write(folder / "real_native.tar", native(work, ("wx", "gtk")), 256, "webp")
    write(folder / "real_native_fltk.tar", native(work, ("fltk",)), 256, "webp")
    write(folder / "real_terminals.tar", terminals(work), 32, "webp")
