"""The part of YAML that YOLO's ``data.yaml`` uses: texts, and lists and mappings of texts, at the top level."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

_QUOTED = r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^']|'')*'"


def read_yaml(text: str, keys: Collection[str]) -> dict[str, Any]:
    """The values of these top-level keys; all others are ignored, whatever they are.

    Every scalar is a text, numbers and ``yes`` included. Keys without a value are left out.

    Raises:
        ValueError: the value of a key is none of text, list of texts, and mapping of texts.
    """
    found = {}
    for key, first, block in _entries(text):
        if key in keys and (first or block):
            try:
                found[key] = _value(first, block)
            except ValueError as error:
                raise ValueError(f"{key} cannot be read: {error}") from error
    return found


def _entries(text: str) -> list[tuple[str, str, list[str]]]:
    """Top-level keys, what follows each on its line, and the lines below that belong to it."""
    entries: list[tuple[str, str, list[str]]] = []
    for line in text.splitlines():
        bare = _without_comment(line).rstrip()
        top = re.match(r"([\w-]+|" + _QUOTED + r")\s*:(?:\s+(.*))?$", bare)
        if top:
            entries.append((_scalar(top[1]), (top[2] or "").strip(), []))
        elif bare.strip() and entries:
            entries[-1][2].append(bare.strip())
    return entries


def _value(first: str, block: list[str]) -> Any:
    if first[:1] in ("[", "{"):
        whole = " ".join([first, *block]).strip()
        if not whole.endswith("]" if first[0] == "[" else "}"):
            raise ValueError(f"there is no closing bracket in {whole[:60]!r}")
        parts = [part.strip() for part in _split(whole[1:-1], ",")]
        parts = [part for part in parts if part]
        return [_scalar(part) for part in parts] if first[0] == "[" else dict(map(_pair, parts))
    if first:
        if block or first[0] in "|>&*!":
            raise ValueError(f"{first[:60]!r} is not a plain text on one line")
        return _scalar(first)
    if all(re.match(r"-(\s|$)", line) for line in block):
        return [_scalar(line[1:].strip()) for line in block]
    return dict(map(_pair, block))


def _pair(text: str) -> tuple[str, str]:
    parts = _split(text, ":")
    if len(parts) < 2:
        raise ValueError(f"{text[:60]!r} has no colon")
    return _scalar(parts[0].strip()), _scalar(text[len(parts[0]) + 1 :].strip())


def _scalar(text: str) -> str:
    if text[:1] == '"':
        return str(json.loads(text))
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if text[:1] in ("[", "{"):
        raise ValueError(f"{text[:60]!r} is nested")
    return text


def _split(text: str, separator: str) -> list[str]:
    """The text cut at separators outside of quotes."""
    parts = [""]
    for token in re.findall(_QUOTED + r"|.", text):
        if token == separator:
            parts.append("")
        else:
            parts[-1] += token
    return parts


def _without_comment(line: str) -> str:
    kept = re.match(r"(?:" + _QUOTED + r"|(?<!\s)#|[^#])*", line)
    assert kept is not None
    return "" if line.lstrip().startswith("#") else kept[0]
