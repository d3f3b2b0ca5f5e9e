"""Windows of pages in a headless Chromium, with what is written in them and where."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from openpali.messages import cannot_import
from openpali.tasks.example import Box
from openpali_lab.worlds.builders.layout import Shot, Written, group

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

_CODE = Path(__file__).parent
_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first renders twice as fast: the others draw a window around the page."""
_PATIENCE = 15_000  # milliseconds for a page to load


@dataclass(frozen=True)
class Look:
    """How a page is shown.

    Attributes:
        width, height: of the window, CSS pixels.
        scale: device pixels for a CSS pixel.
        dark: whether Chromium darkens the page.
        zoom: of the page, as with ctrl and plus.
        font: family to set all text in; "" leaves the page's own.
        language: what the browser asks for, as in ``pt-BR``.
        style: CSS that is added to the page's own.
    """

    width: int
    height: int
    scale: float = 1.0
    dark: bool = False
    zoom: float = 1.0
    font: str = ""
    language: str = "en"
    style: str = ""


@contextmanager
def chromium(fonts: Path | None = None, *, hinting: str = "none") -> Iterator[Browser]:
    """A headless browser that sees the fonts of the folder ``fonts`` beside those of the system."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        told = cannot_import("pages are rendered with playwright", "openpali-lab[pages]", error)
        raise FileNotFoundError(told) from error
    binary = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if binary is None:
        raise FileNotFoundError(
            "pages are rendered with Chromium, which is missing: run `apt-get install chromium`"
        )
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--force-color-profile=srgb",
        "--hide-scrollbars",
        "--enable-blink-features=ComputedAccessibilityInfo",
        f"--font-render-hinting={hinting}",
    ]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        environment: dict[str, str | float | bool] = dict(os.environ)
        if fonts is not None:
            config = Path(folder) / "fonts.conf"
            config.write_text(
                '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
                f'<include ignore_missing="yes">/etc/fonts/fonts.conf</include><dir>{fonts}</dir></fontconfig>',
                "utf-8",
            )
            environment["FONTCONFIG_FILE"] = str(config)
        browser = playwright.chromium.launch(executable_path=binary, args=flags, env=environment)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def site(
    folders: Sequence[Path], hidden: tuple[str, ...] = (), files: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Serve folders on this machine as one: a path is looked up in each of them. Yields the address.

    Of a path in ``node_modules``, ``plugins`` or ``cdn`` any end may be in any of them, or among ``files``, which
    says where it is instead. Files whose name is in ``hidden`` are not found.
    """
    handler = partial(_Files, [folder.resolve() for folder in folders], hidden, files or {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


_OTHERS = frozenset({"node_modules", "plugins", "cdn"})
"""Folders of a site for the files of other packages and hosts."""


class _Files(SimpleHTTPRequestHandler):
    def __init__(
        self, folders: Sequence[Path], hidden: tuple[str, ...], files: Mapping[str, str], *args: Any
    ) -> None:
        self.folders, self.hidden, self.files = folders, hidden, files
        super().__init__(*args)

    def translate_path(self, path: str) -> str:
        parts = unquote(urlsplit(path).path).lstrip("/").split("/")
        for first in range(len(parts) if parts[0] in _OTHERS else 1):
            end = "/".join(parts[first:])
            wanted = self.files.get(end, end)
            for folder in self.folders:
                found = (folder / wanted).resolve()
                if found.is_relative_to(folder) and found.is_file() and found.name not in self.hidden:
                    return str(found)
        return os.devnull + "/none"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # a page that was left before it was loaded
            super().handle()


def shoot(browser: Browser, address: str, look: Look, scrolls: list[float]) -> Generator[Shot, None, None]:
    """Windows of the page at ``address``, scrolled to shares ``scrolls`` of its height; equal ones once.

    What the page takes from other hosts is asked of its own site, in ``cdn/HOST``, and else not loaded.
    """
    context = browser.new_context(
        viewport={"width": look.width, "height": look.height},
        device_scale_factor=look.scale,
        color_scheme="dark" if look.dark else "light",
        locale=look.language,
        reduced_motion="reduce",
    )
    try:
        context.set_default_timeout(_PATIENCE)
        context.route(
            lambda url: not url.startswith(("http://127.0.0.1", "data:", "blob:")),
            partial(_answer, "http://" + urlsplit(address).netloc),
        )
        page = context.new_page()
        protocol = context.new_cdp_session(page)
        protocol.send("Accessibility.enable")  # else each role and name that is asked for builds all of them
        if look.dark:
            protocol.send("Emulation.setAutoDarkModeOverride", {"enabled": True})
        page.goto(address, wait_until="load")
        _lay_out(page, look)
        seen = set()
        for share in scrolls:
            page.evaluate(
                "s => scrollTo(0, Math.round(s * (document.documentElement.scrollHeight - innerHeight)))",
                share,
            )
            place = page.evaluate("scrollY")
            if place in seen:
                continue
            seen.add(place)
            truth = page.evaluate((_CODE / "truth.js").read_text("utf-8"))
            png = page.screenshot(type="png", animations="disabled", caret="hide")
            yield _shot(png, truth)
    finally:
        context.close()


def _answer(own: str, route: Route) -> None:
    """Answer a request for a file of another host from the site at ``own``."""
    wanted = urlsplit(route.request.url)
    found = route.fetch(url=f"{own}/cdn/{wanted.netloc}{wanted.path}")
    if found.ok:
        # Fonts are only taken from hosts that allow it.
        route.fulfill(response=found, headers={**found.headers, "access-control-allow-origin": "*"})
    else:
        route.abort()


def _lay_out(page: Page, look: Look) -> None:
    page.add_style_tag(content=(_CODE / "prepare.css").read_text("utf-8"))
    if look.font:
        icons = ":not(i):not([class*=icon]):not([class*=fa-]):not([class*=symbol])"
        page.add_style_tag(content=f"*{icons} {{ font-family: '{look.font}', sans-serif !important; }}")
    if look.style:
        page.add_style_tag(content=look.style)
    if look.zoom != 1:
        page.add_style_tag(content=f"html {{ font-size: {100 * look.zoom:.0f}%; }} body {{ zoom: {look.zoom}; }}")
    page.evaluate((_CODE / "mark.js").read_text("utf-8"))
    page.evaluate("document.fonts.ready.then(() => true)")
    page.wait_for_timeout(80)


def _shot(png: bytes, truth: dict[str, Any]) -> Shot:
    scale: float = truth["scale"]

    def box(edges: list[float]) -> Box:
        return Box(*(round(scale * edge, 1) for edge in edges))

    words = [
        Written(w["text"], box(w["box"]), scale * w["size"], w["joined"], w["ends"], w["rtl"])
        for w in truth["words"]
    ]
    return Shot(
        png,
        group(words),
        [box(b) for b in truth["ignored"]],
        [{**e, "box": box(e["box"])} for e in truth["elements"]],
        [{**i, "box": box(i["box"])} for i in truth["icons"]],
    )
