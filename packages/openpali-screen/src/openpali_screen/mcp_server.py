"""A server for agents by the Model Context Protocol, over standard input and output: it looks, and clicks nothing.

An image is the path of a file, ``data:image/png;base64,...``, or empty: then the display is captured.
"""

from __future__ import annotations

import base64
import os
from typing import Any

from mcp.server import MCPServer
from PIL import ImageGrab

from openpali_screen.files import open_image
from openpali_screen.geometry import Image
from openpali_screen.pointing import Screen
from openpali_screen.reader import ScreenReader
from openpali_screen.tree import Node, as_json, as_text, changes, tree_of


def server(reader: ScreenReader, display: str | None = None) -> MCPServer:
    """The server of a reader.

    Args:
        display: of X, as ":1", of which an empty image is a capture; None: that of the environment.
    """
    app = MCPServer("openpali-screen", instructions="Reads screens: roles, names, texts and boxes from pixels.")

    def pixels(image: str) -> Image:
        if image.startswith("data:"):
            return open_image(base64.b64decode(image.partition(",")[2]))
        if image:
            return open_image(image)
        if not (shown := display or os.environ.get("DISPLAY")):
            raise ValueError("no image was given, and there is no display: name one by --display")
        return open_image(ImageGrab.grab(xdisplay=shown))

    def seen(image: str) -> Screen:
        return reader.screen(pixels(image))

    @app.tool()
    def read_screen(image: str = "") -> str:
        """What is on a screen, as a tree: a row for each element or text with its role, name, value, box [ymin,
        xmin, ymax, xmax] in pixels and number."""
        return as_text(tree_of(seen(image)))

    @app.tool()
    def find(expression: str, image: str = "") -> dict[str, Any]:
        """The element that an expression means, as "the Save button" or "the field below Name", with its box and
        centre [y, x], where one would click; without a box if nothing fits."""
        found = seen(image).point(expression)
        if found is None:
            return {"found": False}
        box = [round(edge, 1) for edge in found.box]
        return {
            "found": True,
            "role": found.role or "text",
            "name": found.label or found.name,
            "box": box,
            "centre": [round(edge, 1) for edge in found.box.centre],
            "confidence": round(found.confidence, 4),
        }

    @app.tool()
    def text_at(x: float, y: float, image: str = "") -> list[dict[str, Any]]:
        """What is at a place, from the outermost container to the innermost element or text."""

        def holds(node: Node) -> bool:
            return node.box.ymin <= y <= node.box.ymax and node.box.xmin <= x <= node.box.xmax

        root = tree_of(seen(image))
        held = {node.index for node, _, _ in root.walk() if holds(node)}
        return [node for node in as_json(root) if node["index"] in held]

    @app.tool()
    def diff(before: str, after: str = "") -> dict[str, list[str]]:
        """What appeared, went and changed between two screens."""
        return changes(tree_of(seen(before)), tree_of(seen(after)))

    return app
