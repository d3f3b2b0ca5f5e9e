"""An agent that reaches a goal on an X display: capture, tree, choose, point, and again.

    python examples/agent.py --display :1 "the Name field=Ada" "the Next button" "the Finish button"

Each step is an expression of ``Screen.find``, which is clicked; text behind "=" is typed there. Instead of steps,
``--model COMMAND`` asks a model: the command gets the goal and the tree on its standard input, and prints the next
step, or nothing when it is done. Clicks need libXtst, which most X desktops have.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import time
from collections.abc import Iterator

from PIL import ImageGrab

from openpali_screen import Screen

WAIT = 10.0  # seconds within which a program shows what a step names


class Display:
    """The pointer and the keyboard of an X display, by its extension XTEST."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.x11, self.test = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libXtst.so.6")
        self.x11.XOpenDisplay.restype = ctypes.c_void_p
        if not (opened := self.x11.XOpenDisplay(name.encode())):
            raise OSError(f"there is no X display {name}")
        self.handle = ctypes.c_void_p(opened)

    def screen(self) -> Screen:
        return Screen.open(ImageGrab.grab(xdisplay=self.name))

    def click(self, y: float, x: float) -> None:
        self.test.XTestFakeMotionEvent(self.handle, -1, round(x), round(y), 0)
        for down in (1, 0):
            self.test.XTestFakeButtonEvent(self.handle, 1, down, 0)
        self.x11.XSync(self.handle, 0)

    def write(self, text: str) -> None:
        for character in text:  # keysyms of Latin-1 are its code points
            code = self.x11.XKeysymToKeycode(self.handle, ctypes.c_ulong(ord(character)))
            shift = self.x11.XKeysymToKeycode(self.handle, ctypes.c_ulong(0xFFE1))
            keys = [shift, code] if character.isupper() else [code]
            for down, order in ((1, keys), (0, keys[::-1])):
                for key in order:
                    self.test.XTestFakeKeyEvent(self.handle, key, down, 0)
        self.x11.XSync(self.handle, 0)


def ask(command: str, goal: str, screen: Screen) -> str:
    """The next step, by a model."""
    prompt = f"Goal: {goal}\n\n{screen.tree()}\nNext step:"
    return subprocess.run(
        command, shell=True, input=prompt, capture_output=True, text=True, check=True
    ).stdout.strip()


def act(display: Display, step: str) -> bool:
    """Click what a step names, as soon as it is there, and type the text behind "="; False: it does not come."""
    expression, _, text = step.partition("=")
    last = time.monotonic() + WAIT
    while (found := display.screen().find(expression)) is None:
        if time.monotonic() > last:
            return False
    print(f"{step}: {found.role} {found.name!r} at {found.centre}")
    display.click(*found.centre)
    display.write(text)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="Reach a goal on an X display.")
    parser.add_argument("steps", nargs="+", help="what is clicked, one after another; or the goal, for --model")
    parser.add_argument("--display", required=True, help="as :1")
    parser.add_argument("--model", help="command that chooses each step")
    parser.add_argument("--most", type=int, default=20, help="steps that a model may take (default: 20)")
    given = parser.parse_args()
    display = Display(given.display)

    def steps() -> Iterator[str]:
        for _ in range(given.most):
            if not (step := ask(given.model, given.steps[0], display.screen())):
                return
            yield step

    for step in steps() if given.model else given.steps:
        if not act(display, step) and not given.model:  # a model is asked again
            raise SystemExit(f"nothing on the screen is {step!r}")


if __name__ == "__main__":
    main()
