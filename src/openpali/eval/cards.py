"""Score cards: what a number was, and exactly how it came about."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from openpali.eval.datasets.base import AnswerBenchmark, Benchmark
from openpali.infer.pali import Pali
from openpali.metrics.bootstrap import bootstrap_interval
from openpali.metrics.scores import Scores, macro_values, mean
from openpali.tasks.base import Task
from openpali.tasks.scoring import Answered
from openpali.weights.family import SHIPPED
from openpali.weights.format import open_model

PACKAGES = ("openpali", "torch", "openvino", "numpy", "scipy", "pillow", "sentencepiece", "av")
SCORERS = (  # under the package: all that makes scores of answers, embeddings and features
    "metrics/*.py",
    "tasks/*.py",
    "eval/datasets/*.py",
    "eval/encoders.py",
    "eval/features.py",
    "eval/nano.py",
    "eval/probes.py",
    "eval/retrieval.py",
    "eval/zero_shot.py",
)
WORST = 50  # samples that a card lists
PERFECT_CIDER, GOOD_CIDER = (
    1000.0,
    100.0,
)  # of a sample: its only reference word by word; as good as published means

Json = dict[str, Any]


@dataclass(frozen=True)
class Card:
    """What a score was, and exactly how it came about. Fractions 0..1; CIDEr x 100.

    Attributes:
        n: samples that were scored.
        scores, metric: all scores by name, and the name of the one that counts.
        intervals: 95 % bootstrap intervals of the scores that are means over samples (or over slices).
        slices: kind of sample -> ``n``, the score that counts, and its interval.
        paper, paper_ocr: the paper's numbers, never ours; with OCR text in the prompt the second.
        model: name and hash (weights, configuration and tokenizer of every part).
        data: split, hash of all samples that were scored (keys, references and pixels), of how many there are.
        prompt: task, its options, and the first prompt as it was asked; of embeddings, what stands for a text.
        preprocessing: how pixels were brought to the model's size; of embeddings, per part, with the pooling.
        decoding: how tokens were chosen.
        scoring: the metric's definition, and a hash of the code that makes scores.
        worst: the worst samples by the score that counts, with prompt, answer and references.
        predictions: file with every answer, relative to the card's own folder if it lies there.
        seconds: of asking and scoring, without what was answered before.
    """

    benchmark: str
    n: int
    scores: dict[str, float]
    metric: str
    title: str = ""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    slices: dict[str, Json] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    paper_ocr: dict[str, float] = field(default_factory=dict)
    note: str = ""
    model: Json = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    prompt: Json = field(default_factory=dict)
    preprocessing: Json = field(default_factory=dict)
    decoding: Json = field(default_factory=dict)
    scoring: Json = field(default_factory=dict)
    versions: Json = field(default_factory=dict)
    worst: list[Json] = field(default_factory=list)
    predictions: str = ""
    seconds: float = 0.0

    def as_json(self) -> Json:
        """Plain JSON values."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write the card as JSON, or as Markdown if the file is called so."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text(self.as_markdown(), "utf-8")
            return
        written = self.as_json()
        if self.predictions and Path(self.predictions).resolve().parent == path.resolve().parent:
            written["predictions"] = Path(self.predictions).name
        path.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def as_markdown(self) -> str:
        """The card for people."""
        lines = [f"# {self.title or self.benchmark}", ""]
        lines += [f"`{self.benchmark}`, {self.n:,} samples, model `{self.model.get('name', '')}`.", ""]
        columns = ["score", "ours", "95 % interval", *(["paper (5B)"] if self.paper else [])]
        columns += ["paper, with OCR"] if self.paper_ocr else []
        lines += [_row(columns), _row("---" for _ in columns)]
        for name, value in self.scores.items():
            cells = [f"**{name}**" if name == self.metric else name, show(name, value)]
            cells.append(show_interval(name, self.intervals.get(name)))
            for numbers in filter(None, (self.paper, self.paper_ocr)):
                cells.append(show(name, numbers[name]) if name in numbers else "")
            lines.append(_row(cells))
        if self.slices:
            lines += ["", _row(["slice", "samples", self.metric, "95 % interval"]), _row(["---"] * 4)]
            for kind, values in self.slices.items():
                shown = show(self.metric, values["value"]), show_interval(self.metric, values["interval"])
                lines.append(_row([kind, f"{values['n']:,}", *shown]))
        if self.note:
            lines += ["", self.note]
        lines += ["", "## How", "", *(f"- {name}: {value}" for name, value in self.facts())]
        return "\n".join(lines) + "\n"

    def facts(self) -> list[tuple[str, str]]:
        """Everything but the numbers, one line each."""
        named = ("model", "data", "prompt", "preprocessing", "decoding", "scoring", "versions")
        return [(name, _line(values)) for name in named if (values := getattr(self, name))]


def make_card(
    benchmark: Benchmark,
    pali: Pali,
    scores: Scores,
    *,
    model: str,
    precision: str,
    data: Json,
    preprocessing: Json,
    **rest: Any,
) -> Card:
    """A card with everything that a benchmark says of itself.

    Args:
        model: hash of the model.
        precision: what it was computed in, "fp32" or "bf16".
        data: what is known of the data beside its split.
        preprocessing, rest: further fields of the card.
    """
    engine = pali.engine if isinstance(benchmark, AnswerBenchmark) else "torch"  # torch embeds, whatever generates
    return Card(
        benchmark=benchmark.name,
        title=benchmark.title,
        scores=dict(scores.summary),
        metric=benchmark.metric,
        paper=dict(benchmark.paper),
        paper_ocr=dict(benchmark.paper_ocr),
        note=" ".join(filter(None, (benchmark.note, size_note(benchmark, preprocessing)))),
        preprocessing=preprocessing,
        model={
            "name": pali.folder.name if pali.folder.parent == SHIPPED else str(pali.folder),
            "hash": model,
            "engine": engine,
            "dtype": precision,
            "device": pali.device.type,
        },
        data={"split": benchmark.split, **data},
        scoring={"definition": definition_of(benchmark), "code": hash_scoring()},
        versions=package_versions(),
        **rest,
    )


def definition_of(benchmark: Benchmark) -> str:
    """What the scores of a benchmark are, in the words of the function that makes them."""
    function: Any = getattr(benchmark, "score", None) or getattr(benchmark, "run", None)
    while isinstance(function, partial):
        function = function.func
    return (function.__doc__ or "").split("\n")[0].rstrip(".")


def size_note(benchmark: Benchmark, preprocessing: Mapping[str, Any]) -> str:
    """A sentence where the model takes pictures of another size than those that the paper evaluates at."""
    ways = [preprocessing] if "height" in preprocessing else preprocessing.values()
    sizes = {(way["height"], way["width"]) for way in ways if "height" in way}
    own = " and ".join(f"{height} x {width}" for height, width in sorted(sizes))
    differs = benchmark.resolution is not None and bool(sizes - {(benchmark.resolution,) * 2})
    return (
        f"The model takes pictures of {own} pixels; the paper evaluates at {benchmark.resolution}."
        if differs
        else ""
    )


def read_card(path: Path) -> Json:
    """A card as it was written.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no score card.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no score card {path}; `openpali eval BENCHMARK --json FILE` writes one")
    try:
        card = json.loads(path.read_text("utf-8"))
        if not {"benchmark", "n", "scores"} <= set(card):
            raise ValueError("it has no benchmark, n and scores")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no score card: {error}") from error
    return dict(card)


def show(name: str, value: float) -> str:
    """A score as papers print it: fractions in percent; CIDEr has its own scale already."""
    return f"{value:.1f}" if is_cider(name) else f"{100 * value:.1f}"


def show_interval(name: str, interval: Sequence[float] | None) -> str:
    """Two scores as papers print them, or nothing where there is no interval."""
    return " .. ".join(show(name, value) for value in interval or ())


def intervals_of(rows: Sequence[Answered], scores: Scores) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of all scores that are a mean over samples, or over kinds of the mean in each.

    Others (corpus-level rates, oIoU, F1) have none: their samples' values do not add up to them.
    """
    found = {}
    kinds = [row.kind for row in rows]
    for name, values in scores.per_sample.items():
        if name not in scores.summary or len(values) < 2:
            continue
        value = scores.summary[name]
        if _close(mean(values), value):
            found[name] = bootstrap_interval(values)
        elif len(values) == len(kinds):
            places = [[i for i, own in enumerate(kinds) if own == kind] for kind in sorted(set(kinds))]
            weighted = macro_values(len(kinds), [(own, [values[i] for i in own]) for own in places])
            if _close(mean(weighted), value):
                found[name] = bootstrap_interval(weighted)
    return found


def slices_of(rows: Sequence[Answered], scores: Scores, metric: str) -> dict[str, Json]:
    """Kind of sample -> ``n``, ``value`` of the metric and its ``interval``, where it is a mean over samples."""
    values = scores.per_sample.get(metric, [])
    found: dict[str, Json] = {}
    if len(values) != len(rows):
        return found
    for kind in sorted({row.kind for row in rows} - {""}):
        own = [value for value, row in zip(values, rows, strict=True) if row.kind == kind]
        if _close(mean(own), scores.summary.get(f"{metric}/{kind}", mean(own))):
            found[kind] = {"n": len(own), "value": mean(own), "interval": bootstrap_interval(own)}
    return found


def worst_of(rows: Sequence[Answered], scores: Scores, metric: str, count: int = WORST) -> list[int]:
    """Places of the samples with the lowest value of the metric, the worst first; none that are perfect.

    Error rates ("cer", "wer") are worst where they are highest.
    """
    values = scores.per_sample.get(metric, [])
    if len(values) != len(rows):
        return []
    sign, perfect = (-1, 0.0) if is_error(metric) else (1, PERFECT_CIDER if is_cider(metric) else 1.0)
    order = sorted(range(len(rows)), key=lambda i: sign * values[i])
    return [i for i in order if not _close(values[i], perfect)][:count]


def is_good(metric: str, value: float) -> bool:
    """Whether a sample's value is rather good than bad: half of the most, or a CIDEr of 100."""
    if is_error(metric):
        return value <= 0.5
    return value >= (GOOD_CIDER if is_cider(metric) else 0.5)


def is_cider(metric: str) -> bool:
    """Whether a score is on CIDEr's scale instead of 0..1."""
    return metric.startswith("cider")


def is_error(metric: str) -> bool:
    """Whether lower is better."""
    return metric.split("/")[0] in ("cer", "wer")


def hash_model(pali: Pali) -> str:
    """SHA-256 over configuration, weights and tokenizer of all parts."""
    folders = dict(pali.parts)
    for part, folder in pali.parts.items():
        if base := open_model(folder).facts.get("base"):
            folders[f"{part}'s base"] = folder.parent / base
    digest = hashlib.sha256()
    for part, folder in sorted(folders.items()):
        for pattern in ("config.json", "*.safetensors*", "tokenizer.model"):
            for path in sorted(folder.glob(pattern)):
                _feed(digest, part, path.name, _hash_file(path))
    return digest.hexdigest()


def hash_samples(rows: Sequence[Answered], pixels: Sequence[str]) -> str:
    """SHA-256 over keys, kinds, references and pixels of the samples."""
    digest = hashlib.sha256()
    for row, picture in zip(rows, pixels, strict=True):
        _feed(digest, row.key, row.kind, *row.references, picture)
    return digest.hexdigest()


@cache
def hash_scoring() -> str:
    """SHA-256 over the code that makes scores (:data:`SCORERS`): a version that nobody can forget to raise."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(path for pattern in SCORERS for path in folder.glob(pattern)):
        _feed(digest, path.relative_to(folder).as_posix(), path.read_text("utf-8"))
    return digest.hexdigest()


def preprocessing_of(pali: Pali, part: str) -> Json:
    """How a part of the family brings pictures to its size; empty for one that takes none."""
    preprocess = open_model(pali.parts[part]).preprocess if part in pali.parts else None
    return asdict(preprocess) if preprocess else {}


def package_versions() -> Json:
    """Python and the packages that a score can depend on."""
    found: Json = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an extra that is not installed
            continue
    return found


def task_options(task: Task) -> Json:
    """The options of a task that are plain values; others (a mask codec) by their kind."""
    options = {each.name: getattr(task, each.name) for each in dataclasses.fields(task)}
    plain = {name: value if _is_plain(value) else type(value).__name__ for name, value in options.items()}
    return dict(json.loads(json.dumps(plain)))  # tuples become lists, as they will be when read again


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _feed(digest: hashlib._Hash, *texts: str) -> None:
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-9 * max(1.0, abs(a), abs(b))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _line(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items() if value not in (None, "", {}))


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + _line(value) + ")"
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return value[:16]
    return f"`{value}`" if isinstance(value, str) and value.split() != [value] else str(value)
