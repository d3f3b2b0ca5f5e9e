"""Ask a model about many samples: answers in the order of the samples, and an error in place of a bad one's answer.

for some in replies(pali, source, Request(task="caption")):
    print(*(reply.as_json() for reply in some))
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openpali.data.sources.base import Source
from openpali.data.sources.mask_formats import RunLengths
from openpali.data.sources.records import RecordSource
from openpali.infer.batches import cut, windows
from openpali.infer.lines import AnotherRun, Json, LinesFile
from openpali.infer.pali import Pali, Prompted, Reworded
from openpali.infer.pipeline import BATCH, Prediction, Row, frames_of, full_size_bytes
from openpali.tasks.example import Example, Object
from openpali.tasks.registry import is_prompt, suited, tasks_of
from openpali.weights.files import SIGLIP

HELD = 2**30
"""Bytes of images of a window that are held together."""


@dataclass(frozen=True)
class Request:
    """What to ask about each sample."""

    task: str = ""  # writes the prompts; by default the one that a sample is evidently for
    # what the task asks about, the same for all samples; by default the sample's own question, expression or names.
    # Without a task it is a prompt or a question
    text: str = ""
    lang: str = ""  # of the answers; by default the sample's
    raw: bool = False  # the text is the whole prompt, even if it reads like a question, or is short for one (<OD>)
    fast: bool = False  # detect by the patches of the image encoder, without a decoder

    def __post_init__(self) -> None:
        if self.raw and (self.task or not self.text):
            raise ValueError("raw sends your text as the whole prompt: give a text, and no task")

    @property
    def part(self) -> str | None:
        """The part that is asked, if the request says so."""
        return SIGLIP if self.fast else None


@dataclass(frozen=True)
class Reply:
    """What came of a sample: a prediction, or an error."""

    key: str
    prediction: Prediction | None = None
    error: str = ""
    # sentences if the model was not trained on the task (Pipeline.reservation), and if the text was not asked as it
    # is (Pali.prompted)
    note: str = ""
    files: Sequence[str] = ()  # paths of the sample's images, as its source names them

    def line(self, run: str) -> Json:
        """What a file of answers has of it; ``run`` identifies samples, model, engine and request."""
        return {**self.as_json(), "run": run}

    def as_json(self) -> Json:
        """Plain JSON values: as :func:`as_json`, or the error."""
        named = {"key": self.key} | ({"images": list(self.files)} if self.files else {})
        if self.prediction is None:
            return {**named, "error": self.error}
        return named | as_json(self.prediction) | ({"note": self.note} if self.note else {})


def replies(
    pali: Pali, source: Source, request: Request, *, batch: int = BATCH, skip: int = 0
) -> Iterator[list[Reply]]:
    """Ask about each sample; replies come in the order of the samples, window by window.

    Args:
        batch: samples that go through the model together; it does not change the answers.
        skip: leave out the first replies. The others are those of a run that left out none.
    """
    if request.task:
        pali.task(request.task, request.part, warn=False)  # each sample's task warns
    asking = Asking(pali, request)
    for window in windows(len(source), batch):
        if window.stop > skip:
            yield asking.answer(((index, fetch(source, index)) for index in window), batch, skip)


def fetch(source: Source, index: int) -> Example | Reply:
    """A sample, or the reply that says why it cannot be read."""
    try:
        return source[index]
    except (ValueError, OSError) as error:
        key, files = _named(source, index)
        return Reply(key, error=str(error), files=files)


@dataclass(frozen=True)
class Done:
    """Counts of written lines: samples, errors, out-of-distribution images."""

    samples: int
    errors: int
    ood: int

    @classmethod
    def of(cls, lines: Sequence[Json]) -> Done:
        ood = sum(bool(line.get("out_of_distribution")) for line in lines)
        return cls(len(lines), sum("error" in line for line in lines), ood)


class AnswersFile(LinesFile):
    """A file with one JSON line per sample, in their order, which a killed run continues.

    Args:
        path: the file; it need not exist yet.
        run: identifies samples, model, engine and request; each line holds it.
    """

    def __init__(self, path: Path, run: str) -> None:
        super().__init__(path, '{"key": ', "file of answers")
        self.run = run

    def check(self, lines: Sequence[Json], total: int, other: str) -> Done:
        """What is answered by lines.

        Raises:
            AnotherRun: they are of another run, or more than ``total``; ``other`` says so.
        """
        if {line["run"] for line in lines} - {self.run} or len(lines) > total:
            raise AnotherRun(f"{self.path} {other}")
        return Done.of(lines)

    def go_on(self, total: int) -> Done:
        """What is answered of so many samples, see :meth:`LinesFile.resume`."""
        other = "holds answers of another run: name another file, or delete this one"
        return self.resume(lambda lines: self.check(lines, total, other))

    def write(self, some: Sequence[Reply]) -> Done:
        """Append replies; they are on disk when this returns."""
        lines = [reply.line(self.run) for reply in some]
        self.append(lines)
        return Done.of(lines)


@dataclass(frozen=True)
class PreparedSample:
    """A sample on its way to the components that may answer it."""

    index: int
    sample: Example
    rows: Mapping[str, Row]  # how each component reads it, see Pali.rows
    note: str

    @property
    def row(self) -> Row:
        """How the first component reads it."""
        return next(iter(self.rows.values()))


class Asking:
    """Turns samples into prompts, and these into answers."""

    def __init__(self, pali: Pali, request: Request) -> None:
        self.pali, self.request = pali, request

    def answer(
        self, samples: Iterable[tuple[int, Example | Reply]], batch: int = BATCH, skip: int = 0
    ) -> list[Reply]:
        """The replies to a window of samples, in their order.

        Args:
            samples: index, and sample or what is wrong with it.
            batch: samples that go through the model together.
            skip: leave out the replies to samples before this index.
        """
        found: dict[int, Reply] = {}
        asked: list[PreparedSample] = []
        held = 0
        for index, each in samples:
            prepared = each if isinstance(each, Reply) else self._prepare(index, each)
            if isinstance(prepared, Reply):
                found[index] = prepared
                continue
            asked.append(prepared)
            held += full_size_bytes(prepared.rows.values())
            if held > HELD:
                found |= self._answer(asked, batch, skip)
                asked, held = [], 0
        found |= self._answer(asked, batch, skip)
        return [found[index] for index in sorted(found) if index >= skip]

    def _prepare(self, index: int, sample: Example) -> PreparedSample | Reply:
        """A sample, ready to be asked about, or what is wrong with it."""
        try:
            task, prompt, note, part, _ = self._prompt(sample)
            if note:
                warnings.warn(note, Reworded, stacklevel=2)
            return PreparedSample(index, sample, self.pali.rows(frames_of(sample), prompt, task, part), note)
        except (ValueError, OSError) as error:
            return Reply(sample.key, error=str(error), files=sample.files)

    def _answer(self, asked: Sequence[PreparedSample], batch: int, skip: int) -> dict[int, Reply]:
        """The replies to samples, by their index, but for those of batches that are left out."""
        found: dict[int, Reply] = {}
        for chunk in cut(asked, batch, lambda each: (len(each.row.images), len(each.row.prompt))):
            if all(each.index < skip for each in chunk):
                continue
            for each, prediction in zip(chunk, self.pali.ask([each.rows for each in chunk]), strict=True):
                reservation = self.pali.reservation(each.row.task.name, prediction.part)
                note = "; ".join(filter(None, (reservation, each.note)))
                found[each.index] = Reply(each.sample.key, prediction, note=note, files=each.sample.files)
        return found

    def _prompt(self, example: Example) -> Prompted:
        pali, request, frames = self.pali, self.request, len(example.images)
        if request.text and not request.task:
            whole = request.raw or is_prompt(request.text, pali.dialect)
            known = not pali.languages or example.lang in pali.languages
            own = example.lang if known and not whole and example.lang != Example.lang else ""
            lang = request.lang or own
            return pali.prompted(request.text, lang=lang, frames=frames, raw=request.raw, part=request.part)
        names = [request.task] if request.task else tasks_of(example)
        if len(names) != 1:
            raise ValueError(f"sample {example.key} is for {' or '.join(names) or 'no task'}: name one with --task")
        task = pali.task(suited(names[0], frames), request.part)
        text = request.text or text_of(example, task.takes, task.dialect.names_joiner)
        lang = request.lang or example.lang
        return pali.prompted(text, task, lang=lang, frames=frames, part=request.part)


def text_of(example: Example, takes: str, joiner: str) -> str:
    """What a task asks about an example, by what it takes; names have ``joiner`` between them."""
    names = joiner.join(dict.fromkeys(thing.name for thing in example.objects))
    return {
        "question": example.question,
        "answer": next(iter(example.answers), ""),
        "expression": example.expression,
        "names": names or example.expression,
    }.get(takes, "")


def _named(source: Source, index: int) -> tuple[str, Sequence[str]]:
    """The key and the files of a sample that cannot be read, or where it stands."""
    if not isinstance(source, RecordSource):
        return str(index), ()
    with suppress(ValueError, OSError):
        record = source.record(index)
        return record.key or source.where(index), record.images
    return source.where(index), ()


def as_json(prediction: Prediction) -> Json:
    """Plain JSON values: boxes are [ymin, xmin, ymax, xmax] in pixels, masks COCO's run lengths.

    The ``confidence`` of the text, or of each object, is null if the model is not calibrated for the task;
    ``out_of_distribution`` and ``ood_score`` are null without an OOD detector.
    """
    answer, generation = prediction.answer, prediction.generation
    return {
        "prompt": prediction.prompt,
        "text": answer.text,
        "confidence": answer.confidence,
        "objects": [object_as_json(thing) for thing in answer.objects],
        "score": generation.score,
        "finish_reason": generation.finish_reason,
        "out_of_distribution": prediction.out_of_distribution,
        "ood_score": prediction.ood_score,
        "confidence_holds": prediction.confidence_holds,
    }


def object_as_json(thing: Object) -> Json:
    """Its name, box [ymin, xmin, ymax, xmax] in pixels, mask as COCO's run lengths, and confidence.

    An element of a screen also has its role, its label, and its centre [y, x] in pixels.
    """
    mask = None if thing.mask is None else RunLengths.of(thing.mask).as_json()
    found = {"name": thing.name, "box": list(thing.box), "mask": mask, "confidence": thing.confidence}
    if thing.role:
        found |= {"role": thing.role, "label": thing.label, "centre": list(thing.box.centre)}
    return found
