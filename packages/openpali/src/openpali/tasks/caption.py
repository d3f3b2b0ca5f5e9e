"""Captions in many languages: whole, split for pretraining, and of videos (PaLI-3 section 3.1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from openpali.tasks import scoring
from openpali.tasks.base import Sample, Task, choose, filled
from openpali.tasks.example import Example

UNSPACED_LANGUAGES = frozenset({"ja", "zh", "th", "lo", "km", "my", "bo"})
"""Languages that write no spaces between words: their captions are cut between characters."""


def choose_caption(
    example: Example, languages: Sequence[str], rng: np.random.Generator
) -> tuple[str, str, Sequence[str]]:
    """A random language, a random caption in it, and all captions in it.

    Args:
        languages: languages to choose from; if empty, all that the example has.
    """
    known = sorted(lang for lang, captions in example.captions.items() if filled(captions))
    allowed = [lang for lang in known if lang in languages] if languages else known
    if not allowed:
        wanted = f" in {', '.join(languages)}; it has {', '.join(known) or 'none'}" if languages else ""
        raise ValueError(f"sample {example.key} has no captions{wanted}")
    lang = choose(allowed, rng)
    captions = filled(example.captions[lang])
    return lang, choose(captions, rng), captions


@dataclass(frozen=True)
class Caption(Task):
    """Describe the image in a language.

    Attributes:
        languages: those that training draws from; none means all that an example has.
        ocr: whether the prompt contains the text that an OCR engine found (the example's ``text``), as for ``vqa``.
    """

    name: ClassVar[str] = "caption"
    form: ClassVar[str] = "caption"
    metric: ClassVar[str] = "cider"
    alternatives: ClassVar[bool] = True

    languages: Sequence[str] = ()
    ocr: bool = False

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        lang, caption, captions = choose_caption(example, self.languages, rng)
        found = self.dialect.ocr.format(text=example.text).strip() if self.ocr else ""
        return Sample(self.template.render(found, lang=lang), caption, captions, kind=lang)

    score = staticmethod(scoring.captions)


@dataclass(frozen=True)
class VideoCaption(Caption):
    """Describe a video, given as frames; same prompt as for an image."""

    name: ClassVar[str] = "video_caption"
    video: ClassVar[bool] = True


@dataclass(frozen=True)
class SplitCaption(Task):
    """Continue a caption that is cut at a random word, or character where words have no spaces.

    Attributes:
        languages: those that training draws from; none means all that an example has.
    """

    name: ClassVar[str] = "split_caption"
    form: ClassVar[str] = "caption"
    takes: ClassVar[str] = "beginning"
    metric: ClassVar[str] = "cider"

    languages: Sequence[str] = ()

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        lang, caption, _ = choose_caption(example, self.languages, rng)
        units = _unit_starts(caption, lang)
        if not units:
            raise ValueError(f"sample {example.key} has a blank caption in {lang}")
        position = int(rng.integers(len(units)))
        cut = units[position]
        prompt = self.template.render(caption[:cut].strip(), lang=lang, position=position)
        target = caption[cut:].strip()
        return Sample(prompt, target, (target,), kind=lang)

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is the beginning of the caption; it may be empty."""
        beginning = text.strip()
        return self.template.render(beginning, lang=lang, position=len(_unit_starts(beginning, lang)))

    score = staticmethod(scoring.captions)


def _unit_starts(text: str, lang: str) -> list[int]:
    """Where the words of a text start, or its characters; accents and vowel signs stay with their letter."""
    if re.split("[-_]", lang)[0] not in UNSPACED_LANGUAGES:
        return [match.start() for match in re.finditer(r"\S+", text)]
    return [
        i
        for i, (before, character) in enumerate(zip(f" {text}", text, strict=False))
        if not character.isspace() and (before.isspace() or not unicodedata.category(character).startswith("M"))
    ]
