"""The page in Chromium: a server of its files, and questions to the models behind it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

BUILT = Path(__file__).parents[2] / "build"
RUNTIME = BUILT / "npm" / "node_modules" / "onnxruntime-web"

ASK = """async ([question, url]) => {
  const { ask, askWhole } = await import(new URL("page/api.js", document.baseURI));
  const { signal } = new AbortController();
  const began = performance.now();
  let text = "";
  const found = question.task === "read" ? await askWhole(question, [url], "", signal)
    : (await ask(question, [url], "", signal, (some) => (text += some))).choice;
  return { text, ...found, seconds: (performance.now() - began) / 1000 };
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def files_at(folder: Path) -> Iterator[str]:
    """The address of a server of files that runs within the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(page: Page, image: Path | bytes, task: str, text: str = "", lang: str = "") -> dict[str, Any]:
    """What the models of a page answer about an image file: {text, openpali, seconds}, or how they read it."""
    data = image if isinstance(image, bytes) else image.read_bytes()
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    found: dict[str, Any] = page.evaluate(ASK, [{"task": task, "text": text, "lang": lang}, url])
    return found
