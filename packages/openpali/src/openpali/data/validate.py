"""Check a data set before training: counts, problems, and samples as the model will see them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from openpali.data.problems import Problems
from openpali.data.sources.base import Source, spread
from openpali.data.sources.records import RecordError, RecordSource
from openpali.data.sources.registry import open_source
from openpali.data.sources.shards import DamagedShard
from openpali.metrics.boxes import box_iou
from openpali.rng import generator
from openpali.tasks.base import Sample, Task, require
from openpali.tasks.example import Example, tight_box
from openpali.tasks.refseg import MaskCrop
from openpali.tasks.registry import Tools, open_task, openable, tasks_of
from openpali.text.tokenizer import Tokenizer

SHOWN = 12  # number of samples to show
LOOKED_AT = 10  # samples, evenly spaced, of which a task must fit one
ENDS = ("missing file", "bad record", "bad image", "unusable", "long prompt")  # problems that end an evaluation
Written = Sequence[tuple[Task, Sample]]  # a sample as each task writes it
PREFERENCE = ("detect", "vqa", "ocr", "classify", "caption", "denoise")  # tasks to show a sample as, best first


@dataclass(frozen=True)
class Terms:
    """How samples are to be written and what limits they have: by a model, or by a recipe."""

    tasks: Sequence[Task] = ()  # those to try; by default every task that needs no other options than a tokenizer
    # each task must be able to use each sample, as those that a recipe names; otherwise one is enough. Without
    # tasks, as for recipes of pages, each sample must have lines or a text
    required: bool = False
    tokenizer: Tokenizer | None = None  # the model's; without it, texts and lengths are not checked
    options: Mapping[str, Any] = field(default_factory=dict)  # of the source
    max_prompt: int | None = None  # maximum length of a prompt in tokens; by default prompts may have any length
    # maximum length of a target in tokens, with the end token; by default the task's own
    max_target: int | None = None
    seed: int = 0  # of what tasks draw


@dataclass(frozen=True)
class ShownSample:
    """What the model sees of a sample: prompt and target, as texts and as pieces of the tokenizer."""

    where: str
    task: str
    prompt: str
    target: str
    prompt_pieces: Sequence[str]
    target_pieces: Sequence[str]


@dataclass
class Validation(Problems):
    """What :func:`validate` found."""

    path: str  # the data set
    # samples, checked: number of samples, and number of those checked (evenly spaced)
    samples: int
    checked: int = 0
    feeds: dict[str, int] = field(default_factory=dict)  # task -> number of checked samples that it can use
    # texts, lost: number of texts in the checked samples, and number of those that the tokenizer changes
    texts: int = 0
    lost: int = 0
    # character that the tokenizer drops or changes -> number of texts that contain it
    lost_characters: dict[str, int] = field(default_factory=dict)
    longest_target: int = 0  # in tokens, with the end token
    shown: list[ShownSample] = field(default_factory=list)  # prompts and targets of a few samples

    def unusable(self, kinds: Sequence[str] = ENDS) -> tuple[int, str]:
        """How many problems of these kinds there are, and the first message."""
        messages = [message for kind in kinds for message in self.messages.get(kind, ())]
        return len(messages), messages[0] if messages else ""


def validate(
    path: str | Path,
    terms: Terms = Terms(),  # frozen
    *,
    limit: int | None = 1000,
    show: Callable[[Example, Task, Sample], None] | None = None,
) -> Validation:
    """Read a data set as training would, and report what it can train and what is wrong with it.

    Args:
        path: a ``.jsonl`` file, shards, or the name of any other source.
        terms: how the samples are to be written.
        limit: maximum number of samples to check, evenly spaced; ``None`` checks all.
        show: called with each sample of :attr:`Validation.shown`, for example to draw it.
    """
    with warnings.catch_warnings(record=True) as damage:
        warnings.simplefilter("always", DamagedShard)
        source = open_source(str(path), dict(terms.options))
    chosen = spread(len(source), limit)
    tried = terms.tasks or ([] if terms.required else _families(terms.tokenizer))
    found = Validation(str(path), len(source), len(chosen), {task.name: 0 for task in tried})
    for warning in damage:
        if warning.category is DamagedShard:
            found.add("damaged shard", str(warning.message))
    shown = {chosen[i] for i in spread(len(chosen), SHOWN)}
    for index in chosen:
        try:
            example = source[index]
        except (ValueError, OSError) as error:
            missing = isinstance(error, FileNotFoundError)
            kind = "missing file" if missing else "bad record" if isinstance(error, RecordError) else "bad image"
            found.add(kind, str(error))
            continue
        if isinstance(source, RecordSource) and (where := source.where(index)) != example.key:
            example = replace(example, key=f"{where} (key {example.key})")  # the name of the sample in all messages
        written = _write(example, index, tried, terms, found)
        for kind, message in (*_in_objects(example), *_in_targets(example, written)):
            found.add(kind, f"{example.key}: {message}")
        _check_texts(example, written, terms, found)
        if index in shown and (pick := _preferred(written)):
            found.shown.append(_show(example, *pick, terms.tokenizer))
            if show:
                show(example, *pick)
    return found


def check_answerable(path: str | Path, terms: Terms) -> None:
    """Check that every sample can be asked, as an evaluation at the end of a run asks them all.

    Args:
        terms: of the run, whose task writes what the evaluation will ask (``terms.seed``).

    Raises:
        ValueError: some cannot be read, lack what the task writes, or are too long; the message names the first.
    """
    found = validate(path, terms, limit=None)
    count, first = found.unusable()
    if count:
        raise ValueError(
            f"{count:,} of {found.samples:,} samples in {path} cannot be asked: mend or delete them. "
            f"The first: {first}"
        )


def check_trainable(path: str | Path, terms: Terms, draws: int, most: int, *, cut: bool = False) -> str:
    """Check, on a thousand samples, that a run does not end since it draws too many that it cannot use.

    Args:
        terms: of the run.
        draws: how many samples it draws of these.
        most: how many of those may be bad.
        cut: targets that are too long are cut.

    Returns:
        A sentence if there are some, fewer than would end it; else empty.

    Raises:
        ValueError: it would end; the message names the first.
    """
    found = validate(path, terms)
    bad, first = found.unusable(ENDS if cut else (*ENDS, "long target"))
    if not bad:
        return ""
    counted = f"{bad:,} of {found.checked:,} samples in {path} cannot be used"
    if (drawn := draws * bad // found.checked) > most:
        raise ValueError(
            f"{counted}: the run would draw some {drawn:,} and end after max_bad = {most:,}. Mend or delete them, "
            f"or raise max_bad. The first: {first}"
        )
    return f"{counted}; training puts their neighbours in their places. The first: {first}"


def check_fits(samples: Source, task: str) -> None:
    """Check that a task can use some of a few samples; those that cannot be read are left to other checks.

    Raises:
        ValueError: none has the fields that the task needs; the message says what the first is for.
    """
    writer, wrong = open_task(task, tools={"masks": _AnyMask}), ""
    for index in spread(len(samples), LOOKED_AT):
        try:
            example = samples[index]
        except (ValueError, OSError):
            continue
        try:
            writer.write(example, generator(0))
            return
        except ValueError as error:
            fits = " or ".join(tasks_of(example)) or "no task"
            wrong = wrong or f"task {task} cannot use these samples: {error}; by its fields it is for {fits}"
    if wrong:
        raise ValueError(wrong)


class _AnyMask:
    """A fake mask VQ-VAE, to find the samples for which one could write a target."""

    def encode(self, mask: MaskCrop) -> Sequence[int]:
        return [0] * 16

    def decode(self, codes: Sequence[int]) -> MaskCrop:
        return np.ones((64, 64), np.float32)


def _families(tokenizer: Tokenizer | None) -> list[Task]:
    tools: Tools = {"masks": _AnyMask}
    if tokenizer:
        tools = {**tools, "tokenizer": lambda: tokenizer}
    return [open_task(name, tools=tools) for name in openable(tools)]


def _write(example: Example, index: int, tasks: Sequence[Task], terms: Terms, found: Validation) -> Written:
    written, reasons = [], []
    for task in tasks:
        try:
            sample = task.write(example, generator(terms.seed, index))
            if "images" in task.needs:
                require(example.images, example, "image")
        except ValueError as error:
            reasons.append(str(error))
        else:
            written.append((task, sample))
    for name in {task.name for task, _ in written}:
        found.feeds[name] += 1
    if not terms.required:
        reasons = [] if written else [f"sample {example.key} has no fields that a task can use"]
    elif not tasks and not (example.lines or example.text.strip()):
        reasons = [f"sample {example.key} has neither lines nor a text"]
    for reason in reasons:
        found.add("unusable", reason)
    return written


def _in_objects(example: Example) -> Iterator[tuple[str, str]]:
    """What is wrong with its boxes and masks: kinds and messages."""
    for number, thing in enumerate(example.objects):
        what, size, box = f"objects.{number} ({thing.name})", example.size, thing.box
        edges = f"box {[round(edge, 1) for edge in box]} (ymin, xmin, ymax, xmax)"
        if max(box) <= 1 and max(size) > 1:
            advice = "multiply it by the image size, in pixels"
            yield "box outside", f"{what}: the box seems to be in fractions; {advice}"
        elif box.ymin < 0 or box.xmin < 0 or box.ymax > size.height or box.xmax > size.width:
            yield "box outside", f"{what}: {edges} exceeds the image of {size.height} x {size.width} pixels"
        if thing.mask is None:
            continue
        if not thing.mask.any():
            yield "mask elsewhere", f"{what}: the mask is empty"
        elif box_iou([tight_box(thing.mask)], [box])[0, 0] < 0.5:
            around = [round(edge, 1) for edge in tight_box(thing.mask)]
            yield "mask elsewhere", f"{what}: {edges}, but the mask is within {around}"


def _in_targets(example: Example, written: Written) -> Iterator[tuple[str, str]]:
    """The tasks that cannot read what they write."""
    for task, sample in written if example.images else ():
        try:
            task.parse(sample.target, example.size, strict=True)
        except ValueError as error:
            yield "unreadable target", f"{task.name} cannot parse its own target: {error}"


def _check_texts(example: Example, written: Written, terms: Terms, found: Validation) -> None:
    """Find texts that are empty, too long, or not given back by the tokenizer."""
    tokenizer = terms.tokenizer
    for where, text in _texts(example):
        if not text.strip():
            found.add("empty text", f"{example.key}: {where} is empty: write a text, or leave it out")
        elif tokenizer:
            found.texts += 1
            if not tokenizer.roundtrips(text):
                found.lost += 1
                for character in tokenizer.lost(text):
                    found.lost_characters[character] = found.lost_characters.get(character, 0) + 1
                found.add("text changed by the tokenizer", f"{example.key}: {text!r}")
    for task, sample in written if tokenizer else ():
        assert tokenizer
        target = len(sample.target_ids(tokenizer)) + 1
        found.longest_target = max(found.longest_target, target)
        lengths = (
            ("long prompt", len(sample.prompt_ids(tokenizer)), terms.max_prompt),
            ("long target", target, terms.max_target or task.limit),
        )
        for kind, length, most in lengths:
            if most and length > most:
                found.add(kind, f"{example.key}: {length} tokens as {task.name}, the maximum is {most}")


def _texts(example: Example) -> Iterator[tuple[str, str]]:
    """Field and text of all that the example has."""
    for lang, captions in example.captions.items():
        yield from ((f"captions.{lang}.{number}", text) for number, text in enumerate(captions))
    yield from ((f"answers.{number}", text) for number, text in enumerate(example.answers))
    for name in ("question", "expression", "text", "label"):
        if text := getattr(example, name):
            yield name, text
    yield from ((f"objects.{number}.name", thing.name) for number, thing in enumerate(example.objects))


def _preferred(written: Written) -> tuple[Task, Sample] | None:
    by_name = {task.name: (task, sample) for task, sample in written}
    if len(by_name) == 1:
        return written[0]
    return next((by_name[name] for name in PREFERENCE if name in by_name), None)


def _show(example: Example, task: Task, sample: Sample, tokenizer: Tokenizer | None) -> ShownSample:
    pieces: tuple[Sequence[str], Sequence[str]] = ((), ())
    if tokenizer:
        target = [*sample.target_ids(tokenizer), tokenizer.eos_id]
        pieces = tokenizer.pieces(sample.prompt_ids(tokenizer)), tokenizer.pieces(target)
    return ShownSample(example.key, task.name, sample.prompt, sample.target, *pieces)
