"""The models of a folder that answer together, each loaded when it is first used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import cast, get_args

import torch

from openpali.architectures.siglip.network import SigLIP
from openpali.data.media.native import AnyPreprocess
from openpali.infer.engines.base import Engine
from openpali.infer.engines.registry import AUTO, ENGINES, Dtype, EngineName, find_engine
from openpali.infer.pipeline import LONGEST_PROMPT, EmbeddingPipeline, Pipeline, calibration_for
from openpali.metrics.calibration import Calibration
from openpali.model.vision_language import VisionLanguageModel
from openpali.tasks.detect import Detect
from openpali.tasks.dialects import PALI3, Dialect
from openpali.tasks.refseg import MaskCodec
from openpali.tasks.registry import Tools, form_of
from openpali.weights.bundle import mask_codec_of, open_bundle
from openpali.weights.files import MAIN, MASKS, SIGLIP
from openpali.weights.find import find_model, name_of
from openpali.weights.format import ModelFolder, open_model
from openpali.weights.mask_codec import open_mask_codec
from openpali.weights.ood import read_ood


class EngineMissing(UserWarning):
    """A faster engine for generation is not installed."""


class Bundle:
    """A model or a bundle of models.

    Args:
        folder, engine, dtype, device: as for :class:`openpali.infer.pali.Pali`.

    Attributes:
        parts: the folder of each part, by its name.
        by_task: task -> the parts that may answer it, where that is not the main part.
        languages, about, names: as of :class:`openpali.weights.bundle_config.BundleConfig`.
        uncalibrated: the part whose confidence stays as it is, while it is fitted; "" for none.
    """

    uncalibrated = ""

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
        stored = open_bundle(folder)
        self.parts, self.by_task, self.languages = stored.parts, stored.tasks, stored.languages
        self.about, self.names = stored.about, stored.names
        self._folders: dict[str, ModelFolder] = {}
        main = self.part(MAIN) if MAIN in self.parts else None
        if main is None and SIGLIP in self.parts and self.part(SIGLIP).has_sides:
            self.by_task = {Detect.name: (SIGLIP,), **self.by_task}  # all that it can do without a decoder
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
        self._adapter_base: torch.nn.Module | None = None

    @property
    def name(self) -> str:
        """Name of a model that ships with the package, or else the path of the folder."""
        return name_of(self.folder)

    @cached_property
    def dialect(self) -> Dialect:
        """The dialect that the main model was trained in."""
        return self.part(MAIN).dialect if MAIN in self.parts else PALI3

    def part(self, part: str) -> ModelFolder:
        """The folder of a part, whose weights are not read yet.

        Raises:
            ValueError: the bundle does not have it.
        """
        if part not in self._folders:
            if part not in self.parts:
                raise self._lacks(repr(part))
            self._folders[part] = open_model(self.parts[part])
        return self._folders[part]

    def listed_for(self, task: str) -> tuple[str, ...]:
        """The parts that the bundle lists for a task, or for those that ask alike; some may be missing from it."""
        return self.by_task.get(task) or self.by_task.get(form_of(task)) or (MAIN,)

    def parts_for(self, task: str) -> tuple[str, ...]:
        """As :meth:`listed_for`.

        Raises:
            ValueError: the bundle lacks one of them.
        """
        parts = self.listed_for(task)
        for part in parts:
            if part not in self.parts:
                raise self._lacks(f"{part!r}, which task {task} needs")
        return parts

    def _lacks(self, part: str) -> ValueError:
        """The error that a part is missing; of an image encoder alone, it says what that does."""
        message = f"the model {self.folder} has no part {part}; it has {', '.join(self.parts)}"
        if [*self.parts] == [SIGLIP]:
            message += f", for {', '.join([*self.by_task, 'embeddings', 'similarity'])}"
        return ValueError(message)

    def calibration(self, part: str, task: str) -> Calibration | None:
        """How the confidence of a part in a task is calibrated; None: it is not."""
        return None if part == self.uncalibrated else calibration_for(task, self.part(part).facts.calibration)

    def load(self, part: str) -> tuple[ModelFolder, torch.nn.Module]:
        """A part's folder and its model in evaluation mode, in this dtype and on this device; cached."""
        with self._lock:
            if part not in self._loaded:
                stored = self.part(part)
                dtype = torch.bfloat16 if self.dtype == "bf16" else torch.float32
                widens = self._engine.widens and not stored.int4  # floats of int4 would take eight times its memory
                plain = widens or (not self._engine.adapts and stored.adapter is not None)
                base = self._adapter_base if part == MAIN else None
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
        """The pipeline of a part that has a decoder; cached."""
        with self._lock:
            if part not in self._pipelines:
                self._pipelines[part] = self._open(part)
        return self._pipelines[part]

    def _open(self, part: str) -> Pipeline:
        stored, model = self.load(part)
        if not isinstance(model, VisionLanguageModel):
            raise ValueError(f"part {part!r} of {self.folder} is a {stored.kind}, which takes no prompts")
        tools: Tools = {"masks": self._masks} if MASKS in self.parts else {}
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
            max_target=stored.facts.max_target or 0,
        )

    @cached_property
    def embedding(self) -> EmbeddingPipeline:
        """The pipeline of the image encoder with its text tower."""
        stored, model = self.load(SIGLIP)
        assert stored.preprocess is not None
        facts = stored.facts
        how = facts.normalisation, facts.padding, facts.softmax
        return EmbeddingPipeline(cast(SigLIP, model), stored.tokenizer, stored.preprocess, *how)

    @cached_property
    def _masks(self) -> Callable[[], MaskCodec]:
        return cache(partial(open_mask_codec, self.parts[MASKS]))

    @property
    def masks(self) -> MaskCodec:
        """The codec of masks, opened once."""
        return self._masks()


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
