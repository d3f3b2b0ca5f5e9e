"""Score cards: a score, and everything needed to reproduce it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from openpali.eval.benchmark import AnswerBenchmark, Benchmark
from openpali.eval.markdown import one_line, table_row
from openpali.eval.provenance import hash_scoring, package_versions
from openpali.eval.scales import show, show_interval
from openpali.infer.pali import Pali
from openpali.metrics.scores import Scores
from openpali.tasks.base import Task
from openpali.tasks.dialects import PALI3
from openpali.weights.format import open_model

Json = dict[str, Any]
FEWEST = 20  # samples, below which `openpali tune` prints no score: the interval would be half of the scale wide
LONG = 30  # scores: of more, Markdown leaves out slices of all but the main one


@dataclass(frozen=True)
class Card:
    """A score, and everything needed to reproduce it. Fractions are 0..1, CIDEr is times 100."""

    benchmark: str
    n: int  # number of samples scored
    # scores, metric: all scores by name, and the name of the main one
    scores: dict[str, float]
    metric: str
    title: str = ""
    # 95 % intervals of the scores that are means over samples (or over slices): Wilson's of proportions, bootstrap
    # intervals of others; and of ratios of sums over pages, clustered by page
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    # kind of sample, or language if there are several -> n, the main score, and its interval
    slices: dict[str, Json] = field(default_factory=dict)
    # paper, paper_ocr: the paper's numbers, never ours, without and with OCR text in the prompt
    paper: dict[str, float] = field(default_factory=dict)
    paper_ocr: dict[str, float] = field(default_factory=dict)
    note: str = ""
    # a sentence if a limit changed what is measured, so that scores do not compare; also in the note
    limited: str = ""
    # name, hash (weights, configuration and tokenizer of every part), the part of a bundle that was asked, engine,
    # device, and the dtype that the engine computed in
    model: Json = field(default_factory=dict)
    # split, hash of all samples scored (keys, references and pixels), and how many samples there are; for probes,
    # the number of images they were trained on, and how many of these there are
    data: Json = field(default_factory=dict)
    # task, its options, and the first prompt; for embeddings, the texts and templates
    prompt: Json = field(default_factory=dict)
    # how images were resized; for embeddings, per part, with the pooling
    preprocessing: Json = field(default_factory=dict)
    decoding: Json = field(default_factory=dict)  # how tokens were chosen
    # the definition of the metric, and a hash of the code that computes scores
    scoring: Json = field(default_factory=dict)
    versions: Json = field(default_factory=dict)
    # the worst samples by the main score, with prompt, answer and references
    worst: list[Json] = field(default_factory=list)
    predictions: str = ""  # file with every answer; only its name if it is in the card's folder
    seconds: float = 0.0  # time of this run, without the time of answers from an earlier run

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
        kept = (self.metric, f"{self.metric}/")
        many = len(self.scores) > LONG
        for name, value in self.scores.items():
            if many and "/" in name and not name.startswith(kept):
                continue  # slices of other scores, which the card as JSON has
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
        named = ("model", "data", "prompt", "preprocessing", "decoding", "scoring", "versions")
        facts = [f"- {name}: {one_line(values)}" for name in named if (values := getattr(self, name))]
        return "\n".join([*lines, "", "## How", "", *facts]) + "\n"


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
    limited: str = "",
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
        limited: as :meth:`Embedded.limits` says it; also added to the note.
    """
    engine = pali.engine if isinstance(benchmark, AnswerBenchmark) else "torch"  # torch always embeds
    return Card(
        benchmark=benchmark.name,
        title=benchmark.title,
        scores=dict(scores.summary),
        metric=benchmark.metric,
        paper=dict(benchmark.paper),
        paper_ocr=dict(benchmark.paper_ocr),
        note=" ".join(filter(None, (benchmark.note, size_note(benchmark, preprocessing), note, limited))),
        limited=limited,
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


def preprocessing_of(pali: Pali, part: str) -> Json:
    """How a part of the bundle resizes images; empty for a part without images."""
    preprocess = open_model(pali.parts[part]).preprocess if part in pali.parts else None
    return asdict(preprocess) if preprocess else {}


def task_options(task: Task) -> Json:
    """The options of a task: plain values as they are, others (a mask codec) by the name of their type.

    The default dialect is left out, as in cards and predictions that were written before dialects existed.
    """
    options = {each.name: getattr(task, each.name) for each in dataclasses.fields(task)}
    if (dialect := options.pop("dialect")) != PALI3:
        options["dialect"] = dialect.name
    plain = {name: value if _is_plain(value) else type(value).__name__ for name, value in options.items()}
    return dict(json.loads(json.dumps(plain)))  # tuples become lists, as in a card that is read back


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)
