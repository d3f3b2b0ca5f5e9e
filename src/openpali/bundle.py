"""A model on disk: ``config.json``, ``model.safetensors`` and, where text goes in, ``tokenizer.model``.

Reading one runs no code and opens no socket. The configuration says what kind of model it is, its shapes, how
pictures are brought to its size, and where its weights came from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from openpali.data.home import home
from openpali.data.images import Preprocess
from openpali.model.mask_vqvae import MaskVQVAE, MaskVQVAEConfig
from openpali.model.pali import Pali, PaliConfig
from openpali.model.siglip import SigLIP, SigLIPConfig
from openpali.model.vit import Classifier, ViT, ViTConfig, resample_positions
from openpali.text.tokenizer import Tokenizer

FORMAT = 1
Json = dict[str, Any]


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of the classification control and the names of its classes."""

    vision: ViTConfig
    labels: tuple[str, ...]


Config = SigLIPConfig | ClassifierConfig | PaliConfig | MaskVQVAEConfig

_KINDS: Mapping[str, type[Config]] = {
    "siglip": SigLIPConfig,
    "classifier": ClassifierConfig,
    "pali": PaliConfig,
    "mask_vqvae": MaskVQVAEConfig,
}


def build(config: Config) -> nn.Module:
    """The model of this configuration, randomly initialised."""
    match config:
        case SigLIPConfig():
            return SigLIP(config)
        case ClassifierConfig():
            return Classifier(config.vision, len(config.labels))
        case PaliConfig():
            return Pali(config)
        case MaskVQVAEConfig():
            return MaskVQVAE(config)


@dataclass(frozen=True)
class Bundle:
    """What is in a model folder; the weights are read when asked for."""

    folder: Path
    config: Config
    preprocess: Preprocess | None
    facts: Json

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that belongs to the weights."""
        return Tokenizer.load(self.folder / "tokenizer.model")

    def weights(self) -> dict[str, Tensor]:
        """All tensors by name, mapped from the file.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.folder / "model.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is damaged or missing: {error}") from error

    def model(self) -> nn.Module:
        """The model with its weights, in evaluation mode, float32.

        Raises:
            ValueError: tensors that are missing, too many or of another shape; all are listed.
        """
        with torch.device("meta"):
            model = build(self.config)
        load_exactly(model, {k: v.float() for k, v in self.weights().items()}, str(self.folder))
        return model.eval()


def load_exactly(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Put ``weights`` in the place of all the model's tensors; names every one that does not fit.

    Raises:
        ValueError: as said.
    """
    own = model.state_dict()
    problems = [f"{k} is missing" for k in own if k not in weights]
    problems += [f"{k} is not of this model" for k in weights if k not in own]
    problems += [
        f"{k} has shape {tuple(v.shape)}, the model wants {tuple(own[k].shape)}"
        for k, v in weights.items()
        if k in own and v.shape != own[k].shape
    ]
    if problems:
        raise ValueError(f"weights of {name} do not fit: " + "; ".join(problems))
    model.load_state_dict(dict(weights), assign=True)


def save_bundle(
    folder: Path,
    model: nn.Module,
    config: Config,
    *,
    preprocess: Preprocess | None,
    tokenizer: Tokenizer | None,
    facts: Json,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder. ``facts`` is what else should be known: recipe, samples seen, languages."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().to(dtype).contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    if tokenizer is not None:
        (folder / "tokenizer.model").write_bytes(tokenizer.proto)
    kind = next(name for name, cls in _KINDS.items() if isinstance(config, cls))
    described = {
        "format": FORMAT,
        "kind": kind,
        "config": dataclasses.asdict(config),
        "preprocess": None if preprocess is None else dataclasses.asdict(preprocess),
        "facts": facts,
    }
    (folder / "config.json").write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n")


def open_bundle(folder: Path) -> Bundle:
    """Read a model folder.

    Raises:
        FileNotFoundError: no model is there.
        ValueError: its configuration cannot be understood.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no model in {folder}: it has no config.json")
    try:
        described = json.loads(path.read_text())
        config = _from_json(_KINDS[described["kind"]], described["config"])
        preprocess = described["preprocess"] and Preprocess(**described["preprocess"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no model configuration that this version reads: {error!r}") from error
    return Bundle(folder, config, preprocess, described["facts"])


def find_model(name: str) -> Path:
    """The folder of a model: a path, or the name of a finished run (``nano/0a_siglip``).

    Raises:
        FileNotFoundError: neither is there.
    """
    for folder in (Path(name), home() / "runs" / name / "model"):
        if (folder / "config.json").is_file():
            return folder
    raise FileNotFoundError(f"no model {name!r}: neither a model folder nor a finished run of that name")


def transplant(model: nn.Module, part: str, origin: str) -> None:
    """Start ``part`` of a model from another one's: ``origin`` is what :func:`find_model` takes, optionally with
    ``#part``. Position embeddings are resampled to this model's grid.

    Raises:
        ValueError: tensors that are missing there or have another shape; all are listed.
    """
    name, _, there = origin.partition("#")
    bundle = open_bundle(find_model(name))
    there = there or part
    weights = {
        key.removeprefix(there + ".") if there else key: value.float()
        for key, value in bundle.weights().items()
        if not there or key.startswith(there + ".")
    }
    target = model.get_submodule(part)
    positions = {"": "vit.positions", "vit": "positions"}.get(part)
    if positions in weights and not isinstance(bundle.config, MaskVQVAEConfig):
        vit = model.get_submodule("vit")
        assert isinstance(vit, ViT)
        weights[positions] = resample_positions(weights[positions], bundle.config.vision.grid, vit.config.grid)
    load_exactly(target, weights, origin)


def _from_json(cls: type[Any], value: Any) -> Any:
    """Nested dataclasses from nested dictionaries; lists become tuples."""
    if isinstance(value, dict) and dataclasses.is_dataclass(cls):
        hints = get_type_hints(cls)
        return cls(**{key: _from_json(hints[key], v) for key, v in value.items()})
    return tuple(value) if isinstance(value, list) else value
