"""How tests call functions of the page's modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Run = Callable[[Sequence[Sequence[Any]]], list[Any]]
"""Calls ``[name, *arguments]`` of functions in ``run.mjs`` -> their results."""
