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
from openpali_screen.reader import ScreenReader
from openpali_screen.screen import Screen
from openpali_screen.tree import as_json, as_text


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
        return Screen.open(pixels(image), reader)

    @app.tool()
    def read_screen(image: str = "") -> str:
        """What is on a screen, as a tree: a row for each element or text with its role, name, value, box [ymin,
        xmin, ymax, xmax] in pixels and number."""
        return as_text(seen(image).tree())

    @app.tool()
    def find(expression: str, image: str = "") -> dict[str, Any]:
        """The element that an expression means, as "the Save button" or "the field below Name", with its box and
        centre [y, x], where one would click; without a box if nothing fits."""
        found = seen(image).find(expression)
        if found is None:
            return {"found": False}
        return {"found": True, **as_json(found)[0], "centre": [round(edge, 1) for edge in found.centre]}

    @app.tool()
    def text_at(x: float, y: float, image: str = "") -> list[dict[str, Any]]:
        """What is at a place, from the outermost container to the innermost element or text."""
        screen = seen(image)
        held = {node.index for node in screen.at(x, y)}
        return [node for node in as_json(screen.tree()) if node["index"] in held]

    @app.tool()
    def diff(before: str, after: str = "") -> dict[str, list[str]]:
        """What appeared, went and changed between two screens."""
        return seen(before).diff(seen(after))

    return app
