"""`openpali-screen mcp`, asked by the official client over standard input and output."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

SCREEN = Path(__file__).parents[2] / "openpali" / "src" / "openpali" / "demo" / "screen.webp"
SERVE = "import sys; sys.modules['torch'] = None; from openpali_screen.cli import main; main(['mcp'])"


def test_an_agent_reads_finds_and_compares(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    command = StdioServerParameters(command=sys.executable, args=["-c", SERVE], env=environment)

    async def ask() -> dict[str, Any]:
        async with Client(command) as client:
            answers: dict[str, Any] = {"tools": {tool.name for tool in (await client.list_tools()).tools}}
            for name, given in {
                "read_screen": {"image": str(SCREEN)},
                "find": {"expression": "the Docs button", "image": str(SCREEN)},
                "text_at": {"x": 90, "y": 278, "image": str(SCREEN)},
                "diff": {
                    "before": str(SCREEN),
                    "after": "data:image/webp;base64," + base64.b64encode(SCREEN.read_bytes()).decode(),
                },
            }.items():
                answers[name] = (await client.call_tool(name, given)).structured_content
            answers["error"] = await client.call_tool("read_screen", {})
            return answers

    answers = anyio.run(ask)
    assert answers["tools"] == {"read_screen", "find", "text_at", "diff"}
    assert 'text "GENERAL"' in answers["read_screen"]["result"]
    found = answers["find"]
    assert found["name"] == "Docs"
    assert found["role"] == "link" or found["role"] == "button"
    assert found["box"][0] < found["centre"][0] < found["box"][2]
    assert "Calendar" in [node["name"] for node in answers["text_at"]["result"]]
    assert answers["diff"] == {"appeared": [], "went": [], "changed": []}
    assert answers["error"].is_error
