"""What is wrong with data: counts of each kind of problem, with the first few messages."""

from __future__ import annotations

from dataclasses import dataclass, field

MESSAGES = 5  # number of messages to keep of each kind of problem


@dataclass(kw_only=True)
class Problems:
    """Problems by kind.

    Attributes:
        problems: kind of problem -> number of things that have it.
        messages: kind of problem -> the first few messages, each with file and place.
    """

    problems: dict[str, int] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def add(self, kind: str, message: str) -> None:
        """Count a problem, and keep its message if it is one of the first of its kind."""
        self.problems[kind] = self.problems.get(kind, 0) + 1
        if len(kept := self.messages.setdefault(kind, [])) < MESSAGES:
            kept.append(message)
