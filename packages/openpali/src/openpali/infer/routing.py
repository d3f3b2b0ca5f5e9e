"""Which part of a bundle answers: the first that is confident, else the most confident.

The proportions of an image do not say whether it shows a printed word or drawn capitals; confidence does, for
images like those that a part was calibrated on. It counts for less the higher the out-of-distribution score is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from openpali.infer.batches import group
from openpali.infer.components import ALONE, DECODERS, Question, answered, encoder_only
from openpali.infer.generate import Decoding
from openpali.infer.parts import ModelParts
from openpali.infer.pipeline import Frames, Prediction, Row, Sized, open_image
from openpali.tasks.base import Answer, Task
from openpali.tasks.detect import Detect
from openpali.tasks.example import Size
from openpali.tasks.registry import recognise
from openpali.weights.files import ABOUT, MAIN, SIGLIP

SURE = 0.98  # confidence at which no other part is asked; chosen on development sets, as the next two
OUT_OF_DISTRIBUTION = 0.3
"""Factor of confidence at an OOD score of 1; beyond, confidence is multiplied by this over the score."""
SQUASHED = 2.0
"""Most that a part may squash an image to be asked about it, if another part squashes it less."""

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
        dialect = self.dialect if not part or part in encoder_only() else self.pipeline(part).dialect
        name = task.name if task else recognise(prompt, len(images), dialect)
        parts = (part,) if part else self.route(Question(name, prompt, images))
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
            if each in encoder_only():
                if len(images) != 1:
                    raise ValueError(f"part {each} answers about one image, and was given {len(images)}")
                [image] = images
                if each in self.components and MAIN in self.parts:
                    self.pipeline(MAIN).prompt_ids(prompt)  # refuses what is too long
                own = task or self.trained_task(name, warn=False)
                found[each] = Row(prompt, (), [image.pixels], image.size, own)
            else:
                pipeline = self.pipeline(each)
                alone = part or len(self.parts_for(name)) == 1  # else each has options of its own
                own = task if task and alone else pipeline.task(name, warn=not task)
                found[each] = pipeline.row(images, prompt, own)
        return found

    def ask(self, asked: Sequence[Mapping[str, Row]], decoding: Decoding | None = None) -> list[Prediction]:
        """The best answer to each of what :meth:`rows` gives."""

        def ask(part: str, rows: Sequence[int]) -> list[Prediction]:
            if part in encoder_only():
                return [self.answer_without_decoder(part, asked[row][part]) for row in rows]
            return self.pipeline(part).answer([asked[row][part] for row in rows], decoding)

        return ask_in_turn([[*each] for each in asked], ask)

    def answer_without_decoder(self, part: str, row: Row) -> Prediction:
        """The answer of a part that has no decoder."""
        if part == ABOUT:
            return self._answer_or_say_what_it_can(row)
        if part == SIGLIP:
            [pixels], task = row.images, row.task
            assert isinstance(task, Detect)
            objects = self.patch_detector.detect(Sized(pixels, row.size), task.names_in(row.prompt))
            return answered(row, task.answer(objects, row.size), part)
        return self.component(part).answer(row)

    def _answer_or_say_what_it_can(self, row: Row) -> Prediction:
        """What a component says to a text that names nothing else that the bundle knows, or else what that is."""
        images = [Sized(image, row.size) for image in row.images]
        for component in self.components.values():
            if component.can(Question(row.task.name, row.prompt, images)):
                prediction = component.answer(row)
                if prediction.answer.text:
                    return prediction
        return answered(row, Answer(f"This is no question about an image. {self.about}"), ABOUT)

    def route(self, question: Question) -> tuple[str, ...]:
        """The parts that may answer a question.

        They are asked in this order, until one is sure: of those with a decoder first the part whose own images
        have the nearest proportions. A part that squashes the images is left out if another does not. Only one part
        is given without images, or if one is not calibrated, so that confidence cannot compare them.
        """
        scores = {part: each.can(question) for part, each in self.components.items()}
        if scores and max(scores.values()) >= ALONE:
            return (max(scores, key=scores.__getitem__),)
        parts, images = self.parts_for(question.task), question.images
        decoders = tuple(part for part in parts if part not in scores)
        others = self._ordered(images, decoders)
        if not all(self.is_calibrated(part, question.task) for part in decoders):
            return others[:1]
        if len(images) != 1:
            return others or parts[:1]
        first = [part for part in parts if scores.get(part, 0.0) > DECODERS]
        last = [part for part in parts if 0.0 < scores.get(part, 0.0) <= DECODERS]
        return (*first, *others, *last) or parts[:1]

    def _ordered(self, images: Sequence[Sized], parts: tuple[str, ...]) -> tuple[str, ...]:
        """Of the parts that answer prompts those that do not squash the images, the nearest proportions first."""
        if not images or len(parts) == 1:
            return parts[:1]
        own = self._preprocess
        mismatch = {part: own[part].mismatch(images[0].size) for part in parts}
        fit = [part for part in parts if own[part].policy != "squash" or mismatch[part] <= SQUASHED] or parts
        return tuple(sorted(fit, key=mismatch.__getitem__))


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
    images = {id(image): image for part, row in rows if part in encoder_only() for image in row.images}
    return sum(image.nbytes for image in images.values())
