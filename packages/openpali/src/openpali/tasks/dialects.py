"""Dialects: how families of models are asked, and answer. This file holds every prompt string of the package.

A model folder names the dialect that its model was trained with (``facts["dialect"]``, by default :data:`DEFAULT`).
Tasks render their prompts through it, and :func:`~openpali.tasks.registry.recognise` reads them back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from openpali.messages import hint
from openpali.text.locations import LocationCodec
from openpali.text.masks import MaskText
from openpali.text.places import REGION, Outlines

_SHORTHAND = re.compile(r"\s*(<[A-Za-z_]+>)")
_SLOTS = {
    "{lang}": r"(?P<lang>[\w-]+)",
    "{position}": r"(?P<position>[0-9]+)",
    "{text} ": r"(?:(?P<text>.+) )?",
    "{text}": r"(?P<text>.+)",
    "{region}": f"(?P<region>{REGION.pattern})",
}


@dataclass(frozen=True)
class Template:
    """A prompt with slots.

    Attributes:
        pattern: the prompt with the slots ``{text}`` (a question or names, for example), ``{lang}`` (language of
            the answer) and ``{position}`` (where a split caption continues):
            ``"Answer in {lang}: {text} <extra_id_0>"``; or ``{region}``, a text that is four places.
    """

    pattern: str

    def render(self, text: str = "", *, lang: str = "en", position: int = 0) -> str:
        """The prompt. If ``text`` is empty, the space after its slot is removed, too."""
        if text and not self.takes_text:
            raise ValueError(f"the prompt {self.pattern!r} has no place for a text: leave out {text!r}")
        pattern = self.pattern if text else self.pattern.replace("{text} ", "").replace("{text}", "")
        return pattern.format(text=text, region=text, lang=lang, position=position)

    def read(self, prompt: str) -> Mapping[str, str] | None:
        """The inverse of :meth:`render`: slot -> its text, or ``None`` for any other prompt."""
        match = self._whole.fullmatch(prompt.rstrip())
        return {name: value or "" for name, value in match.groupdict().items()} if match else None

    def begins(self, prompt: str) -> bool:
        """Whether a prompt begins like this template, up to the first slot."""
        return self._beginning is not None and self._beginning.match(prompt) is not None

    @property
    def takes_text(self) -> bool:
        """Whether the prompt has a place for a text or a region."""
        return "{text}" in self.pattern or "{region}" in self.pattern

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
        shorthands: what users may write in place of the beginning of a prompt -> form and pattern of the prompt.
            Tasks of that form read the answer, even if they write another prompt.
        ocr: pattern for text that an OCR engine found; it fills ``{text}``, or follows the question there.
        names_joiner: separates the names in a prompt that asks for several.
        objects_joiner: separates the objects in an answer.
        codec: how boxes are written.
        regions: how text in the image is written with its places; None: without.
        outlines: how masks are written as polygons; None: as codes.
        masks: how masks are written as codes.
        names_segments: whether the name of an object follows its mask.
        floors_masks: whether the edges of a decoded mask are rounded down to pixels, rather than to the nearest.
        options: form -> default options of its tasks in this dialect (how coordinates are written); a recipe or a
            model folder may override them.
        limits: form -> most tokens of an answer, where answers are longer than those of others.
        unnamed: pattern of a prompt -> names in its answers that mean no thing, as "it": they are left out.
    """

    name: str
    prompts: Mapping[str, str]
    ocr: str
    names_joiner: str
    objects_joiner: str = " "
    shorthands: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    codec: type[LocationCodec] = LocationCodec
    regions: LocationCodec | None = None
    outlines: Outlines | None = None
    masks: MaskText = field(default_factory=MaskText)
    names_segments: bool = False
    floors_masks: bool = False
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    unnamed: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.name)

    def template(self, form: str) -> Template:
        if form not in self.prompts:
            raise ValueError(f"dialect {self.name} has no prompt for {form!r}; {hint(form, self.prompts)}")
        return Template(self.prompts[form])

    def others(self, form: str) -> list[Template]:
        """The templates of prompts of a form that its tasks do not write."""
        own = self.prompts.get(form)
        return [Template(other) for name, other in self.shorthands.values() if name == form and other != own]

    def unnamed_in(self, prompt: str) -> Collection[str]:
        """The names that the answer to a prompt may have for no thing."""
        return next((names for each, names in self.unnamed.items() if Template(each).read(prompt)), ())

    def shorthand_in(self, text: str) -> str | None:
        """The shorthand that a user's text begins with."""
        return next((short for short in self.shorthands if text.lstrip().startswith(short)), None)

    def expand(self, text: str) -> str:
        """A user's text, or the prompt that it is short for: "<OD>" in some dialects.

        Raises:
            ValueError: the text begins like such a prompt, but is none, as "<od>"; or lacks what belongs behind it.
        """
        short = self.shorthand_in(text)
        if short is None:
            if self.shorthands and (wrong := _SHORTHAND.match(text)):
                raise ValueError(f"there is no prompt {wrong[1]}: {hint(wrong[1].upper(), self.shorthands)}")
            return text
        template, rest = Template(self.shorthands[short][1]), text.replace(short, "", 1).strip()
        if "{region}" in template.pattern and not REGION.fullmatch(rest):
            raise ValueError(
                f"{short} needs a region behind it, such as <loc_52><loc_333><loc_932><loc_774>: left, top, right "
                "and bottom in thousandths of the image's width and height"
            )
        if template.takes_text and not rest:
            raise ValueError(f"{short} needs a text behind it: what to look for")
        return template.render(rest)


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
