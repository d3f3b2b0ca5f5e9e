"""Score cards: a score, and everything needed to reproduce it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from openpali.eval.benchmark import AnswerBenchmark, Benchmark, SeenSamples
from openpali.infer.pali import Pali
from openpali.metrics.bootstrap import bootstrap_interval
from openpali.metrics.scores import Scores, macro_values, mean
from openpali.tasks.base import Task
from openpali.tasks.dialects import PALI3
from openpali.tasks.scoring import Answered
from openpali.text.masks import ANY_MASK_TOKEN
from openpali.weights.files import ADAPTER, CONFIG, LANGUAGE, OOD_FOLDERS, PAGES, TOKENIZER
from openpali.weights.format import open_model

PACKAGES = ("openpali", "torch", "openvino", "numpy", "scipy", "pillow", "sentencepiece", "av")
_ERRORS = ("cer", "wer", "text_edit", "order_edit", "ece", "false_alarms", "invalid", "unparsed")
SCORERS = (  # files under the package that compute scores from answers, embeddings and features
    "metrics/*.py",
    "tasks/*.py",
    "eval/benchmark.py",
    "eval/calibrate.py",
    "eval/elements.py",
    "eval/pages.py",
    "data/pipeline/elements.py",
    "benchmarks/**/*.py",
    "worlds/benchmarks/*.py",
)
WORST = 50  # samples that a card lists
PERFECT_CIDER = 1000.0  # of a sample whose answer is its only reference
GOOD_CIDER = 100.0  # about the mean that papers report

Json = dict[str, Any]


@dataclass(frozen=True)
class Card:
    """A score, and everything needed to reproduce it. Fractions are 0..1, CIDEr is times 100.

    Attributes:
        n: number of samples scored.
        scores, metric: all scores by name, and the name of the main one.
        intervals: 95 % bootstrap intervals of the scores that are means over samples (or over slices).
        slices: kind of sample, or language if there are several -> ``n``, the main score, and its interval.
        paper, paper_ocr: the paper's numbers, never ours, without and with OCR text in the prompt.
        model: name, hash (weights, configuration and tokenizer of every part), the part of a bundle that was asked,
            engine, device, and the dtype that the engine computed in.
        data: split, hash of all samples scored (keys, references and pixels), and how many samples there are; for
            probes, the number of images they were trained on, and how many of these there are.
        prompt: task, its options, and the first prompt; for embeddings, the texts and templates.
        preprocessing: how images were resized; for embeddings, per part, with the pooling.
        decoding: how tokens were chosen.
        scoring: the definition of the metric, and a hash of the code that computes scores.
        worst: the worst samples by the main score, with prompt, answer and references.
        predictions: file with every answer; only its name if it is in the card's folder.
        seconds: time of this run, without the time of answers from an earlier run.
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
        """Write the card as JSON, or as Markdown if the name ends in ``.md``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text(self.as_markdown(), "utf-8")
            return
        written = self.as_json()
        if self.predictions and Path(self.predictions).resolve().parent == path.resolve().parent:
            written["predictions"] = Path(self.predictions).name
        path.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def as_markdown(self) -> str:
        lines = [f"# {self.title or self.benchmark}", ""]
        lines += [f"`{self.benchmark}`, {self.n:,} samples, model `{self.model.get('name', '')}`.", ""]
        columns = ["score", "ours", "95 % interval", *(["paper (5B)"] if self.paper else [])]
        columns += ["paper, with OCR"] if self.paper_ocr else []
        lines += [table_row(columns), table_row("---" for _ in columns)]
        for name, value in self.scores.items():
            cells = [f"**{name}**" if name == self.metric else name, show(name, value)]
            cells.append(show_interval(name, self.intervals.get(name)))
            for numbers in filter(None, (self.paper, self.paper_ocr)):
                cells.append(show(name, numbers[name]) if name in numbers else "")
            lines.append(table_row(cells))
        if self.slices:
            lines += ["", table_row(["slice", "samples", self.metric, "95 % interval"]), table_row(["---"] * 4)]
            for kind, values in self.slices.items():
                shown = show(self.metric, values["value"]), show_interval(self.metric, values["interval"])
                lines.append(table_row([kind, f"{values['n']:,}", *shown]))
        if self.note:
            lines += ["", self.note]
        lines += ["", "## How", "", *(f"- {name}: {value}" for name, value in self.facts())]
        return "\n".join(lines) + "\n"

    def facts(self) -> list[tuple[str, str]]:
        """Name and one line for everything but the numbers."""
        named = ("model", "data", "prompt", "preprocessing", "decoding", "scoring", "versions")
        return [(name, _line(values)) for name in named if (values := getattr(self, name))]


def make_card(
    benchmark: Benchmark,
    pali: Pali,
    scores: Scores,
    *,
    model: str,
    part: str | None = None,
    precision: str,
    data: Json,
    preprocessing: Json,
    note: str = "",
    **rest: Any,
) -> Card:
    """A card, filled in from a benchmark and a model.

    Args:
        model: hash of the model.
        part: the part of a bundle that was asked; none of a single model, and where embeddings are compared.
        precision: what the engine computed in, "fp32" or "bf16".
        data: facts about the data besides its split.
        preprocessing, rest: further fields of the card.
        note: added to the benchmark's.
    """
    engine = pali.engine if isinstance(benchmark, AnswerBenchmark) else "torch"  # torch always embeds
    return Card(
        benchmark=benchmark.name,
        title=benchmark.title,
        scores=dict(scores.summary),
        metric=benchmark.metric,
        paper=dict(benchmark.paper),
        paper_ocr=dict(benchmark.paper_ocr),
        note=" ".join(filter(None, (benchmark.note, size_note(benchmark, preprocessing), note))),
        preprocessing=preprocessing,
        model={
            "name": pali.name,
            "hash": model,
            "part": part,
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
    """The definition of a benchmark's scores: the first docstring line of the function that computes them."""
    function: Any = getattr(benchmark, "score", None) or getattr(benchmark, "run", None)
    while isinstance(function, partial):
        function = function.func
    return (function.__doc__ or "").split("\n")[0].rstrip(".")


def size_note(benchmark: Benchmark, preprocessing: Mapping[str, Any]) -> str:
    """A note if the model takes images of another size than the paper; else empty."""
    ways = [way for way in preprocessing.values() if isinstance(way, Mapping)] or [preprocessing]
    sizes = {(way["height"], way["width"]) for way in ways if "height" in way}
    budgets = {f"up to {way['tokens']} patches" for way in ways if "tokens" in way}
    if benchmark.resolution is None or not (budgets or sizes - {(benchmark.resolution,) * 2}):
        return ""
    own = " and ".join([*(f"{height} x {width} pixels" for height, width in sorted(sizes)), *sorted(budgets)])
    return f"The model takes images of {own}; the paper evaluates at {benchmark.resolution}."


def show(name: str, value: float) -> str:
    """A score as papers print it: fractions in percent, CIDEr on its own scale."""
    return f"{value:.1f}" if is_cider(name) else f"{100 * value:.1f}"


def show_interval(name: str, interval: Sequence[float] | None) -> str:
    """An interval as papers print it; empty if there is none."""
    return " .. ".join(show(name, value) for value in interval or ())


def intervals_of(rows: Sequence[Answered], scores: Scores) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of the scores that are means over samples, or over kinds of sample of the mean in each.

    Corpus-level scores (rates, oIoU, F1) have none: they are not means of per-sample values.
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


def slices_of(
    rows: Sequence[Answered], scores: Scores, metric: str, languages: Sequence[str] = ()
) -> dict[str, Json]:
    """Slice -> ``n``, ``value`` of the metric and its ``interval``, if it is a mean over samples.

    A slice is a kind of sample, or a language if there are several.

    Args:
        languages: language of each row's answer; empty if unknown.
    """
    values = scores.per_sample.get(metric, [])
    found: dict[str, Json] = {}
    if len(values) != len(rows) or not _close(mean(values), scores.summary[metric]):
        return found
    kinds = [row.kind for row in rows]
    for names in (kinds, languages if len(set(languages)) > 1 else ()):
        for name in sorted(set(names) - {"", *found}):
            own = [value for value, its in zip(values, names, strict=True) if its == name]
            if _close(mean(own), scores.summary.get(f"{metric}/{name}", mean(own))):
                found[name] = {"n": len(own), "value": mean(own), "interval": bootstrap_interval(own)}
    return found


def languages_of(rows: Sequence[Answered], task: Task) -> list[str]:
    """The answer's language in each row's prompt; empty if the prompt names none."""
    template = task.template_in(task.dialect)
    return [((template and template.read(row.prompt)) or {}).get("lang", "") for row in rows]


def worst_of(rows: Sequence[Answered], scores: Scores, metric: str, count: int = WORST) -> list[int]:
    """Indices of the worst samples by a metric, the worst first, without perfect ones.

    For error rates (:func:`is_error`) the highest value is the worst.
    """
    values = scores.per_sample.get(metric, [])
    if len(values) != len(rows):
        return []
    sign, perfect = (-1, 0.0) if is_error(metric) else (1, PERFECT_CIDER if is_cider(metric) else 1.0)
    order = sorted(range(len(rows)), key=lambda i: sign * values[i])
    return [i for i in order if not _close(values[i], perfect)][:count]


def is_good(metric: str, value: float) -> bool:
    """Whether a sample's value is good: at least half of the maximum, or a CIDEr of 100."""
    if is_error(metric):
        return value <= 0.5
    return value >= (GOOD_CIDER if is_cider(metric) else 0.5)


def is_cider(metric: str) -> bool:
    """Whether a score is on CIDEr's scale instead of 0..1."""
    return metric.startswith("cider")


def is_error(metric: str) -> bool:
    """Whether lower is better."""
    return metric.split("/")[0] in _ERRORS


def hash_model(pali: Pali, parts: Collection[str] = ()) -> str:
    """SHA-256 over the configuration, weights, tokenizer and what was fitted of parts and of their bases.

    Args:
        parts: those that are asked; none: all but those that read pages, which no prompt asks.
    """
    folders = {}
    for part, folder in pali.parts.items():
        if part not in parts if parts else part in PAGES:
            continue
        folders[part] = folder
        while base := open_model(folder).base_folder:
            part, folder = f"{part}'s base", base
            folders[part] = base
    seen = SeenSamples()
    for part, folder in sorted(folders.items()):
        fitted = (f"{name}/*" for name in (*OOD_FOLDERS, LANGUAGE))
        for pattern in (CONFIG, ADAPTER, "*.safetensors*", TOKENIZER, *fitted):
            for path in sorted(folder.glob(pattern)):
                seen.texts(part, path.relative_to(folder).as_posix(), _hash_file(path))
    return seen.hash


def hash_samples(rows: Sequence[Answered], pixels: Sequence[str]) -> str:
    """SHA-256 over the keys, kinds, references and pixels of the samples. Mask tokens in references are left out:
    they are those of the model's mask VQ-VAE, and the same samples have others with another one."""
    seen = SeenSamples()
    for row, image in zip(rows, pixels, strict=True):
        seen.texts(row.key, row.kind, *(re.sub(ANY_MASK_TOKEN, "", text) for text in row.references), image)
    return seen.hash


@cache
def hash_scoring() -> str:
    """SHA-256 over the code that computes scores (:data:`SCORERS`); it serves as their version number."""
    seen = SeenSamples()
    folder = Path(__file__).parents[1]
    for path in sorted(path for pattern in SCORERS for path in folder.glob(pattern)):
        seen.texts(path.relative_to(folder).as_posix(), path.read_text("utf-8"))
    return seen.hash


def preprocessing_of(pali: Pali, part: str) -> Json:
    """How a part of the bundle resizes images; empty for a part without images."""
    preprocess = open_model(pali.parts[part]).preprocess if part in pali.parts else None
    return asdict(preprocess) if preprocess else {}


def package_versions(names: Sequence[str] = PACKAGES) -> Json:
    """Versions of Python and of packages, by default those that a score can depend on."""
    found: Json = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional package
            continue
    return found


def task_options(task: Task) -> Json:
    """The options of a task: plain values as they are, others (a mask codec) by the name of their type.

    The default dialect is left out, as in cards and predictions that were written before dialects existed.
    """
    options = {each.name: getattr(task, each.name) for each in dataclasses.fields(task)}
    if (dialect := options.pop("dialect")) != PALI3:
        options["dialect"] = dialect.name
    plain = {name: value if _is_plain(value) else type(value).__name__ for name, value in options.items()}
    return dict(json.loads(json.dumps(plain)))  # tuples become lists, as in a card that is read back


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-9 * max(1.0, abs(a), abs(b))


def table_row(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _line(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items() if value not in (None, "", {}))


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + _line(value) + ")"
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return value[:16]
    return f"`{value}`" if isinstance(value, str) and value.split() != [value] else str(value)
