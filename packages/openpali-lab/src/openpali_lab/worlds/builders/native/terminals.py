"""Terminals: what programs print into the grid of cells of a terminal emulator, and where each word is by that."""

from __future__ import annotations

import re
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from openpali_lab.worlds.builders.native.screen import Driver, StoppedError
from openpali_lab.worlds.builders.texts import LANGUAGES, Texts, WindowTexts
from openpali_lab.worlds.line_texts import Field, one_of, templates

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
FAMILIES = (
    *("DejaVu Sans Mono", "Liberation Mono", "JetBrains Mono", "Hack", "mononoki", "Cascadia Mono"),
    *("Fira Code", "Nimbus Mono PS", "Go Mono", "Terminus", "Agave"),
)
"""Monospaced fonts that are learned from."""
DEV_FAMILIES = ("Noto Mono", "Inconsolata", "Courier Prime", "Spleen 8x16", "IBM 3270", "monofur")
"""Those of development and test sets."""
VTE = 0.35
"""Share of groups of windows in VTE; the others are in emulators of their own."""
EMULATORS = {"xterm": 0.65, "urxvt": 0.22, "st": 0.13}
_SCHEMES = """
#000000/#ffffff #ffffff/#000000 #e5e5e5/#000000 #d0cfcc/#171421 #839496/#002b36 #657b83/#fdf6e3
#f8f8f2/#272822 #ebdbb2/#282828 #00ff00/#000000 #ffb000/#1a1200 #eeeeec/#300a24 #4c4f69/#eff1f5
#333333/#ffffdd #abb2bf/#282c34
""".split()
"""Colours of letters and of the ground."""
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


_ESCAPE = re.compile(r"(\x1b\[[\d;]*m)")
_LOOKS = {"bold": "1", "red": "31", "green": "1;32", "yellow": "33", "blue": "1;34", "cyan": "36", "grey": "90"}
_LOOKS |= {"turned": "7", "off": "0"}
_PROGRAMS = """
total {count}
-rw-r--r-- {n:>2} {user:8} {user:8} {size:>6} {Mon} {dd:>2} {hour}:{minute} {file}
{mode} {n:>2} {user:8} {user:8} {count:>6} {Mon} {dd:>2}  {year} {look}{file}
lrwxrwxrwx {n:>2} {user:8} {user:8} {count:>6} {Mon} {dd:>2} {hour}:{minute} {cyan}{word}{off} -> {path}

{bold}Filesystem           Size    Used   Avail Use% Mounted on
/dev/{disk:14} {size:>7} {size:>7} {size:>7} {nn:>3}% {path}
tmpfs               {size:>7} {size:>7} {size:>7} {nn:>3}% /run/{word}

top - {hour}:{minute}:{minute} up {nn} days,  {n} users,  load average: {n}.{nn}, {n}.{nn}, {n}.{nn}
{cyan}{n}[{green}{bar}{grey}{nn}.{n}%]

{turned}    PID USER      PR  NI    VIRT    RES S  %CPU  %MEM     TIME+ COMMAND
{pid:>7} {user:8}  {nn:>2}  {n:>2}  {pid:>6} {size:>6} S  {nn}.{n}   {n}.{n}  {nn}:{minute}.{nn} {word}
{look}{pid:>7} {user:8}  {nn:>2} -{n:>2}  {pid:>6} {size:>6} R  {nn}.{n}   {n}.{n}  {nn}:{minute}.{nn} {path}

{blue}/usr/share/{word}
├── {look}{file}
│   ├── {look}{file}
│   │   └── {look}{file}
└── {look}{file}

{word} {n}.{n}.{nn}
{file:20} {green}[{bar}]{off} {nn}% {size}/s {hour}:{minute}

{label}
{grey}{year}-{month}-{day} {hour}:{minute}{off} {green}[INFO]{off} {word}[{pid}]: {sentence}
{grey}[{pid:>5}.{nnnn}{nn}]{off} {yellow}[WARN]{off} {word}: {sentence}
{grey}{hex}{off} {red}[FAILED]{off} {word}: {value}

{cyan}@@ -{nn},{n} +{nn},{n} @@ {word}()
{red}-{code}
{green}+{code}
 {code}

{label}
{cyan}{word}{off} = {value}
{label}: {value}
{word}={path}
"""
"""Of each program a heading, and rows, of which it prints some."""
_PROMPTS = templates(
    "{green}{user}@{word}{off}:{blue}~/{word}{off}$    [{user}@{word} {word}]#    $    {cyan}~/{word}{off} > "
)
_COMMANDS = templates("ls -la {path}   df -h   ps aux   cat {file}   grep -rn {word}   git log --{word}   make -j4")


class _Texts(WindowTexts):
    """Texts with looks of terminals."""

    fields: ClassVar[Mapping[str, Field]] = {
        **Texts.fields,
        **{name: one_of([f"\x1b[{code}m"]) for name, code in _LOOKS.items()},
        "look": one_of(["", "", *(f"\x1b[{code}m" for code in ("31", "32", "1;34", "1;36", "35", "1", "2", "7"))]),
        "bar": lambda texts, language: _bar(texts),
    }


def _bar(texts: Any) -> str:
    full, empty = texts.pick(["#.", "█░", "= ", "━─", "| ", "▓░", "*-"])
    return str(full * texts.integer(0, 30)).ljust(30, empty)


class Page:
    """What a terminal of ``rows`` x ``columns`` shows: lines with escape sequences for their looks."""

    def __init__(self, texts: _Texts, rows: int, columns: int) -> None:
        self.t, self.rows, self.columns = texts, rows, columns
        self.lines: list[str] = []
        self.plain = texts.chance(0.3)
        own: list[Callable[[], list[str]]] = [self._code, self._code, self._manual, self._box, self._table]
        programs = [block.split("\n") for block in _PROGRAMS.strip().split("\n\n")]
        while len(self.lines) < rows:
            if texts.chance(0.7):
                self.lines.append(f"{texts.fill(_PROMPTS)} {texts.fill(_COMMANDS)}")
            if texts.chance(len(own) / (len(own) + len(programs))):
                self.lines += texts.pick(own)()
            else:
                head, *kinds = texts.pick(programs)
                self.lines += [texts.fill([head]), *(texts.fill(kinds) for _ in range(texts.integer(2, 24)))]
            if texts.chance(0.15):
                break
        self.lines = [self._cut(line) for line in self.lines[-rows:]]
        if texts.chance(0.25):
            self._add_status()

    def words(self) -> list[Cell]:
        """The words; lines and blocks are none."""
        return [
            Cell(word.group(), row, word.start(), word.end())
            for row, line in enumerate(self.lines)
            for word in _BOX.finditer(_ESCAPE.sub("", line))
        ]

    def output(self) -> str:
        """What shows the page on an empty terminal."""
        lines = [_ESCAPE.sub("", line) for line in self.lines] if self.plain else self.lines
        rows = [f"\x1b[{number};1H{line}\x1b[0m" for number, line in enumerate(lines, 1)]
        hide = "\x1b[?25l" if self.t.chance(0.7) or len(lines) >= self.rows else ""
        return "\x1b[0m\x1b[H\x1b[2J" + hide + "".join(rows)

    def _cut(self, line: str) -> str:
        room, kept = self.columns, ""
        for number, part in enumerate(_ESCAPE.split(line)):
            kept += part if number % 2 else part[: max(0, room)]
            room -= 0 if number % 2 else len(part)
        return kept

    def _code(self) -> list[str]:
        t, rows = self.t, []
        numbered, coloured = t.chance(0.4), t.chance(0.6)
        strings = r"(\"[^\"]*\"|'[^']*'|\b(?:def|for|in|if|return|import|static|int|let|else)\b|#.*|/\*.*)"
        for number in range(1, t.integer(5, 27)):
            text = t.code()
            if coloured:
                text = re.sub(strings, lambda found: t.fill(["{look}"]) + found[0] + "\x1b[0m", text)
            rows.append((f"\x1b[90m{number:>4} \x1b[0m" if numbered else "") + text)
        return rows

    def _manual(self) -> list[str]:
        t, rows = self.t, ["\x1b[1m" + self.t.label().upper()]
        for _ in range(t.integer(1, 4)):
            if t.chance(0.5):
                rows.append(t.fill(templates("       {bold}-{letter}, --{word}   {bold}{word}({n})")))
            text = " ".join(t.sentence() for _ in range(t.integer(1, 3)))
            indent = " " * 7
            rows += textwrap.wrap(text, min(78, self.columns - 2), initial_indent=indent, subsequent_indent=indent)
            rows.append("")
        return rows

    def _box(self) -> list[str]:
        t, wide = self.t, min(self.columns - 2, self.t.integer(24, 70))
        tl, tr, bl, br, h, v = (*t.pick(["┌┐└┘─│", "╔╗╚╝═║", "╭╮╰╯─│", "++++-|"]),)
        look, indent, title = t.fill(["{look}"]), " " * t.integer(0, 4), f" {t.label(20)} "
        rows = [tl + h * 2 + title + h * (wide - len(title) - 4) + tr]
        for _ in range(t.integer(3, 12)):
            text = t.pick([t.label(), f"[{t.pick(['x', ' ', '*'])}] {t.label()}", t.words(3, 9), ""])
            rows.append(f"{v} {text[: wide - 4]:{wide - 4}} {v}")
        buttons = f"<{t.label(8)}>   <{t.label(10)}>"
        rows += [v + f"{buttons:^{wide - 2}}"[: wide - 2] + v, bl + h * (wide - 2) + br]
        return [indent + look + row for row in rows]

    def _table(self) -> list[str]:
        t = self.t
        kinds = [
            t.pick(["{word}", "{count}", "{size}", "{year}-{month}-{day}", "{file}", "{label}"]) for _ in range(4)
        ]
        cells = [[t.fill([kind])[:18].strip() for kind in kinds] for _ in range(t.integer(3, 12))]
        cells.insert(0, [t.word().upper() if t.chance(0.6) else t.label(12) for _ in kinds])
        wides = [max(map(len, column)) for column in zip(*cells, strict=True)]
        bar = t.pick([" │ ", " | ", "  "])
        rows = [bar.join(f"{text:{wide}}" for text, wide in zip(row, wides, strict=True)) for row in cells]
        rule = ("─" if "│" in bar else "-") * len(rows[0])
        return [t.fill(["{look}"]) + rows[0] + "\x1b[0m", *([rule] if bar.strip() else []), *rows[1:]]

    def _add_status(self) -> None:
        t = self.t
        left = t.fill(templates("[{n}] {n}:{word}* {word}-   -- {label} --    {path} [+]"))
        right = t.fill(templates('{nn},{n}   {nn}%   "{word}" {hour}:{minute}'))
        text = f"{left[: self.columns // 2]:{max(0, self.columns - len(right) - 1)}}{right} "[: self.columns]
        lines = self.lines[: self.rows - 1]
        look = t.pick(["7", "30;42", "37;44", "30;47", "1;7"])
        self.lines = [*lines, *[""] * (self.rows - 1 - len(lines)), f"\x1b[{look}m{text}"]


def draw_terminal(rng: np.random.Generator, *, latin: bool = False) -> tuple[Page, dict[str, Any]]:
    """A page, in English if its font is ``latin``, and its looks: ``ink``, ``ground``, ``palette``, ``rows``,
    ``columns`` and ``language``."""
    language = str(rng.choice([*LANGUAGES], p=[*LANGUAGES.values()]))
    texts = _Texts(rng, "en" if latin else language)
    rows, columns = (int(rng.integers(12, 48)), int(rng.integers(50, 132))) if rng.random() < 0.7 else (24, 80)
    ink, ground = texts.pick(_SCHEMES).split("/")
    palette = texts.pick(_PALETTES).split()
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
    tree = {**look, "k": "terminal", "font": font, "text": page.output()}
    window = {"title": "", "width": -1, "height": -1, "at": [20, 20], "look": {"gtk": gtk}, "tree": tree}
    found = driver.ask(window)
    return grid_answer(page, found["windows"][0], *found["grid"])


class Emulator:
    """A page in a terminal emulator of its own, which ends when this is closed."""

    def __init__(
        self, name: str, page: Page, look: Mapping[str, Any], font: str, environment: Mapping[str, str]
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        text, done = Path(self._folder.name) / "text", Path(self._folder.name) / "done"
        text.write_text(page.output(), "utf-8")
        shell = ["sh", "-c", f"cat {text}; touch {done}; sleep 60"]
        grid = f"{look['columns']}x{look['rows']}"
        if name == "st":
            command = ["st", "-g", f"{grid}+20+20", "-f", font, "-e", *shell]
        else:
            place = ["-geometry", f"{grid}+20+20", "-fg", look["ink"], "-bg", look["ground"]]
            command = [name, *place, "+sb", "-b", "2"]
            resources = {f"color{i}": colour for i, colour in enumerate(look["palette"])}
            resources |= {"scrollBar": "false", "cursorBlink": "false", "boldMode": "false"}
            more = [each for key, value in resources.items() for each in ("-xrm", f"*{key}: {value}")]
            outline = not font.startswith("-")
            fonts = [
                "-fa" if outline and name == "xterm" else "-fn",
                f"xft:{font}" if outline and name == "urxvt" else font,
            ]
            command += [*more, *fonts, *(["-u8"] if name == "xterm" else []), "-e", *shell]
        self._process = subprocess.Popen(
            command, env={**environment, "LC_ALL": "C.UTF-8"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + _PATIENCE
        while not done.exists():
            if time.monotonic() > end or self._process.poll() is not None:
                self.close()
                raise StoppedError(f"{name} did not start with {font}")
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
