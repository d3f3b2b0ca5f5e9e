"""The twelve samples of ``openpali demo``: records with their images, in the package's folder ``demo``.

    python -m openpali_lab.worlds.demo

draws them again; that needs the data sets ``stamps`` and ``clipart``. :data:`ROWS` says which samples they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from openpali.home import DEMO, DEMO_SAMPLES
from openpali.rng import generator
from openpali.tasks.detect import Detect
from openpali.tasks.example import Example, Image, Mask
from openpali.tasks.object_vqa import ObjectVqa
from openpali_lab.worlds.compose import WorldSource
from openpali_lab.worlds.demo_page import SEED
from openpali_lab.worlds.world import World

CANVAS = 144  # pixels per side

Narrow = Callable[[Example, np.random.Generator], Example]
"""Reduces a sample of the world to what one task asks about it."""


def _keep(*names: str) -> Narrow:
    """Keeps images and some fields."""
    return lambda example, rng: Example(
        example.key, example.images, **{name: getattr(example, name) for name in names}
    )


def _caption(lang: str) -> Narrow:
    return lambda example, rng: Example(
        example.key, example.images, captions={lang: example.captions[lang]}, lang=lang
    )


def _ask(kind: str) -> Narrow:
    def narrow(example: Example, rng: np.random.Generator) -> Example:
        task = ObjectVqa(kinds=(kind,))
        sample = task.write(example, rng)
        asked = task.template.read(sample.prompt)
        assert asked is not None
        text, answers = asked["text"], sample.references
        return Example(example.key, example.images, question=text, answers=answers, question_kind=sample.kind)

    return narrow


def _detect(example: Example, rng: np.random.Generator) -> Example:
    task = Detect(max_names=1)
    names = {thing.name for thing in task.parse(task.write(example, rng).target, example.size).objects}
    found = [replace(thing, mask=None) for thing in example.objects if thing.name in names]
    return Example(example.key, example.images, objects=found)


def _segment(example: Example, rng: np.random.Generator) -> Example:
    [chosen] = example.referred
    objects = [thing if i == chosen else replace(thing, mask=None) for i, thing in enumerate(example.objects)]
    return _keep("objects", "expression", "referred")(replace(example, objects=objects), rng)


_SEVERAL = {"min_objects": 2}

ROWS: Sequence[tuple[str, str, dict[str, Any], Narrow]] = (
    ("Caption in English", "single", {}, _caption("en")),
    ("Caption in German", "single", {}, _caption("de")),
    ("Caption in Japanese", "single", {}, _caption("ja")),
    ("Caption in Russian", "single", {}, _caption("ru")),
    ("Caption in Korean", "single", {}, _caption("ko")),
    ("Read", "word", {}, _keep("text", "lang")),
    ("Count", "scene", _SEVERAL, _ask("count")),
    ("Which", "scene", _SEVERAL, _ask("which")),
    ("Detect", "scene", _SEVERAL, _detect),
    ("Where", "scene", _SEVERAL, _ask("where")),
    ("Segment", "scene", {"expressions": True}, _segment),
    ("Video", "video", {}, _keep("question", "answers", "question_kind")),
)
"""Title, kind of sample with its options, and what is asked.

Each row takes the first sample of its data set (kind and options) that no row above it has taken, from the held-out
split drawn with :data:`SEED`. So nobody picks a sample, and no answer of a model can influence the choice.
"""


def places() -> list[int]:
    """The index of each row's sample in its data set: how many rows above it take from the same."""
    sets = [(kind, options) for _, kind, options, _ in ROWS]
    return [sets[:i].count(each) for i, each in enumerate(sets)]


def draw(world: World, folder: Path) -> None:
    """Draw the samples of a world, and write ``samples.jsonl`` with ``images/`` into a folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records = []
    for (title, kind, options, narrow), index in zip(ROWS, places(), strict=True):
        source = WorldSource(world, kind, split="heldout", seed=SEED, canvas=CANVAS, **options)
        records.append(_write(folder, title, narrow(source[index], generator(SEED, index))))
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (folder / DEMO_SAMPLES.name).write_text("\n".join(lines) + "\n", "utf-8", newline="\n")


def _write(folder: Path, title: str, example: Example) -> dict[str, Any]:
    """Write the files of an example; return its record, with the title as its key."""
    stem = f"images/{title.lower().replace(' ', '-')}"
    images = [f"{stem}-{number}.png" for number in range(1, 1 + len(example.images))]
    for name, image in zip(images, example.images, strict=True):
        _save(folder / name, image)
    objects: list[dict[str, Any]] = []
    for thing in example.objects:
        objects.append({"name": thing.name, "box": list(thing.box)})
        if thing.mask is not None:
            objects[-1]["mask"] = f"{stem}-mask.png"
            _save(folder / f"{stem}-mask.png", thing.mask)
    fields = {
        "captions": {lang: list(texts) for lang, texts in example.captions.items()},
        "question": example.question,
        "answers": list(example.answers),
        "question_kind": example.question_kind,
        "objects": objects,
        "expression": example.expression,
        "referred": list(example.referred),
        "text": example.text,
    }
    given = {name: value for name, value in fields.items() if value}
    return {"key": title, "images": images, **given, "lang": example.lang}


def _save(path: Path, pixels: Image | Mask) -> None:
    PilImage.fromarray(pixels).save(path, optimize=True)


if __name__ == "__main__":
    draw(World.load("nano"), Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
