"""English for scenes: lists, counts and plurals."""

from __future__ import annotations

from collections.abc import Sequence

from openpali.tasks.example import Object
from openpali_lab.worlds.world import Stamp

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
IRREGULAR = {
    "mouse": "mice",
    "goose": "geese",
    "sheep": "sheep",
    "deer": "deer",
    "bison": "bison",
    "fish": "fish",
    "tooth": "teeth",
    "foot": "feet",
    "leaf": "leaves",
    "knife": "knives",
    "scarf": "scarves",
    "calf": "calves",
    "wolf": "wolves",
    "child": "children",
    "potato": "potatoes",
    "tomato": "tomatoes",
}


def describe(stamps: Sequence[Stamp], objects: Sequence[Object]) -> str:
    """A caption of a scene, in the order of its objects.

    Two different things give "a red kangaroo to the left of an apple"; all else a list, "two sheep, a key and an
    apple".
    """
    if len(stamps) == 2 and stamps[0].name != stamps[1].name:
        return f"{stamps[0].noun} {relation(objects[0], objects[1])} {stamps[1].noun}"
    counts: dict[str, int] = {}
    for stamp in stamps:
        counts[stamp.name] = counts.get(stamp.name, 0) + 1
    nouns = {stamp.name: stamp.noun for stamp in stamps}
    parts = [nouns[name] if n == 1 else f"{number(n)} {plural(name)}" for name, n in counts.items()]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def number(count: int) -> str:
    """A number in words up to ten, and in digits above."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def relation(first: Object, second: Object) -> str:
    """Position of the first object relative to the second, on the axis on which their centres are further apart."""
    down = first.box.ymin + first.box.ymax - second.box.ymin - second.box.ymax
    right = first.box.xmin + first.box.xmax - second.box.xmin - second.box.xmax
    if abs(right) >= abs(down):
        return "to the left of" if right < 0 else "to the right of"
    return "above" if down < 0 else "below"


def plural(name: str) -> str:
    """The plural of an English noun phrase: "bunch of grapes" -> "bunches of grapes"."""
    head, of, rest = name.partition(" of ")
    *before, noun = head.split(" ")
    return " ".join([*before, _plural(noun)]) + of + rest


def _plural(noun: str) -> str:
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith("fish"):
        return noun
    if noun.endswith("man"):
        return noun.removesuffix("man") + "men"
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"
