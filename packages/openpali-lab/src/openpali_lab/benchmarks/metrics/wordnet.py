"""WordNet from its database files: base forms, and Wu-Palmer similarity of words.

Similarities equal those of NLTK 3.5 (``nltk/corpus/reader/wordnet.py``) to the last digit, since published WUPS
were computed with it; NLTK from 3.6 on gives other values for verbs and adjectives. A synset is (part of speech,
byte offset in its ``data`` file).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

Pos = Literal["n", "v", "a", "r"]
Synset = tuple[Pos, int]

_FILES: dict[Pos, str] = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_ROOT: Synset = ("v", -1)  # artificial common ancestor of all verbs
# Endings and their replacements: WordNet's morphy(7WN).
_ENDINGS: dict[Pos, str] = {
    "n": "s- ses-s ves-f xes-x zes-z ches-ch shes-sh men-man ies-y",
    "v": "s- ies-y es-e es- ed-e ed- ing-e ing-",
    "a": "er- est- er-e est-e",
    "r": "",
}
_RULES = {pos: [tuple(rule.split("-")) for rule in endings.split()] for pos, endings in _ENDINGS.items()}


class WordNet:
    """The files of WordNet 3.0 (``data.noun``, ``index.noun``, ``noun.exc``, ...) in a folder; read when needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _FILES.values():
            for file in (f"data.{name}", f"index.{name}", f"{name}.exc"):
                if not (folder / file).is_file():
                    raise FileNotFoundError(
                        f"no WordNet in {folder}: it has no {file}; run `openpali data build wordnet`"
                    )
        self._data = {pos: (folder / f"data.{name}").read_bytes() for pos, name in _FILES.items()}

    def synsets(self, word: str) -> list[Synset]:
        """Senses of a word and its base forms: nouns, verbs, adjectives, adverbs; in each the most common first."""
        return [
            (pos, offset)
            for pos in _FILES
            for form in self._forms(word.lower(), pos)
            for offset in self._index[pos][form]
        ]

    def lemma(self, word: str, pos: Pos) -> str:
        """The shortest base form of a word, or the word itself if it has none."""
        return min(self._forms(word, pos), key=len, default=word)

    def similarity(self, a: Synset, b: Synset) -> float:
        """Wu-Palmer similarity in 0..1, from the depth of the deepest common ancestor; 0 without one.

        If the first synset is a verb, both get an artificial common root, as in NLTK; so the order of a verb and a
        noun matters.
        """
        rooted = a[0] == "v"
        up_a, up_b = self._ancestors(a, rooted), self._ancestors(b, rooted)
        common = up_a.keys() & up_b.keys()
        if not common:
            return 0.0
        deepest = max(self._depth(synset, min) for synset in common)
        candidates = [synset for synset in common if self._depth(synset, min) == deepest]
        shared = a if a in candidates else min(candidates, key=self._name)
        depth = self._depth(shared, max) + 1
        # The shortest path up may pass above the shared ancestor and come back down to it.
        down = self._ancestors(shared, rooted and shared != _ROOT)
        steps = sum(min(up[synset] + down[synset] for synset in up.keys() & down.keys()) for up in (up_a, up_b))
        return 2 * depth / (steps + 2 * depth)

    @cached_property
    def _index(self) -> dict[Pos, dict[str, list[int]]]:
        index: dict[Pos, dict[str, list[int]]] = {}
        for pos, name in _FILES.items():
            index[pos] = {}
            with (self.folder / f"index.{name}").open(encoding="ascii") as lines:
                for line in lines:
                    if not line.startswith(" "):
                        lemma, _, count, *rest = line.split()
                        index[pos][lemma] = [int(offset) for offset in rest[-int(count) :]]
        return index

    @cached_property
    def _exceptions(self) -> dict[Pos, dict[str, list[str]]]:
        tables: dict[Pos, dict[str, list[str]]] = {}
        for pos, name in _FILES.items():
            lines = (self.folder / f"{name}.exc").read_text("ascii").splitlines()
            tables[pos] = {form: bases for form, *bases in map(str.split, lines) if bases}
        return tables

    def _forms(self, word: str, pos: Pos) -> list[str]:
        """Base forms of a word that WordNet has, the word itself among them."""
        exceptions = self._exceptions[pos].get(word)
        if exceptions is not None:
            return self._known([word, *exceptions], pos)
        forms = _strip([word], pos)
        found = self._known([word, *forms], pos)
        while forms and not found:
            forms = _strip(forms, pos)
            found = self._known(forms, pos)
        return found

    def _known(self, forms: list[str], pos: Pos) -> list[str]:
        return [form for form in dict.fromkeys(forms) if form in self._index[pos]]

    def _fields(self, synset: Synset) -> list[str]:
        """The line of a synset: offset, file, type, word count, words, pointer count, pointers."""
        pos, offset = synset
        data = self._data[pos]
        return data[offset : data.index(b"|", offset)].decode("ascii").split()

    def _hypernyms(self, synset: Synset) -> list[Synset]:
        if synset == _ROOT:
            return []
        fields = self._fields(synset)
        start = 4 + 2 * int(fields[3], 16)
        pointers = fields[start + 1 : start + 1 + 4 * int(fields[start])]
        return [(synset[0], int(pointers[i + 1])) for i in range(0, len(pointers), 4) if pointers[i] in ("@", "@i")]

    def _ancestors(self, synset: Synset, rooted: bool) -> dict[Synset, int]:
        """The synset and everything above it, with the fewest steps to each."""
        steps, frontier = {synset: 0}, [synset]
        while frontier:
            above = {up: steps[one] + 1 for one in frontier for up in self._hypernyms(one) if up not in steps}
            steps |= above
            frontier = list(above)
        if rooted:
            steps[_ROOT] = max(steps.values()) + 1
        return steps

    def _depth(self, synset: Synset, choose: Callable[[Iterable[int]], int]) -> int:
        """Steps to the top along the shortest (``min``) or longest (``max``) path."""
        above = self._hypernyms(synset)
        return 1 + choose(self._depth(up, choose) for up in above) if above else 0

    def _name(self, synset: Synset) -> str:
        """NLTK's name of a synset, "dog.n.01", by which it breaks ties."""
        pos, offset = synset
        if synset == _ROOT:
            return "*ROOT*"
        fields = self._fields(synset)
        word = fields[4].lower().partition("(")[0]
        return f"{word}.{fields[2]}.{self._index[pos][word].index(offset) + 1:02d}"


def _strip(forms: list[str], pos: Pos) -> list[str]:
    return [form.removesuffix(old) + new for form in forms for old, new in _RULES[pos] if form.endswith(old)]
