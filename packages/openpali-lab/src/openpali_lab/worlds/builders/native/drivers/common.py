"""What drivers share: they read a description a line, show it, and answer with what is shown where.

Drivers run in the system's Python, without OpenPaLI. Boxes are [left, top, right, bottom] in pixels of the screen.
"""

import json
import os
import re
import sys
import time


class Truth:
    """What is on the screen. ``scale`` is pixels for a unit of the toolkit; what is added is in units.

    Texts, elements and icons belong to the window that was added last; ``clip`` is what may be seen of each.
    """

    def __init__(self, scale=1.0):
        self.scale, self.windows, self.texts, self.elements, self.icons = scale, [], [], [], []
        self.grid = []  # of a terminal: corner and size of its first cell

    def _box(self, box):
        return [self.scale * side for side in box]

    def window(self, box):
        self.windows.append(self._box(box))

    def text(self, clip, text, at, baseline, size, *, cut=False):
        """A piece of one line: ``at`` gives the left side of a character, ``size`` is the font's, and of a ``cut``
        piece not all is written."""
        s = self.scale
        spans = [(m.group(), at(m.start()), at(m.end())) for m in re.finditer(r"\S+", text)]
        words = [[word, s * min(a, b), s * max(a, b), s * baseline, s * size] for word, a, b in spans]
        ends = [not text[:1].isspace(), not text[-1:].isspace()]
        self.texts.append([len(self.windows) - 1, self._box(clip), words, cut, ends])

    def element(self, clip, role, name, box):
        self.elements.append([len(self.windows) - 1, self._box(clip), role, name, self._box(box)])

    def icon(self, clip, name, box):
        self.icons.append([len(self.windows) - 1, self._box(clip), name, self._box(box)])


def meet(one, other):
    """What two boxes have in common, which may be nothing."""
    return [max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])]


def stem(path):
    """Name of an icon in a file."""
    return os.path.splitext(os.path.basename(path))[0]


def marked(node, sign):
    """The text of a node, with a sign before its mnemonic."""
    at, text = node.get("mnemonic", -1), node["text"].replace(sign, 2 * sign)
    return text if at < 0 else text[:at] + sign + text[at:]


def insert_rows(node, insert):
    """Insert the rows of a table: ``insert`` takes the row that one is in, or None, its cells and its icon."""
    above = []
    for cells, icon, depth in zip(node["rows"], node["icons"], node["depths"]):
        del above[depth:]
        above.append(insert(above[-1] if above else None, cells, icon))


def settle(seconds, work):
    """Let a toolkit draw; ``work`` does something that waits, if anything does, and says whether."""
    end = time.time() + seconds
    while time.time() < end:
        if not work():
            time.sleep(0.003)


def serve(show):
    """Answer each line of the input by what ``show`` says of it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a toolkit prints is no answer
    for line in sys.stdin:
        json.dump(show(json.loads(line)).__dict__, answers, ensure_ascii=False)
        print(file=answers, flush=True)
