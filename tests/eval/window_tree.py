"""Show a program and say what its window holds: run by the system's Python within ``dbus-run-session``, as

    window_tree.py SECONDS LOG COMMAND...

It starts the command, waits, has everything drawn again, and prints a line of JSON: ``mark``, the size of the log
before that; ``elements`` by AT-SPI; ``windows`` and ``shown``, see below. It ends the
command when its input ends.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi  # noqa: E402


def walk(node, found, depth=0):
    try:
        role, states = node.get_role_name(), node.get_state_set()
        if role != "application":
            if not (states.contains(Atspi.StateType.SHOWING) and states.contains(Atspi.StateType.VISIBLE)):
                return
            if component := node.get_component_iface():
                box = component.get_extents(Atspi.CoordType.SCREEN)
                sides = [box.y, box.x, box.y + box.height, box.x + box.width]
                found.append({"role": role, "name": node.get_name() or "", "box": sides})
        if depth < 40:
            for index in range(min(node.get_child_count(), 400)):
                if (child := node.get_child_at_index(index)) is not None:
                    walk(child, found, depth + 1)
    except gi.repository.GLib.GError:  # the program took the element away meanwhile
        return


def told(*arguments):
    return subprocess.run(["xwininfo", *arguments], capture_output=True, text=True, check=False).stdout


def windows():
    """Width, height, left and top of each window of a display; and of those that stand on it, the lowest first."""
    found = re.findall(
        r"^( +)(0x[0-9a-f]+) .*?(\d+)x(\d+)\+-?\d+\+-?\d+  \+(-?\d+)\+(-?\d+)", told("-root", "-tree"), re.M
    )
    places = [list(map(int, sides)) for _, _, *sides in found]
    least = min(len(indent) for indent, *_ in found)
    shown = [
        list(map(int, sides))
        for indent, name, *sides in reversed(found)
        if len(indent) == least and int(sides[0]) > 9 and "IsViewable" in told("-id", name)
    ]
    return {"windows": places, "shown": shown}


wait, log, *command = sys.argv[1:]
environment = {**os.environ, "LD_PRELOAD": os.environ["DRAWN_TEXT_CODE"], "DRAWN_TEXT": log}
with Path(os.devnull).open("w") as null:
    process = subprocess.Popen(command, env=environment, stdout=null, stderr=null, stdin=subprocess.DEVNULL)
    time.sleep(float(wait))
    subprocess.run(["xdotool", "mousemove", "999", "719"], check=True)  # away from what shows a tip
    time.sleep(0.5)
    mark = Path(log).stat().st_size if Path(log).exists() else 0
    subprocess.run(["xrefresh"], check=True)
    time.sleep(1)
    Atspi.init()
    desktop, elements = Atspi.get_desktop(0), []
    for index in range(desktop.get_child_count()):
        walk(desktop.get_child_at_index(index), elements)
    print(json.dumps({"mark": mark, "elements": elements, **windows()}), flush=True)
    sys.stdin.read()
    process.kill()
