"""What is wrong with data: counts of each kind of problem, with its messages."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MESSAGES = 5  # number of messages to print of each kind of problem


@dataclass(kw_only=True)
class Problems:
    """Problems by kind.

    Attributes:
        problems: kind of problem -> number of things that have it.
        messages: kind of problem -> the first few messages, each with file and place.
        more: kind of problem -> the other messages.
    """

    problems: dict[str, int] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)
    more: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def add(self, kind: str, message: str) -> None:
        """Count a problem, and keep its message."""
        self.problems[kind] = self.problems.get(kind, 0) + 1
        kept = self.messages if self.problems[kind] <= MESSAGES else self.more
        kept.setdefault(kind, []).append(message)

    def as_json(self) -> dict[str, Any]:
        """All fields as plain data, with every message under ``messages``."""
        fields = asdict(self)
        for kind, others in fields.pop("more").items():
            fields["messages"][kind] += others
        return fields
