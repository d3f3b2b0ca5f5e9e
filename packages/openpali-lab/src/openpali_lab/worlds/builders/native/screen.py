"""A virtual X display, programs that show windows on it, and what is seen of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageGrab

from openpali.tasks.example import Box
from openpali_lab.worlds.builders.layout import Shot, Written, group
from openpali_lab.worlds.builders.output import png_bytes

SIZE = 1600, 1000  # of the display, pixels
INSTALL = (
    *("xvfb", "x11-utils", "xterm", "rxvt-unicode", "stterm", "xfonts-base", "xfonts-75dpi", "xfonts-terminus"),
    *("xfonts-jmk", "python3-gi", "gir1.2-gtk-3.0", "gir1.2-gtk-4.0", "gir1.2-vte-2.91", "python3-tk"),
    *("python3-pyqt5", "python3-pyqt6", "kde-style-breeze", "kde-style-breeze-qt5", "default-jdk"),
)
"""Debian packages that have to be installed: programs and libraries, which cannot be used unpacked."""
PYTHON = "/usr/bin/python3"  # the system's, whose packages Debian's toolkits are
_DRIVERS = Path(__file__).parent / "drivers"
LIMIT = 60.0  # seconds for an answer of a driver, on a busy machine
_PAUSE = 0.06  # seconds between two pictures that have to be equal
_OVER = 1.5  # pixels by which a word may reach beyond what is seen of it
_SEEN = 0.6  # share of an element that is not covered


class StoppedError(OSError):
    """A program ended or did not answer."""


def check_installed() -> None:
    """Check that the packages of :data:`INSTALL` are there."""
    names = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *INSTALL]
    found = (
        subprocess.run(names, capture_output=True, text=True, check=False).stdout if shutil.which(names[0]) else ""
    )
    missing = [name for name in INSTALL if f"{name} installed" not in found.splitlines()]
    if missing:
        raise FileNotFoundError(
            f"windows are shown by programs that are missing: run `apt-get install --no-install-recommends "
            f"{' '.join(missing)}`"
        )


@contextmanager
def display() -> Iterator[str]:
    """A display without a window manager, in a process of its own; yields its name, such as ``:91``."""
    read, write = os.pipe()
    size = f"{SIZE[0]}x{SIZE[1]}x24"
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", size, "-nolisten", "tcp", "-dpi", "96"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, pass_fds=[write], stdout=quiet, stderr=quiet)
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield ":" + pipe.readline().strip()
    finally:
        process.kill()
        process.wait()


class Driver:
    """A program of ``drivers/`` that shows what it is asked to."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._command = command
        self._process = subprocess.Popen(
            command,
            cwd=_DRIVERS,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Show something, and say what is where: see ``drivers/common.py``.

        Raises:
            StoppedError: the program ended, or did not answer in time and was killed.
        """
        end, alarm = time.monotonic() + LIMIT, threading.Timer(LIMIT, self._process.kill)
        alarm.start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            late = time.monotonic() >= end
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            told = [line for line in self._errors.read().splitlines() if line.strip() and not line.startswith("\t")]
            reason = f"did not answer in {LIMIT:g} seconds" if late else f"ended: {(told or ['no message'])[-1]}"
            raise StoppedError(f"{' '.join(self._command)} {reason}") from error
        finally:
            alarm.cancel()
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()


def grab(name: str) -> Image.Image:
    """What is on a display, as soon as it does not change."""
    last = ImageGrab.grab(xdisplay=name)
    for _ in range(20):
        time.sleep(_PAUSE)
        seen = ImageGrab.grab(xdisplay=name)
        if seen.tobytes() == last.tobytes():
            break
        last = seen
    return last.convert("RGB")


@dataclass
class Layer:
    """A window of the display: its pixels, their place, and what is in them by what ``drivers/common.py`` says.

    Boxes are [left, top, right, bottom] in pixels of the display.
    """

    image: Image.Image
    at: tuple[int, int]
    texts: list[list[Any]] = field(default_factory=list)
    elements: list[list[Any]] = field(default_factory=list)
    icons: list[list[Any]] = field(default_factory=list)

    @property
    def box(self) -> list[float]:
        return [*self.at, self.at[0] + self.image.width, self.at[1] + self.image.height]


def layers(seen: Image.Image, answer: Mapping[str, Any]) -> list[Layer]:
    """The windows of an answer, the lowest first."""
    found = []
    for number, sides in enumerate(answer["windows"]):
        left, top = (max(0, round(side)) for side in sides[:2])
        right, bottom = (min(most, round(side)) for most, side in zip(SIZE, sides[2:], strict=True))
        if right <= left or bottom <= top:
            raise StoppedError("a window has no size")
        own = {
            key: [each[1:] for each in answer[key] if each[0] == number] for key in ("texts", "elements", "icons")
        }
        found.append(Layer(seen.crop((left, top, right, bottom)), (left, top), **own))
    return found


def compose(panes: Sequence[tuple[Layer, tuple[int, int]]], ground: Image.Image | None) -> Shot:
    """Windows on a background, each moved by some pixels, the lowest first; without one, the first is it."""
    boxes = []
    for layer, (right, down) in panes:
        x0, y0, x1, y1 = layer.box
        boxes.append([x0 + right, y0 + down, x1 + right, y1 + down])
    if ground is None:
        left, top = boxes[0][:2]
        picture = panes[0][0].image.copy()
    else:
        left, top, picture = 0.0, 0.0, ground.copy()
    shown = [left, top, left + picture.width, top + picture.height]
    words: list[Written] = []
    ignored: list[Box] = []
    elements: list[dict[str, Any]] = []
    icons: list[dict[str, Any]] = []
    for number, (layer, (right, down)) in enumerate(panes):
        picture.paste(layer.image, (round(boxes[number][0] - left), round(boxes[number][1] - top)))
        above = boxes[number + 1 :]

        def moved(sides: Sequence[float], by: tuple[int, int] = (right, down)) -> list[float]:
            return [sides[0] + by[0], sides[1] + by[1], sides[2] + by[0], sides[3] + by[1]]

        def box(sides: Sequence[float]) -> Box:
            return Box(
                *(round(side, 1) for side in (sides[1] - top, sides[0] - left, sides[3] - top, sides[2] - left))
            )

        for clip, pieces, cut, ends in layer.texts:
            seen = _meet(_meet(moved(clip), boxes[number]), shown)
            for i, (text, x0, x1, baseline, size) in enumerate(pieces):
                whole = moved([x0, baseline - 0.85 * size, x1, baseline + 0.25 * size])
                part = _meet(whole, seen)
                if _area(part) <= 0 or any(_meet(part, other) == part for other in above):
                    continue
                ink = moved([x0, baseline - 0.6 * size, x1, baseline])
                if cut or _beyond(ink, seen) > _OVER or any(_area(_meet(whole, other)) > 0 for other in above):
                    ignored.append(box(part))
                else:
                    joined, last = (not i and ends[0]), (i == len(pieces) - 1 and ends[1])
                    words.append(Written(text, box(whole), size, joined, last))
        for clip, role, name, sides in layer.elements:
            whole = moved(sides)
            part = _meet(_meet(_meet(whole, moved(clip)), boxes[number]), shown)
            if _area(part) > 0 and _area(part) - sum(_area(_meet(part, o)) for o in above) >= _SEEN * _area(whole):
                elements.append({"role": role, "name": name, "box": box(part), "seen": True})
        for clip, name, sides in layer.icons:
            whole = moved(sides)
            seen = _meet(_meet(moved(clip), boxes[number]), shown)
            if _beyond(whole, seen) <= _OVER and not any(_area(_meet(whole, other)) > 0 for other in above):
                icons.append({"name": name, "box": box(whole)})
            elif _area(_meet(whole, seen)) > 0:
                ignored.append(box(_meet(whole, seen)))
    return Shot(png_bytes(picture), group(words), ignored, elements, icons)


def _meet(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])]


def _area(sides: Sequence[float]) -> float:
    return max(0.0, sides[2] - sides[0]) * max(0.0, sides[3] - sides[1])


def _beyond(sides: Sequence[float], seen: Sequence[float]) -> float:
    """Pixels by which a box reaches beyond another."""
    return max(seen[0] - sides[0], seen[1] - sides[1], sides[2] - seen[2], sides[3] - seen[3])
