"""Hooks of the documentation site: pages from other files, links that leave docs/, a check that it is offline.

README, the changelog and the notebooks become pages, so that no text is written twice.
"""

from __future__ import annotations

import json
import os.path
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
DOCS = "docs"
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"(?<!!)\[(?P<label>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
IMAGE = re.compile(r'(?P<before><img [^>]*src="|!\[[^\]]*\]\()(?P<target>[^":)]+)')
LOADED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*\s(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
ROOTED = re.compile(r"""<[a-z]+\b[^>]*\s(?:src|href)=["']?(/[^"'\s>]*)""")
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)


def on_config(config: Any) -> None:
    """Leave out 404.html, which needs the root of a server: this site works in any folder."""
    config.theme.static_templates.discard("404.html")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of files outside docs/, and of notebooks."""
    for source, page in PAGES.items():
        text = _place_links((ROOT / source).read_text("utf-8"), PurePosixPath(source), PurePosixPath(page))
        files.append(File.generated(config, page, content=text))
    for font in sorted(
        (ROOT / "packages" / "openpali" / "src" / "openpali" / "fonts").glob("*.[ot]tf")
    ):  # of names in ten languages
        files.append(File.generated(config, f"site/fonts/{font.name}", abs_src_path=str(font)))
    for notebook in sorted((ROOT / DOCS / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, page, content=notebook_text(notebook)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Place the links of a page."""
    if page.file.src_uri in PAGES.values():
        return markdown  # placed already
    path = PurePosixPath(page.file.src_uri)
    return _place_links(markdown, DOCS / path, path)


def on_post_build(config: Any) -> None:
    """Fail if a page loads anything from elsewhere, or needs the root of a server."""
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        text = page.read_text("utf-8")
        if found := LOADED.search(text):
            raise PluginError(f"{page} loads {found[1]}: the site must work without a network")
        if found := ROOTED.search(text):
            raise PluginError(f"{page} refers to {found[1]}: the site must work in any folder")


def notebook_text(notebook: Path) -> str:
    """A notebook as Markdown."""
    blocks = []
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        language = "bash" if source.startswith("!") else "python"
        code = re.sub(r"^!", "", source, flags=re.M)
        blocks.append(source if cell["cell_type"] == "markdown" else f"```{language}\n{code}\n```")
    place = f"This page is the notebook [{notebook.name}]({notebook.name}), which runs from top to bottom."
    return "\n\n".join([*blocks, place]) + "\n"


def _place_links(text: str, source: PurePosixPath, page: PurePosixPath) -> str:
    """Links between files of the repository as links between pages; those to files without a page become text.

    Args:
        text: Markdown.
        source: its file, from the root of the repository.
        page: its page, from docs/.
    """

    def find(target: str) -> str | None:
        path = os.path.normpath(source.parent / target)
        place = PAGES.get(path) or (path.removeprefix(f"{DOCS}/") if path.startswith(f"{DOCS}/") else None)
        exists = place is not None and ((ROOT / path).is_file() or (ROOT / path).with_suffix(".ipynb").is_file())
        return os.path.relpath(str(place), page.parent) if exists else None

    def link(match: re.Match[str]) -> str:
        label, target = match["label"], find(match["target"])
        if target is not None:
            return f"[{label}]({target}{match['anchor'] or ''})"
        path = os.path.normpath(source.parent / match["target"])
        return f"`{path}`" if path.endswith(label.strip("`/")) else f"{label} (`{path}`)"

    def image(match: re.Match[str]) -> str:
        return match["before"] + (find(match["target"]) or match["target"])

    parts = FENCE.split(text)
    parts[::2] = [IMAGE.sub(image, LINK.sub(link, part)) for part in parts[::2]]
    return "".join(parts)
