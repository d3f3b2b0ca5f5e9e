"""``Pali``: a model from a folder, ready to answer.

pali = Pali.from_pretrained("nano")
pali.caption(["cat.jpg"], lang="ja")
pali.detect(["street.jpg"], ["red bicycle"])[0][0].box

A question takes this way: :meth:`Pali.prompted` writes the prompt from the text of a user, :meth:`Pali.route` picks
the components that may answer, :meth:`Pali.rows` prepares what each of them reads, and :meth:`Pali.ask` gives the
best answer. Bulk jobs and the server take the same way.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

import torch

from openpali.architectures.pali import assemble
from openpali.infer.batches import chunked
from openpali.infer.bundle import Bundle
from openpali.infer.components import ALONE, DECODER, Component, Question, component_types, components_of
from openpali.infer.engines.registry import Dtype, EngineName
from openpali.infer.generate import Decoding
from openpali.infer.pipeline import (
    BATCH,
    Floats,
    Frames,
    ImageLike,
    OutOfDistribution,
    Pipeline,
    Prediction,
    Row,
    check_rows,
    is_image,
    ood_warning,
    open_image,
)
from openpali.infer.requests import asks_about_image, task_of_request
from openpali.infer.routing import ask_in_turn
from openpali.messages import nearest, shorten
from openpali.tasks.base import Task
from openpali.tasks.detect import alike
from openpali.tasks.example import Object
from openpali.tasks.registry import FREE_TEXT, is_prompt, open_task, recognise, suited
from openpali.text.characters import composed
from openpali.text.tokenizer import Tokenizer
from openpali.weights.convert import write_stored
from openpali.weights.files import ABOUT, BUNDLE, MAIN, MASKS, SIGLIP
from openpali.weights.find import find_model
from openpali.weights.format import open_model
from openpali.weights.hub import find_checkpoint


class Reworded(UserWarning):
    """A text was not sent to the model as it is, or names what the model does not know."""


class Prompted(NamedTuple):
    """What a model is asked."""

    task: Task  # parses the answer
    prompt: str  # what the model reads
    # a sentence if the user's text is asked as a question or left out, or holds a name that the model does not
    # know; else empty
    note: str = ""
    part: str | None = None  # that is to answer; None: those of Pali.route
    free: bool = False  # whether the user's text is neither a prompt nor what a task takes


class Pali(Bundle):
    """A model or a bundle of models, ready to answer.

    Args:
        folder: a model, or a bundle of them.
        engine: what generates text: torch, or OpenVINO on CPUs with float, int8 or int4 weights. "torch-int8" is
            torch with int8 weights and, for images and prompts, int8 activations, on CPUs. "auto" picks OpenVINO
            for "fp32" on a CPU if it is installed, else torch; the attribute holds the engine picked. OpenVINO
            takes encoder-decoders.
        dtype: what torch computes in. "bf16" halves the memory, and tensors stored in bf16 stay mapped from disk.
            OpenVINO computes in bf16 if the processor is faster with it, whatever this is: with "bf16" it only
            generates, and torch encodes images and prompts.
        device: where torch computes, as "cpu" or "cuda".
    """

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "nano",
        engine: EngineName = "torch",
        dtype: Dtype = "fp32",
        device: str | torch.device = "cpu",
    ) -> Pali:
        """Open a folder, a model that ships with the package (``nano``), or a finished run.

        Args:
            name: path, or name of the model or run.
            engine, dtype, device: as for :class:`Pali`.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: it cannot be opened, or not run so here.
        """
        return cls(find_model(str(name)), engine, dtype, device)

    @classmethod
    def from_parts(
        cls,
        *,
        vision: str | Path,
        text: str | Path,
        out: str | Path | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Pali:
        """Assemble a PaLI from public weights (see :func:`assemble`). It needs training before it can answer.

        Args:
            vision: SigLIP, as a folder of transformers or a `.npz` file of big_vision.
            text: T5, mT5, umT5 or UL2 with its tokenizer, as a folder of transformers.
            out: folder to write; by default a temporary one that is deleted with this object.
            size: pixels per side, or height and width; by default the size that the image encoder was trained at.
        """
        temporary = None if out else TemporaryDirectory(prefix="openpali-")
        folder = Path(out or cast(TemporaryDirectory[str], temporary).name)
        pixels = (size, size) if isinstance(size, int) else size
        halves = find_checkpoint(str(vision)), find_checkpoint(str(text))
        made = assemble(*halves)
        write_stored(made, folder, pixels)
        pali = cls(folder)
        pali._temporary = temporary
        return pali

    def adapted(self, name: str | Path) -> Pali:
        """The model that a LoRA adapter makes of this one, or of a part of it. Both share the weights in memory.

        Args:
            name: of the adapter, as for :meth:`from_pretrained`.
        """
        folder = find_model(str(name))
        stored = None if (folder / BUNDLE).is_file() else open_model(folder)
        if stored is None or stored.adapter is None or stored.base is None:
            raise ValueError(f"{name} is a whole model, not an adapter: serve or open it by itself")
        if not self._engine.adapts:
            raise ValueError(f"adapters share their base's weights with engine torch, not with {self.engine}")
        beneath = stored.base.folder.resolve()
        part = next((part for part, own in self.parts.items() if own.resolve() == beneath), None)
        if part is None:
            raise ValueError(
                f"the adapter {name} changes the model {stored.adapter.base}, not {self.name}: give one that was "
                "trained on this model"
            )
        adapted = Pali(folder, self.engine, self.dtype, self.device)
        adapted._adapter_base = self.load(part)[1]
        return adapted

    def caption(self, images: Sequence[ImageLike], lang: str = "en") -> list[str]:
        """Describe each image in a language."""
        return [p.answer.text for p in self._ask("caption", images, None, lang)]

    def answer(self, images: Sequence[ImageLike], questions: Sequence[str], lang: str = "en") -> list[str]:
        """Answer a question about each image, in a language."""
        return [p.answer.text for p in self._ask("vqa", images, questions, lang)]

    def read(self, images: Sequence[ImageLike], lang: str = "en") -> list[str]:
        """Read the text in each image."""
        return [p.answer.text for p in self._ask("ocr", images, None, lang)]

    def detect(
        self, images: Sequence[ImageLike], names: Sequence[str], *, fast: bool = False
    ) -> list[Sequence[Object]]:
        """Find all instances of a name (or of several, joined by " and ") in each image; ``fast``: by the patches
        of the image encoder, without a decoder (:mod:`openpali.infer.patch_detector`)."""
        return [p.answer.objects for p in self._ask("detect", images, names, "en", SIGLIP if fast else None)]

    def segment(self, images: Sequence[ImageLike], expressions: Sequence[str]) -> list[Sequence[Object]]:
        """Find the box and mask that a referring expression names, in each image."""
        return [p.answer.objects for p in self._ask("refseg", images, expressions, "en")]

    def predict(
        self,
        frames: Sequence[Frames],
        prompts: Sequence[str],
        *,
        task: Task | None = None,
        part: str | None = None,
        decoding: Decoding | None = None,
        batch: int = BATCH,
        raw: bool = False,
    ) -> list[Prediction]:
        """Answer one prompt per row, see :meth:`Pipeline.predict`.

        Without a ``task`` or a ``part``, a text that is no prompt is asked as a question (:meth:`prompted`); what
        there is to say about that is a warning (:class:`Reworded`).

        Args:
            frames, prompts, decoding, batch: as for :meth:`Pipeline.predict`.
            task: parses the answers and picks the part of the bundle; by default it is recognised by the prompt.
                Of several parts the best answer is taken (:mod:`openpali.infer.routing`), each parsed with the
                options that its part was trained with.
            part: picks the part of the bundle instead.
            raw: the texts are prompts, whatever they are.
        """
        check_rows(frames, prompts)
        found: list[Prediction] = []
        for some in chunked(range(len(prompts)), batch):
            found += self.ask([self.rows(frames[i], prompts[i], task, part, raw=raw) for i in some], decoding)
        return found

    def rows(
        self, frames: Frames, prompt: str, task: Task | None = None, part: str | None = None, *, raw: bool = False
    ) -> dict[str, Row]:
        """A prompt and its images, as each component reads them that may answer, in the order in which they are
        asked.

        Args:
            frames, prompt, task, part, raw: as for one row of :meth:`predict`.

        Raises:
            ValueError: the bundle lacks a part, the prompt is empty or too long, or an image cannot be read.
        """
        if not (task or part or raw):
            task, prompt, note, part, _ = self.prompted(prompt, frames=len(frames))
            if note:
                warnings.warn(note, Reworded, stacklevel=3)
        images = [open_image(image) for image in frames]
        dialect = self.part(part).dialect if part and self.component(part).decodes else self.dialect
        question = Question(task.name if task else recognise(prompt, len(images), dialect), prompt, images)
        parts = (part,) if part else self.route(question)
        own = not task or not (part or len(self.listed_for(question.task)) == 1)  # each has options of its own
        found = {}
        for each in parts:
            component = self.component(each)
            if own and component.decodes:
                parser = self.pipeline(each).task(question.task, warn=not task)
            else:
                parser = task or self.task(question.task, warn=False)
            if each in component_types() and MAIN in self.parts:
                self.pipeline(MAIN).prompt_ids(prompt)  # refuses what is too long for any component
            found[each] = component.row(question, parser)
        return found

    def route(self, question: Question) -> tuple[str, ...]:
        """The parts that may answer a question, in the order in which they are asked until one is confident.

        A component that scores :data:`ALONE` is the only one. Else these are the listed ones that can answer, the
        best score first. One with a decoder that squashes the image is left out if another does not, and only the
        first is asked without images, or if one is not calibrated, so that confidence cannot compare them.
        """
        scores = {part: component.can(question) for part, component in self.components.items()}
        if max(scores.values()) >= ALONE:
            return (max(scores, key=scores.__getitem__),)
        listed = self.parts_for(question.task)
        able = sorted((part for part in listed if scores.get(part)), key=scores.__getitem__, reverse=True)
        decoders = [part for part in able if self.components[part].decodes]
        compared = question.images and all(self.is_calibrated(part, question.task) for part in decoders)
        if decoders and not compared:
            return (decoders[0],)
        squashing = [part for part in decoders if scores[part] < DECODER]
        if len(squashing) < len(decoders):
            able = [part for part in able if part not in squashing]
        return tuple(able) or (MAIN if MAIN in self.components else listed[0],)

    def ask(self, asked: Sequence[Mapping[str, Row]], decoding: Decoding | None = None) -> list[Prediction]:
        """The best answer to each of what :meth:`rows` gives."""

        def ask(part: str, rows: Sequence[int]) -> list[Prediction]:
            return self.component(part).answers([asked[row][part] for row in rows], decoding)

        return ask_in_turn([[*each] for each in asked], ask)

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """What answers, by part."""
        return components_of(self)

    def component(self, part: str) -> Component:
        """The component of a part.

        Raises:
            ValueError: the bundle does not have it.
        """
        if part not in self.components:
            stored = self.part(part)
            raise ValueError(f"part {part!r} of {self.folder} is a {stored.kind}, which takes no prompts")
        return self.components[part]

    def load_all(self) -> None:
        """Load every part that answers, so that no request waits for it."""
        for part in self.parts:
            if part in self.components:
                self.pipeline(part) if self.components[part].decodes else self.load(part)
            elif part == MASKS:
                _ = self.masks

    def log_perplexity(
        self,
        frames: Sequence[Frames],
        prompt: str,
        targets: Sequence[str],
        *,
        part: str | None = None,
        batch: int = BATCH,
    ) -> Floats:
        """Mean negative log-likelihood of given answers, ``[rows, targets]``: see :meth:`Pipeline.log_perplexity`.

        Args:
            part: of the bundle; by default the one that answers prompts like this.
        """
        most = max(map(len, frames), default=1)
        pipeline = self.pipeline(part or self.decoder_for(self.recognise(prompt, most)))
        return pipeline.log_perplexity(frames, prompt, targets, batch=batch)

    def embed_image(self, images: Sequence[ImageLike]) -> Floats:
        """L2-normalised embeddings of images ``[N, D]``, comparable with :meth:`embed_text`."""
        _check_lists(images)
        return self.embedding.embed_image(images)

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """L2-normalised embeddings of texts ``[N, D]``, padded to the fixed length of training."""
        _check_lists(texts=texts)
        return self.embedding.embed_text(texts)

    def similarity(self, images: Sequence[ImageLike], texts: Sequence[str]) -> Floats:
        """Probability that an image and a text match, by SigLIP's sigmoid: ``[images, texts]``. An encoder that was
        trained by softmax compares the texts: for it, rows sum to 1."""
        _check_lists(images, texts)
        return self.embedding.similarity(images, texts)

    def decoder_for(self, task: str) -> str:
        """The part that writes the prompts of a task: the first with a decoder that answers it, or the main part.

        Raises:
            ValueError: the bundle lacks a part that answers it.
        """
        return next((part for part in self.parts_for(task) if self.component(part).decodes), MAIN)

    def writer(self, task: str) -> Pipeline | None:
        """What writes the prompts of a task, with the options of its training; None if no part has a decoder."""
        part = self.decoder_for(task)
        return self.pipeline(part) if part in self.parts else None

    def task(self, name: str, part: str | None = None, *, warn: bool = True) -> Task:
        """A task as this bundle was trained on it: with its options and its mask codec.

        Args:
            part: that is to answer; by default the first of those that the bundle lists.
            warn: as for :meth:`Pipeline.task`, of a part that has a decoder.

        Raises:
            ValueError: unknown task, or the bundle lacks the part that answers it.
        """
        warn = warn and self.component(part or self.parts_for(name)[0]).decodes
        writer = self.writer(name)
        return writer.task(name, warn=warn) if writer else open_task(name)

    def longest_answer(self, task: Task) -> int:
        """Tokens of an answer to a task, at most."""
        writer = self.writer(task.name)
        return writer.longest_answer(task) if writer else task.limit

    def reservation(self, task: str, part: str | None = None) -> str:
        """A sentence if a part, by default the one that answers a task, was not trained on it, see
        :meth:`Pipeline.reservation`. Parts without a decoder do what they were trained on.
        """
        part = part or self.parts_for(task)[0]
        return self.pipeline(part).reservation(task) if self.component(part).decodes else ""

    def is_calibrated(self, part: str, task: str) -> bool:
        """Whether answers of a part to a task, or to one that asks with the same prompt, have a confidence."""
        return self.calibration(part, task) is not None

    def tokenizer_for(self, part: str) -> Tokenizer:
        """The tokenizer of what a part answers."""
        return self.part(part if self.component(part).decodes or MAIN not in self.parts else MAIN).tokenizer

    def write_prompt(self, task: Task, text: str = "", lang: str = "en") -> str:
        """A task's prompt, in a language: see :meth:`Pipeline.write_prompt`."""
        writer = self.writer(task.name)
        return writer.write_prompt(task, text, lang) if writer else task.ask(text, lang=lang)

    def prompted(
        self,
        text: str,
        task: Task | None = None,
        *,
        lang: str = "",
        frames: int = 1,
        raw: bool = False,
        part: str | None = None,
    ) -> Prompted:
        """What to ask a model for a user's text: with a task, its prompt; else the text, if it is a prompt, or else
        the text as a question. A bundle that lists the names it knows reads or describes an image where it is
        asked to, and says what it can do if the text asks nothing about an image.

        Args:
            task: writes the prompt, from the text that it takes; one that takes none leaves the text out.
            lang: of the answer; by default English, or the first language of a model that does not know it.
            frames: number of images.
            raw: the text is a prompt, whatever it is.
            part: that is to answer; by default those that the bundle lists.

        Raises:
            ValueError: the text is empty, or a prompt with a ``lang``; an image lacks; or as :meth:`write_prompt`.
        """
        if not text.strip() and not task:
            raise ValueError("the prompt is empty")
        if task and not frames and "images" in task.needs:
            raise ValueError(f"task {task.name} is about an image, and there is no image: give one")
        text = text if raw else composed(text)
        if not task and (raw or is_prompt(text, self.dialect)):
            if lang:
                raise ValueError(
                    f"language {lang!r} is for a question or a task, but this text is sent as a whole prompt: "
                    "leave out the language"
                )
            known = self.task(self.recognise(text, frames), part)
            return Prompted(known, text, "" if raw else self._unknown_names(known, text, part), part)
        if not task and part == SIGLIP:
            raise ValueError(
                f"the image encoder alone detects things: ask for {shorten(repr(text), 40)} with task detect"
            )
        limited = not (task or part) and bool(self.names and self.about) and MAIN in self.parts
        whole = task_of_request(text) if limited else ""
        if frames != 1 and suited(whole, frames) == whole:  # no task of text alone, or of videos
            whole = ""
        asked = task or self.task(suited(whole or FREE_TEXT, frames))
        left_out = text.strip() if not asked.takes else ""
        if not lang:
            lang = "en" if "en" in self.languages or not self.languages else self.languages[0]
        prompt, note = self.write_prompt(asked, "" if left_out else text, lang), ""
        if whole:
            return Prompted(asked, prompt, f"{shorten(repr(text), 40)} was asked as task {asked.name}", free=True)
        if limited and not (frames and asks_about_image(text, self.names)):
            note = f"{shorten(repr(text), 40)} names nothing that {self.name} knows: a form or a table may answer"
            return Prompted(asked, prompt, note, ABOUT, True)
        if left_out:
            note = f"task {asked.name} takes no text: {shorten(repr(left_out), 40)} was left out (task vqa asks it)"
        elif not task and prompt != text.strip():
            note = f"{shorten(repr(text), 40)} was asked as a question: {shorten(prompt, 80)} "
            note += "(with --raw, or raw=True, it is sent as it is)"
        return Prompted(asked, prompt, note or self._unknown_names(asked, prompt, part), part, not task)

    def _unknown_names(self, task: Task, prompt: str, part: str | None) -> str:
        """A sentence on names in a prompt that the model does not know; empty if it does not say what it knows, or
        if its text tower embeds any name."""
        if (part or self.parts_for(task.name)[0]) == SIGLIP:
            return ""
        unknown = [name for name in task.names_in(prompt) if not any(alike(name, known) for known in self.names)]
        if not self.names or all(any(each.knows(name) for each in self.components.values()) for name in unknown):
            return ""
        near = [(name, nearest(name, self.names, cutoff=0.8)) for name in unknown]  # a typo, not another word
        listed = ", ".join(
            shorten(repr(name), 40) + (f" (did you mean {known!r}?)" if known else "") for name, known in near
        )
        message = f"{self.name} does not know {listed}: "
        for component in self.components.values():
            if component.can(Question(task.name, prompt, ())) >= ALONE:
                return f"{message}it looks for {component.looks_for} (`openpali names {self.name}`)"
        return f"{message}`openpali names {self.name}` lists what it can find"

    def recognise(self, prompt: str, frames: int = 1) -> str:
        """The task that a prompt is for, see :func:`~openpali.tasks.registry.recognise`."""
        return recognise(prompt, frames, self.dialect)

    def _ask(
        self,
        name: str,
        images: Sequence[ImageLike],
        texts: Sequence[str] | None,
        lang: str,
        part: str | None = None,
    ) -> list[Prediction]:
        _check_lists(images, texts)
        if texts is None:
            texts = [""] * len(images)
        task = self.task(name, part)
        prompts = [self.write_prompt(task, text, lang) for text in texts]
        found = self.predict([[i] for i in images], prompts, task=task, part=part)
        if any(prediction.out_of_distribution for prediction in found):
            warnings.warn(ood_warning(self.name), OutOfDistribution, stacklevel=3)  # at the caller's line, once
        return found


def _check_lists(images: Sequence[ImageLike] = (), texts: Sequence[str] | None = None) -> None:
    if is_image(images):
        raise ValueError("give a list of images, even for one image")
    if isinstance(texts, str):
        raise ValueError("give a list of texts, even for one text")
