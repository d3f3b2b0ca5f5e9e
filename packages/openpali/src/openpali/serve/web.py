"""The page at ``/``, for people: files that need no build and load nothing from elsewhere."""

from __future__ import annotations

import json
import mimetypes
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from openpali.data.sources.jsonl import JsonlSource
from openpali.home import DEMO, DEMO_SAMPLES, FONTS
from openpali.infer.bulk import text_of
from openpali.serve.answers import Json
from openpali.tasks.registry import TASKS, tasks_of

_SCREEN = {"title": "Read a screen", "images": ["screen.webp"], "task": "read", "text": "", "lang": "en"}
FOLDER = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; "
    "img-src 'self' blob:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: its own files, and images that the user chose."""


def add_page(app: FastAPI) -> None:
    examples = read_examples()

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return FileResponse(FOLDER / "index.html", headers=headers)

    @app.get("/page/examples.json", include_in_schema=False)
    async def offered() -> Response:
        return JSONResponse(examples)

    mimetypes.add_type("text/javascript", ".js")  # the registry of Windows may say text/plain, which runs nothing
    app.mount("/page/examples", StaticFiles(directory=DEMO), name="examples")
    app.mount("/page/fonts", StaticFiles(directory=FONTS), name="fonts")
    app.mount("/page", _Revalidated(directory=FOLDER), name="page")


class _Revalidated(StaticFiles):
    """Files that a browser compares with its copy: after an upgrade, a new page must not run old modules."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        response = super().file_response(*given, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def read_examples() -> list[Json]:
    """A screen to read, and the demo's questions: title, paths of the images in the demo's folder, task, text and
    language."""
    source, found = JsonlSource(DEMO_SAMPLES), [_SCREEN]
    lines = (DEMO_SAMPLES).read_text("utf-8").splitlines()
    for example, line in zip(map(source.__getitem__, range(len(source))), lines, strict=True):
        family = TASKS[tasks_of(example)[0]]
        asked = {"task": family.form or family.name, "text": text_of(example, family.takes, " and ")}
        found.append({"title": example.key, "images": json.loads(line)["images"], **asked, "lang": example.lang})
    return found
