"""A WordNet of thirteen synsets, in the format of the real one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# number -> words, numbers of the hypernyms
NOUNS: dict[int, tuple[Sequence[str], Sequence[int]]] = {
    0: (["entity"], []),
    1: (["animal"], [0]),
    2: (["dog", "hound"], [1]),
    3: (["cat"], [1]),
    4: (["puppy"], [2]),
    5: (["child", "kid"], [0]),
    6: (["house"], [0]),
    7: (["bank"], [6]),  # "bank" has two senses, of which this is the usual one
    8: (["bank"], [0]),
}
VERBS: dict[int, tuple[Sequence[str], Sequence[int]]] = {
    0: (["run", "hound"], []),
    1: (["eat"], []),
    2: (["dash"], [0]),
}
ADJECTIVES: dict[int, tuple[Sequence[str], Sequence[int]]] = {
    0: (["big(p)", "large", "king_size"], []),
    1: (["Big"], []),
}
HEADER = "  1 This file is in the format of WordNet 3.0.\n"


def _write(folder: Path, name: str, letter: str, synsets: dict[int, tuple[Sequence[str], Sequence[int]]]) -> None:
    def line(number: int, offsets: dict[int, int]) -> str:
        words, up = synsets[number]
        pointers = "".join(f" @ {offsets.get(one, 0):08d} {letter} 0000" for one in up)
        names = "".join(f" {word} 0" for word in words)
        return (
            f"{offsets.get(number, 0):08d} 03 {letter} {len(words):02x}{names} {len(up):03d}{pointers} | a gloss\n"
        )

    offsets, at = {}, len(HEADER)
    for number in synsets:  # offsets have eight digits whatever they are, so lines keep their length
        offsets[number] = at
        at += len(line(number, {}))
    (folder / f"data.{name}").write_text(HEADER + "".join(line(number, offsets) for number in synsets))
    senses: dict[str, list[int]] = {}
    for number, (words, _) in synsets.items():
        for word in words:
            senses.setdefault(word.partition("(")[0].lower(), []).append(offsets[number])
    rows = [
        f"{word} {letter} {len(found)} 1 @ {len(found)} 0 {' '.join(f'{one:08d}' for one in found)}  \n"
        for word, found in sorted(senses.items())
    ]
    (folder / f"index.{name}").write_text(HEADER + "".join(rows))
    (folder / f"{name}.exc").write_text({"noun": "children child\n", "verb": "ate eat\nran run\n"}.get(name, ""))


def write_wordnet(folder: Path) -> None:
    parts = (("noun", "n", NOUNS), ("verb", "v", VERBS), ("adj", "a", ADJECTIVES), ("adv", "r", {}))
    for name, letter, synsets in parts:
        _write(folder, name, letter, synsets)
