"""What agents ask about a screen: its tree, what an expression means, what is at a place, and what has changed.

screen = Screen.open("shot.png")
print(screen.tree())
if save := screen.find("the Save button"):
    y, x = save.centre
screen.at(x, y)[-1].name
screen.diff(Screen.open("later.png"))["appeared"]
"""

from __future__ import annotations

from functools import cache

from openpali_screen.files import ImageLike
from openpali_screen.geometry import Box
from openpali_screen.pointing import ReadScreen
from openpali_screen.reader import ScreenReader
from openpali_screen.tree import Node, changes

_reader = cache(ScreenReader.open)


class Screen:
    """A screen that was read. Boxes are [ymin, xmin, ymax, xmax] in pixels.

    Args:
        read: its elements and lines, as :meth:`ScreenReader.screen` finds them.
    """

    def __init__(self, read: ReadScreen) -> None:
        self.read = read

    @classmethod
    def open(cls, image: ImageLike, reader: ScreenReader | None = None) -> Screen:
        """Read a screen.

        Args:
            image: a path, the bytes of a file, a Pillow image or an array ``[H, W, 3]`` uint8.
            reader: None: that of the package, which is opened once.

        Raises:
            ValueError, FileNotFoundError: the image cannot be read, or there is none.
        """
        return cls((reader or _reader()).screen(image))

    def tree(self) -> Node:
        """The root of all containers, elements and texts; ``print`` writes them as indented text."""
        return self.read.root

    def find(self, expression: str) -> Node | None:
        """The element that an expression means, as "the Save button" or "the field below Name", or the words of the
        screen that are like it; None: nothing fits."""
        found = self.read.point(expression)
        if found is None:
            return None
        role = found.role or "text"
        nodes = (node for node, _, _ in self.tree().walk() if (node.role, node.box) == (role, found.box))
        y, x = found.box.centre
        words = Node(role, found.box, found.name, confidence=found.confidence, index=self.at(x, y)[-1].index)
        return next(nodes, words)

    def at(self, x: float, y: float) -> list[Node]:
        """What is at a place, from the root to the innermost element or text."""
        root = self.tree()
        nodes = (node for node, _, _ in root.walk() if _holds(node.box, x, y))
        return [root, *(node for node in nodes if node is not root)]

    def diff(self, other: Screen) -> dict[str, list[str]]:
        """What "appeared", "went" and "changed" between this screen and a later one, each as a row of the tree."""
        return changes(self.tree(), other.tree())


def _holds(box: Box, x: float, y: float) -> bool:
    return box.ymin <= y < box.ymax and box.xmin <= x < box.xmax
