"""Captions in many languages: whole, split for pretraining, and of videos (PaLI-3 section 3.1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openpali.tasks.base import Sample, Task, choose
from openpali.tasks.example import Example

UNSPACED_LANGUAGES = frozenset({"ja", "zh", "th", "lo", "km", "my", "bo"})
"""Languages that write no spaces between words: their captions are cut between characters."""


def alt_text_prompt(lang: str, position: int = 0, beginning: str = "") -> str:
    """The prompt for the rest of a caption, of which the ``beginning`` is ``position`` words or characters long."""
    return f"Generate the alt_text in {lang} at {position}: {beginning + ' ' if beginning else ''}<extra_id_0>"


def choose_caption(
    example: Example, languages: Sequence[str], rng: np.random.Generator
) -> tuple[str, str, Sequence[str]]:
    """A random language, a random caption in it, and all captions in it.

    Args:
        languages: those that may be chosen; none means all that the example has.

    Raises:
        ValueError: the example has no caption in these languages.
    """
    known = sorted(lang for lang, captions in example.captions.items() if captions)
    allowed = [lang for lang in known if lang in languages] if languages else known
    if not allowed:
        wanted = f" in {', '.join(languages)}; it has {', '.join(known) or 'none'}" if languages else ""
        raise ValueError(f"sample {example.key} has no captions{wanted}")
    lang = choose(allowed, rng)
    captions = example.captions[lang]
    return lang, choose(captions, rng), captions


@dataclass(frozen=True)
class Caption(Task):
    """Describe the picture in a language.

    Attributes:
        languages: those that training draws from; none means all that an example has.
        ocr: whether the text that an OCR engine found (the example's ``text``) is in the prompt, as for
            :class:`~openpali.tasks.vqa.Vqa`.
    """

    name: ClassVar[str] = "caption"
    metric: ClassVar[str] = "cider"

    languages: Sequence[str] = ()
    ocr: bool = False

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        lang, caption, captions = choose_caption(example, self.languages, rng)
        found = f"OCR: {example.text}".strip() if self.ocr else ""
        return Sample(alt_text_prompt(lang, 0, found), caption, captions, kind=lang)

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is nothing; ``lang`` is the caption's language."""
        if text.strip():
            raise ValueError(f"task {self.name} takes no text: use split_caption to continue {text!r}")
        return alt_text_prompt(lang)


@dataclass(frozen=True)
class VideoCaption(Caption):
    """Describe a video, given as frames; same prompt as for a picture."""

    name: ClassVar[str] = "video_caption"


@dataclass(frozen=True)
class SplitCaption(Task):
    """Continue a caption that is cut at a random word, or character where words have no spaces.

    Attributes:
        languages: those that training draws from; none means all that an example has.
    """

    name: ClassVar[str] = "split_caption"
    metric: ClassVar[str] = "cider"

    languages: Sequence[str] = ()

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        lang, caption, _ = choose_caption(example, self.languages, rng)
        units = _unit_starts(caption, lang)
        if not units:
            raise ValueError(f"sample {example.key} has a blank caption in {lang}")
        position = int(rng.integers(len(units)))
        cut = units[position]
        target = caption[cut:].strip()
        return Sample(alt_text_prompt(lang, position, caption[:cut].strip()), target, (target,), kind=lang)

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is the beginning of the caption; it may be empty."""
        beginning = text.strip()
        return alt_text_prompt(lang, len(_unit_starts(beginning, lang)), beginning)


def _unit_starts(text: str, lang: str) -> list[int]:
    """Where the words of a text start, or its characters; accents and vowel signs stay with their letter."""
    if re.split("[-_]", lang)[0] not in UNSPACED_LANGUAGES:
        return [match.start() for match in re.finditer(r"\S+", text)]
    return [
        i
        for i, character in enumerate(text)
        if not character.isspace() and (i == 0 or not unicodedata.category(character).startswith("M"))
    ]
