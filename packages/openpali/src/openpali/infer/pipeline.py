"""A model in memory that answers: images and prompts in, typed answers out.

    pipeline = Pipeline(model, tokenizer, preprocess)
    [prediction] = pipeline.predict([[image]], ["Answer in en: how many? <extra_id_0>"])

The model may be in training: its mode, device and dtype stay as they are, and torch's global random state is not
used. :class:`openpali.infer.pali.Pali` opens pipelines from folders.

Shapes: B rows, F frames, P prompt tokens, T target tokens, D embedding width.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openpali.architectures.siglip.network import SigLIP
from openpali.data.media.images import load_image, to_rgb
from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import (
    Arrays,
    Batch,
    Padding,
    PairEncoder,
    TextNormalisation,
    images_in,
    join_frames,
    pad_ids,
    stack,
    stack_frames,
)
from openpali.infer.batches import chunked, group
from openpali.infer.generate import Ask, Decoding, Generation, Model, evaluating, write
from openpali.messages import shorten
from openpali.metrics.calibration import Calibration
from openpali.model.layers import device_of
from openpali.model.patches import Images, real_patches
from openpali.model.vision_language import VisionLanguageModel
from openpali.tasks.base import Answer, Sample, Task
from openpali.tasks.dialects import PALI3, Dialect
from openpali.tasks.example import Example, Image, Size
from openpali.tasks.registry import Tools, open_task, reader, recognise, same_form
from openpali.text.choices import Choices
from openpali.text.tokenizer import Tokenizer
from openpali.weights.ood import OodDetector, describe, is_out


class Sized(NamedTuple):
    """An image, and its original size: coordinates are in pixels of that size, even if it was decoded smaller."""

    pixels: Image
    size: Size


ImageLike = str | Path | bytes | Image | PILImage.Image | Sized
Frames = Sequence[ImageLike]  # one image, the frames of a video, or nothing for text alone
Floats = NDArray[np.float32]

BATCH = 32
LONGEST_PROMPT = 512  # tokens, for a model that does not say how long its prompts were in training
CONFIDENT = 0.85  # OOD score up to which confidence is shown: it was fitted in distribution


class OutOfDistribution(UserWarning):
    """The images are out of the distribution that the model was trained on."""


class Untrained(UserWarning):
    """A model is asked to do a task that it was not trained on."""


class PromptTooLong(ValueError):
    """A prompt has more tokens than a model takes."""


@dataclass(frozen=True)
class Row:
    """What a pipeline is asked, as its model reads it.

    Attributes:
        prompt, ids: its text and its tokens.
        images: resized; none for text alone.
        size: of the first image, before it was resized.
        task: reads the answer.
    """

    prompt: str
    ids: Sequence[int]
    images: Sequence[Image]
    size: Size
    task: Task


class Inputs(NamedTuple):
    """A batch on the device of the model, as :class:`VisionLanguageModel` takes it."""

    images: Images | None
    prompt: Tensor
    frames: Tensor | None


class Features(NamedTuple):
    """An image as a model sees it: visual tokens ``[N, D]``, and what its OOD detector judges, ``[2 D']``."""

    tokens_ND: Tensor
    described_D: Tensor


@dataclass(frozen=True)
class Prediction:
    """An answer as its task parses it, and the generated tokens behind it.

    Attributes:
        prompt: what the model was asked.
        answer: text, and objects in pixels of the (first) image; with their confidence if the model is calibrated
            for the task.
        generation: token ids, the log-probability of each, the score and the finish reason.
        ood_score: out-of-distribution score of its images, above 1 for one in a hundred images of the training
            distribution; None without a detector or without images.
        part: of a bundle that has answered; empty for a pipeline alone.
    """

    prompt: str
    answer: Answer
    generation: Generation
    ood_score: float | None = None
    part: str = ""

    @property
    def confidence(self) -> float | None:
        """Confidence of the answer: of its text, or the mean over its objects; None if there is none."""
        found = self.answer.confidences
        return sum(found) / len(found) if found else None

    @property
    def out_of_distribution(self) -> bool | None:
        """Whether the images are out of distribution, so that no answer can be trusted; None: not known."""
        return is_out(self.ood_score)

    @property
    def confidence_holds(self) -> bool:
        """Whether confidence may be shown: not near the limit, where it is too high, nor beyond."""
        return self.ood_score is None or self.ood_score <= CONFIDENT

    @property
    def shown(self) -> Answer:
        """The answer for people: without confidence unless it holds."""
        return self.answer if self.confidence_holds else self.answer.unsure()


class Pipeline:
    """Preprocesses images, encodes prompts, generates, and parses answers, with a model in memory.

    Args:
        model: on the device and in the dtype to compute in; in any mode.
        tokenizer: of the model.
        preprocess: how images are resized; None for a model that takes text alone.
        engine: generates the text; the model itself by default.
        max_prompt: longest prompt in tokens.
        options: options of each task by its name, as in training.
        tools: what tasks may need, as the mask codec; each is opened for the first task that needs it.
        dialect: that the model was trained in.
        languages: codes of the languages that it answers in; empty if unknown.
        calibrations: how log-probabilities of answers become confidences, by task; without, there are none.
        ood: detector of out-of-distribution images, if the model has one.
        max_target: tokens of the longest answers that it was trained to give.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        tokenizer: Tokenizer,
        preprocess: AnyPreprocess | None,
        *,
        engine: Model | None = None,
        max_prompt: int = LONGEST_PROMPT,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        tools: Tools | None = None,
        dialect: Dialect = PALI3,
        languages: Sequence[str] = (),
        calibrations: Mapping[str, Calibration] | None = None,
        ood: OodDetector | None = None,
        max_target: int = 0,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.engine: Model = engine or model
        self.max_prompt = max_prompt
        self.options = options or {}
        self.tools: Tools = {"tokenizer": lambda: tokenizer, **(tools or {})}
        self.dialect = dialect
        self.languages = languages
        self.calibrations = calibrations or {}
        self.ood = ood
        self.max_target = max_target
        model.check_pad(tokenizer.pad_id)
        self._choices: dict[Sequence[str], Choices] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is, and where its inputs go."""
        return device_of(self.model)

    @property
    def precision(self) -> str:
        """What the engine computes in: "fp32", "bf16" or "fp16"."""
        return self.engine.precision

    def task(self, name: str, *, warn: bool = True) -> Task:
        """A task with the options that it had in training and the tools that it needs.

        With ``warn``, warns (:class:`Untrained`) where the model was trained on no task with this prompt.
        """
        task = open_task(name, self.options.get(name), self.tools, dialect=self.dialect)
        if warn and (reservation := self.reservation(name)):
            warnings.warn(reservation, Untrained, stacklevel=2)
        return task

    def reservation(self, task: str) -> str:
        """A sentence if the model was not trained on a task; empty if it was, or does not say."""
        if not self.options or any(same_form(task, known) for known in self.options):
            return ""
        return (
            f"this model was not trained on task {task}, but on {', '.join(self.options)}: expect no good answers"
        )

    def choices(self, task: Task) -> Choices | None:
        """The tokens that may come next in an answer to a task; None: all."""
        texts = tuple(task.answer_set)
        if texts and texts not in self._choices:
            self._choices[texts] = Choices(texts, self.tokenizer)
        return self._choices.get(texts)

    def decoding_for(self, task: Task, decoding: Decoding | None = None) -> Decoding:
        """The decoding options of a task: the caller's, or else greedy. What they leave open is as long as answers
        to the task (:meth:`longest_answer`)."""
        decoding = decoding or Decoding()
        if decoding.max_tokens is None:
            decoding = replace(decoding, max_tokens=self.longest_answer(task))
        return decoding

    def longest_answer(self, task: Task) -> int:
        """Most tokens of an answer to a task: the task's limit, or that of the model's training if it is more."""
        return max(task.limit, self.max_target)

    def write_prompt(self, task: Task, text: str = "", lang: str = "en") -> str:
        """The prompt of a task, in a language.

        Raises:
            ValueError: the model does not know the language.
        """
        prompt = task.ask(text, lang=lang)
        if task.template.names_language and self.languages and lang not in self.languages:
            raise ValueError(f"this model does not answer in {lang!r}; it knows {', '.join(self.languages)}")
        return prompt

    def tokenizer_for(self, part: str) -> Tokenizer:
        """As :meth:`openpali.infer.pali.Pali.tokenizer_for`."""
        return self.tokenizer

    def fits(self, prompt: str) -> bool:
        """Whether a prompt is short enough for the model."""
        return len(self.tokenizer.encode(prompt)) <= self.max_prompt

    def predict(
        self,
        frames: Sequence[Frames],
        prompts: Sequence[str],
        *,
        task: Task | None = None,
        decoding: Decoding | None = None,
        batch: int = BATCH,
    ) -> list[Prediction]:
        """Answer one prompt per row. An answer depends neither on the other rows nor on ``batch``.

        Args:
            frames: images of each row: one, the frames of a video, or none for text alone.
            prompts: as the tasks write them, or free text.
            task: parses the answers; by default each row's task is recognised by its prompt.
            decoding: by default greedy, up to the length of the task's longest answer.
            batch: rows that go through the model together.
        """
        check_rows(frames, prompts)
        found: list[Prediction] = []
        for some in chunked(range(len(prompts)), batch):
            rows = []
            for i in some:
                own = task or self.task(recognise(prompts[i], len(frames[i]), self.dialect))
                rows.append(self.row(frames[i], prompts[i], own))
            found += self.answer(rows, decoding)
        return found

    def answer(self, rows: Sequence[Row], decoding: Decoding | None = None) -> list[Prediction]:
        """Answer rows, those that are decoded alike together; ``decoding`` as for :meth:`predict`."""
        found: dict[int, Prediction] = {}
        ways = [(self.decoding_for(row.task, decoding), self.choices(row.task)) for row in rows]
        for way, places in group(ways).items():
            found |= zip(places, self._generate([rows[i] for i in places], *way), strict=True)
        return [found[i] for i in range(len(rows))]

    def log_perplexity(
        self, frames: Sequence[Frames], prompt: str, targets: Sequence[str], *, batch: int = BATCH
    ) -> Floats:
        """Mean negative log-likelihood of given answers, in nats per token: ``[rows, targets]``.

        Args:
            frames: as for :meth:`predict`.
            prompt: the same for all rows.
            targets: answers to score for each row; EOS is their last token.
            batch: rows that go through the model together.
        """
        if not frames or not targets or not all(target.strip() for target in targets):
            raise ValueError("log-perplexity needs at least one row of images and one target, and no empty target")
        model, eos, asked = self.model, self.tokenizer.eos_id, self.prompt_ids(prompt)
        ids = [torch.tensor([[*self.tokenizer.encode(target), eos]], device=self.device) for target in targets]
        chunks = []
        with torch.inference_mode(), evaluating(model):
            for some in chunked(frames, batch):
                memory = model.encode(*self.read([(row, asked) for row in some]))
                columns = []
                for target_1T in ids:
                    target_BT = target_1T.expand(len(some), -1)
                    logits = model.logits(model.decode(target_BT, memory)).float()
                    columns.append(F.cross_entropy(logits.transpose(1, 2), target_BT, reduction="none").mean(1))
                chunks.append(torch.stack(columns, dim=1))
        return torch.cat(chunks).cpu().numpy()

    def token_losses(
        self, frames: Sequence[Frames], samples: Sequence[Sample], *, batch: int = BATCH
    ) -> list[list[float]]:
        """Negative log-likelihood in nats of each token of each sample's own target, EOS included.

        Args:
            frames: as for :meth:`predict`.
            samples: prompts and targets, as tasks write them.
            batch: rows that go through the model together.
        """
        check_rows(frames, [sample.prompt for sample in samples])
        found: list[list[float]] = []
        with torch.inference_mode(), evaluating(self.model):
            for rows in chunked(range(len(samples)), batch):
                some = [samples[i] for i in rows]
                prompts = [self.prompt_ids(s.prompt) if s.ids is None else s.ids[0] for s in some]
                targets = [[*s.target_ids(self.tokenizer), self.tokenizer.eos_id] for s in some]
                images, prompt, counts = self.read([(frames[i], ids) for i, ids in zip(rows, prompts, strict=True)])
                target_BT = pad_ids(targets, self.tokenizer.pad_id).to(self.device)
                hidden = self.model(images, prompt, target_BT, counts)
                for hidden_TD, target in zip(hidden, targets, strict=True):
                    logits_TV = self.model.logits(hidden_TD[: len(target)]).float()
                    ids = torch.tensor(target, device=logits_TV.device)
                    found.append(F.cross_entropy(logits_TV, ids, reduction="none").tolist())
        return found

    def _generate(self, rows: Sequence[Row], decoding: Decoding, choices: Choices | None) -> list[Prediction]:
        with torch.inference_mode(), evaluating(self.model):
            memory, scores = self.encode(rows)
            generations = write(self.engine, memory, [Ask(decoding, choices)] * len(rows), self.tokenizer.eos_id)
        return [
            self.prediction(row, best, ood_score=score)
            for row, [best, *_], score in zip(rows, generations, scores, strict=True)
        ]

    @torch.inference_mode()
    def encode(
        self, rows: Sequence[Row], features: Callable[[Sequence[Image]], Sequence[Features]] | None = None
    ) -> tuple[Any, list[float | None]]:
        """The memory of rows, from which the engine generates, and the mean OOD score of each row's images.

        Args:
            features: of resized images, as :meth:`features`, by default.
        """
        prompt = pad_ids([row.ids for row in rows], self.tokenizer.pad_id).to(self.device)
        images = [image for row in rows for image in row.images]
        if not images:
            return self.engine.encode_tokens(None, prompt), [None] * len(rows)
        found = (features or self.features)(images)
        tokens, scores, start = [], list[float | None](), 0
        for row in rows:
            own, start = found[start : start + len(row.images)], start + len(row.images)
            tokens.append(torch.cat([each.tokens_ND for each in own] or [found[0].tokens_ND[:0]]))
            scored = self.ood.score(torch.stack([each.described_D for each in own])) if self.ood and own else None
            scores.append(None if scored is None else float(scored.mean()))
        counts = torch.tensor([len(tokens_ND) for tokens_ND in tokens], device=self.device)
        visual, padded = pad_sequence(tokens, batch_first=True), len(set(counts.tolist())) > 1
        del found, tokens, own  # of many patches: nothing else holds them
        return self.engine.encode_tokens(visual, prompt, counts if padded else None), scores

    @torch.inference_mode()
    def features(self, images: Sequence[Image]) -> list[Features]:
        """What the model makes of resized images, each by itself."""
        stacked = images_in(self._stack([[image] for image in images]))
        patches, tokens_BND, counts = self.engine.encode_images(stacked)
        described_BD = describe(patches, real_patches(stacked.flatten(0, 1))).cpu()
        lengths = [None] * len(images) if counts is None else counts.tolist()
        each = zip(tokens_BND, lengths, described_BD, strict=True)
        return [Features(tokens_ND[:length], described_D) for tokens_ND, length, described_D in each]

    def prediction(
        self,
        row: Row,
        generation: Generation,
        stops: Sequence[str] = (),
        ood_score: float | None = None,
    ) -> Prediction:
        """What the tokens of an answer say.

        Args:
            stops: the answer ends before the first of these texts. Like one that is cut at its longest or in a
                loop, it then has no confidence: what the model would have added is unknown.
            ood_score: of the images.
        """
        choices = self.choices(row.task)
        chosen = choices.text(generation.ids) if choices else None
        written = self.tokenizer.decode(generation.ids) if chosen is None else chosen
        text = cut_at(written, stops)
        task = self._reader(row.task, text)
        about = row.prompt if task is row.task else ""  # an expression is no list of names
        answer = task.parse(text, row.size, prompt=about)
        calibration = calibration_for(task.name, self.calibrations)
        if calibration is not None and generation.complete and text == written:
            claims = task.claims(generation, self.tokenizer, about)
            answer = answer.assured([calibration.confidence(each) for each in claims], of_objects=task.coordinates)
        return Prediction(row.prompt, answer, generation, ood_score)

    def _reader(self, task: Task, text: str) -> Task:
        """The task that parses an answer. Where detection and segmentation share a prompt, mask tokens decide."""
        name = reader(task, text)
        if name == task.name:
            return task
        own = {key: value for key in ("bins", "style") if (value := getattr(task, key, None))}
        return open_task(name, self.options.get(name, own), self.tools, dialect=self.dialect)

    def describe(self, images: Sequence[ImageLike], *, batch: int = BATCH) -> Tensor:
        """Features of the OOD detector, ``[N, 2 D]``: see :func:`openpali.weights.ood.describe`."""
        assert self.preprocess is not None
        found: list[Tensor] = []
        with evaluating(self.model):
            for some in chunked(images, batch):
                resized = [self.preprocess(open_image(image).pixels) for image in some]
                found += [each.described_D for each in self.features(resized)]
        return torch.stack(found)

    @cached_property
    def vision_key(self) -> Hashable:
        """Identifies the weights of image encoder and projection; adapters that change other weights share it."""
        parts = (self.model.vit, self.model.project)
        return tuple(tensor.data_ptr() for part in parts for tensor in part.state_dict().values())

    def prompt_ids(self, prompt: str) -> list[int]:
        if not prompt.strip():
            raise ValueError("the prompt is empty")
        ids = self.tokenizer.encode(prompt)
        if len(ids) > self.max_prompt:
            raise PromptTooLong(f"the prompt has {len(ids)} tokens, this model takes {self.max_prompt}: shorten it")
        if self.tokenizer.pad_id in ids:
            piece = self.tokenizer.pieces([self.tokenizer.pad_id])[0]
            raise ValueError(f"the prompt has {piece!r} in it, which pads prompts: leave it out")
        return ids

    def row(self, frames: Frames, prompt: str, task: Task) -> Row:
        """A prompt and its images, as the model reads them."""
        ids = self.prompt_ids(prompt)
        return Row(prompt, ids, *self._images(frames, ids), task)

    def _images(self, frames: Frames, ids: Sequence[int]) -> tuple[Sequence[Image], Size]:
        """The images of a prompt, resized, and the size of the first."""
        images, place = [open_image(image) for image in frames], self.model.image_place
        if place is not None and (places := ids.count(place)) > len(images):
            raise ValueError(
                f"the prompt has {places} times {self.tokenizer.pieces([place])[0]}, and there are {len(images)} "
                "images: give an image for each"
            )
        if not images:
            return (), Size(1, 1)
        if self.preprocess is None:
            raise ValueError("this model takes text alone: leave out the images")
        return [self.preprocess(image.pixels) for image in images], images[0].size

    def read(self, rows: Sequence[tuple[Frames, Sequence[int]]]) -> Inputs:
        """Images and tokens of prompts as one batch."""
        batch = self._stack([self._images(*row)[0] for row in rows])
        prompt = pad_ids([ids for _, ids in rows], self.tokenizer.pad_id).to(self.device)
        return Inputs(images_in(batch) if batch else None, prompt, batch.get("frames"))

    def _stack(self, images: Sequence[Sequence[Image]]) -> Batch:
        """Resized images of rows as one batch, as :func:`~openpali.data.pipeline.encode.stack_frames`."""
        assert self.preprocess is not None or not any(images)
        packed = [[cast(AnyPreprocess, self.preprocess).pack(image) for image in row] for row in images]
        return {name: each.to(self.device) for name, each in stack_frames([*map(join_frames, packed)]).items()}


class EmbeddingPipeline:
    """Embeds images and texts with a SigLIP in memory.

    Args:
        model: on the device and in the dtype to compute in; in any mode.
        tokenizer: of the model.
        preprocess: how images are resized.
        normalisation, padding: how texts are normalised and padded, as in training.
        softmax: the model was trained by softmax, not by the sigmoid of each pair.
    """

    def __init__(
        self,
        model: SigLIP,
        tokenizer: Tokenizer,
        preprocess: AnyPreprocess,
        normalisation: TextNormalisation = "lower",
        padding: Padding = "eos",
        softmax: bool = False,
    ) -> None:
        self.model, self.softmax = model, softmax
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self._encoder = PairEncoder(tokenizer, model.config.text.length, normalisation, padding=padding)

    @property
    def name(self) -> str:
        """What error messages call it."""
        return "in memory"

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of :class:`openpali.infer.pali.Pali` that it stands for."""
        return ("siglip",)

    def image_model(self, part: str) -> tuple[SigLIP, AnyPreprocess]:
        """The model, and how its images are resized."""
        assert part in self.parts
        return self.model, self.preprocess

    def count(self, texts: Sequence[str], images: Sequence[Image] = ()) -> int:
        """Tokens of texts and patches of resized images that the towers read, without padding."""
        patch = self.model.config.vision.patch_size
        length, total = self.model.config.text.length, sum(math.prod(i.shape[:2]) // patch**2 for i in images)
        wider = replace(self._encoder, length=length + 1)  # shows what would be cut
        for text in texts:
            real = ~np.isin(wider.text(text), (self.tokenizer.eos_id, self.tokenizer.pad_id))
            if real[length - 1]:
                limit = f"more than the {length - 1} tokens that this model reads"
                raise ValueError(f"the text {shorten(text, 40)!r} has {limit}: shorten it")
            total += int(real.sum())
        return total

    def embed_image(self, images: Sequence[ImageLike], *, batch: int = BATCH) -> Floats:
        """L2-normalised embeddings of images ``[N, D]``, comparable with :meth:`embed_text`."""
        rows = [self.preprocess.arrays(open_image(image).pixels) for image in images]
        return self._embed(lambda some: self.model.embed_image(images_in(some)), rows, batch)

    def embed_text(self, texts: Sequence[str], *, batch: int = BATCH) -> Floats:
        """L2-normalised embeddings of texts ``[N, D]``, padded to the fixed length of training."""
        rows = [{"ids": self._encoder.text(text)} for text in texts]
        return self._embed(lambda some: self.model.embed_text(some["ids"]), rows, batch)

    def similarity(self, images: Sequence[ImageLike], texts: Sequence[str]) -> Floats:
        """Probability that an image and a text match, by SigLIP's sigmoid: ``[images, texts]``. A model that was
        trained by softmax compares the texts: for it, rows sum to 1."""
        return self.probabilities(self.embed_image(images), self.embed_text(texts))

    def probabilities(self, seen: Floats, texts: Floats) -> Floats:
        """Probability of each text for each embedding of an image or a patch, ``[N, texts]``: each by itself, by
        SigLIP's sigmoid, or a softmax over the texts."""
        cosine = torch.from_numpy(seen @ texts.T)
        with torch.inference_mode():
            temperature, bias = self.model.log_temperature.float().cpu().exp(), self.model.bias.float().cpu()
            logits = cosine * temperature
            return (logits.softmax(1) if self.softmax else (logits + bias).sigmoid()).numpy()

    def patches(self, image: ImageLike) -> tuple[Floats, Floats]:
        """Of each patch of an image the embedding ``[N, D]``, comparable with :meth:`embed_text`, and the box of
        the thing that it is part of, in pixels of the image, ``[N, 4]``; for a model with sides."""
        sized = open_image(image)
        device, covered = device_of(self.model), self.preprocess.covered(sized.size)
        batch = {name: each.to(device) for name, each in stack([self.preprocess.arrays(sized.pixels)]).items()}
        with torch.inference_mode(), evaluating(self.model):
            images = images_in(batch)
            tokens_1ND = self.model.vit(images)
            centres_1N2 = self.model.vit.centres(tokens_1ND.shape[1], batch.get("grids"))
            sides_N4 = self.model.side_distances(tokens_1ND)
            edges_N4 = torch.cat((centres_1N2[0] - sides_N4[:, :2], centres_1N2[0] + sides_N4[:, 2:]), 1)
            pixels_4 = torch.tensor([side / share for side, share in zip(sized.size, covered, strict=True)] * 2)
            boxes_N4 = (edges_N4.cpu() * pixels_4).clamp(torch.zeros(4), torch.tensor(sized.size * 2))
            embeddings_ND = self.model.embed_patches(tokens_1ND)
            # of a very long image that is padded, the first row or column holds all, and more grey
            shown = [
                max(share, 1 / count) for share, count in zip(covered, self.model.vit.config.grid, strict=True)
            ]
            within_N2 = (centres_1N2[0].cpu() >= 0) & (centres_1N2[0].cpu() < torch.tensor(shown))
            real_N = within_N2.all(1)  # not padding, nor the grey beside an image
        return embeddings_ND.float().cpu()[real_N].numpy(), boxes_N4[real_N].numpy()

    def _embed(self, tower: Callable[[Batch], Tensor], rows: Sequence[Arrays], batch: int) -> Floats:
        if not rows:
            return np.empty((0, self.model.config.vision.width), np.float32)
        device, chunks = device_of(self.model), []
        with torch.inference_mode(), evaluating(self.model):
            for some in chunked(rows, batch):
                chunks.append(tower({name: tensor.to(device) for name, tensor in stack(some).items()}))
        return torch.cat(chunks).float().cpu().numpy()


def full_size_bytes(rows: Iterable[Row]) -> int:
    """Bytes of the images of rows that are held in full size: those that no decoder reads are not resized."""
    images = {id(image): image for row in rows if not row.ids for image in row.images}
    return sum(image.nbytes for image in images.values())


def calibration_for(task: str, known: Mapping[str, Calibration]) -> Calibration | None:
    """The calibration of a task, or of one that asks with the same prompt; None if there is none."""
    same = (each for each in known if same_form(task, each))
    return known.get(task) or next((known[each] for each in same), None)


def ood_warning(model: str, reason: str | None = None) -> str:
    """The warning about an image that is out of distribution for a model of this name; ``reason``: "text"
    if its text cannot be read."""
    if reason == "text":
        return f"{model} can read little of its text, which may be in another script: do not trust the words"
    return f"an image is out of the distribution that {model} was trained on: do not trust the answer"


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first of ``stops``; all of it if it has none."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)]


def open_image(image: ImageLike) -> Sized:
    """Any kind of image as RGB uint8 ``[H, W, 3]``; a Pillow image gives the same pixels as its file."""
    if isinstance(image, Sized):
        return image
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        pixels = image
    else:
        pixels = to_rgb(image) if isinstance(image, PILImage.Image) else load_image(image)
    if not pixels.size:
        raise ValueError(f"an image of {pixels.shape[1]} x {pixels.shape[0]} pixels has none: give another")
    return Sized(pixels, Size(*pixels.shape[:2]))


def frames_of(example: Example) -> Frames:
    """The images of an example, which may have been decoded smaller."""
    return [Sized(image, example.size) for image in example.images]


def is_image(value: object) -> bool:
    """Whether it is one image rather than a list of them."""
    alone = isinstance(value, np.ndarray) and value.ndim == 3
    return alone or isinstance(value, str | bytes | Path | PILImage.Image | Sized)


def check_rows(frames: Sequence[Frames], prompts: Sequence[str]) -> None:
    """Raises ``ValueError`` unless there is one row of images per prompt, each a list."""
    if isinstance(prompts, str):
        raise ValueError("give a list of prompts, even for one prompt")
    if is_image(frames) or any(map(is_image, frames)):
        raise ValueError("give a list of images for each prompt, even for one image: [[image]]")
    if len(frames) != len(prompts):
        raise ValueError(f"{len(frames)} rows of images, but {len(prompts)} prompts: give one row per prompt")
