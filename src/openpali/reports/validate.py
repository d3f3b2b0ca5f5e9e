"""Is this data fit for training? Counts, problems, and pictures of what the model will see."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from openpali.data.pipeline.stream import Source
from openpali.data.sources.mask_formats import tight_box
from openpali.data.sources.records import RecordError
from openpali.data.sources.registry import open_source
from openpali.data.sources.shards import DamagedShard
from openpali.reports.drawing import draw_answer, sheet
from openpali.reports.fonts import font_for
from openpali.rng import generator
from openpali.tasks.base import Sample, Task, require
from openpali.tasks.example import Box, Example, Size
from openpali.tasks.refseg import MaskCrop
from openpali.tasks.registry import Tools, open_task, openable
from openpali.text.tokenizer import Tokenizer

SHOWN = 12  # samples on the contact sheet
MESSAGES = 5  # of each kind of problem that are kept
CELL = 320  # longest side of a picture on the contact sheet
PREFERENCE = ("detect", "vqa", "ocr", "classify", "caption", "denoise")  # what to show where no task is given


@dataclass(frozen=True)
class Shown:
    """What the model would see of a sample: texts, and their pieces."""

    where: str
    task: str
    prompt: str
    target: str
    prompt_pieces: Sequence[str]
    target_pieces: Sequence[str]


@dataclass
class Report:
    """What :func:`validate` found; plain data, so that ``dataclasses.asdict`` of it can be written as JSON.

    Attributes:
        path: the data.
        samples, checked: how many there are, and how many of them were looked at (evenly spread).
        feeds: task -> how many of those checked it can use.
        problems: kind of problem -> how many samples have it.
        messages: kind of problem -> the first few, each with file and line.
        texts, lost: how many texts the samples have, and how many of them the tokenizer changes.
        lost_characters: character that the tokenizer drops or changes -> how many texts have it.
        longest_target: in tokens, the end token included.
        shown: prompts and targets of a few samples.
        sheet: file of the contact sheet, "" if none was asked for.
    """

    path: str
    samples: int
    checked: int = 0
    feeds: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)
    texts: int = 0
    lost: int = 0
    lost_characters: dict[str, int] = field(default_factory=dict)
    longest_target: int = 0
    shown: list[Shown] = field(default_factory=list)
    sheet: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.problems

    def add(self, kind: str, message: str) -> None:
        """Count a problem, and keep the message if it is among the first of its kind."""
        self.problems[kind] = self.problems.get(kind, 0) + 1
        if len(kept := self.messages.setdefault(kind, [])) < MESSAGES:
            kept.append(message)


def validate(
    path: str | Path,
    *,
    task: Task | None = None,
    tokenizer: Tokenizer | None = None,
    limit: int | None = 1000,
    max_target: int | None = None,
    out: Path | None = None,
) -> Report:
    """Look at a data set as training would.

    Args:
        path: a ``.jsonl`` file, shards, or any other source by name.
        task: what it is meant for; without it, every family is tried.
        tokenizer: of the model; without it, neither texts nor lengths are checked.
        limit: how many samples are looked at, evenly spread; ``None`` is all.
        max_target: longest target in tokens, the end token included; the task's own by default.
        out: where to write a contact sheet (PNG): boxes and masks on it are drawn from the target's text.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it is of no known kind, or empty.
    """
    with warnings.catch_warnings(record=True) as damage:
        warnings.simplefilter("always", DamagedShard)
        source = open_source(str(path), {})
    chosen = _spread(len(source), limit)
    tasks = [task] if task else _families(tokenizer)
    report = Report(str(path), len(source), len(chosen), {t.name: 0 for t in tasks})
    for warning in damage:
        if warning.category is DamagedShard:
            report.add("damaged shard", str(warning.message))
    shown = {chosen[i] for i in _spread(len(chosen), SHOWN)}
    pictures: list[PILImage.Image] = []
    for index in chosen:
        example = _read(source, index, report)
        if example is None:
            continue
        _check_objects(example, report)
        if tokenizer:
            _check_texts(example, tokenizer, report)
        written = _write(example, index, tasks, report, required=task is not None)
        if tokenizer:
            _check_targets(example, written, tokenizer, max_target, report)
        _check_answers(example, written, report)
        if index in shown and (pick := _preferred(written)):
            report.shown.append(_show(example, *pick, tokenizer))
            if out and example.images:
                pictures.append(_picture(example, *pick))
    if out and pictures:
        sheet(pictures).save(out)
        report.sheet = str(out)
    return report


def render(report: Report) -> RenderableType:
    """The report for people, to print with rich."""
    parts: list[RenderableType] = [
        Text(f"{report.path}: {report.samples:,} samples, {report.checked:,} checked", style="bold")
    ]
    feeds = Table("task", "can use", title="What it can train", title_justify="left")
    for name, count in report.feeds.items():
        if count:
            feeds.add_row(name, f"{count:,} of {report.checked:,}")
    parts.append(feeds if feeds.row_count else Text("no task can use these samples", style="red"))
    if report.texts:
        share = report.lost / report.texts
        parts.append(Text(f"{share:.1%} of {report.texts:,} texts do not round-trip through the tokenizer"))
        if report.lost_characters:
            listed = "  ".join(f"{_visible(c)} x {n}" for c, n in _commonest(report.lost_characters)[:20])
            parts.append(Text(f"  characters: {listed}"))
        parts.append(Text(f"longest target: {report.longest_target} tokens"))
    for shown in report.shown[:3]:
        parts.append(Text(f"\n{shown.where} as {shown.task}", style="bold"))
        parts.append(Text(f"  prompt  {shown.prompt}\n  target  {shown.target}"))
        if shown.target_pieces:
            parts.append(
                Text(f"  tokens  {' '.join(shown.prompt_pieces)} -> {' '.join(shown.target_pieces)}", "dim")
            )
    for kind, count in _commonest(report.problems):
        parts.append(Text(f"\n{count:,} x {kind}", style="bold red"))
        parts += [Text(f"  {message}") for message in report.messages[kind]]
        if count > MESSAGES:
            parts.append(Text(f"  and {count - MESSAGES:,} more", style="dim"))
    if report.sheet:
        parts.append(Text(f"\nwhat the model will see: {report.sheet}"))
    parts.append(Text("\nno problems found", "green") if report.ok else Text(""))
    return Group(*parts)


class _AnyMask:
    """In the place of the mask VQ-VAE, to find out which samples could be written with one."""

    def encode(self, mask: MaskCrop) -> Sequence[int]:
        return [0] * 16

    def decode(self, codes: Sequence[int]) -> MaskCrop:
        return np.ones((64, 64), np.float32)


def _families(tokenizer: Tokenizer | None) -> list[Task]:
    tools: Tools = {"masks": _AnyMask}
    if tokenizer:
        tools = {**tools, "tokenizer": lambda: tokenizer}
    return [open_task(name, tools=tools) for name in openable(tools)]


def _spread(count: int, limit: int | None) -> list[int]:
    if limit is None or limit >= count:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, limit)]


def _read(source: Source, index: int, report: Report) -> Example | None:
    try:
        return source[index]
    except FileNotFoundError as error:
        report.add("missing file", str(error))
    except RecordError as error:
        report.add("bad record", str(error))
    except (ValueError, OSError) as error:
        report.add("bad picture", str(error))
    return None


def _check_objects(example: Example, report: Report) -> None:
    for number, thing in enumerate(example.objects):
        what, size, box = f"{example.key}: objects.{number} ({thing.name})", example.size, thing.box
        if max(box) <= 1 and max(size) > 1:
            report.add(
                "box outside", f"{what}: the box looks like fractions; it must be in pixels: multiply by the size"
            )
        elif box.ymin < 0 or box.xmin < 0 or box.ymax > size.height or box.xmax > size.width:
            where = f"the picture, {size.height} high and {size.width} wide"
            report.add(
                "box outside", f"{what}: box {_numbers(box)} (ymin, xmin, ymax, xmax) reaches out of {where}"
            )
        if thing.mask is not None and thing.mask.any() and _overlap(tight_box(thing.mask), box) < 0.5:
            around = _numbers(tight_box(thing.mask))
            report.add(
                "mask elsewhere", f"{what}: box {_numbers(box)} (ymin, xmin, ymax, xmax), mask within {around}"
            )
        elif thing.mask is not None and not thing.mask.any():
            report.add("mask elsewhere", f"{what}: the mask is empty")


def _check_texts(example: Example, tokenizer: Tokenizer, report: Report) -> None:
    for text in _texts(example):
        report.texts += 1
        if not tokenizer.roundtrips(text):
            report.lost += 1
            for character in tokenizer.lost(text):
                report.lost_characters[character] = report.lost_characters.get(character, 0) + 1
            report.add("text changed by the tokenizer", f"{example.key}: {text!r}")


def _texts(example: Example) -> Iterator[str]:
    for captions in example.captions.values():
        yield from captions
    yield from filter(None, (example.question, *example.answers, example.expression, example.text, example.label))
    yield from (thing.name for thing in example.objects)


def _write(
    example: Example, index: int, tasks: Sequence[Task], report: Report, *, required: bool
) -> list[tuple[Task, Sample]]:
    written, reasons = [], []
    for task in tasks:
        try:
            sample = task.write(example, generator(0, index))
            if "images" in task.needs:
                require(example.images, example, "picture")
        except ValueError as error:
            reasons.append(str(error))
        else:
            written.append((task, sample))
            report.feeds[task.name] += 1
    if not written:
        report.add(
            "unusable", reasons[0] if required else f"sample {example.key} has nothing that a task could use"
        )
    return written


def _check_targets(
    example: Example,
    written: Sequence[tuple[Task, Sample]],
    tokenizer: Tokenizer,
    max_target: int | None,
    report: Report,
) -> None:
    for task, sample in written:
        length = len(_ids(sample, tokenizer)[1]) + 1
        report.longest_target = max(report.longest_target, length)
        if length > (most := max_target or task.max_target_tokens):
            report.add("long target", f"{example.key}: {length} tokens as {task.name}, more than {most}")


def _check_answers(example: Example, written: Sequence[tuple[Task, Sample]], report: Report) -> None:
    for task, sample in written:
        if example.images:
            try:
                task.parse(sample.target, example.size, strict=True)
            except ValueError as error:
                report.add(
                    "unreadable target", f"{example.key}: {task.name} would not read its own target: {error}"
                )


def _preferred(written: Sequence[tuple[Task, Sample]]) -> tuple[Task, Sample] | None:
    by_name = {task.name: (task, sample) for task, sample in written}
    if len(by_name) == 1:
        return written[0]
    return next((by_name[name] for name in PREFERENCE if name in by_name), None)


def _show(example: Example, task: Task, sample: Sample, tokenizer: Tokenizer | None) -> Shown:
    pieces: tuple[Sequence[str], Sequence[str]] = ((), ())
    if tokenizer:
        prompt, target = _ids(sample, tokenizer)
        pieces = tokenizer.pieces(prompt), tokenizer.pieces([*target, tokenizer.eos_id])
    return Shown(example.key, task.name, sample.prompt, sample.target, *pieces)


def _ids(sample: Sample, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    return sample.ids or (tokenizer.encode(sample.prompt), tokenizer.encode(sample.target))


def _picture(example: Example, task: Task, sample: Sample) -> PILImage.Image:
    """The first picture, shrunk, with what the target says drawn on it and written below."""
    picture = PILImage.fromarray(example.images[0])
    scale = CELL / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    answer = task.parse(sample.target, Size(picture.height, picture.width))
    words = f"{sample.prompt} => {sample.target}"
    words = words if len(words) < 240 else words[:237] + "..."
    return draw_answer(np.asarray(picture), answer.objects, words, font_for=font_for)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    height, width = min(a.ymax, b.ymax) - max(a.ymin, b.ymin), min(a.xmax, b.xmax) - max(a.xmin, b.xmin)
    both = max(height, 0) * max(width, 0)
    areas = sum((box.ymax - box.ymin) * (box.xmax - box.xmin) for box in (a, b))
    return both / (areas - both)


def _numbers(box: Box) -> list[float]:
    return [round(edge, 1) for edge in box]


def _commonest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _visible(character: str) -> str:
    return character if character.isprintable() and not character.isspace() else f"U+{ord(character):04X}"
