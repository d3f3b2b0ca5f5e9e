"""Compare two score cards: their settings, their scores, and the samples that are scored differently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Flip:
    """A sample with different scores before and after; ``gain`` is positive where it became better."""

    before: Answered
    after: Answered
    gain: float


@dataclass(frozen=True)
class Difference:
    """How two score cards differ.

    Attributes:
        how: dotted field -> both values, for each setting that differs.
        scores: name -> both values; ``None`` if a card lacks the score.
        flips: samples with different scores, the largest loss first; ``None`` if the answers were not saved.
        shared: number of samples that both runs answered.
        reworded: number of these with different answers, whether or not the score differs.
        metric: the score of the samples.
    """

    how: Mapping[str, tuple[Any, Any]]
    scores: Mapping[str, tuple[float | None, float | None]]
    flips: Sequence[Flip] | None
    shared: int = 0
    reworded: int = 0
    metric: str = ""


def report(cards: Sequence[Path]) -> Iterator[str]:
    """The difference of two cards in lines of text, for ``openpali eval diff``."""
    if len(cards) != 2:
        raise ValueError("name two score cards: openpali eval diff A.json B.json")
    return render(compare(*cards))


def compare(first: Path, second: Path) -> Difference:
    """Compare two cards, and their samples if the answers of both runs were saved."""
    a, b = read_card(first), read_card(second)
    if a["benchmark"] != b["benchmark"]:
        raise ValueError(f"{first} is of {a['benchmark']} and {second} of {b['benchmark']}: nothing to compare")
    if _task(a) != _task(b):
        raise ValueError(f"{first} is of task {_task(a)} and {second} of {_task(b)}: nothing to compare")
    flat_a, flat_b = (dict(_flatten({k: v for k, v in c.items() if k not in _NUMBERS})) for c in (a, b))
    how = {
        name: (flat_a.get(name), flat_b.get(name))
        for name in dict.fromkeys([*flat_a, *flat_b])
        if flat_a.get(name) != flat_b.get(name)
    }
    scores = {
        name: (a["scores"].get(name), b["scores"].get(name)) for name in dict.fromkeys([*a["scores"], *b["scores"]])
    }
    rows = [_answers(card, path) for card, path in ((a, first), (b, second))]
    if not all(rows):
        return Difference(how, scores, None)
    benchmark = benchmark_of(a["benchmark"], _task(a))
    assert isinstance(benchmark, AnswerBenchmark)
    before, after = map(_by_key, rows)
    keys = [key for key in before if key in after]
    if not keys:
        return Difference(how, scores, (), metric=benchmark.metric)
    scored = [benchmark.score([side[key] for key in keys]) for side in (before, after)]
    values = [each.per_sample.get(benchmark.metric, []) for each in scored]
    sign = -1 if is_error(benchmark.metric) else 1
    flips = [
        Flip(before[key], after[key], sign * (y - x)) for key, x, y in zip(keys, *values, strict=True) if x != y
    ]
    flips.sort(key=lambda flip: flip.gain)
    reworded = sum(before[key].text != after[key].text for key in keys)
    return Difference(how, scores, flips, len(keys), reworded, benchmark.metric)


def render(difference: Difference) -> Iterator[str]:
    """The difference in lines of text."""
    if not difference.how:
        yield "Both were measured in the same way."
    for name, values in difference.how.items():
        yield f"{name}: {_short(values[0])} -> {_short(values[1])}"
    yield ""
    for name, (x, y) in difference.scores.items():
        shown = " -> ".join("none" if value is None else show(name, value) for value in (x, y))
        change = "" if x is None or y is None else f"  {_signed(show(name, y - x))}"
        yield f"{name:24} {shown}{change}"
    yield ""
    if difference.flips is None:
        yield "Samples are not compared: the answers were not saved (`--save-predictions FILE`)."
        return
    losses = [flip for flip in difference.flips if flip.gain < 0]
    gains = [flip for flip in reversed(difference.flips) if flip.gain > 0]
    yield (
        f"{difference.shared:,} samples in both: {len(gains)} better, {len(losses)} worse by {difference.metric}; "
        f"{difference.reworded} answered differently"
    )
    for title, flips in (("worse", losses), ("better", gains)):
        for flip in flips[:LISTED]:
            yield f"{title} {flip.after.key}: {flip.after.prompt}"
            yield f"    {flip.before.text!r} -> {flip.after.text!r}, right: {_short(list(flip.after.references))}"
        if len(flips) > LISTED:
            yield f"    and {len(flips) - LISTED} more that are {title}"


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


def _by_key(rows: Sequence[Answered]) -> dict[tuple[str, int], Answered]:
    """Rows by their key, and the number of earlier rows with the same key."""
    seen: Counter[str] = Counter()
    found = {}
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
