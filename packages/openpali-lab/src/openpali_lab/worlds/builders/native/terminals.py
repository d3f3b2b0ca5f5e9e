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

from openpali_lab.tables import table_of
from openpali_lab.worlds.builders.native.screen import Driver, StoppedError
from openpali_lab.worlds.builders.texts import LANGUAGES, Texts, WindowTexts
from openpali_lab.worlds.line_texts import Field, one_of, templates

_TABLE = table_of(__file__)
BITMAPS, DEV_BITMAPS = _TABLE["bitmaps"], _TABLE["dev_bitmaps"]
FAMILIES, DEV_FAMILIES = _TABLE["families"], _TABLE["dev_families"]
LATIN = ("neep", "courier", "lucida")
"""Beginnings of the names of those without letters of other scripts."""
VTE = 0.35
"""Share of groups of windows in VTE; the others are in emulators of their own."""
EMULATORS = {"xterm": 0.65, "urxvt": 0.22, "st": 0.13}
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
        programs = [block.split("\n") for block in _TABLE["programs"].strip().split("\n\n")]
        while len(self.lines) < rows:
            if texts.chance(0.7):
                self.lines.append(f"{texts.fill(_TABLE['prompts'])} {texts.fill(_TABLE['commands'])}")
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
    ink, ground = texts.pick(_TABLE["schemes"]).split("/")
    palette = texts.pick(_TABLE["palettes"]).split()
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
