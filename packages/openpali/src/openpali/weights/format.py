"""A model folder: ``config.json``, tensors (``model.safetensors``, or shards of it with an index) and, for models
that take text, ``tokenizer.model``.

Reading a folder runs no code and opens no socket; tensors are mapped, not copied. ``config.json`` holds the kind of
model, its shapes, how images are preprocessed, and where the weights came from.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from openpali.architectures.base import vision_of
from openpali.architectures.facts import Facts
from openpali.architectures.registry import architecture_of, architectures, build, find_dialect
from openpali.data.media.native import AnyPreprocess, preprocess_from
from openpali.messages import hint, shorten
from openpali.mistakes import LONGEST, Terms, mistakes, reason
from openpali.model.int4 import use_quantized
from openpali.model.lora import add_lora
from openpali.model.vit import resample_positions
from openpali.tasks.dialects import Dialect
from openpali.tensors import MappedTensors, WidenedTensors, fingerprint, load_exactly
from openpali.text.load import load_tokenizer
from openpali.text.tokenizer import Tokenizer
from openpali.weights.adapters import Adapter, MergedTensors, read_adapter, require_layers
from openpali.weights.files import ADAPTER, BUNDLE, CONFIG, FITTED, TOKENIZER
from openpali.weights.find import find_model
from openpali.weights.write import FORMAT, POSITIONS, describe, write_model

STORAGE = ("base", "int8", "int4", "base_fingerprint")  # facts about how tensors are stored
OF_A_RUN = (
    "run",
    "samples",
    "recipe",
    "calibration",
)  # facts that an adapter does not inherit
Json = dict[str, Any]


@dataclass(frozen=True)
class ModelFolder:
    """An opened model folder. Weights are read on request, the tokenizer is parsed once.

    With ``facts.base``, a sibling folder holds the tensors missing here: a transfer with a frozen ViT ships without
    it. A folder with an adapter holds what changes in another model, its base.
    """

    folder: Path
    config: Any
    preprocess: AnyPreprocess | None
    facts: Facts

    @property
    def kind(self) -> str:
        """The kind of model, a key of :func:`openpali.architectures.registry.architectures`."""
        return architecture_of(self.config).kind

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that belongs to the weights."""
        own = self.folder / TOKENIZER
        return self.base.tokenizer if self.base and not own.is_file() else load_tokenizer(own)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder holds a tokenizer."""
        return (self.folder / TOKENIZER).is_file() or bool(self.base and self.base.has_tokenizer)

    @cached_property
    def adapter(self) -> Adapter | None:
        """The adapter, if the folder holds one instead of a model."""
        return read_adapter(self.folder) if (self.folder / ADAPTER).is_file() else None

    @property
    def folders(self) -> list[Path]:
        """The folders that weights are read from: its own, and those of its base."""
        return [self.folder, *(open_model(self.base_folder).folders if self.base_folder else [])]

    @cached_property
    def base(self) -> ModelFolder | None:
        """The model that the adapter changes."""
        return _open_base(self.folder, self.adapter) if self.adapter else None

    @property
    def base_folder(self) -> Path | None:
        """The folder of another model that holds weights of this one: an adapter's base, or a frozen ViT."""
        if self.base:
            return self.base.folder
        return self.folder.parent / self.facts.base if self.facts.base else None

    @cached_property
    def _true_base(self) -> ModelFolder | None:
        """The base, with the weights that the adapter was trained on, as far as is known."""
        known = self.facts.base_fingerprint
        if self.base and self.adapter and known and known != fingerprint(self.base.stored()):
            raise ValueError(
                f"{self.adapter.base} has other weights than when the adapter {self.folder} was trained: restore "
                f"them, or, to use it all the same, remove base_fingerprint from {self.folder / CONFIG}"
            )
        return self.base

    @property
    def int8(self) -> bool:
        """Whether weights are stored in int8, or those of the language model in int4."""
        return self.base.int8 if self.base else self.facts.int8

    @property
    def int4(self) -> int:
        """Inputs that share a scale of int4 weights; 0: there are none."""
        return self.base.int4 if self.base else self.facts.int4

    def weights(self) -> Mapping[str, Tensor]:
        """All tensors by name, int8 and int4 ones as float32, an adapter merged. Each is read when touched."""
        stored = self.stored()
        widened = WidenedTensors(stored) if self.int8 else stored
        return MergedTensors(widened, self.adapter) if self.adapter else widened

    @property
    def answers(self) -> bool:
        """Whether it takes prompts."""
        return architecture_of(self.config).answers

    @property
    def has_sides(self) -> bool:
        """Whether its patches tell the sides of their thing, so that an image encoder detects by itself."""
        return bool(getattr(self.config, "sides", False))

    @property
    def dialect(self) -> Dialect:
        """The format of its prompts and answers."""
        return find_dialect(self.facts.dialect)

    @property
    def lasting_facts(self) -> Facts:
        """The facts that stay true of :meth:`weights` wherever they are written."""
        return self.facts.without(*STORAGE)

    def stored(self) -> Mapping[str, Tensor]:
        """All tensors by name, as they are on disk; of an adapter, those of its base, at its own resolution."""
        if self._true_base:
            return _at_grid(self._true_base.stored(), self._true_base.config, self.config)
        own = MappedTensors(self.folder)
        if not self.base_folder:
            return own
        theirs = open_model(self.base_folder).weights()
        with torch.device("meta"):
            needed = build(self.config).state_dict()  # the base may have more layers
        inherited = {key: theirs[key] for key in needed if key in theirs}
        return ChainMap(own, inherited)  # type: ignore[arg-type]  # only read, never written

    def model(
        self, dtype: torch.dtype = torch.float32, *, plain: bool = False, base: nn.Module | None = None
    ) -> nn.Module:
        """The model with its weights, in evaluation mode. Tensors stored in ``dtype`` stay mapped.

        Args:
            dtype: of all floats.
            plain: widen weights that are stored in int8 or int4, and merge an adapter.
            base: of an adapter, its base as this method loads it, in the same dtype: all tensors but position
                embeddings of another resolution are shared with it.
        """
        with torch.device("meta"):
            model = build(self.config)
        if self.int8 and not plain:
            use_quantized(model, self.int4)
        if base is not None and self._true_base:
            stored: Mapping[str, Tensor] = _at_grid(base.state_dict(), self._true_base.config, self.config)
        else:
            stored = self.weights() if plain else self.stored()
        if self.adapter and not plain:
            require_layers(self.adapter, stored)
            add_lora(model, self.adapter.config)
            stored = ChainMap(self.adapter.tensors, stored)  # type: ignore[arg-type]  # only read, never written
        weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in stored.items()}
        load_exactly(model, weights, str(self.folder))
        return model.eval()


def open_model(folder: Path) -> ModelFolder:
    """Read a model folder.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: its configuration cannot be read, or it holds another library's model or a bundle.
    """
    path = folder / CONFIG
    if not path.is_file() and (folder / ADAPTER).is_file():  # of PEFT
        base = _open_base(folder, read_adapter(folder))
        return ModelFolder(folder, base.config, base.preprocess, base.lasting_facts.without(*OF_A_RUN))
    if not path.is_file():
        if (folder / BUNDLE).is_file():
            parts = ", ".join(str(part.parent) for part in sorted(folder.glob(f"*/{CONFIG}")))
            raise ValueError(f"{folder} is a bundle of several models: name one of its parts, {parts}")
        hint = "; run `openpali convert` to make one of the .npz file" if list(folder.glob("*.npz")) else ""
        raise FileNotFoundError(f"no model in {folder}: it has no {CONFIG}{hint}")
    try:
        described = json.loads(path.read_text("utf-8"))
        if "format" not in described:
            raise ValueError(_not_ours(described))
        if described["format"] != FORMAT:
            raise ValueError(f"its format is {described['format']}, and this version reads {FORMAT}")
        config = config_from_json(architectures()[described["kind"]].config, described["config"])
        preprocess = described["preprocess"] and preprocess_from(described["preprocess"])
        facts = Facts.model_validate(described["facts"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no model configuration that this version reads ({reason(error)})") from error
    return ModelFolder(folder, config, preprocess, facts)


def write_merged(source: ModelFolder, out: Path) -> None:
    """Write the model that an adapter and its base are together, in the base's dtypes; quantized layers as bf16."""
    if source.adapter is None:
        raise ValueError(f"{source.folder} holds no adapter, but a whole model: there is nothing to merge")
    stored, wide = source.stored(), torch.bfloat16
    weights = {
        key: value.to(stored[key].dtype if stored[key].is_floating_point() else wide)
        for key, value in source.weights().items()
    }
    write_again(source, out, weights, source.lasting_facts)


def write_again(source: ModelFolder, out: Path, weights: Mapping[str, Tensor], facts: Facts) -> None:
    """Write a model with other weights and facts."""
    tokenizer = source.tokenizer if source.has_tokenizer else None
    write_model(out, weights, source.config, preprocess=source.preprocess, tokenizer=tokenizer, facts=facts)
    copy_fitted(source.folder, out)


def copy_fitted(source: Path, out: Path) -> None:
    """Give the copy of a model its OOD detector and its language model, see :mod:`openpali.weights.ood`."""
    for name in FITTED:
        if (source / name).is_dir():
            shutil.copytree(source / name, out / name)


def add_facts(folder: Path, **facts: Any) -> None:
    """Record facts in a model folder; a fact that it has is replaced."""
    opened = open_model(folder)
    describe(folder, opened.config, opened.preprocess, opened.facts.but(**facts))


def _open_base(folder: Path, adapter: Adapter) -> ModelFolder:
    try:
        base = find_model(adapter.base)
        if (base / ADAPTER).is_file():
            raise ValueError(
                f"the adapter {folder} changes {adapter.base}, which is an adapter itself: write the model that it "
                "makes with `openpali export --format openpali`, and name that in base_model_name_or_path in "
                f"{folder / ADAPTER}"
            )
        return open_model(base)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the adapter {folder} changes the model {adapter.base}, which is not here: fetch it, or correct "
            f"base_model_name_or_path in {folder / ADAPTER}"
        ) from error


def _at_grid(stored: Mapping[str, Tensor], old: Any, new: Any) -> Mapping[str, Tensor]:
    """The tensors of a model of one configuration, with position embeddings for the grid of another."""
    before, after = vision_of(old), vision_of(new)
    if before is None or after is None or before.grid == after.grid or POSITIONS not in stored:
        return stored
    positions = resample_positions(stored[POSITIONS].float(), before.grid, after.grid)
    return ChainMap({POSITIONS: positions}, stored)  # type: ignore[arg-type]  # only read, never written


def config_from_json(cls: type[Any], value: Any, place: str = "config") -> Any:
    """Nested dataclasses from nested dictionaries; lists become tuples.

    Args:
        place: what errors call the value.

    Raises:
        TypeError, ValueError: it has an unknown key, lacks one, or a value is of another type.
    """
    if isinstance(value, dict) and dataclasses.is_dataclass(cls):
        hints = get_type_hints(cls)
        if unknown := value.keys() - hints.keys():
            raise ValueError(f"{place} has no {min(unknown)}; {hint(min(unknown), hints)}")
        return cls(**{key: config_from_json(hints[key], v, f"{place}.{key}") for key, v in value.items()})
    written = json.dumps(value)
    try:
        valid = TypeAdapter(cls).validate_json(written, strict=True)
    except ValidationError as error:
        terms = Terms(f"{place} = {shorten(written, LONGEST)}")
        raise ValueError(mistakes(error, terms=terms)[0].sentence) from error
    return value if value == valid else valid  # an integer stays one where a float is asked for


def _not_ours(described: Any) -> str:
    """Why a ``config.json`` without our ``format`` cannot be read, and the fix."""
    if "model_type" in described:
        return (
            f"it is a {described['model_type']!r} of transformers: make a model of OpenPaLI from it with "
            "`openpali convert`, as docs/weights.md shows"
        )
    return "it has no format: give a model folder, a run, or a model that ships with the package"
