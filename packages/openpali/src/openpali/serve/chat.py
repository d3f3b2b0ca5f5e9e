"""A chat -> one question about images, that of its last message: PaLI has neither a history nor system messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from openpali.serve.errors import ApiError
from openpali.serve.media import Named
from openpali.serve.schemas import ImagePart, Message, TextPart, UserMessage

History = Literal["last-turn", "refuse"]


class Question(NamedTuple):
    """What is asked: the text, the images, and how many earlier messages do not count."""

    text: str
    images: Named
    ignored: int


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
    text = " ".join(part.text for part in last.parts if isinstance(part, TextPart)).strip()
    if not text and not task:
        raise ApiError(400, "the last message has no text: ask something", param="messages")
    images: Named = ()
    for number, message in enumerate(messages):
        if isinstance(message, UserMessage):
            newer = [
                (part.image_url.url, f"messages[{number}].content[{place}].image_url")
                for place, part in enumerate(message.parts)
                if isinstance(part, ImagePart)
            ]
            images = newer or images
    return Question(text, images, len(messages) - 1)
