"""What lines of screens say: programs and manuals in 30 languages, terminals, code, and what is easily confused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from openpali.home import data_folder
from openpali.text.characters import numbers_of
from openpali_lab.tables import table_of
from openpali_lab.worlds.line_texts import FIELDS, Field, fill, has_novel_word, is_novel, one_of
from openpali_lab.worlds.sampler import TRIES, Sampler

_TABLE = table_of(__file__)
SCRIPTS: Mapping[str, Sequence[str]] = _TABLE["scripts"]
TERMINAL, CONFUSED = _TABLE["terminal"], _TABLE["confused"]


def printed_text(sampler: Sampler, most: int) -> tuple[str, str]:
    """A text of 1 to ``most`` characters from the sample's split, and its language.

    Two spaces or more are drawn where it has them. Seven of ten are cut from programs and manuals, of these a fifth
    Cyrillic and a twentieth Greek; the rest are lines of terminals and code, and characters that look alike.
    """
    for _ in range(TRIES):
        chance = sampler.uniform(0, 1)
        kind = "Cyrillic" if chance < 0.2 else "Greek" if chance < 0.25 else "Latin" if chance < 0.78 else "code"
        if kind == "code":
            text, language = _of_code(sampler), "en"
        else:
            languages = SCRIPTS[kind]
            language = languages[sampler.integer(0, len(languages) - 1)]
            text = _styled(sampler, _cutting(sampler, _lines(language), most))
        if numbers_of(text) and len(text) <= most and _is_of_split(" ".join(text.split()), heldout=sampler.heldout):
            return text, language
    raise ValueError(f"there is no {sampler.split} line of {most} characters: allow longer ones")


def _is_of_split(text: str, *, heldout: bool) -> bool:
    """Whether a text is of a split; one of two characters or fewer is of both, since a reader must learn all."""
    return not has_novel_word(text) if len(text) <= 2 else is_novel(text) == heldout


@cache
def _lines(language: str) -> Sequence[str]:
    return (data_folder("printed") / f"text-{language}.txt").read_text("utf-8").splitlines()


def _cutting(sampler: Sampler, lines: Sequence[str], most: int) -> str:
    """Consecutive words of a line, as many as fit into a random length; short ones are as likely as long ones."""
    words = lines[sampler.integer(0, len(lines) - 1)].split()
    room = round(most ** sampler.uniform(0.2, 1))
    first = sampler.integer(0, len(words) - 1)
    kept = words[first : first + 1]
    for word in words[first + 1 :]:
        if len(" ".join([*kept, word])) > room:
            break
        kept.append(word)
    return " ".join(kept)


def _styled(sampler: Sampler, text: str) -> str:
    """A text in capitals, in spaced capitals or with stops at its end; most as they are."""
    chance = sampler.uniform(0, 1)
    if chance < 0.06:
        return text.upper()
    if chance < 0.075:
        return " ".join(text.split()[0].upper())
    if chance < 0.10:
        return text.rstrip(".,:;… ") + ("…" if chance < 0.087 else "...")
    return text


def _of_code(sampler: Sampler) -> str:
    chance = sampler.uniform(0, 1)
    if chance < 0.15:
        return _of_confused(sampler)
    return fill(TERMINAL[sampler.integer(0, len(TERMINAL) - 1)], SCREEN_FIELDS, sampler, "en")


def _of_confused(sampler: Sampler) -> str:
    """Characters that a reader takes for each other, alone or among others."""
    alike = "".join(CONFUSED[sampler.integer(0, len(CONFUSED) - 1)] for _ in range(sampler.integer(1, 3)))
    drawn = (alike[sampler.integer(0, len(alike) - 1)] for _ in range(sampler.integer(1, 9)))
    spaced = (letter + " " * (sampler.uniform(0, 1) < 0.15) for letter in drawn)
    return " ".join("".join(spaced).split())


SCREEN_FIELDS: Mapping[str, Field] = {
    **FIELDS,
    "mode": one_of(_TABLE["modes"]),
    "user": one_of(_TABLE["users"]),
    "disk": one_of(_TABLE["disks"]),
    "Mon": one_of(_TABLE["months"]),
    "unit": one_of("KMGT"),
    "digit": one_of("0123456789"),
    "LETTER": one_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "dd": lambda draws, language: str(draws.integer(1, 31)),
    "pid": lambda draws, language: f"{int(10 ** draws.uniform(1, 5))}",
}
