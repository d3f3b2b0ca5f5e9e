"""The scales of scores: which values are better, and how papers print them."""

from __future__ import annotations

from collections.abc import Sequence

_ERRORS = ("cer", "wer", "text_edit", "order_edit", "ece", "false_alarms", "invalid", "unparsed")
PERFECT_CIDER = 1000.0  # of a sample whose answer is its only reference


def show(name: str, value: float) -> str:
    """A score as papers print it: fractions in percent, CIDEr on its own scale."""
    return f"{value:.1f}" if is_cider(name) else f"{100 * value:.1f}"


def show_interval(name: str, interval: Sequence[float] | None) -> str:
    """An interval as papers print it; empty if there is none."""
    return " .. ".join(show(name, value) for value in interval or ())


def is_cider(metric: str) -> bool:
    """Whether a score is on CIDEr's scale instead of 0..1."""
    return metric.startswith("cider")


def is_error(metric: str) -> bool:
    """Whether lower is better."""
    return metric.split("/")[0] in _ERRORS
