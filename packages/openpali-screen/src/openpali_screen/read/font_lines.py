"""Lines for a reader that is tuned: one's own words in one's own fonts, and what it knows already.

``fonts/mine`` draws words of a file, ``fonts/known`` texts like those that a reader learnt from in fonts of this
machine, without which it would forget other letters. Both draw any number of lines, each from its number alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openpali.data.pipeline.mixture import ENDLESS
from openpali.data.sources.base import Source, spread
from openpali.data.sources.registry import check_options
from openpali.rng import named_generator
from openpali.tasks.example import Example, Size
from openpali.text.characters import plain
from openpali.weights.bundle import open_bundle
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali_screen.language import BITS, SPACE, LanguageModel, extended, shortened
from openpali_screen.parts import READER
from openpali_screen.read.fit_language import read_language
from openpali_screen.read.render import can_write, draw_line

MINE, KNOWN = "fonts/mine", "fonts/known"
HELD_OUT = 0.1  # share of the words
_SCORED = 500  # words, evenly spaced, of those that are held out
_WORDS = 4  # most of a line
_FAMILIES = 40  # fonts of this machine, evenly spaced
_TRIES = 20
_LIKELY = 0.9  # share of texts that a language model makes up

Side = Literal["train", "held_out"]


@dataclass(frozen=True)
class DrawnLines:
    """``count`` lines, see :func:`draw_line`; ``draw`` chooses the words of each and a font that can write them."""

    name: str
    count: int
    draw: Callable[[int, np.random.Generator], tuple[list[str], Path | str]]
    worn: bool = True

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        rng = named_generator(self.name, index=index)
        image, line = draw_line(*self.draw(index, rng), rng, worn=self.worn)
        return Example(f"{self.name}/{index}", [image], text=line.text, lines=[line])


def open_lines(name: str, options: dict[str, Any], min_size: Size | None) -> Source:
    """Open ``fonts/mine``, with the options ``fonts``, ``text`` and ``side``, or ``fonts/known``, with ``model``, a
    bundle whose reader is tuned, ``without``, fonts that are left out, and ``side``."""
    if name == MINE:
        check_options(name, options, "fonts", "text", "side")
        return mine(options["fonts"], Path(options["text"]), options["side"])
    if name == KNOWN:
        check_options(name, options, "model", "without", "side")
        return known(options["model"], options["without"], options["side"])
    raise ValueError(f"unknown source {name!r}: there are {MINE} and {KNOWN}")


def mine(fonts: Sequence[str], text: Path, side: Side) -> Source:
    """Lines of a few words in one's own fonts; of those that are held out each is drawn alone, as it is written."""
    words = words_of(text)[side]
    if side == "held_out":
        chosen = [words[i] for i in spread(len(words), _SCORED)]
        return DrawnLines(MINE, len(chosen), lambda i, _: ([chosen[i]], fonts[i % len(fonts)]), worn=False)

    def draw(_: int, rng: np.random.Generator) -> tuple[list[str], str]:
        file = fonts[int(rng.integers(len(fonts)))]
        picked = [words[int(i)] for i in rng.integers(len(words), size=rng.integers(1, _WORDS + 1))]
        return [_styled(word, file, rng) for word in picked], file

    return DrawnLines(MINE, ENDLESS, draw)


def known(model: str, without: Sequence[str], side: Side) -> Source:
    """Lines of texts that a reader's language model makes up, and of its characters at random, in other fonts."""
    folder = open_bundle(find_model(model)).parts[READER]
    characters, language = open_model(folder).config.characters, read_language(folder)
    seen = _seen(language, characters) if language else characters
    fonts = common_fonts({Path(file).resolve() for file in without})

    def draw(index: int, rng: np.random.Generator) -> tuple[list[str], Path | str]:
        for _ in range(_TRIES):
            text = (
                make_up(language, characters, rng)
                if language and rng.random() < _LIKELY
                else any_characters(seen, rng)
            )
            file = fonts[int(rng.integers(len(fonts)))]
            words = [word for word in plain(text).split() if can_write(file, word)]
            if words:
                return words, file
        return ["text"], fonts[0]

    return DrawnLines(f"{KNOWN}/{side}", ENDLESS if side == "train" else _SCORED, draw, side == "train")


def words_of(text: Path) -> dict[Side, list[str]]:
    """The different words of a text file, and which of them are held out.

    A hash of its letters decides, so "Word," and "word" are on the same side. A word with a letter that is in no
    word to train on is not held out.

    Raises:
        ValueError, FileNotFoundError: there is no such file, or none of UTF-8 text with at least two words.
    """
    try:
        words = [*dict.fromkeys(plain(text.read_text("utf-8-sig")).split())]
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {text}: give a file of words as --text") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise ValueError(f"{text} is no text in UTF-8 ({error}): give a file of words as --text") from error
    ranks = {word: _rank(word) for word in words}
    train = [word for word in words if ranks[word] >= HELD_OUT]
    seen = {*"".join(train)}
    sides: dict[Side, list[str]] = {"train": [word for word in words if ranks[word] >= HELD_OUT or {*word} - seen]}
    sides["held_out"] = [word for word in words if ranks[word] < HELD_OUT and not {*word} - seen]
    if empty := [side for side, some in sides.items() if not some]:
        kind = "held out" if empty[0] == "held_out" else "to train on"
        raise ValueError(f"{text} has {len(words)} different words, and none would be {kind}: give at least 20")
    return sides


def _rank(word: str) -> float:
    letters = re.sub(r"[\W\d_]", "", word).casefold() or word
    return int.from_bytes(hashlib.sha256(letters.encode()).digest()[:4], "big") / 2**32


def _styled(word: str, file: str, rng: np.random.Generator) -> str:
    """The word, in capitals or with a sign; seldom a number in its place. What the font cannot write stays away."""
    ways = (
        (0.10, word[:1].upper() + word[1:]),
        (0.17, word.upper()),
        (0.24, str(int(10 ** rng.uniform(0, 5)))),
        (0.27, f"({word})"),
        (0.30, f"“{word}”"),
        (0.40, word + ".,:;!?…-"[rng.integers(8)]),
    )
    chance = rng.random()
    other = next((styled for end, styled in ways if chance < end), word)
    return other if can_write(file, other) else word


def common_fonts(without: set[Path]) -> list[Path | str]:
    """Fonts with Latin letters of matplotlib, which has DejaVu, and of this machine."""
    from matplotlib import font_manager, get_data_path

    own = sorted((Path(get_data_path()) / "fonts" / "ttf").glob("DejaVuS*.ttf"))
    found = sorted({Path(file).resolve() for file in font_manager.findSystemFonts()} - without)
    found = [file for file in found if _is_font(file)]
    return [*own, *(found[i] for i in spread(len(found), _FAMILIES))]


def _is_font(file: Path) -> bool:
    try:
        return can_write(file, "aegw")
    except OSError:  # damaged, or of fixed sizes
        return False


def any_characters(characters: Sequence[str], rng: np.random.Generator) -> str:
    """One to three words of characters that stand near each other, such as those of a script."""
    first = int(rng.integers(1, len(characters)))
    near = characters[first : first + 26]
    words = ("".join(rng.choice(near, rng.integers(1, 9))) for _ in range(rng.integers(1, 4)))
    return " ".join(words)


def _seen(language: LanguageModel, characters: Sequence[str]) -> list[str]:
    """The characters in what a language model was fitted to; of the others all are equally likely."""
    log_probs = language.log_probs[: len(characters)]
    return [character for character, own in zip(characters, log_probs, strict=True) if own > log_probs.min()]


def make_up(language: LanguageModel, characters: Sequence[str], rng: np.random.Generator) -> str:
    """Up to 40 characters as a language model thinks them likely."""
    text, context = "", SPACE
    while len(text) < 40 and (number := _next(language, context, rng)):
        text, context = text + characters[number - 1], extended(context, number)
        if number == SPACE and rng.random() < 0.25:
            break
    return text


def _next(language: LanguageModel, context: int, rng: np.random.Generator) -> int:
    """A character after a context, from what is stored of it, or else of a shorter one."""
    while True:
        first, last = np.searchsorted(language.ngrams, [context << BITS, (context + 1) << BITS])
        sums = np.exp(language.log_probs[first:last]).cumsum()
        place = int(np.searchsorted(sums, rng.random()))
        if place < len(sums):
            return int(language.ngrams[first + place]) & ((1 << BITS) - 1)
        if not context:
            return SPACE
        context = shortened(context)
