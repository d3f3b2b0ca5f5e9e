"""``Pali``: a model from a folder, ready to answer.

pali = Pali.from_pretrained("nano")
pali.caption(["cat.jpg"], lang="ja")
pali.detect(["street.jpg"], ["red bicycle"])[0][0].box
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from threading import RLock
from typing import NamedTuple, cast, get_args

import torch

from openpali.architectures.halves.t5 import HeadPolicy
from openpali.architectures.pali import assemble
from openpali.architectures.siglip.network import SigLIP
from openpali.data.media.native import AnyPreprocess
from openpali.infer.engines.base import Engine
from openpali.infer.engines.registry import AUTO, ENGINES, Dtype, EngineName, find_engine
from openpali.infer.forms import answer_about
from openpali.infer.generate import Decoding, Generation
from openpali.infer.pages import Reading, ReadLine, ReadWord
from openpali.infer.patch_detector import PatchDetector
from openpali.infer.pipeline import (
    BATCH,
    LONGEST_PROMPT,
    EmbeddingPipeline,
    Floats,
    Frames,
    ImageLike,
    OutOfDistribution,
    Pipeline,
    Prediction,
    Row,
    Sized,
    check_rows,
    is_image,
    ood_warning,
    open_image,
)
from openpali.infer.routing import SQUASHED, ask_in_turn
from openpali.infer.screen_reader import ScreenReader
from openpali.infer.screens import Screen, Wanted
from openpali.messages import shorten
from openpali.model.vision_language import VisionLanguageModel
from openpali.tasks.base import Answer, Task
from openpali.tasks.detect import Detect, alike
from openpali.tasks.dialects import PALI3, Dialect
from openpali.tasks.example import Box, Object
from openpali.tasks.refseg import MaskCodec
from openpali.tasks.registry import FREE_TEXT, Tools, form_of, is_prompt, recognise, suited
from openpali.tasks.vqa import Vqa
from openpali.text.tokenizer import Tokenizer
from openpali.weights.bundle import mask_codec_of, open_bundle
from openpali.weights.convert import write_stored
from openpali.weights.files import BUNDLE, ELEMENTS, MAIN, MASKS, PAGES, READER, SIGLIP, UNPROMPTED
from openpali.weights.find import find_model, name_of
from openpali.weights.format import ModelFolder, open_model
from openpali.weights.mask_codec import open_mask_codec
from openpali.weights.ood import read_ood

LINE = 72  # pixels; an image that is no higher is read as one line
SCREEN = 256  # pixels; no side of a screen is shorter


class EngineMissing(UserWarning):
    """A faster engine for generation is not installed."""


class Reworded(UserWarning):
    """A text was not sent to the model as it is."""


class Prompted(NamedTuple):
    """What a model is asked.

    Attributes:
        task: parses the answer.
        prompt: what the model reads.
        note: a sentence if the user's text is asked as a question or left out, or holds a name that the model does
            not know; else empty.
    """

    task: Task
    prompt: str
    note: str = ""


class Pali:
    """A model or a bundle of models; each part is loaded when it is first used.

    Args:
        folder: a model, or a bundle of them.
        engine: what generates text: torch, or OpenVINO on CPUs with float, int8 or int4 weights. "torch-int8" is
            torch with int8 weights and, for images and prompts, int8 activations, on CPUs. "auto" picks OpenVINO
            for "fp32" on a CPU if it is installed, else torch; the attribute holds the engine picked. OpenVINO
            takes encoder-decoders.
        dtype: what torch computes in. "bf16" halves the memory, and tensors stored in bf16 stay mapped from disk.
            OpenVINO computes in bf16 if the processor supports it, whatever this is: with "bf16" it only generates,
            and torch encodes images and prompts.
        device: where torch computes, as "cpu" or "cuda".
    """

    def __init__(
        self,
        folder: Path,
        engine: EngineName = "torch",
        dtype: Dtype = "fp32",
        device: str | torch.device = "cpu",
    ) -> None:
        if dtype not in get_args(Dtype):
            raise ValueError(f"no dtype {dtype!r}: there are {', '.join(get_args(Dtype))}")
        self.device = _device(device)
        self.parts, self.by_task, self.languages, self.about, self.names = open_bundle(folder)
        main = open_model(self.parts[MAIN]) if MAIN in self.parts else None
        facts = (self.device, main.config, main.kind) if main else (self.device,)
        if engine == AUTO:
            exact = (name for name in ENGINES if dtype in find_engine(name).auto)
            engine = next((n for n in exact if not find_engine(n).refusal(n, *facts) and _installed(n)), "torch")
        self._engine: Engine = find_engine(engine)
        if refusal := self._engine.refusal(engine, *facts):
            raise ValueError(refusal)
        self._engine.require()
        self.folder = folder
        self.engine = engine
        self.dtype = dtype
        if MAIN in self.parts and (masks := mask_codec_of(folder)):
            self.parts[MASKS] = find_model(masks)
        self._lock = RLock()  # a part is loaded once
        self._loaded: dict[str, tuple[ModelFolder, torch.nn.Module]] = {}
        self._pipelines: dict[str, Pipeline] = {}
        self._temporary: TemporaryDirectory[str] | None = None
        self._beneath: Callable[[], torch.nn.Module] | None = None

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
        head: HeadPolicy = "auto",
        locations: int = 0,
        seed: int = 0,
    ) -> Pali:
        """Assemble a PaLI from public weights (see :func:`assemble`). It needs training before it can answer.

        Args:
            vision: SigLIP, as a folder of transformers or a `.npz` file of big_vision.
            text: T5, mT5, umT5 or UL2 with its tokenizer, as a folder of transformers.
            out: folder to write; by default a temporary one that is deleted with this object.
            size: pixels per side, or height and width; by default the size that the image encoder was trained at.
            head, locations, seed: as for :func:`assemble`.
        """
        temporary = None if out else TemporaryDirectory(prefix="openpali-")
        folder = Path(out or cast(TemporaryDirectory[str], temporary).name)
        pixels = (size, size) if isinstance(size, int) else size
        made = assemble(Path(vision), Path(text), head=head, locations=locations, seed=seed)
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
        adapted._beneath = lambda: self.load(part)[1]
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

    def read_page(self, image: ImageLike) -> list[ReadLine]:
        """Find and read all text of a screen or a page, of any size: its lines in reading order.

        Warns:
            OutOfDistribution: the image is none of a screen or a page.

        Raises:
            ValueError: the image cannot be read, or the model has no parts that read pages.
        """
        page = self.page(image)
        if page.out_of_distribution:
            warnings.warn(ood_warning(self.name), OutOfDistribution, stacklevel=2)
        return page.lines

    def page(self, image: ImageLike) -> Reading:
        """The lines of :meth:`read_page`, and how far the image is out of distribution, without a warning."""
        return self.reader.page(open_image(image).pixels)

    @cached_property
    def reader(self) -> ScreenReader:
        """What reads pages and screens, by the parts that have no decoder."""
        return ScreenReader(self.parts, self.load, self.device)

    def read_words(self, image: ImageLike) -> list[ReadWord]:
        """The words of :meth:`read_page`, one after another."""
        return [word for line in self.page(image).lines for word in line.words]

    def screen(self, image: ImageLike) -> Screen:
        """The elements of a screen, such as buttons and icons, if the model finds any, and what is written on it;
        the last is kept.

        Raises:
            ValueError: the image cannot be read, or the model has no parts that read pages.
        """
        return self.reader.screen(open_image(image).pixels)

    def name_icons(self, image: ImageLike, boxes: Sequence[Box]) -> list[tuple[str, float]]:
        """What the icon in each box shows, as "trash" or "arrow-left", and the probability of that name."""
        return self.reader.name_icons(open_image(image).pixels, boxes)

    def point(self, image: ImageLike, expression: str) -> Object | None:
        """The element of a screen that an expression means, as "the search field", or None: see :class:`Screen`."""
        return self.screen(image).point(expression)

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

        Without a ``task`` or a ``part``, a text that is no prompt is asked as a question (:meth:`prompted`), with a
        warning (:class:`Reworded`).

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
        for start in range(0, len(prompts), batch):
            some = []
            for row, given in zip(frames[start : start + batch], prompts[start : start + batch], strict=True):
                prompt = given if raw else self.dialect.expand(given)
                if not (task or part or raw or is_prompt(prompt, self.dialect)):
                    _, prompt, note = self.prompted(prompt, frames=len(row))
                    if note:
                        warnings.warn(note, Reworded, stacklevel=2)
                some.append(self.rows(row, prompt, task, part))
            found += self.ask(some, decoding)
        return found

    def rows(
        self, frames: Frames, prompt: str, task: Task | None = None, part: str | None = None
    ) -> dict[str, Row]:
        """A prompt and its images, as each part reads them that may answer, in the order in which they are asked.

        Args:
            frames, prompt, task, part: as for one row of :meth:`predict`.

        Raises:
            ValueError: the bundle lacks a part, the prompt is empty or too long, or an image cannot be read.
        """
        images = [open_image(image) for image in frames]
        dialect = self.dialect if not part or part in UNPROMPTED else self.pipeline(part).dialect
        name = task.name if task else recognise(prompt, len(images), dialect)
        if not part and self.asks_for_elements(name, prompt):
            part = ELEMENTS if ELEMENTS in self.parts else READER
        alone = bool(part) or len(self.parts_for(name)) == 1  # else each has options of its own
        found = {}
        for each in (part,) if part else self.route(name, images):
            if each == SIGLIP and name != Detect.name:
                raise ValueError(f"the image encoder alone detects things: it does not answer task {name}")
            if each in UNPROMPTED:
                if len(images) != 1:
                    raise ValueError(f"part {each} answers about one image, and was given {len(images)}")
                [image] = images
                if each in PAGES:
                    self.pipeline(MAIN).prompt_ids(prompt)  # refuses what is too long
                own = task or self.pipeline(MAIN).task(name, warn=False)
                found[each] = Row(prompt, (), [image.pixels], image.size, own)
            else:
                pipeline = self.pipeline(each)
                own = task if task and alone else pipeline.task(name, warn=not task)
                found[each] = pipeline.row(images, prompt, own)
        return found

    def ask(self, asked: Sequence[Mapping[str, Row]], decoding: Decoding | None = None) -> list[Prediction]:
        """The best answer to each of what :meth:`rows` gives, see :mod:`openpali.infer.routing`."""

        def ask(part: str, rows: Sequence[int]) -> list[Prediction]:
            if part in UNPROMPTED:
                return [self.answer_alone(part, asked[row][part]) for row in rows]
            return self.pipeline(part).answer([asked[row][part] for row in rows], decoding)

        return ask_in_turn([[*each] for each in asked], ask)

    def asks_for_elements(self, task: str, prompt: str) -> bool:
        """Whether a prompt is for the elements of a screen.

        It asks to detect none of the objects that are known, or, if the bundle lists none, roles. Without a part
        that finds elements, words that are written on the screen will do, but not roles alone.
        """
        if READER not in self.parts or task != Detect.name:
            return False
        names = Detect(dialect=self.dialect).names_in(prompt)
        wanted = [Wanted.of(name) for name in names]
        if ELEMENTS not in self.parts and not (self.names and all(each.words for each in wanted)):
            return False
        if not self.names:
            return all(each.roles for each in wanted)
        return not any(alike(name, known) for name in names for known in self.names)

    def answer_alone(self, part: str, row: Row) -> Prediction:
        """The answer of a part that has no decoder: things or elements that are asked for, or what is written."""
        [pixels] = row.images
        task, score = row.task, None
        if isinstance(task, Detect):
            names = task.names_in(row.prompt)
            if part == SIGLIP:
                objects = self.patch_detector.detect(pixels, names)
            else:
                screen = self.screen(pixels)
                score = screen.ood_score
                objects = [thing for name in names for thing in screen.detect(name)]
            answer = Answer(task.spell(objects, row.size), tuple(objects))
        elif part == ELEMENTS and isinstance(task, Vqa):
            screen = self.screen(pixels)
            score = screen.ood_score
            answer = answer_about(screen, task.asked(row.prompt)) or Answer("", confidence=0.0)
        else:
            page = Reading(self.reader.line(pixels)) if row.size.height <= LINE else self.page(pixels)
            score = page.ood_score
            sure = [word.confidence for line in page.lines for word in line.words]
            answer = Answer("\n".join(line.text for line in page.lines), confidence=mean(sure) if sure else 0.0)
        return Prediction(row.prompt, answer, Generation([], [], 0.0, "eos"), score, part)

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
        pipeline = self.pipeline(part) if part else self.pipeline_for(self.recognise(prompt))
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
        """Probability that an image and a text match, by SigLIP's sigmoid: ``[images, texts]``."""
        _check_lists(images, texts)
        return self.embedding.similarity(images, texts)

    def task(self, name: str) -> Task:
        """A task as this bundle was trained on it: with its options and its mask codec.

        Raises:
            ValueError: unknown task, or the bundle lacks the part that answers it.
        """
        return self.pipeline_for(name).task(name, warn=self.part_for(name) not in UNPROMPTED)

    def word(self, task: Task, text: str = "", lang: str = "en") -> str:
        """A task's prompt, in a language: see :meth:`Pipeline.word`."""
        return self.pipeline_for(task.name).word(task, text, lang)

    def prompted(
        self, text: str, task: Task | None = None, *, lang: str = "", frames: int = 1, raw: bool = False
    ) -> Prompted:
        """What to ask a model for a user's text: with a task, its prompt; else the text, if it is a prompt, or else
        the text as a question.

        Args:
            task: writes the prompt, from the text that it takes; one that takes none leaves the text out.
            lang: of the answer; by default English, or the first language of a model that does not know it.
            frames: number of images.
            raw: the text is a prompt, whatever it is.

        Raises:
            ValueError: the text is empty, or a prompt with a ``lang`` beside it; or as :meth:`word`.
        """
        if not text.strip() and not task:
            raise ValueError("the prompt is empty")
        text = text if task or raw else self.dialect.expand(text)
        if not task and (raw or is_prompt(text, self.dialect)):
            if lang:
                told = f"language {lang!r} is for a question or a task, but this text is sent as a whole prompt"
                raise ValueError(f"{told}: leave out the language")
            known = self.task(self.recognise(text, frames))
            return Prompted(known, text, "" if raw else self._unknown_names(known, text))
        asked = task or self.task(suited(FREE_TEXT, frames))
        left_out = text.strip() if not asked.takes else ""
        if not lang:
            lang = "en" if "en" in self.languages or not self.languages else self.languages[0]
        prompt, note = self.word(asked, "" if left_out else text, lang), ""
        if left_out:
            note = f"task {asked.name} takes no text: {shorten(repr(left_out), 40)} was left out (task vqa asks it)"
        elif not task and prompt != text.strip():
            note = f"{shorten(repr(text), 40)} was asked as a question: {shorten(prompt, 80)} "
            note += "(with --raw, or raw=True, it is sent as it is)"
        return Prompted(asked, prompt, note or self._unknown_names(asked, prompt))

    def _unknown_names(self, task: Task, prompt: str) -> str:
        """A sentence on names in a prompt that the model does not know; empty if it does not say what it knows."""
        unknown = [name for name in task.names_in(prompt) if not any(alike(name, known) for known in self.names)]
        if not self.names or not unknown or all(Wanted.of(name).roles for name in unknown):
            return ""
        told = f"{self.name} does not know {', '.join(shorten(repr(name), 40) for name in unknown)}: "
        if self.asks_for_elements(task.name, prompt):
            return f"{told}it looks for text on a screen that says so (`openpali names {self.name}`)"
        return f"{told}`openpali names {self.name}` lists what it can find"

    @property
    def name(self) -> str:
        """Name of a model that ships with the package, or else the path of the folder."""
        return name_of(self.folder)

    def recognise(self, prompt: str, frames: int = 1) -> str:
        """The task that a prompt is for, see :func:`~openpali.tasks.registry.recognise`."""
        return recognise(prompt, frames, self.dialect)

    @cached_property
    def dialect(self) -> Dialect:
        """The dialect that this bundle's main model was trained in."""
        return open_model(self.parts[MAIN]).dialect if MAIN in self.parts else PALI3

    def part_for(self, task: str) -> str:
        """The part of the bundle that answers a task; of several, the first.

        Raises:
            ValueError: the bundle does not have it.
        """
        return self.parts_for(task)[0]

    def pipeline_for(self, task: str) -> Pipeline:
        """The pipeline that writes the prompts of a task: of the first part with a decoder that answers it, or of
        the main part if none does.

        Raises:
            ValueError: the bundle does not have it.
        """
        decoders = (part for part in self.parts_for(task) if part not in UNPROMPTED)
        return self.pipeline(next(decoders, MAIN))

    def reservation(self, task: str) -> str:
        """A sentence if the part that answers a task was not trained on it, see :meth:`Pipeline.reservation`."""
        # parts without a decoder do what they were trained on
        return "" if self.part_for(task) in UNPROMPTED else self.pipeline_for(task).reservation(task)

    def parts_for(self, task: str) -> tuple[str, ...]:
        """The parts that may answer a task, as the bundle lists them for it, or for those that ask alike."""
        parts = self.listed_for(task)
        for part in parts:
            if part not in self.parts:
                raise ValueError(f"the model {self.folder} has no part {part!r}, which task {task} needs")
        return parts

    def listed_for(self, task: str) -> tuple[str, ...]:
        """As :meth:`parts_for`, even if the bundle lacks a part."""
        return self.by_task.get(task) or self.by_task.get(form_of(task)) or (MAIN,)

    @cached_property
    def _preprocess(self) -> dict[str, AnyPreprocess]:
        """How each part that takes images resizes them."""
        found = {part: open_model(folder).preprocess for part, folder in self.parts.items()}
        return {part: each for part, each in found.items() if each is not None}

    def route(self, task: str, images: Sequence[Sized]) -> tuple[str, ...]:
        """The parts that may answer a task about these images.

        They are asked in this order, until one is sure (:mod:`openpali.infer.routing`): first the part whose own
        images have the nearest proportions. A part that squashes the images is left out if another does not. Only
        one part is given without images, or if one is not calibrated, so that confidence cannot compare them.
        """
        parts = self.parts_for(task)
        others = self._route(task, images, tuple(part for part in parts if part not in PAGES))
        if len(images) != 1:
            return others or parts[:1]
        if READER in parts:
            return (READER, *others) if images[0].size.height <= LINE else (*others, READER)
        return (*others, ELEMENTS) if ELEMENTS in parts and min(images[0].size) >= SCREEN else others

    def _route(self, task: str, images: Sequence[Sized], parts: tuple[str, ...]) -> tuple[str, ...]:
        """The parts that answer prompts."""
        if not images or len(parts) == 1:
            return parts[:1]
        own = self._preprocess
        mismatch = {part: own[part].mismatch(images[0].size) for part in parts}
        fit = [part for part in parts if own[part].policy != "squash" or mismatch[part] <= SQUASHED] or parts
        ordered = sorted(fit, key=mismatch.__getitem__)
        calibrated = all(self.pipeline(part).calibration(task) for part in parts)
        return tuple(ordered if calibrated else ordered[:1])

    def tokenizer_for(self, prediction: Prediction) -> Tokenizer:
        """The tokenizer of the tokens of an answer."""
        return self.pipeline(MAIN if prediction.part in UNPROMPTED else prediction.part).tokenizer

    def load(self, part: str) -> tuple[ModelFolder, torch.nn.Module]:
        """A part's folder and its model in evaluation mode, in this dtype and on this device; cached."""
        with self._lock:
            if part not in self._loaded:
                if part not in self.parts:
                    known = ", ".join(self.parts)
                    raise ValueError(f"the model {self.folder} has no part {part!r}; it has {known}")
                stored = open_model(self.parts[part])
                dtype = torch.bfloat16 if self.dtype == "bf16" else torch.float32
                widens = self._engine.widens and not stored.int4  # floats of int4 would take eight times its memory
                plain = widens or (not self._engine.adapts and stored.adapter is not None)
                base = self._beneath() if self._beneath and part == MAIN else None
                model = stored.model(dtype, plain=plain, base=base)
                if isinstance(model, VisionLanguageModel):
                    self._engine.prepare(model)
                self._loaded[part] = stored, model.to(self.device)
        return self._loaded[part]

    def image_model(self, part: str) -> tuple[torch.nn.Module, AnyPreprocess | None]:
        """The model of a part, and how its images are resized."""
        stored, model = self.load(part)
        return model, stored.preprocess

    def pipeline(self, part: str = MAIN) -> Pipeline:
        """The pipeline of a part that answers prompts; cached."""
        with self._lock:
            if part not in self._pipelines:
                self._pipelines[part] = self._open(part)
        return self._pipelines[part]

    def _open(self, part: str) -> Pipeline:
        stored, model = self.load(part)
        if not isinstance(model, VisionLanguageModel):
            raise ValueError(f"part {part!r} of {self.folder} is a {stored.kind}, which takes no prompts")
        tools: Tools = {"masks": lambda: self._masks} if MASKS in self.parts else {}
        return Pipeline(
            model,
            stored.tokenizer,
            stored.preprocess,
            engine=self._engine.wrap(model),
            max_prompt=stored.facts.max_prompt or LONGEST_PROMPT,
            options=stored.facts.tasks,
            tools=tools,
            dialect=stored.dialect,
            languages=self.languages,
            calibrations=stored.facts.calibration,
            ood=read_ood(stored.folder),
            no_repeat_ngram_size=stored.facts.no_repeat_ngram_size,
        )

    @cached_property
    def embedding(self) -> EmbeddingPipeline:
        """The pipeline of the siglip part."""
        stored, model = self.load(SIGLIP)
        assert stored.preprocess is not None
        texts = stored.facts.normalisation, stored.facts.padding
        return EmbeddingPipeline(cast(SigLIP, model), stored.tokenizer, stored.preprocess, *texts)

    @cached_property
    def patch_detector(self) -> PatchDetector:
        """Detects by the patches of the siglip part."""
        facts = self.load(SIGLIP)[0].facts
        softmax = bool(facts.recipe.get("softmax"))
        return PatchDetector(self.embedding, self.names, softmax, facts.calibration.get(Detect.name))

    def load_all(self) -> None:
        """Load every part that answers prompts, embeds or reads pages, so that no request waits for it."""
        for part in self.parts:
            if open_model(self.parts[part]).answers:
                self.pipeline(part)
            elif part in UNPROMPTED:
                self.load(part)

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
        task = self.task(name)
        prompts = [self.word(task, text, lang) for text in texts]
        found = self.predict([[i] for i in images], prompts, task=task, part=part)
        if any(prediction.out_of_distribution for prediction in found):
            warnings.warn(ood_warning(self.name), OutOfDistribution, stacklevel=3)  # at the caller's line, once
        return found

    @cached_property
    def _masks(self) -> MaskCodec:
        return open_mask_codec(self.parts[MASKS])


def _check_lists(images: Sequence[ImageLike] = (), texts: Sequence[str] | None = None) -> None:
    if is_image(images):
        raise ValueError("give a list of images, even for one image")
    if isinstance(texts, str):
        raise ValueError("give a list of texts, even for one text")


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # fails on meta, from which nothing can be read
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"torch finds no device {str(name)!r} here: take cpu, or cuda where there is a GPU"
        ) from error
    return device


@cache  # warns once
def _installed(engine: str) -> bool:
    try:
        find_engine(engine).require()
    except ValueError as error:
        warnings.warn(f"torch generates text, and another engine would be faster: {error}", EngineMissing, 2)
        return False
    return True
