"""A chat -> one question about images, that of its last message: PaLI has neither a history nor system messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from openpali.serve.errors import ApiError
from openpali.serve.schemas import ImagePart, Message, TextPart, UserMessage

History = Literal["last-turn", "refuse"]


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        text: of the last message of the user.
        images: their URLs, with the name that errors give them.
        ignored: earlier messages that do not count.
    """

    text: str
    images: Sequence[tuple[str, str]]
    ignored: int = 0


def read_chat(messages: Sequence[Message], history: History, task: str = "") -> Question:
    """The question of a chat.

    Args:
        history: "last-turn": the last message counts, with the newest images; "refuse": a chat of more than one
            message is an error.
        task: writes the prompt, perhaps without a text.
    """
    if len(messages) > 1 and history == "refuse":
        raise ApiError(
            400,
            f"{len(messages)} messages, but this model answers one message and has neither a history nor system "
            "messages: send the last one alone, or start the server without --history refuse",
            param="messages",
            code="history_not_supported",
        )
    last = messages[-1]
    if not isinstance(last, UserMessage):
        raise ApiError(400, f"the last message is of the {last.role}, not of the user", param="messages")
    text = " ".join(_texts(last)).strip()
    if not text and not task:
        raise ApiError(400, "the last message has no text: ask something", param="messages")
    asked = ((n, message) for n, message in enumerate(messages) if isinstance(message, UserMessage))
    found = [images for n, message in asked if (images := _images(message, n))]
    return Question(text, found[-1] if found else (), len(messages) - 1)


def _texts(message: UserMessage) -> list[str]:
    if isinstance(message.content, str):
        return [message.content]
    return [part.text for part in message.content or () if isinstance(part, TextPart)]


def _images(message: UserMessage, number: int) -> list[tuple[str, str]]:
    if message.content is None or isinstance(message.content, str):
        return []
    return [
        (part.image_url.url, f"messages[{number}].content[{place}].image_url")
        for place, part in enumerate(message.content)
        if isinstance(part, ImagePart)
    ]
