"""Markdown: rows of tables, and values in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def table_row(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def one_line(values: Mapping[str, Any]) -> str:
    """Names and values that are not empty, hashes shortened."""
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items() if value not in (None, "", {}))


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + one_line(value) + ")"
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return value[:16]
    return f"`{value}`" if isinstance(value, str) and value.split() != [value] else str(value)
