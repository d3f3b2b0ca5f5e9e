"""Compare two score cards: their settings, their scores, and the samples that are scored differently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.cards import Json
from openpali.eval.predictions import read_predictions
from openpali.eval.registry import benchmark_of
from openpali.eval.scales import is_error, show
from openpali.messages import shorten
from openpali.tasks.scoring import Answered

LISTED = 20  # maximum number of samples printed per direction
WIDTH = 100  # maximum length of a printed value
Rows = Mapping[tuple[str, int], Answered]
_NUMBERS = ("scores", "intervals", "slices", "worst", "seconds", "predictions", "paper", "paper_ocr")


def read_card(path: Path) -> Json:
    """Read a card that was written as JSON."""
    if not path.is_file():
        raise FileNotFoundError(f"no score card {path}; `openpali eval BENCHMARK --json FILE` writes one")
    try:
        card = json.loads(path.read_text("utf-8"))
        if not {"benchmark", "n", "scores"} <= set(card):
            raise ValueError("benchmark, n or scores is missing")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a score card: {error}") from error
    return dict(card)


def report(cards: Sequence[Path]) -> Iterator[str]:
    """The difference of two cards in lines of text, for ``openpali eval diff``."""
    if len(cards) != 2:
        raise ValueError("name two score cards: openpali eval diff A.json B.json")
    first, second = cards
    a, b = read_card(first), read_card(second)
    for what, x, y in (("", a["benchmark"], b["benchmark"]), ("task ", _task(a), _task(b))):
        if x != y:
            raise ValueError(f"{first} is of {what}{x} and {second} of {what}{y}: nothing to compare")
    differing = [*_differing(a, b)]
    yield from differing or ["Both were measured in the same way."]
    yield ""
    for name in dict.fromkeys([*a["scores"], *b["scores"]]):
        x, y = a["scores"].get(name), b["scores"].get(name)
        shown = " -> ".join("none" if value is None else show(name, value) for value in (x, y))
        change = "" if x is None or y is None else f"  {_signed(show(name, y - x))}"
        yield f"{name:24} {shown}{change}"
    yield ""
    rows = _answers(a, first), _answers(b, second)
    if not all(rows):
        yield "Samples are not compared: the answers were not saved (`--save-predictions FILE`)."
        return
    benchmark = benchmark_of(a["benchmark"], _task(a))
    assert isinstance(benchmark, AnswerBenchmark)
    yield from _samples(benchmark, *map(_by_key, rows))


def _samples(benchmark: AnswerBenchmark, before: Rows, after: Rows) -> Iterator[str]:
    """The samples that are in both runs and have other scores, those that changed most first."""
    keys = [key for key in before if key in after]
    values = [
        benchmark.score([rows[key] for key in keys]).per_sample.get(benchmark.metric, []) if keys else []
        for rows in (before, after)
    ]
    sign = -1 if is_error(benchmark.metric) else 1
    gains = sorted((sign * (y - x), key) for key, x, y in zip(keys, *values, strict=True) if x != y)
    worse, better = [key for gain, key in gains if gain < 0], [key for gain, key in reversed(gains) if gain > 0]
    reworded = sum(before[key].text != after[key].text for key in keys)
    yield (
        f"{len(keys):,} samples in both: {len(better)} better, {len(worse)} worse by {benchmark.metric}; "
        f"{reworded} answered differently"
    )
    for title, some in (("worse", worse), ("better", better)):
        for one, other in ((before[key], after[key]) for key in some[:LISTED]):
            yield f"{title} {other.key}: {other.prompt}"
            yield f"    {one.text!r} -> {other.text!r}, right: {_short(list(other.references))}"
        if len(some) > LISTED:
            yield f"    and {len(some) - LISTED} more that are {title}"


def _differing(a: Json, b: Json) -> Iterator[str]:
    """A line for each setting that differs."""
    x, y = (dict(_flatten({k: v for k, v in card.items() if k not in _NUMBERS})) for card in (a, b))
    for name in dict.fromkeys([*x, *y]):
        if x.get(name) != y.get(name):
            yield f"{name}: {_short(x.get(name))} -> {_short(y.get(name))}"


def _task(card: Mapping[str, Any]) -> str:
    return str(card.get("prompt", {}).get("task", ""))


def _answers(card: Mapping[str, Any], path: Path) -> list[Answered]:
    """The saved answers of a card; empty if they were not saved, or their file is gone."""
    if not card.get("predictions"):
        return []
    for file in (path.parent / card["predictions"], Path(card["predictions"])):
        if file.is_file():
            return [line.answered for line in read_predictions(file) if line.answered.index < card["n"]]
    return []


def _by_key(rows: Sequence[Answered]) -> Rows:
    """Rows by their key, and the number of earlier rows with the same key."""
    seen: Counter[str] = Counter()
    found: dict[tuple[str, int], Answered] = {}
    for row in rows:
        found[row.key, seen[row.key]] = row
        seen[row.key] += 1
    return found


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _signed(shown: str) -> str:
    return shown if shown.startswith("-") else f"+{shown}"


def _short(value: Any) -> str:
    return shorten(value if isinstance(value, str) else repr(value), WIDTH)
