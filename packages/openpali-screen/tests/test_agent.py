"""`examples/agent.py` finds its way through a program of Tk under Xvfb."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import pytest

from openpali_screen.pointing import ReadScreen
from openpali_screen.screen import Screen

AGENT = Path(__file__).parents[3] / "examples" / "agent.py"
PROGRAM = """
import sys, tkinter as tk
root = tk.Tk(); root.geometry("640x400+0+0"); root.configure(bg="white")
options = {"font": ("DejaVu Sans", 12), "bg": "#e6e6e6"}
def finish(): print("finished", name.get(), flush=True); root.destroy()
def page(title, *buttons):
    for child in root.winfo_children(): child.destroy()
    tk.Label(root, text=title, font=("DejaVu Sans", 16), bg="white").pack(pady=20)
    for text, action in buttons: tk.Button(root, text=text, command=action, width=16, **options).pack(pady=12)
def second(): page("Account", ("Cancel", lambda: print("cancelled", flush=True)), ("Finish", finish))
name = tk.StringVar()
page("Welcome", ("Help", lambda: print("helped", flush=True)), ("Next", second))
tk.Entry(root, textvariable=name, font=("DejaVu Sans", 14), bg="white", relief="solid", width=20).pack(pady=20)
root.mainloop()
"""
pytestmark = pytest.mark.skipif(
    not (shutil.which("Xvfb") and find_spec("tkinter") and find_library("Xtst")), reason="no Xvfb, Tk or libXtst"
)


@pytest.fixture
def display() -> Iterator[str]:
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x400x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as number:
        name = f":{number.readline().strip()}"
    yield name
    server.terminate()
    server.wait()


def test_it_finds_its_way(display: str) -> None:
    environment = {**os.environ, "DISPLAY": display}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as program:
        time.sleep(2)
        steps = ["the text box=Ada", "the button below Help", "the Finish button"]
        agent = [sys.executable, AGENT, "--display", display, *steps]
        try:
            done = subprocess.run(agent, capture_output=True, text=True, check=False, timeout=200)
            assert done.returncode == 0, done.stderr
            program.wait(timeout=30)
        finally:
            program.kill()
        assert program.communicate()[0] == "finished Ada\n", done.stdout


def test_a_model_gets_the_goal_and_the_tree() -> None:
    ask = runpy.run_path(str(AGENT))["ask"]
    assert ask("cat", "Log out", Screen(ReadScreen([], []))).split("\n")[:3] == [
        *("Goal: Log out", "", "screen [0, 0, 0, 0] #0")
    ]
