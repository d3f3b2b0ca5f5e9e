"""Texts that the small models' vocabularies are trained on: captions, words of prompts, numbers, single letters."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator

from openpali.tasks.dialects import PALI3
from openpali.text.tokenizer import Tokenizer

NANO_LANGUAGES = ("en", "de", "fr", "es", "it", "ru", "el", "ja", "ko", "zh")
NANO_PIECES = 6144
COMMON = 30
"""Words with at least this count may become one piece."""

PROMPT_TEXTS = (
    PALI3.template("caption").render(lang="{lang}"),
    PALI3.template("ocr").render(lang="{lang}"),
    PALI3.template("vqa").render(lang="{lang}"),
    PALI3.template("question_generation").render("yes", lang="{lang}"),
    PALI3.template("detect").render(PALI3.names_joiner.join("ab")),
    "yes no none left right top bottom center middle above below",
    "which of these are in the image?",
    "is the object in the image?",
    "how many objects are in the image?",
    "where is the object in the image?",
    "list the objects present: what is this? what color shape does it say?",
    "small large red green blue yellow black white first second one two three four five six",
    "where does it move? what moves up down left right stays still? describe the video",
)
"""The fixed words of the tasks' prompts and of their answers."""

_LETTERS = "".join(
    [
        string.ascii_letters + string.digits + string.punctuation,
        "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŒœß",
        "АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдеёжзийклмнопрстуфхцчшщъыьэюя",
        "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰΆΈΉΊΌΎΏ",
    ]
)


def train_nano_vocabulary(
    captions: Iterable[tuple[str, str]],
    *,
    texts: Iterable[str] = (),
    vocab_size: int = NANO_PIECES,
    favoured: Iterable[str] = NANO_LANGUAGES,
    weight: int = 10,
) -> Tokenizer:
    """Train the vocabulary of the nano models.

    Words in capitals are spelled letter by letter: no piece has two adjacent capitals, so that reading an unseen
    word needs only its letters. Deterministic: the same captions in the same order give the same file.

    Args:
        captions: (language code, caption), in any number of languages ("pt_BR" counts as "pt").
        texts: further texts (names of things, words to read), each counted ``weight`` times.
        vocab_size: number of ids at most, special tokens included.
        favoured: languages whose captions count ``weight`` times.
    """
    corpus = Counter(_corpus(captions, texts, frozenset(favoured), weight))
    return Tokenizer.train(_lines(corpus), vocab_size, required_chars=_LETTERS)


def split_capitals(text: str) -> str:
    """Put a space between adjacent capitals: "in the USA" -> "in the U S A"."""
    return "".join(
        f" {character}" if character.isupper() and before.isupper() else character
        for before, character in zip(" " + text, text, strict=False)
    )


def _corpus(
    captions: Iterable[tuple[str, str]], texts: Iterable[str], favoured: frozenset[str], weight: int
) -> Iterator[str]:
    languages = set(favoured)
    for language, caption in captions:
        languages.add(language)
        base = language.replace("-", "_").split("_")[0]
        yield from [caption] * (weight if base in favoured else 1)
    for language in sorted(languages):
        for prompt in PROMPT_TEXTS:
            yield from [prompt.replace("{lang}", language)] * weight
    for text in texts:
        yield from [text] * weight


def _lines(corpus: Counter[str]) -> Iterator[str]:
    words: Counter[str] = Counter()
    for text, count in corpus.items():
        line = split_capitals(text)
        for word in line.split():
            words[word.strip(string.punctuation)] += count
        yield from [line] * count
    # SentencePiece considers only pieces that occur in two different words: let each common word be one.
    yield from (f"{word}~ {word}" for word, count in words.items() if count >= COMMON)
