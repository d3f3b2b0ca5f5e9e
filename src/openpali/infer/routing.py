"""Which part of a bundle answers: the first that is confident, else the most confident.

The proportions of an image do not say whether it shows a printed word or drawn capitals; confidence does, for
images like those that a part was calibrated on. It counts for less the higher the out-of-distribution score is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import mean

from openpali.data.pipeline.elements import ROLES
from openpali.infer.batches import group
from openpali.infer.forms import answer_about, counted_roles
from openpali.infer.generate import Decoding, Generation
from openpali.infer.pages import Reading
from openpali.infer.parts import ModelParts
from openpali.infer.pipeline import Frames, Prediction, Row, Sized, open_image
from openpali.infer.screens import ElementQuery
from openpali.tasks.base import Answer, Task
from openpali.tasks.detect import NOTHING, Detect, alike
from openpali.tasks.example import Box, Size
from openpali.tasks.refseg import RefSeg
from openpali.tasks.registry import recognise
from openpali.tasks.vqa import Vqa
from openpali.weights.files import ABOUT, ELEMENTS, MAIN, PAGES, READER, SIGLIP, WITHOUT_DECODER

LINE = 72  # pixels; an image that is no higher is read as one line
SCREEN = 256  # pixels; no side of a screen is shorter
SURE = 0.98  # confidence at which no other part is asked; chosen on development sets, as the next two
OUT_OF_DISTRIBUTION = 0.3
"""Factor of confidence at an OOD score of 1; beyond, confidence is multiplied by this over the score."""
SQUASHED = 2.0
"""Most that a part may squash an image to be asked about it, if another part squashes it less."""

_KINDS = frozenset(ROLES) - {"image"}
"""Roles that only elements of screens have: an image may show anything."""

AskPart = Callable[[str, Sequence[int]], Sequence[Prediction]]
"""Part and indices of rows -> the part's answers."""


class RoutedModel(ModelParts):
    """A model whose parts answer in turn; of several answers the best is given."""

    def rows(
        self, frames: Frames, prompt: str, task: Task | None = None, part: str | None = None
    ) -> dict[str, Row]:
        """A prompt and its images, as each part reads them that may answer, in the order in which they are asked.

        Args:
            frames, prompt, task, part: as for one row of :meth:`openpali.infer.pali.Pali.predict`.

        Raises:
            ValueError: the bundle lacks a part, the prompt is empty or too long, or an image cannot be read.
        """
        images = [open_image(image) for image in frames]
        dialect = self.dialect if not part or part in WITHOUT_DECODER else self.pipeline(part).dialect
        name = task.name if task else recognise(prompt, len(images), dialect)
        if not part and (len(images) == 1 or name == Detect.name) and self.asks_for_elements(name, prompt):
            part = ELEMENTS if ELEMENTS in self.parts else READER
        alone = bool(part) or len(self.parts_for(name)) == 1  # else each has options of its own
        parts = (part,) if part else self.route(name, images)
        if SIGLIP in parts and name == Detect.name and not Detect(dialect=dialect).names_in(prompt):
            if part or MAIN not in self.parts:
                raise ValueError(f"the image encoder alone looks for names, and {prompt!r} has none: ask for some")
            parts = tuple(each for each in parts if each != SIGLIP) or (MAIN,)  # such as <OD>, for all there is
        found = {}
        for each in parts:
            if each == ABOUT:
                size = images[0].size if images else Size(0, 0)
                own = task or self.trained_task(name, warn=False)
                found[each] = Row(prompt, (), [image.pixels for image in images], size, own)
                continue
            if each == SIGLIP and name != Detect.name:
                raise ValueError(f"the image encoder alone detects things: it does not answer task {name}")
            if each in WITHOUT_DECODER:
                if len(images) != 1:
                    raise ValueError(f"part {each} answers about one image, and was given {len(images)}")
                [image] = images
                if each in PAGES:
                    self.pipeline(MAIN).prompt_ids(prompt)  # refuses what is too long
                own = task or self.trained_task(name, warn=False)
                found[each] = Row(prompt, (), [image.pixels], image.size, own)
            else:
                pipeline = self.pipeline(each)
                own = task if task and alone else pipeline.task(name, warn=not task)
                found[each] = pipeline.row(images, prompt, own)
        return found

    def ask(self, asked: Sequence[Mapping[str, Row]], decoding: Decoding | None = None) -> list[Prediction]:
        """The best answer to each of what :meth:`rows` gives."""

        def ask(part: str, rows: Sequence[int]) -> list[Prediction]:
            if part in WITHOUT_DECODER:
                return [self.answer_without_decoder(part, asked[row][part]) for row in rows]
            return self.pipeline(part).answer([asked[row][part] for row in rows], decoding)

        return ask_in_turn([[*each] for each in asked], ask)

    def asks_for_elements(self, task: str, prompt: str) -> bool:
        """Whether a prompt is for the elements of a screen.

        It asks for roles ("the heart icon"), how many there are, or to detect none of the objects that the bundle
        lists. Without a part that finds elements, words that are written on the screen will do, but not roles.
        """
        if READER not in self.parts or task not in (Detect.name, RefSeg.name, Vqa.name):
            return False
        finds = ELEMENTS in self.parts
        if task == RefSeg.name:
            return finds and bool(_kinds(RefSeg(dialect=self.dialect).asked(prompt)))
        if task == Vqa.name:
            return finds and bool(_KINDS.intersection(counted_roles(Vqa(dialect=self.dialect).asked(prompt))))
        names = Detect(dialect=self.dialect).names_in(prompt)
        if not self.names:
            return finds and bool(names) and all(ElementQuery.of(name).roles for name in names)
        if not finds and not all(ElementQuery.of(name).words for name in names):
            return False
        # Of a known name, roles that are no part of it: "heart icon", not "gift box".
        known = [(name, own) for name in names for own in self.names if alike(name, own)]
        return all(finds and _kinds(name) - _kinds(own) for name, own in known)

    def answer_without_decoder(self, part: str, row: Row) -> Prediction:
        """The answer of a part that has no decoder: things or elements that are asked for, or what is written."""
        if part == ABOUT:
            return self._answer_or_say_what_it_can(row)
        [pixels] = row.images
        task, score = row.task, None
        if isinstance(task, Detect):
            names = task.names_in(row.prompt)
            if part == SIGLIP:
                objects = self.patch_detector.detect(Sized(pixels, row.size), names)
            else:
                screen = self.reader.screen(pixels)
                score = screen.ood_score
                objects = [thing for name in names for thing in screen.detect(name)]
            written = [replace(each, box=Box(*task.codec.widened(each.box, row.size))) for each in objects]
            answer = Answer(task.spell(written, row.size), tuple(objects))
        elif isinstance(task, RefSeg):  # an element fills its box: there is no other outline
            screen, asked = self.reader.screen(pixels), task.asked(row.prompt)
            score, found = screen.ood_score, screen.point(asked)
            answer = Answer(NOTHING)
            if found:
                text = task.codec.encode(task.codec.widened(found.box, row.size), row.size)
                answer = Answer(text, (replace(found, name=asked, label=found.label or found.name),))
        elif part == ELEMENTS and isinstance(task, Vqa):
            screen = self.reader.screen(pixels)
            score = screen.ood_score
            answer = answer_about(screen, task.asked(row.prompt)) or Answer("", confidence=0.0)
        else:
            page = Reading(self.reader.line(pixels)) if row.size.height <= LINE else self.reader.page(pixels)
            score = page.ood_score
            sure = [word.confidence for line in page.lines for word in line.words]
            answer = Answer("\n".join(line.text for line in page.lines), confidence=mean(sure) if sure else 0.0)
        return Prediction(row.prompt, answer, Generation([], [], 0.0, "eos"), score, part)

    def _answer_or_say_what_it_can(self, row: Row) -> Prediction:
        """What a screen says to a text that names nothing else that the bundle knows, or else what that is."""
        ended = Generation([], [], 0.0, "eos")
        if len(row.images) == 1 and ELEMENTS in self.parts and min(row.size) >= SCREEN:
            screen = self.reader.screen(row.images[0])
            if answer := answer_about(screen, row.task.asked(row.prompt)):
                return Prediction(row.prompt, answer, ended, screen.ood_score, ELEMENTS)
        return Prediction(
            row.prompt, Answer(f"This is no question about an image. {self.about}"), ended, None, ABOUT
        )

    def route(self, task: str, images: Sequence[Sized]) -> tuple[str, ...]:
        """The parts that may answer a task about these images.

        They are asked in this order, until one is sure: first the part whose own images have the nearest
        proportions. A part that squashes the images is left out if another does not. Only one part is given without
        images, or if one is not calibrated, so that confidence cannot compare them.
        """
        parts = self.parts_for(task)
        decoders = tuple(part for part in parts if part not in PAGES)
        others = self._ordered(images, decoders)
        if not all(self.is_calibrated(part, task) for part in decoders):
            return others[:1]
        if len(images) != 1:
            return others or parts[:1]
        if READER in parts:
            return (READER, *others) if images[0].size.height <= LINE else (*others, READER)
        return (*others, ELEMENTS) if ELEMENTS in parts and min(images[0].size) >= SCREEN else others or parts[:1]

    def _ordered(self, images: Sequence[Sized], parts: tuple[str, ...]) -> tuple[str, ...]:
        """Of the parts that answer prompts those that do not squash the images, the nearest proportions first."""
        if not images or len(parts) == 1:
            return parts[:1]
        own = self._preprocess
        mismatch = {part: own[part].mismatch(images[0].size) for part in parts}
        fit = [part for part in parts if own[part].policy != "squash" or mismatch[part] <= SQUASHED] or parts
        return tuple(sorted(fit, key=mismatch.__getitem__))


def _kinds(text: str) -> frozenset[str]:
    """The roles of elements that an expression names."""
    return _KINDS.intersection(ElementQuery.of(text).roles)


def ask_in_turn(parts: Sequence[Sequence[str]], ask: AskPart) -> list[Prediction]:
    """The best answer to each row.

    Args:
        parts: of each row, that may answer it, in the order in which they are asked.
    """
    found: list[list[Prediction]] = [[] for _ in parts]
    for turn in range(max(map(len, parts), default=0)):
        left = [
            row for row, some in enumerate(parts) if turn < len(some) and not (turn and is_sure(found[row][-1]))
        ]
        for part, places in group([parts[row][turn] for row in left]).items():
            rows = [left[place] for place in places]
            for row, prediction in zip(rows, ask(part, rows), strict=True):
                found[row].append(replace(prediction, part=part))
    return [some[best(some)] for some in found]


def is_sure(prediction: Prediction) -> bool:
    """Whether no other part need be asked."""
    return trust(prediction) >= SURE


def best(found: Sequence[Prediction]) -> int:
    """Which of the answers of several parts to give, in the order in which they were asked."""
    return max(range(len(found)), key=lambda turn: trust(found[turn]))


def trust(prediction: Prediction) -> float:
    """The confidence in an answer, 0..1, less if the images are out of distribution; 0 without one."""
    far = prediction.ood_score if prediction.out_of_distribution else None  # 1 at the limit
    return (prediction.confidence or 0.0) * (OUT_OF_DISTRIBUTION / far if far else 1.0)


def full_size_bytes(rows: Iterable[tuple[str, Row]]) -> int:
    """Bytes of the images that are held in full size: what parts without a decoder are asked about is not resized.

    Args:
        rows: parts that may answer, and how each reads what it is asked.
    """
    images = {id(image): image for part, row in rows if part in WITHOUT_DECODER for image in row.images}
    return sum(image.nbytes for image in images.values())
