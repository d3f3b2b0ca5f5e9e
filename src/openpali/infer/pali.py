"""``Pali``: pictures and prompts in, typed answers out.

pali = Pali.from_pretrained("nano")
pali.caption(["cat.jpg"], lang="ja")
pali.detect(["street.jpg"], ["red bicycle"])[0][0].box
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as PILImage

from openpali.data.media.images import Preprocess, load_image, to_rgb
from openpali.data.pipeline.encode import Batch, PairEncoder, SequenceEncoder, Wording
from openpali.infer.engines.openvino import OpenVinoPali, require_openvino
from openpali.infer.generate import Decoding, Generation, Model, generate
from openpali.interop.parts import assemble
from openpali.interop.t5 import HeadPolicy
from openpali.model.pali import Pali as PaliModel
from openpali.model.siglip import SigLIP
from openpali.tasks.base import Answer, Need, Task
from openpali.tasks.dialects import DEFAULT
from openpali.tasks.example import Image, Object, Size
from openpali.tasks.registry import open_task, recognise
from openpali.text.tokenizer import Tokenizer
from openpali.weights.family import find_model, open_family
from openpali.weights.format import ModelFolder, open_model
from openpali.weights.mask_codec import open_mask_codec

Picture = str | Path | bytes | Image | PILImage.Image
Frames = Sequence[Picture]  # one picture, or the frames of a video
Floats = NDArray[np.float32]

Engine = Literal["torch", "openvino", "openvino-int8", "auto"]
Dtype = Literal["fp32", "bf16"]

BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """An answer, read by its task, and how it came about.

    Attributes:
        prompt: what the model was asked.
        answer: text, and objects in pixels of the (first) picture.
        generation: ids, log-probability of each, score and why it ended.
    """

    prompt: str
    answer: Answer
    generation: Generation


class EngineMissing(UserWarning):
    """Text is generated slower than it could be."""


class Pali:
    """A family of models behind one door; each part is loaded when it is first needed.

    Args:
        folder: a model, or a family of them.
        engine: what generates text: torch, or on CPUs the same compiled by OpenVINO, with int8 weights if wanted.
            "auto" is OpenVINO on a CPU where it is installed, else torch; the attribute says which.
        dtype: in which torch computes. "bf16" halves the memory: what is bf16 on disk stays mapped from there.
            OpenVINO starts from "fp32", and computes in bf16 by itself where the processor has it.
        device: where torch computes, as "cpu" or "cuda".

    Raises:
        ValueError: there is no such engine, dtype or device, it is not installed, or they do not go together.
    """

    def __init__(
        self, folder: Path, engine: Engine = "torch", dtype: Dtype = "fp32", device: str | torch.device = "cpu"
    ) -> None:
        if engine not in get_args(Engine):
            raise ValueError(f"no engine {engine!r}: there are {', '.join(get_args(Engine))}")
        if dtype not in get_args(Dtype):
            raise ValueError(f"no dtype {dtype!r}: there are {', '.join(get_args(Dtype))}")
        self.device = _device(device)
        plain = dtype == "fp32" and self.device.type == "cpu"
        if engine == "auto":
            engine = "openvino" if plain and _has_openvino() else "torch"
        if engine != "torch":
            require_openvino()
            if not plain:
                raise ValueError(f"engine {engine} takes dtype fp32 and device cpu: for others, take engine torch")
        self.folder = folder
        self.engine = engine
        self.dtype = dtype
        self.parts, self.by_task, self.languages = open_family(folder)
        self._loaded: dict[str, tuple[ModelFolder, torch.nn.Module]] = {}
        self._compiled: dict[str, Model] = {}
        self._temporary: TemporaryDirectory[str] | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "nano",
        engine: Engine = "torch",
        dtype: Dtype = "fp32",
        device: str | torch.device = "cpu",
    ) -> Pali:
        """A folder, a model that ships with the package (``nano``), or a finished run; the rest as :class:`Pali`.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: as :class:`Pali`.
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
        """A PaLI from public weights, which answers once it has been trained: see :func:`assemble`.

        Args:
            vision: SigLIP, as a folder of transformers or a `.npz` file of big_vision.
            text: T5, mT5, umT5 or UL2 with its tokenizer, as a folder of transformers.
            out: folder to write; without, it is a temporary one that goes when the object does.
            size: pixels per side, or height and width; by default as the image encoder was trained.
            head, locations, seed: as for :func:`assemble`.

        Raises:
            FileNotFoundError, ValueError: as for :func:`assemble`.
        """
        temporary = None if out else TemporaryDirectory(prefix="openpali-")
        folder = Path(out or cast(TemporaryDirectory[str], temporary).name)
        pixels = (size, size) if isinstance(size, int) else size
        assemble(Path(vision), Path(text), folder, size=pixels, head=head, locations=locations, seed=seed)
        pali = cls(folder)
        pali._temporary = temporary
        return pali

    def predict(
        self,
        frames: Sequence[Frames],
        prompts: Sequence[str],
        *,
        task: Task | None = None,
        part: str | None = None,
        decoding: Decoding | None = None,
        batch: int = BATCH,
    ) -> list[Prediction]:
        """Answer one prompt per row.

        Args:
            frames: pictures of each row: one, several frames, or none for text alone.
            prompts: as the tasks write them, or free text.
            task: reads the answers, and picks the part of the family; by default it is told from the prompt.
            part: picks the part of the family instead.
            decoding: greedy up to the task's length by default.
            batch: rows that go through the model together; the answers do not depend on it.

        Raises:
            ValueError: unequal numbers, an empty prompt, one longer than the model was made for, or a bad picture.
        """
        if len(frames) != len(prompts):
            raise ValueError(f"{len(frames)} rows of pictures, and {len(prompts)} prompts")
        return [
            prediction
            for start in range(0, len(prompts), batch)
            for prediction in self._predict(
                frames[start : start + batch], prompts[start : start + batch], task, part, decoding
            )
        ]

    def caption(self, images: Sequence[Picture], lang: str = "en") -> list[str]:
        """Describe each picture in a language."""
        return [p.answer.text for p in self._ask("caption", images, [""] * len(images), lang)]

    def answer(self, images: Sequence[Picture], questions: Sequence[str], lang: str = "en") -> list[str]:
        """Answer a question about each picture, in a language."""
        return [p.answer.text for p in self._ask("vqa", images, questions, lang)]

    def read(self, images: Sequence[Picture], lang: str = "en") -> list[str]:
        """Read what is written in each picture."""
        return [p.answer.text for p in self._ask("ocr", images, [""] * len(images), lang)]

    def detect(self, images: Sequence[Picture], names: Sequence[str]) -> list[Sequence[Object]]:
        """Find all instances of a name (or of several, joined by " and ") in each picture."""
        return [p.answer.objects for p in self._ask("detect", images, names, "en")]

    def segment(self, images: Sequence[Picture], expressions: Sequence[str]) -> list[Sequence[Object]]:
        """Box and mask of what an expression refers to, in each picture."""
        return [p.answer.objects for p in self._ask("refseg", images, expressions, "en")]

    def embed_image(self, images: Sequence[Picture]) -> Floats:
        """L2-normalised embeddings of pictures ``[N, D]``, to compare with :meth:`embed_text`."""
        bundle, model = self.load("siglip")
        preprocess = _preprocess(bundle)
        pixels = [preprocess(to_array(image)) for image in images]
        with torch.inference_mode():
            chunks = [
                cast(SigLIP, model).embed_image(torch.from_numpy(np.stack(pixels[i : i + BATCH])).to(self.device))
                for i in range(0, len(pixels), BATCH)
            ]
        return torch.cat(chunks).float().cpu().numpy()

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """L2-normalised embeddings of texts ``[N, D]``; padded as in training, whatever their length."""
        model = cast(SigLIP, self.load("siglip")[1])
        ids = [torch.from_numpy(self._pairs.text(text)) for text in texts]
        with torch.inference_mode():
            chunks = [
                model.embed_text(torch.stack(ids[i : i + BATCH]).to(self.device)) for i in range(0, len(ids), BATCH)
            ]
        return torch.cat(chunks).float().cpu().numpy()

    def similarity(self, images: Sequence[Picture], texts: Sequence[str]) -> Floats:
        """Probability that picture and text belong together, ``[images, texts]``: SigLIP's sigmoid."""
        model = cast(SigLIP, self.load("siglip")[1])
        cosine = torch.from_numpy(self.embed_image(images) @ self.embed_text(texts).T)
        with torch.inference_mode():
            temperature, bias = model.log_temperature.float().cpu().exp(), model.bias.float().cpu()
            return (cosine * temperature + bias).sigmoid().numpy()

    def log_perplexity(
        self,
        frames: Sequence[Frames],
        prompt: str,
        targets: Sequence[str],
        *,
        part: str | None = None,
        batch: int = BATCH,
    ) -> Floats:
        """How surprised the model is by given answers: nats per token, ``[rows, targets]``.

        Args:
            frames: pictures of each row.
            prompt: the same for all rows.
            targets: answers to be scored for each row; EOS is their last token.
            part: picks the part of the family; by default it is told from the prompt.

        Raises:
            ValueError: no rows, no targets or an empty one, or as :meth:`predict`.
        """
        if not frames or not targets or not all(target.strip() for target in targets):
            raise ValueError("log-perplexity needs pictures and targets, and none of these empty")
        bundle, model = self.load(part or self._part_for(self.recognise(prompt)))
        pali, tokenizer = cast(PaliModel, model), bundle.tokenizer
        ids = [
            torch.tensor([[*tokenizer.encode(target), tokenizer.eos_id]], device=self.device) for target in targets
        ]
        chunks = []
        with torch.inference_mode():
            for start in range(0, len(frames), batch):
                some = frames[start : start + batch]
                inputs = _collate(bundle, some, [prompt] * len(some), self.device)[0]
                memory = pali.encode(inputs.get("images"), inputs["prompt"], inputs.get("frames"))
                columns = []
                for target in ids:
                    rows = target.expand(len(some), -1)
                    hidden = pali.text.decode(F.pad(rows[:, :-1], (1, 0), value=pali.pad), *memory)
                    logits = pali.text.logits(hidden).float()
                    columns.append(F.cross_entropy(logits.transpose(1, 2), rows, reduction="none").mean(1))
                chunks.append(torch.stack(columns, dim=1))
        return torch.cat(chunks).cpu().numpy()

    def tokenizer(self, part: str) -> Tokenizer:
        """What a part of the family reads and writes with."""
        return self.load(part)[0].tokenizer

    def fits(self, prompt: str, part: str) -> bool:
        """Whether a part of the family takes a prompt of that length."""
        bundle = self.load(part)[0]
        return len(bundle.tokenizer.encode(prompt)) <= _longest_prompt(bundle)

    def word(self, task: Task, text: str = "", lang: str = "en") -> str:
        """A task's prompt, in a language.

        Raises:
            ValueError: the prompt names a language that this family is known not to answer in, or the task wants
                another text.
        """
        prompt = task.ask(text, lang=lang)
        if task.template.names_language and self.languages and lang not in self.languages:
            raise ValueError(
                f"{self.folder.name} does not answer in {lang!r}; it knows {', '.join(self.languages)}"
            )
        return prompt

    def task(self, name: str) -> Task:
        """A task as this family was trained on it: with its options and its mask codec.

        Raises:
            ValueError: unknown task.
        """
        bundle = self.load(self._part_for(name))[0]
        tools: dict[Need, Callable[[], Any]] = {"tokenizer": lambda: bundle.tokenizer}
        if "mask_vqvae" in self.parts:
            tools["masks"] = lambda: self._masks
        return open_task(name, bundle.facts.get("tasks", {}).get(name), tools, dialect=self.dialect)

    def recognise(self, prompt: str, frames: int = 1) -> str:
        """The task that a prompt is for, see :func:`~openpali.tasks.registry.recognise`."""
        return recognise(prompt, frames, self.dialect)

    @cached_property
    def dialect(self) -> str:
        """Name of the dialect in which this family is asked: a fact of its main model."""
        facts = open_model(self.parts["pali"]).facts if "pali" in self.parts else {}
        return str(facts.get("dialect", DEFAULT))

    def _ask(self, name: str, images: Sequence[Picture], texts: Sequence[str], lang: str) -> list[Prediction]:
        if isinstance(images, str | bytes):
            raise ValueError("give a list of pictures, even for one")
        task = self.task(name)
        return self.predict([[i] for i in images], [self.word(task, text, lang) for text in texts], task=task)

    def _predict(
        self,
        frames: Sequence[Frames],
        prompts: Sequence[str],
        task: Task | None,
        part: str | None,
        decoding: Decoding | None,
    ) -> list[Prediction]:
        tasks = [
            task or self.task(self.recognise(prompt, len(row))) for prompt, row in zip(prompts, frames, strict=True)
        ]
        part = part or self._part_for(tasks[0].name)
        bundle, _ = self.load(part)
        batch, sizes, encoder = _collate(bundle, frames, prompts, self.device)
        generations = generate(
            self._generator(part),
            batch.get("images"),
            batch["prompt"],
            batch.get("frames"),
            decoding or Decoding(max_tokens=tasks[0].max_target_tokens),
            encoder.tokenizer.eos_id,
        )
        return [
            Prediction(prompt, t.parse(encoder.tokenizer.decode(best[0].ids), size), best[0])
            for prompt, t, best, size in zip(prompts, tasks, generations, sizes, strict=True)
        ]

    def _part_for(self, task: str) -> str:
        part = self.by_task.get(task, "pali")
        if part not in self.parts:
            raise ValueError(f"the model {self.folder} has no part {part!r}, which task {task} needs")
        return part

    def load(self, part: str) -> tuple[ModelFolder, torch.nn.Module]:
        """A part's folder and its model, of this dtype and on this device; the same ones each time.

        Raises:
            FileNotFoundError, ValueError: there is no such part, or its files cannot be read.
        """
        if part not in self._loaded:
            if part not in self.parts:
                raise ValueError(f"the model {self.folder} has no part {part!r}; it has {', '.join(self.parts)}")
            bundle = open_model(self.parts[part])
            dtype = torch.bfloat16 if self.dtype == "bf16" else torch.float32
            model = bundle.model(dtype, int8=self.engine == "torch")  # OpenVINO compiles floats, and rounds them
            self._loaded[part] = bundle, model.to(self.device)
        return self._loaded[part]

    def _generator(self, part: str) -> Model:
        model = cast(PaliModel, self.load(part)[1])
        if self.engine == "torch":
            return model
        if part not in self._compiled:
            self._compiled[part] = OpenVinoPali(model, int8=self.engine == "openvino-int8")
        return self._compiled[part]

    @cached_property
    def _masks(self) -> Any:
        return open_mask_codec(self.parts["mask_vqvae"])

    @cached_property
    def _pairs(self) -> PairEncoder:
        bundle, model = self.load("siglip")
        kept = bundle.facts.get("recipe", {}).get("keep_case", False)
        wording: Wording = "as is" if kept else bundle.facts.get("wording", "lower")
        return PairEncoder(bundle.tokenizer, cast(SigLIP, model).config.text.length, wording)


def to_array(picture: Picture) -> Image:
    """Any kind of picture as RGB uint8 ``[H, W, 3]``; a Pillow image becomes what its file would have.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_image`; an array that is no picture.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise ValueError(f"a picture is uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
        return picture
    if isinstance(picture, PILImage.Image):
        return to_rgb(picture.copy())  # it turns the picture upright in place
    return load_image(picture)


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # from meta there is no way back
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"torch finds no device {str(name)!r} here: take cpu, or cuda where there is a GPU"
        ) from error
    return device


@cache  # it warns once
def _has_openvino() -> bool:
    try:
        require_openvino()
    except ValueError as error:
        warnings.warn(f"torch generates text: OpenVINO would be faster, but {error}", EngineMissing, stacklevel=2)
        return False
    return True


def _preprocess(bundle: ModelFolder) -> Preprocess:
    if bundle.preprocess is None:
        raise ValueError(f"the model {bundle.folder} takes no pictures")
    return bundle.preprocess


def _longest_prompt(bundle: ModelFolder) -> int:
    return int(bundle.facts.get("max_prompt", 512))


def _collate(
    bundle: ModelFolder, frames: Sequence[Frames], prompts: Sequence[str], device: torch.device
) -> tuple[Batch, list[Size], SequenceEncoder]:
    """Pictures and prompts as the model takes them, and the size of each row's first picture."""
    preprocess = _preprocess(bundle)
    limit = _longest_prompt(bundle)
    encoder = SequenceEncoder(bundle.tokenizer, limit, 1)
    samples, sizes = [], []
    for row, prompt in zip(frames, prompts, strict=True):
        if not prompt.strip():
            raise ValueError("the prompt is empty")
        ids = encoder.tokenizer.encode(prompt)
        if len(ids) > limit:
            raise ValueError(f"the prompt has {len(ids)} tokens, and this model takes {limit}: shorten it")
        arrays: dict[str, NDArray[Any]] = {"prompt": np.array(ids), "target": np.zeros(1, np.int64)}
        images = [to_array(picture) for picture in row]
        sizes.append(Size(*images[0].shape[:2]) if images else Size(1, 1))
        if images:
            arrays["images"] = np.stack([preprocess(image) for image in images])
        samples.append(arrays)
    batch = {name: tensor.to(device) for name, tensor in encoder.collate(samples).items()}
    return batch, sizes, encoder
