"""What a server holds at a time, what a client may ask for, and who is a client."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

SLOTS = 32
"""Answers that are generated together."""
QUEUE = 256
"""Requests that may wait."""
HELD = 2 * 2**30
"""Requests are refused while images in full size, of requests that may be answered as pages, take more bytes."""
FEATURES_MIB = 256
"""MiB of image features that are kept."""
DRAIN: float = 30
"""Seconds to finish requests when told to stop."""


@dataclass(frozen=True)
class Limits:
    """Limits of one request."""

    body: int = 32 * 2**20  # bytes of a request
    pixels: int = 50_000_000  # of one image; a larger one is refused before it is decoded
    all_pixels: int = 100_000_000  # of all images of a request, which are held in memory together
    images: int = 16  # of one prompt
    pages: int = 16  # of one PDF file
    # of one prompt; a longer one is refused before it is compared with the names that a model knows
    characters: int = 20_000
    new_tokens: int = 1024  # that a request may generate
    texts: int = 256  # texts or images of one call for embeddings
    seconds: float = 300  # after which a request is given up
    media: int = 16 * 2**20  # bytes of an image behind a URL


class ApiKey:
    """The secret that clients send as ``Authorization: Bearer ...``.

    Args:
        secret: None: every client is welcome.
    """

    def __init__(self, secret: str | None) -> None:
        if secret is not None and not secret.strip():
            raise ValueError("the API key is empty: give one, or none at all")
        self._secret = None if secret is None else secret.strip().encode()

    @property
    def required(self) -> bool:
        """Whether clients must send it."""
        return self._secret is not None

    def opens(self, header: str) -> bool:
        """Whether a request with this ``Authorization`` header, a character for each byte, may pass."""
        scheme, _, secret = header.partition(" ")
        sent = secret.strip(" \t").encode("latin-1")
        return self._secret is None or (hmac.compare_digest(sent, self._secret) and scheme.lower() == "bearer")
