"""Terminals: what programs print into the grid of cells of a terminal emulator, and where each word is by that."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from openpali_lab.worlds.builders.native.screen import Driver, StoppedError
from openpali_lab.worlds.builders.native.texts import LANGUAGES, Texts

_FIXED = "-misc-fixed-medium-r-{wide}-*-{size}-*-*-*-*-*-iso10646-1"
BITMAPS = {
    "ter-14": "-*-terminus-medium-r-normal-*-14-*-*-*-*-*-iso10646-1",
    "ter-16": "-*-terminus-medium-r-normal-*-16-*-*-*-*-*-iso10646-1",
    "ter-20": "-*-terminus-medium-r-normal-*-20-*-*-*-*-*-iso10646-1",
    "ter-16b": "-*-terminus-bold-r-normal-*-16-*-*-*-*-*-iso10646-1",
    "courier-12": "-adobe-courier-medium-r-normal-*-12-*-75-75-*-*-iso10646-1",
    "courier-14": "-adobe-courier-bold-r-normal-*-14-*-75-75-*-*-iso10646-1",
}
"""Bitmap fonts of the X server that are learned from: none of misc-fixed, by which others test."""
DEV_BITMAPS = {
    "6x9": _FIXED.format(wide="normal", size=9),
    "6x10": _FIXED.format(wide="normal", size=10),
    "6x12": "-misc-fixed-medium-r-semicondensed-*-12-*-*-*-*-*-iso10646-1",
    "7x13": "-misc-fixed-medium-r-normal-*-13-*-*-*-c-70-iso10646-1",
    "7x14": "-misc-fixed-medium-r-normal-*-14-*-*-*-c-70-iso10646-1",
    "8x13": "-misc-fixed-medium-r-normal-*-13-*-*-*-c-80-iso10646-1",
    "9x18": "-misc-fixed-medium-r-normal-*-18-*-*-*-c-90-iso10646-1",
    "6x13": "-misc-fixed-medium-r-semicondensed-*-13-*-*-*-*-*-iso10646-1",
    "9x15": "-misc-fixed-medium-r-normal-*-15-*-*-*-c-90-iso10646-1",
    "10x20": "-misc-fixed-medium-r-normal-*-20-*-*-*-c-100-iso10646-1",
    "8x13b": "-misc-fixed-bold-r-normal-*-13-*-*-*-c-80-iso10646-1",
    "ter-12": "-*-terminus-medium-r-normal-*-12-*-*-*-*-*-iso10646-1",
    "ter-18": "-*-terminus-medium-r-normal-*-18-*-*-*-*-*-iso10646-1",
    "neep-13": "-jmk-neep-medium-r-*-*-13-*-*-*-c-*-iso10646-1",
    "neep-18": "-jmk-neep-medium-r-*-*-18-*-*-*-c-*-iso10646-1",
    "lucida-12": "-b&h-lucidatypewriter-medium-r-normal-*-12-*-75-75-*-*-iso10646-1",
}
"""Those of development and test sets, among them the default of xterm, and what printed lines hold out."""
LATIN = ("neep", "courier", "lucida")
"""Beginnings of the names of those without letters of other scripts."""
FAMILIES: tuple[str, ...] = (
    "DejaVu Sans Mono",
    "Liberation Mono",
    "JetBrains Mono",
    "Hack",
    "mononoki",
    "Cascadia Mono",
)
FAMILIES += ("Fira Code", "Nimbus Mono PS", "Go Mono", "Terminus", "Agave")
"""Monospaced fonts that are learned from."""
DEV_FAMILIES = ("Noto Mono", "Inconsolata", "Courier Prime", "Spleen 8x16", "IBM 3270", "monofur")
"""Those of development and test sets."""
VTE = 0.35
"""Share of groups of windows in VTE; the others are in emulators of their own."""
EMULATORS = {"xterm": 0.65, "urxvt": 0.22, "st": 0.13}
_SCHEMES = (
    ("#000000", "#ffffff"),
    ("#ffffff", "#000000"),
    ("#e5e5e5", "#000000"),
    ("#d0cfcc", "#171421"),
    ("#839496", "#002b36"),
    ("#657b83", "#fdf6e3"),
    ("#f8f8f2", "#272822"),
    ("#ebdbb2", "#282828"),
    ("#00ff00", "#000000"),
    ("#ffb000", "#1a1200"),
    ("#eeeeec", "#300a24"),
    ("#4c4f69", "#eff1f5"),
    ("#333333", "#ffffdd"),
    ("#abb2bf", "#282c34"),
)
_PALETTES = (
    "#000000 #cd0000 #00cd00 #cdcd00 #1e90ff #cd00cd #00cdcd #e5e5e5",
    "#073642 #dc322f #859900 #b58900 #268bd2 #d33682 #2aa198 #eee8d5",
    "#2e3436 #cc0000 #4e9a06 #c4a000 #3465a4 #75507b #06989a #d3d7cf",
    "#282828 #cc241d #98971a #d79921 #458588 #b16286 #689d6a #a89984",
)
_BOX = re.compile(r"[^\s\u2500-\u259f\u2800-\u28ff]+")
_PLACE = ("Absolute upper-left X", "Absolute upper-left Y", "Width", "Height", "Border width")  # of xwininfo
_PATIENCE = 8.0  # seconds for an emulator to start and to print


class TooLargeError(ValueError):
    """A terminal is larger than the display."""


class Cell(NamedTuple):
    """A word of a terminal: its row, and the columns from its first to after its last character."""

    text: str
    row: int
    start: int
    end: int


Span = tuple[str, str]
"""A text, and how it is set: the numbers of an SGR sequence, such as ``1;32``."""


class Page:
    """What a terminal of ``rows`` x ``columns`` shows: rows of spans."""

    def __init__(self, texts: Texts, rows: int, columns: int) -> None:
        self.t, self.rows, self.columns = texts, rows, columns
        self.lines: list[list[Span]] = []
        self.plain = texts.chance(0.3)
        while len(self.lines) < rows:
            self._write(self.t.pick(self._programs())())
            if self.t.chance(0.15):
                break
        self.lines = [self._cut(line) for line in self.lines[-rows:]]
        if texts.chance(0.25):
            self._add_status()

    def _programs(self) -> list[Callable[[], list[list[Span]]]]:
        files = [self._files, self._files, self._tree, self._disks, self._progress]
        code = [self._code, self._code, self._diff, self._log, self._processes]
        return [*files, *code, self._manual, self._box, self._table, self._settings]

    def words(self) -> list[Cell]:
        """The words; lines and blocks are none."""
        found = []
        for row, line in enumerate(self.lines):
            text = "".join(span for span, _ in line)
            found += [Cell(m.group(), row, m.start(), m.end()) for m in _BOX.finditer(text)]
        return found

    def output(self) -> str:
        """What shows the page on an empty terminal."""
        rows = []
        for number, line in enumerate(self.lines, 1):
            spans = (f"\x1b[{look}m{text}\x1b[0m" if look and not self.plain else text for text, look in line)
            rows.append(f"\x1b[{number};1H" + "".join(spans))
        hide = "\x1b[?25l" if self.t.chance(0.7) or len(self.lines) >= self.rows else ""
        return "\x1b[0m\x1b[H\x1b[2J" + hide + "".join(rows)

    def _cut(self, line: list[Span]) -> list[Span]:
        room, kept = self.columns, []
        for text, look in line:
            if room > 0:
                kept.append((text[:room], look))
            room -= len(text)
        return kept

    def _write(self, lines: list[list[Span]]) -> None:
        t = self.t
        if t.chance(0.7):
            host, folder = (
                f"{t.term()}@{t.term()}",
                t.pick(["~", t.path().rpartition("/")[0] or "/", "~/" + t.term()]),
            )
            prompt = t.pick(
                [
                    [(host, "1;32"), (":", ""), (folder, "1;34"), ("$ ", "")],
                    [(f"[{host} {folder}]# ", "")],
                    [("$ ", "")],
                    [(f"{folder} ", "36"), ("> ", "35")],
                    [(t.time() + " ", "33"), (folder, "1;34"), (" % ", "")],
                ]
            )
            self.lines.append([*prompt, (self._command(), "")])
        self.lines += lines

    def _command(self) -> str:
        t = self.t
        command = t.pick(
            ["ls -la", "df -h", "ps aux", "cat", "grep -rn", "git log", "vim", "make -j4", "cd", "sudo apt install"]
        )
        return f"{command} {t.pick([t.file(), t.path(), t.term(), '--' + t.term()])}"

    def _colour(self) -> str:
        return self.t.pick(
            ["", "", "31", "32", "33", "34", "35", "36", "1", "1;31", "1;32", "1;34", "1;36", "90", "2", "7"]
        )

    def _files(self) -> list[list[Span]]:
        t, rows = self.t, []
        owner, group = t.term()[:8], t.term()[:8]
        human = t.chance(0.5)
        for _ in range(t.between(3, 24)):
            kind = t.pick(["-", "-", "-", "d", "l"])
            mode = kind + "".join(t.pick(["rwx", "rw-", "r-x", "r--", "---", "-w-"]) for _ in range(3))
            size = t.size().replace(" ", "")[:5] if human else str(int(10 ** t.rng.uniform(0, 7)))
            date = f"{t.pick(['Jan', 'Mar', 'May', 'Jun', 'Aug', 'Oct', 'Dec'])} {t.between(1, 31):2} "
            date += f"{t.between(0, 23):02}:{t.between(0, 59):02}" if t.chance(0.6) else f" {t.between(2001, 2030)}"
            look = {"d": "1;34", "l": "1;36"}.get(kind, t.pick(["", "", "1;32", "1;31"]))
            row = [(f"{mode} {t.between(1, 30):2} {owner:8} {group:8} {size:>8} {date} ", ""), (t.file(), look)]
            rows.append([*row, (f" -> {t.path()}", "")] if kind == "l" else row)
        return [[(f"total {t.between(4, 90000)}", "")], *rows]

    def _disks(self) -> list[list[Span]]:
        t = self.t
        rows = [[(f"{'Filesystem':16}{'Size':>6}{'Used':>6}{'Avail':>6}{'Use%':>5} Mounted on", "1")]]
        for _ in range(t.between(3, 9)):
            name = t.pick(
                ["tmpfs", "udev", f"/dev/sda{t.between(1, 9)}", f"/dev/nvme0n1p{t.between(1, 5)}", "overlay"]
            )
            sizes = "".join(f"{t.size().replace(' ', '')[:5]:>6}" for _ in range(3))
            rows.append([(f"{name:16}{sizes}{t.between(0, 100):>4}% {t.path()}", "")])
        return rows

    def _processes(self) -> list[list[Span]]:
        t = self.t
        load = ", ".join(f"{t.rng.uniform(0, 9):.2f}" for _ in range(3))
        up = f"{t.between(0, 23):02}:{t.between(0, 59):02}:09 up {t.between(1, 90)} days,  {t.between(1, 9)} users"
        rows: list[list[Span]] = [[(f"top - {up},  load average: {load}", "")]] if t.chance(0.5) else []
        for name in ("CPU", "Mem", "Swp") if t.chance(0.4) else ():
            used = t.between(0, 30)
            bar: list[Span] = [
                (name + "[", "36"),
                ("|" * used, "32"),
                (" " * (30 - used), ""),
                (f"{3.3 * used:.1f}%]", "90"),
            ]
            rows.append(bar)
        head = f"{'PID':>7} {'USER':9} {'PR':>3} {'NI':>3} {'VIRT':>7} {'RES':>6} {'SHR':>6} S"
        head += f" {'%CPU':>5} {'%MEM':>5} {'TIME+':>9} COMMAND"
        rows.append([(head, "7")])
        for _ in range(t.between(4, 22)):
            text = f"{t.between(1, 99999):>7} {t.term()[:8]:9} {t.between(-20, 20):>3} {t.between(-19, 19):>3} "
            text += f"{t.between(0, 999999):>7} {t.size().replace(' ', '')[:5]:>6} {t.between(0, 9999):>6} "
            text += f"{t.pick([*'SRDTZI'])} {t.rng.uniform(0, 100):>5.1f} {t.rng.uniform(0, 20):>5.1f} "
            text += f"{t.between(0, 99)}:{t.between(0, 59):02}.{t.between(0, 99):02} "
            rows.append([(text, self._colour() if t.chance(0.1) else ""), (t.pick([t.term, t.path])(), "")])
        return rows

    def _code(self) -> list[list[Span]]:
        t, rows = self.t, []
        numbered, look = t.chance(0.4), t.chance(0.6)
        for i in range(t.between(4, 26)):
            parts = re.split(
                r"(\"[^\"]*\"|'[^']*'|\b(?:def|for|in|if|return|import|static|int|let|else)\b|#.*|/\*.*)", t.code()
            )
            colours = [
                self.t.pick(["32", "33", "35", "36", "1;34"]) if n % 2 and look else "" for n in range(len(parts))
            ]
            rows.append([(f"{i + 1:>4} ", "90") if numbered else ("", ""), *zip(parts, colours, strict=True)])
        return rows

    def _manual(self) -> list[list[Span]]:
        t = self.t
        rows: list[list[Span]] = [[(t.label().upper(), "1")]]
        for _ in range(t.between(1, 4)):
            if t.chance(0.5):
                option = t.pick(
                    [
                        f"-{t.term()[0]}, --{t.term()}",
                        f"--{t.term()}-{t.term()}=N",
                        f"{t.term()}({t.between(1, 8)})",
                    ]
                )
                rows.append([("       ", ""), (option, "1")])
            line = " " * 7
            for word in " ".join(t.sentence() for _ in range(t.between(1, 3))).split():
                if len(line) + len(word) > min(78, self.columns - 2):
                    rows.append([(line, "")])
                    line = " " * 7
                line += word + " "
            rows += [[(line, "")], []]
        return rows

    def _log(self) -> list[list[Span]]:
        t, rows = self.t, []
        for _ in range(t.between(3, 16)):
            level = t.pick(["INFO", "WARN", "ERROR", "DEBUG", "ok", "FAILED"])
            when = f"{t.date()} {t.time()}"
            start = t.pick(
                [f"{when} ", f"[{t.between(0, 9999):>5}.{t.between(0, 999999):06}] ", f"{t.hash()[:8]} "]
            )
            look = {"ERROR": "1;31", "FAILED": "31", "WARN": "33", "ok": "32"}.get(level, "")
            rows.append(
                [
                    (start, "90"),
                    (f"[{level}] ", look),
                    (f"{t.term()}[{t.between(1, 9999)}]: ", ""),
                    (t.sentence(), ""),
                ]
            )
        return rows

    def _diff(self) -> list[list[Span]]:
        t = self.t
        rows: list[list[Span]] = [
            [(f"@@ -{t.between(1, 900)},{t.between(1, 9)} +{t.between(1, 900)},7 @@ {t.term()}()", "36")]
        ]
        for _ in range(t.between(3, 14)):
            mark = t.pick([" ", " ", "+", "-"])
            rows.append([(mark + t.code(), {"+": "32", "-": "31"}.get(mark, ""))])
        return rows

    def _box(self) -> list[list[Span]]:
        t = self.t
        wide = min(self.columns - 2, t.between(24, 70))
        tl, tr, bl, br, h, v = (*t.pick(["┌┐└┘─│", "╔╗╚╝═║", "╭╮╰╯─│", "++++-|"]),)
        look, indent = t.pick(["", "37;44", "30;47", "7", "36"]), " " * t.between(0, 4)
        title = f" {t.label(20)} "
        rows = [tl + h * 2 + title + h * (wide - len(title) - 4) + tr]
        for _ in range(t.between(3, 12)):
            text = t.pick([t.label(), f"[{t.pick(['x', ' ', '*'])}] {t.label()}", t.words(3, 9), ""])
            rows.append(f"{v} {text[: wide - 4]:{wide - 4}} {v}")
        rows.append(f"{v}{f'<{t.label(8)}>   <{t.label(10)}>':^{wide - 2}}{v}"[: wide - 1] + v)
        rows.append(bl + h * (wide - 2) + br)
        return [[(indent, ""), (row, look)] for row in rows]

    def _table(self) -> list[list[Span]]:
        t, columns = self.t, self.t.between(2, 5)
        makers = [
            t.pick([t.term, t.number, t.size, t.date, t.version, t.hash, t.file, t.label]) for _ in range(columns)
        ]
        cells = [[maker()[:18].strip() for maker in makers] for _ in range(t.between(3, 12))]
        head = [t.term().upper()[:12] if t.chance(0.6) else t.label(12) for _ in makers]
        wides = [max(len(row[i]) for row in [head, *cells]) for i in range(columns)]
        bar = t.pick(["│", "|", " ", "  "])
        rows = [
            f" {bar} ".join(f"{text:{wide}}" for text, wide in zip(row, wides, strict=True))
            for row in [head, *cells]
        ]
        rule = "".join("─" if bar == "│" else "-" for _ in rows[0]) if bar.strip() else ""
        return [[(rows[0], self._colour())], *([[(rule, "")]] if rule else []), *([(row, "")] for row in rows[1:])]

    def _progress(self) -> list[list[Span]]:
        t, rows = self.t, []
        for _ in range(t.between(1, 6)):
            share, wide = t.rng.random(), t.between(10, 30)
            full, empty = (*t.pick(["#.", "█░", "= ", "━─", "##", "▓░", "*-"]),)
            bar = (full * int(share * wide)).ljust(wide, empty)
            rows.append(
                [
                    (f"{t.file()[:20]:20} ", ""),
                    (f"[{bar}]", "32"),
                    (f" {100 * share:3.0f}% {t.size()}/s {t.time()}", ""),
                ]
            )
        return rows

    def _tree(self) -> list[list[Span]]:
        t = self.t
        rows: list[list[Span]] = [[(t.path().rpartition("/")[0], "1;34")]]
        for _ in range(t.between(3, 14)):
            lead = "│   " * t.between(0, 2) + t.pick(["├── ", "└── "])
            rows.append([(lead, ""), (t.file(), self._colour())])
        return rows

    def _settings(self) -> list[list[Span]]:
        t = self.t
        dots = t.pick([" = ", ": ", "=", " .......... ", "\t".expandtabs(4)])
        return [
            [(t.pick([t.label, t.term])(), t.pick(["", "36"])), (dots, ""), (t.value(), "")]
            for _ in range(t.between(2, 12))
        ]

    def _add_status(self) -> None:
        t = self.t
        left = t.pick(
            [
                f"[{t.between(0, 9)}] {t.between(0, 4)}:{t.term()}* {t.term()}-",
                f"-- {t.label(14)} --",
                f" {t.path()} [+]",
            ]
        )
        right = t.pick(
            [f"{t.between(1, 900)},{t.between(1, 80)}   {t.between(1, 99)}%", f'"{t.term()}" {t.time()}', t.keys()]
        )
        text = f"{left[: self.columns // 2]:{max(0, self.columns - len(right) - 1)}}{right} "[: self.columns]
        look = t.pick(["7", "30;42", "37;44", "30;47", "1;7"])
        lines = self.lines[: self.rows - 1]
        self.lines = [*lines, *([] for _ in range(self.rows - 1 - len(lines))), [(text, look)]]


def draw_terminal(rng: np.random.Generator, *, latin: bool = False) -> tuple[Page, dict[str, Any]]:
    """A page, in English if its font is ``latin``, and its looks: ``ink``, ``ground``, ``palette``, ``rows``,
    ``columns`` and ``language``."""
    language = str(rng.choice([*LANGUAGES], p=[*LANGUAGES.values()]))
    texts = Texts(rng, "en" if latin else language)
    rows, columns = (int(rng.integers(12, 48)), int(rng.integers(50, 132))) if rng.random() < 0.7 else (24, 80)
    ink, ground = _SCHEMES[int(rng.integers(len(_SCHEMES)))]
    palette = _PALETTES[int(rng.integers(len(_PALETTES)))].split()
    page = Page(texts, rows, columns)
    look = {"ink": ink, "ground": ground, "palette": palette, "rows": rows, "columns": columns}
    return page, {**look, "language": texts.language}


def grid_answer(page: Page, box: Sequence[float], at: Sequence[float], cell: Sequence[float]) -> dict[str, Any]:
    """The words of a grid of cells as drivers answer; ``box`` is of the window, ``at`` the corner of its cells."""
    wide, high = cell
    size = high / 1.1  # boxes of words are 1.1 sizes high: here as high as a cell
    texts = []
    for word in page.words():
        left, top = at[0] + word.start * wide, at[1] + word.row * high
        clip = [left - 1, top - 1, at[0] + word.end * wide + 1, top + high + 1]
        texts.append([0, clip, [[word.text, left, clip[2] - 1, top + 0.85 * size, size]], False, [False, False]])
    return {"windows": [list(box)], "texts": texts, "elements": [], "icons": []}


def show_vte(
    driver: Driver, page: Page, look: Mapping[str, Any], font: str, gtk: Mapping[str, Any]
) -> dict[str, Any]:
    """Show a page in a terminal of VTE."""
    found = driver.ask({**look, "font": font, "gtk": gtk, "text": page.output()})
    return grid_answer(page, found["windows"][0], found["at"], found["cell"])


class Emulator:
    """A page in a terminal emulator of its own, which ends when this is closed."""

    def __init__(
        self, name: str, page: Page, look: Mapping[str, Any], font: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        text, done = Path(self._folder.name) / "text", Path(self._folder.name) / "done"
        text.write_text(page.output(), "utf-8")
        shell = ["sh", "-c", f"cat {text}; touch {done}; sleep 60"]
        grid = f"{look['columns']}x{look['rows']}"
        if name == "st":
            command = ["st", "-g", f"{grid}+20+20", *font, "-e", *shell]
        else:
            place = ["-geometry", f"{grid}+20+20", "-fg", look["ink"], "-bg", look["ground"]]
            command = [name, *place, "+sb", "-b", "2"]
            resources = {f"color{i}": colour for i, colour in enumerate(look["palette"])}
            resources |= {"scrollBar": "false", "cursorBlink": "false", "boldMode": "false"}
            more = [each for key, value in resources.items() for each in ("-xrm", f"*{key}: {value}")]
            command += [*more, *font, *(["-u8"] if name == "xterm" else []), "-e", *shell]
        self._process = subprocess.Popen(
            command, env={**environment, "LC_ALL": "C.UTF-8"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + _PATIENCE
        while not done.exists():
            if time.monotonic() > end or self._process.poll() is not None:
                self.close()
                raise StoppedError(f"{name} did not start with {' '.join(font)}")
            time.sleep(0.01)
        time.sleep(0.1)
        try:
            self.answer = self._look(page, look, environment)
        except (StoppedError, TooLargeError):
            self.close()
            raise

    def _look(self, page: Page, look: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
        def ask(*command: str) -> str:
            return subprocess.run(
                command, env=dict(environment), capture_output=True, text=True, check=False
            ).stdout

        tree = ask("xwininfo", "-root", "-children")
        for name in re.findall(r"^ +(0x\w+) .*", tree, re.MULTILINE):
            told = ask("xwininfo", "-id", name, "-size", "-stats")
            cell = re.findall(r"[xy] resize increment: (\d+)", told)
            place = [re.search(rf"{key}:\s+(\d+)", told) for key in _PLACE]
            if len(cell) != 2 or not all(place) or "IsViewable" not in told:
                continue
            wide, high = map(int, cell)
            x, y, width, height, border = (int(each[1]) for each in place if each)
            x, y = x + border, y + border
            room = (width - wide * look["columns"]) / 2, (height - high * look["rows"]) / 2
            if min(room) < 0:
                raise TooLargeError
            return grid_answer(page, [x, y, x + width, y + height], [x + room[0], y + room[1]], [wide, high])
        raise StoppedError("a terminal has no window")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()
