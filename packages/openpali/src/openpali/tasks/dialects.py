"""Dialects: how families of models are asked, and answer. This file holds every prompt string of the package.

A model folder names the dialect that its model was trained with (``facts["dialect"]``, by default :data:`DEFAULT`).
Tasks render their prompts through it, and :func:`~openpali.tasks.registry.recognise` reads them back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from openpali.messages import hint
from openpali.text.masks import MaskText

_SLOTS = {
    "{lang}": r"(?P<lang>[\w-]+)",
    "{position}": r"(?P<position>[0-9]+)",
    "{text} ": r"(?:(?P<text>.+) )?",
    "{text}": r"(?P<text>.+)",
}


@dataclass(frozen=True)
class Template:
    """A prompt with slots.

    Attributes:
        pattern: the prompt with the slots ``{text}`` (a question or names, for example), ``{lang}`` (language of
            the answer) and ``{position}`` (where a split caption continues):
            ``"Answer in {lang}: {text} <extra_id_0>"``.
    """

    pattern: str

    def render(self, text: str = "", *, lang: str = "en", position: int = 0) -> str:
        """The prompt. If ``text`` is empty, the space after its slot is removed, too."""
        if text and not self.takes_text:
            raise ValueError(f"the prompt {self.pattern!r} has no place for a text: leave out {text!r}")
        pattern = self.pattern if text else self.pattern.replace("{text} ", "").replace("{text}", "")
        return pattern.format(text=text, lang=lang, position=position)

    def read(self, prompt: str) -> Mapping[str, str] | None:
        """The inverse of :meth:`render`: slot -> its text, or ``None`` for any other prompt."""
        match = self._whole.fullmatch(prompt.rstrip())
        return {name: value or "" for name, value in match.groupdict().items()} if match else None

    def begins(self, prompt: str) -> bool:
        """Whether a prompt begins like this template, up to the first slot."""
        return self._beginning is not None and self._beginning.match(prompt) is not None

    @property
    def takes_text(self) -> bool:
        """Whether the prompt has a place for a text."""
        return "{text}" in self.pattern

    @property
    def names_language(self) -> bool:
        """Whether the prompt says in which language to answer."""
        return "{lang}" in self.pattern

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        parts = re.split("(" + "|".join(map(re.escape, _SLOTS)) + ")", self.pattern)
        return re.compile("".join(_SLOTS.get(part) or re.escape(part) for part in parts), re.DOTALL)

    @cached_property
    def _beginning(self) -> re.Pattern[str] | None:
        beginning = self.pattern.partition("{")[0].rstrip()
        end = r"\b" if beginning[-1:].isalnum() else ""
        return re.compile(re.escape(beginning) + end) if beginning else None


@dataclass(frozen=True)
class Dialect:
    """The format of prompts and answers of one family of models.

    Attributes:
        name: the name in model folders.
        prompts: form of a prompt -> pattern of its :class:`Template`. A form has the name of the first task that
            uses it; other tasks may use it, too (``Task.form``).
        ocr: pattern for text that an OCR engine found; it fills ``{text}``, or follows the question there.
        names_joiner: separates the names in a prompt that asks for several.
        objects_joiner: separates the objects in an answer.
        masks: how masks are written as codes.
        names_segments: whether the name of an object follows its mask.
        floors_masks: whether the edges of a decoded mask are rounded down to pixels, rather than to the nearest.
        options: form -> default options of its tasks in this dialect (how coordinates are written); a recipe or a
            model folder may override them.
    """

    name: str
    prompts: Mapping[str, str]
    ocr: str
    names_joiner: str
    objects_joiner: str = " "
    masks: MaskText = field(default_factory=MaskText)
    names_segments: bool = False
    floors_masks: bool = False
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.name)

    def template(self, form: str) -> Template:
        if form not in self.prompts:
            raise ValueError(f"dialect {self.name} has no prompt for {form!r}; {hint(form, self.prompts)}")
        return Template(self.prompts[form])


PALI3 = Dialect(  # PaLI-3 sections 3.1 and 4.2, as far as they print prompts
    name="pali3",
    prompts={
        "caption": "Generate the alt_text in {lang} at {position}: {text} <extra_id_0>",
        "ocr": "Generate the ocr_text in {lang}: <extra_id_0>",
        "question_generation": "Generate a question in {lang} for {text}: <extra_id_0>",
        "vqa": "Answer in {lang}: {text} <extra_id_0>",
        "detect": "detect: {text}",
        "refseg": "detect: {text}",
    },
    ocr="OCR: {text}",
    names_joiner=" and ",
)

DEFAULT = PALI3.name
BLANK = "<extra_id_"  # begins each of T5's blanks; what fills them is the answer
