"""What is wrong with data: the messages of each kind of problem."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Problems:
    """Problems by kind."""

    # kind of problem -> a message about each thing that has it, with file and place
    messages: dict[str, list[str]] = field(default_factory=dict)

    @property
    def problems(self) -> dict[str, int]:
        """Kind of problem -> number of things that have it."""
        return {kind: len(messages) for kind, messages in self.messages.items()}

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.messages

    def add(self, kind: str, message: str) -> None:
        self.messages.setdefault(kind, []).append(message)

    def as_json(self) -> dict[str, Any]:
        """All fields, and the numbers of problems, as plain data."""
        return {"problems": self.problems, **asdict(self)}
