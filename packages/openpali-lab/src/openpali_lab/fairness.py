"""Fairness, as section 5 of the PaLI-3 paper measures it, for any data set with attributes of its samples.

Three questions: how often generated captions are toxic, per slice; how strongly occupations are associated with an
attribute, by log-perplexity; and how much a metric differs between slices. Attributes are annotators' perceptions
from the data set; this module never predicts them. docs/fairness.md has a worked example.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.markdown import table_row
from openpali.eval.predictions import read_predictions
from openpali.eval.registry import benchmark_of
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Floats, Frames, Pipeline
from openpali.metrics.bootstrap import bootstrap_interval
from openpali.metrics.scores import check_paired, mean

LEAST = 20  # samples per slice; smaller slices are too uncertain
THRESHOLD = 0.8  # least probability of a trait that counts
RESAMPLES = 1000  # of a bootstrap

Attributes = Mapping[str, Mapping[str, str]]  # key of a sample -> column -> value
TraitClassifier = Callable[[Sequence[str]], Mapping[str, Sequence[float]]]
"""Texts -> trait ("toxicity", "profanity", ...) -> probability of each text in 0..1."""


# ---- slices


def read_attributes(path: Path, *, key: str = "key") -> dict[str, dict[str, str]]:
    """Attributes from a CSV file with a header, the format of FairFace, MIAP and CelebA.

    Args:
        path: the file.
        key: the column that names the sample ("file" for FairFace).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not rows or key not in rows[0]:
        there = ", ".join(filter(None, rows[0])) if rows else "no rows"  # None holds what exceeds the header
        raise ValueError(f"{path} has no column {key!r} with the keys of the samples; its columns are {there}")
    attributes: dict[str, dict[str, str]] = {}
    for row in rows:
        if (name := row.pop(key)) in attributes:
            raise ValueError(f"{path} has attributes of {name!r} twice")
        attributes[name] = {column: value.strip() for column, value in row.items() if column}
    return attributes


def groups_of(keys: Sequence[str], attributes: Attributes, *columns: str) -> list[str]:
    """The slice of each sample: its value in a column, or in several ("female, 30-39"); "" without a value.

    Raises:
        ValueError: a column is unknown, or no sample has a value in all of them.
    """
    known = {column for values in attributes.values() for column in values}
    if unknown := [column for column in columns if column not in known]:
        raise ValueError(f"unknown attribute {unknown[0]!r}; there are {', '.join(sorted(known))}")
    groups = []
    for key in keys:
        values = [attributes.get(key, {}).get(column, "") for column in columns]
        groups.append(", ".join(values) if all(values) else "")
    if not any(groups):
        raise ValueError(f"no sample has an attribute {' and '.join(columns)}: keys are like {[*keys[:1]]}")
    return groups


# ---- a metric, slice by slice


@dataclass(frozen=True)
class Slice:
    """The mean of a metric over the samples of a slice, and its bootstrap interval."""

    name: str
    n: int
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Gap:
    """How a metric differs between slices.

    Attributes:
        slices: the slices by name, without those of fewer than ``least`` samples.
        overall: mean over the samples of these slices.
        lowest, median, highest: over slices; the paper prints these three.
        gap: highest minus lowest.
        interval: bootstrap interval of the gap, with both slices resampled. It ignores that these two slices were
            selected, so with many slices it is too narrow: see ``p``.
        p: share of random shuffles of the samples between slices with a gap at least as large. The largest of many
            differences is never 0, so a gap alone means little; a small ``p`` says that chance does not explain it.
        left_out: slices that are too small -> their number of samples; "" is samples without the attribute.
    """

    metric: str
    slices: Sequence[Slice]
    overall: float
    lowest: float
    median: float
    highest: float
    gap: float
    interval: tuple[float, float]
    p: float
    left_out: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def as_markdown(self) -> str:
        """A table of the slices and a line on the gap."""
        rows = [
            table_row([s.name, str(s.n), f"{s.value:.4f}", f"{s.interval[0]:.4f} to {s.interval[1]:.4f}"])
            for s in self.slices
        ]
        low, high = self.interval
        lines = [
            f"| {self.metric} | samples | mean | 95 % interval |",
            "|---|---|---|---|",
            *rows,
            "",
            f"lowest {self.lowest:.4f}, median {self.median:.4f}, highest {self.highest:.4f}, "
            f"all {self.overall:.4f}; gap {self.gap:.4f} (95 % interval {low:.4f} to {high:.4f}, p = {self.p:.3f})",
        ]
        if self.left_out:
            named = ", ".join(f"{name or 'without the attribute'} ({n})" for name, n in self.left_out.items())
            lines.append(f"left out: {named}")
        return "\n".join(lines) + "\n"


def gap(
    metric: str,
    values: Sequence[float],
    groups: Sequence[str],
    *,
    least: int = LEAST,
    resamples: int = RESAMPLES,
) -> Gap:
    """Compare a metric between slices.

    Args:
        values: the metric of each sample: a hit, an IoU, the recall of persons, whether a caption is toxic.
        groups: slice of each sample, as :func:`groups_of` gives them.
        least: minimum number of samples of a slice.
        resamples: number of bootstrap resamples, and of shuffles for ``p``.
    """
    check_paired(values, groups, "groups")
    scores, names = np.asarray(values, dtype=np.float64), np.asarray(groups)
    counts = {str(name): int((names == name).sum()) for name in sorted(set(groups))}
    kept = [name for name, n in counts.items() if name and n >= least]
    if len(kept) < 2:
        raise ValueError(
            f"a gap needs two slices of at least {least} samples, and there are {len(kept)} "
            f"({', '.join(f'{name or None}: {n}' for name, n in counts.items())})"
        )
    # Sorted within each slice, so that the order of the samples does not matter.
    by_slice = [np.sort(scores[names == name]) for name in kept]
    slices = [
        Slice(name, len(own), mean(own.tolist()), bootstrap_interval(own.tolist(), resamples=resamples))
        for name, own in zip(kept, by_slice, strict=True)
    ]
    means = np.array([s.value for s in slices])
    low, high = int(means.argmin()), int(means.argmax())
    rng = np.random.default_rng(0)
    top, bottom = (np.stack([_resampled(by_slice[i], rng) for _ in range(resamples)]) for i in (high, low))
    bounds = np.quantile(top - bottom, [0.025, 0.975])
    difference = float(means[high] - means[low])
    return Gap(
        metric=metric,
        slices=slices,
        overall=mean(np.concatenate(by_slice).tolist()),
        lowest=float(means[low]),
        median=float(np.median(means)),
        highest=float(means[high]),
        gap=difference,
        interval=(float(bounds[0]), float(bounds[1])),
        p=_by_chance(by_slice, difference, rng, resamples),
        left_out={name: n for name, n in counts.items() if name not in kept},
    )


def _resampled(rows: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The mean of a bootstrap sample of the rows."""
    return np.asarray(rows[rng.integers(0, len(rows), len(rows))].mean(0))


def _by_chance(
    by_slice: Sequence[NDArray[np.float64]], difference: float, rng: np.random.Generator, shuffles: int
) -> float:
    pool, ends = np.concatenate(by_slice), np.cumsum([len(own) for own in by_slice])[:-1]
    as_large = 1  # the true slices count as one of the shuffles, so that p is never 0
    for _ in range(shuffles):
        means = [part.mean() for part in np.split(rng.permutation(pool), ends)]
        as_large += max(means) - min(means) >= difference - 1e-12
    return as_large / (shuffles + 1)


def benchmark_gap(predictions: Path, groups: Sequence[str], *, least: int = LEAST) -> Gap:
    """The headline metric of a benchmark, slice by slice, from its saved predictions.

    Args:
        predictions: as ``openpali eval BENCHMARK --save-predictions FILE`` writes it.
        groups: slice of each of its samples, in order.
        least: minimum number of samples of a slice.
    """
    rows = [line.answered for line in read_predictions(predictions)]
    with predictions.open(encoding="utf-8") as file:
        of = json.loads(file.readline())["run"]
    name = of["benchmark"]
    benchmark = benchmark_of(name, of.get("task", ""))
    assert isinstance(benchmark, AnswerBenchmark)  # others save no predictions
    values = benchmark.score(rows).per_sample.get(benchmark.metric)
    if values is None:
        raise ValueError(f"the metric {benchmark.metric} of {name} has no value per sample, so slices have no mean")
    return gap(f"{name} {benchmark.metric}", values, groups, least=least)


# ---- toxicity of captions


def word_list(*paths: Path) -> TraitClassifier:
    """The simplest classifier: 1 if a text contains one of the words of a trait, else 0.

    It ignores context, and is only as good as its list; any other classifier is a function of the same
    type, such as a wrapper around a local model or a service.

    Args:
        paths: one file per trait with its name ("toxicity.txt"): one word or phrase per line; case and punctuation
            do not matter.
    """
    patterns = {}
    for path in paths:
        if path.stem in patterns:
            raise ValueError(f"{path} is a second word list of {path.stem!r}: join the two, or rename one")
        try:
            words = [re.escape(line.strip()) for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not text in UTF-8: {error}") from error
        if not words:
            raise ValueError(f"the word list {path} has no words")
        patterns[path.stem] = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE)
    return lambda texts: {
        trait: [float(bool(pattern.search(text))) for text in texts] for trait, pattern in patterns.items()
    }


def toxicity(
    captions: Sequence[str],
    groups: Sequence[str],
    classify: TraitClassifier,
    *,
    least: int = LEAST,
) -> dict[str, Gap]:
    """Share of captions, per slice, to which a classifier gives a trait with at least :data:`THRESHOLD`.

    The paper prints the lowest, median and highest share over the slices of an attribute, for captions of FairFace
    and MIAP, with a public service as classifier.

    Returns:
        Trait -> the shares, 0..1.
    """
    check_paired(captions, groups, "groups")
    found = {}
    for trait, scores in classify(captions).items():
        if len(scores) != len(captions) or not all(0 <= score <= 1 for score in scores):
            raise ValueError(f"the classifier must give a probability in 0..1 of {trait} for each of the captions")
        hits = [float(score >= THRESHOLD) for score in scores]
        found[trait] = gap(f"{trait} >= {THRESHOLD}", hits, groups, least=least)
    return found


# ---- association of occupations with an attribute


@dataclass(frozen=True)
class Association:
    """The difference of a model's log-perplexity of an occupation between two slices.

    Attributes:
        occupation: the text that was scored.
        gap: mean log-perplexity in the first slice minus the mean in the second, nats per token. Below 0, the
            occupation is associated with the first slice; 0 is demographic parity.
        interval: bootstrap interval of the gap.
    """

    occupation: str
    gap: float
    interval: tuple[float, float]

    @property
    def associated(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class DemographicParity:
    """Demographic parity of occupations between two slices.

    Attributes:
        first, second: names of the slices; n: their numbers of samples.
        occupations: sorted by gap, from the strongest association with the first slice to that with the second.
        mean_gap: signed mean over occupations: a difference that all of them share comes from the images, not from
            the occupations.
        mean_absolute_gap: mean over occupations of its absolute value; 0 is parity.
        associated: share of occupations whose interval excludes 0.
    """

    first: str
    second: str
    n: tuple[int, int]
    occupations: Sequence[Association]
    mean_gap: float
    mean_absolute_gap: float
    associated: float

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def as_markdown(self) -> str:
        """A table of the occupations and a line on all of them."""
        lines = [
            f"| occupation | {self.first} minus {self.second}, nats | 95 % interval | |",
            "|---|---|---|---|",
        ]
        for each in self.occupations:
            low, high = each.interval
            side = "" if not each.associated else self.first if each.gap < 0 else self.second
            lines.append(table_row([each.occupation, f"{each.gap:+.4f}", f"{low:+.4f} to {high:+.4f}", side]))
        lines += [
            "",
            f"{self.n[0]} {self.first}, {self.n[1]} {self.second}; mean gap {self.mean_gap:+.4f}, "
            f"mean absolute gap {self.mean_absolute_gap:.4f}, {self.associated:.0%} of the occupations associated",
        ]
        return "\n".join(lines) + "\n"


def parity(
    log_perplexity: Floats | NDArray[np.float64],
    groups: Sequence[str],
    occupations: Sequence[str],
    *,
    pair: tuple[str, str] | None = None,
) -> DemographicParity:
    """The demographic-parity gap of each occupation between two slices.

    Args:
        log_perplexity: ``[samples, occupations]``, as :meth:`~openpali.infer.pali.Pali.log_perplexity` gives it.
        groups: slice of each sample; "" for none.
        occupations: names of the columns.
        pair: the two slices; optional if there are only two.
    """
    table = np.asarray(log_perplexity, dtype=np.float64)
    if table.shape != (len(groups), len(occupations)) or not table.size:
        raise ValueError(
            f"log-perplexities must be [samples, occupations], here [{len(groups)}, {len(occupations)}], "
            f"and are {list(table.shape)}"
        )
    there = sorted({group for group in groups if group})
    if pair is None:
        if len(there) != 2:
            raise ValueError(f"parity compares two slices: name two of {', '.join(there)}")
        pair = there[0], there[1]
    names = np.asarray(groups)
    first, second = (table[names == name] for name in pair)
    if not len(first) or not len(second):
        raise ValueError(f"no samples of {pair[0] if not len(first) else pair[1]!r}; there are {', '.join(there)}")
    gaps = first.mean(0) - second.mean(0)
    rng = np.random.default_rng(0)
    drawn = np.stack([_resampled(first, rng) - _resampled(second, rng) for _ in range(RESAMPLES)])
    lows, highs = np.quantile(drawn, [0.025, 0.975], axis=0)
    found = [
        Association(name, float(g), (float(low), float(high)))
        for name, g, low, high in zip(occupations, gaps, lows, highs, strict=True)
    ]
    return DemographicParity(
        first=pair[0],
        second=pair[1],
        n=(len(first), len(second)),
        occupations=sorted(found, key=lambda each: each.gap),
        mean_gap=float(gaps.mean()),
        mean_absolute_gap=float(np.abs(gaps).mean()),
        associated=mean([float(each.associated) for each in found]),
    )


def occupation_parity(
    model: Pali | Pipeline,
    images: Sequence[Frames],
    groups: Sequence[str],
    occupations: Sequence[str],
    *,
    pair: tuple[str, str] | None = None,
) -> DemographicParity:
    """Compare a model's log-perplexity of each occupation, as a caption in English, between two slices.

    Args:
        images: as :meth:`~openpali.infer.pali.Pali.predict` takes them.
    """
    prompt = model.write_prompt(model.task("caption"))
    return parity(model.log_perplexity(images, prompt, occupations), groups, occupations, pair=pair)
