"""A model on disk: ``config.json``, its tensors (``model.safetensors``, or shards of it with an index) and, where
text goes in, ``tokenizer.model``.

Reading one runs no code and opens no socket; tensors are mapped, not copied. The configuration says what kind of
model it is, its shapes, how pictures are brought to its size, and where its weights came from.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from openpali.data.media.images import Preprocess
from openpali.home import data_folder, home
from openpali.model.int8 import quantize, use_int8, widen
from openpali.model.mask_vqvae import MaskVQVAE, MaskVQVAEConfig
from openpali.model.pali import Pali, PaliConfig
from openpali.model.siglip import SigLIP, SigLIPConfig
from openpali.model.vit import Classifier, ViT, ViTConfig, resample_positions
from openpali.tasks.refseg import MaskCrop
from openpali.text.tokenizer import Tokenizer
from openpali.weights.tensors import MappedTensors, require_fit, shapes, write_tensors

FORMAT = 1
MODEL_TYPE = "openpali"  # by which transformers finds the class of a pali, see `interop.transformers`
TOKENIZER = "tokenizer.model"
FAMILY = "family.json"  # names the parts of a family of models, see :func:`open_family`
STORAGE = frozenset({"base", "int8"})  # facts of how tensors lie in a folder; who writes them otherwise drops these
SHIPPED = Path(__file__).parents[1] / "models"
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
    """What is in a model folder; the weights are read when asked for.

    ``facts["base"]``, if there, is a folder beside this one that holds the tensors missing here: a transfer with a
    frozen ViT ships without it. ``facts["int8"]`` says that the weights of linear layers are stored in int8.
    """

    folder: Path
    config: Config
    preprocess: Preprocess | None
    facts: Json

    @property
    def kind(self) -> str:
        """What kind of model it is: "pali", "siglip", "classifier" or "mask_vqvae"."""
        return next(name for name, cls in _KINDS.items() if isinstance(self.config, cls))

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that belongs to the weights."""
        return Tokenizer.load(self.folder / TOKENIZER)

    def weights(self) -> Mapping[str, Tensor]:
        """All tensors by name, as floats, mapped from the files: each is read when it is touched.

        Raises:
            ValueError: a file is damaged.
        """
        stored = self._stored()
        return _Widened(stored) if self.facts.get("int8") else stored

    @property
    def lasting_facts(self) -> Json:
        """The facts that stay true of :meth:`weights` wherever they are written."""
        return {key: value for key, value in self.facts.items() if key not in STORAGE}

    def _stored(self) -> Mapping[str, Tensor]:
        """All tensors by name as they are on disk."""
        own = MappedTensors(self.folder)
        base = self.facts.get("base")
        if not base:
            return own
        theirs = open_bundle(self.folder.parent / base).weights()
        return ChainMap(own, theirs)  # type: ignore[arg-type]  # only read, never written

    def model(self, dtype: torch.dtype = torch.float32, *, int8: bool = True) -> nn.Module:
        """The model with its weights, in evaluation mode. Tensors that are of this ``dtype`` on disk stay mapped.

        Args:
            dtype: of all floats.
            int8: weights that are int8 on disk stay so; else they are widened too.

        Raises:
            ValueError: tensors that are missing, too many or of another shape; all are listed.
        """
        with torch.device("meta"), _ShapesAlone():
            model = build(self.config)
        int8 = int8 and bool(self.facts.get("int8"))
        if int8:
            use_int8(model)
        stored = self._stored() if int8 else self.weights()
        weights = {k: v if v.dtype == torch.int8 else v.to(dtype) for k, v in stored.items()}
        load_exactly(model, weights, str(self.folder))
        return model.eval()


class _Widened(Mapping[str, Tensor]):
    """Tensors of a folder whose linear layers are int8, with these as float32; scales are gone into them."""

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self.stored = stored
        # a name alone does not tell: norms have scales too
        self.scales = {
            name: scale
            for name in stored
            if (scale := name.removesuffix("weight") + "scale") in stored and stored[name].dtype == torch.int8
        }
        self.names = [name for name in stored if name not in self.scales.values()]

    def __getitem__(self, key: str) -> Tensor:
        value = self.stored[key]
        return widen(value, self.stored[self.scales[key]]) if key in self.scales else value

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class _ShapesAlone(TorchFunctionMode):
    """Leaves out what would give a model its first values, which it has not on the meta device. Torch draws and
    scales there in Python, through its compiler and sympy: importing these takes longer than an answer of nano.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"]
        if func in (Tensor.div, Tensor.mul):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def load_exactly(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Put ``weights`` in the place of all the model's tensors; names every one that does not fit.

    Raises:
        ValueError: as said.
    """
    require_fit(shapes(model.state_dict()), shapes(weights), name)
    model.load_state_dict(dict(weights), assign=True)


def write_bundle(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: Config,
    *,
    preprocess: Preprocess | None,
    tokenizer: Tokenizer | None,
    facts: Json,
) -> None:
    """Write a model folder. ``facts`` is what else should be known: recipe, samples seen, task options.

    Weights that were there are replaced whole: a run that started from the old file still has it mapped.

    Raises:
        OSError: it cannot be written.
    """
    write_tensors(folder, weights)
    if tokenizer is not None:
        (folder / TOKENIZER).write_bytes(tokenizer.proto)
    described = {
        "format": FORMAT,
        "kind": Bundle(folder, config, preprocess, facts).kind,
        "config": dataclasses.asdict(config),
        "preprocess": None if preprocess is None else dataclasses.asdict(preprocess),
        "facts": facts,
    }
    if isinstance(config, PaliConfig):
        described["model_type"] = MODEL_TYPE
    (folder / "config.json").write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n")


def write_int8(bundle: Bundle, folder: Path) -> None:
    """Write a model anew with int8 linear layers, everything else in bf16.

    Raises:
        ValueError: it has int8 layers already.
        OSError: it cannot be written.
    """
    if bundle.facts.get("int8"):
        raise ValueError(f"{bundle.folder} has int8 weights already")
    with torch.device("meta"):
        linear = {f"{name}.weight" for name in use_int8(build(bundle.config))}
    weights = {}
    for key, value in bundle.weights().items():
        if key in linear:
            weights[key], weights[key.removesuffix("weight") + "scale"] = quantize(value)
        else:
            weights[key] = value.to(torch.bfloat16)
    write_bundle(
        folder,
        weights,
        bundle.config,
        preprocess=bundle.preprocess,
        tokenizer=bundle.tokenizer if (bundle.folder / TOKENIZER).is_file() else None,
        facts={**bundle.lasting_facts, "int8": True},
    )


def open_bundle(folder: Path) -> Bundle:
    """Read a model folder.

    Raises:
        FileNotFoundError: no model is there.
        ValueError: its configuration cannot be understood, or it is a family's folder.
    """
    path = folder / "config.json"
    if not path.is_file():
        if (folder / FAMILY).is_file():
            parts = ", ".join(map(str, open_family(folder).parts.values()))
            raise ValueError(f"{folder} is a family of several models: name a part of it, {parts}")
        raise FileNotFoundError(f"no model in {folder}: it has no config.json")
    try:
        described = json.loads(path.read_text())
        if described["format"] != FORMAT:
            raise ValueError(f"its format is {described['format']}, and this version reads {FORMAT}")
        config = config_from_json(_KINDS[described["kind"]], described["config"])
        preprocess = described["preprocess"] and Preprocess(**described["preprocess"])
        facts = dict(described["facts"])
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"  # a repr may hold the whole file
        raise ValueError(f"{path} is no model configuration that this version reads ({reason})") from error
    return Bundle(folder, config, preprocess, facts)


def find_model(name: str) -> Path:
    """The folder of a model or family: a path, of it or of a finished run; one that ships (``nano``); or a finished
    run by name (``nano/0a_siglip``).

    Raises:
        FileNotFoundError: none of these is there.
    """
    for folder in _folders(name):
        if (folder / "config.json").is_file() or (folder / FAMILY).is_file():
            return folder
    raise FileNotFoundError(
        f"no model {name!r}: neither a model folder, nor one that ships with the package, nor a finished run"
    )


def _folders(name: str) -> tuple[Path, ...]:
    """Where a model of this name may be."""
    return Path(name), Path(name) / "model", SHIPPED / name, home() / "runs" / name / "model"


def open_tokenizer(name: str) -> Tokenizer:
    """A tokenizer by path of its file, by a model's name (as :func:`find_model` takes it), or by name of a built
    vocabulary (``nano-vocabulary``).

    Raises:
        FileNotFoundError: none of these is there.
    """
    for path in (Path(name), *(folder / TOKENIZER for folder in _folders(name))):
        if path.is_file():
            return Tokenizer.load(path)
    from openpali.synth.builders.vocabularies import BUILDERS as VOCABULARIES  # deferred: only training needs it

    if name in VOCABULARIES:
        return Tokenizer.load(data_folder(name) / TOKENIZER)
    raise FileNotFoundError(
        f"no tokenizer {name!r}: give its file, a model folder or finished run that has one, or one of "
        f"{', '.join(VOCABULARIES)}"
    )


class Family(NamedTuple):
    """Models that answer together.

    Attributes:
        parts: part name ("pali" is the default, "siglip", "mask_vqvae", ...) -> model folder.
        tasks: task name -> the part that answers it, where that is not the default.
        languages: codes of those it answers in; empty: not known.
    """

    parts: dict[str, Path]
    tasks: dict[str, str]
    languages: tuple[str, ...]


def open_family(folder: Path) -> Family:
    """What ``family.json`` of a folder says; one model alone is a family whose only part is called by its kind.

    Raises:
        FileNotFoundError: a part is not there.
        ValueError: ``family.json`` cannot be understood.
    """
    path = folder / FAMILY
    if not path.is_file():
        kind = open_bundle(folder).kind
        return Family({kind: folder}, {}, ())
    try:
        described = json.loads(path.read_text())
        parts = {name: folder / part for name, part in described["parts"].items()}
        return Family(parts, dict(described["tasks"]), tuple(described.get("languages", ())))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} cannot be understood ({type(error).__name__}: {error})") from error


def pack_family(description: Path, folder: Path) -> dict[str, int]:
    """Put finished runs together into a family, in bf16; returns the bytes of each part's weights.

    ``description`` is a TOML file: ``languages`` are the codes of those that it answers in, ``[parts]`` maps part
    names to what :func:`find_model` takes, ``[tasks]`` task names to parts. Tensors that a part shares with "pali"
    are stored once.

    Raises:
        FileNotFoundError, ValueError: a part is not there, or the description cannot be understood.
    """
    try:
        described = tomllib.loads(description.read_text("utf-8"))
        origins, tasks = dict(described["parts"]), dict(described.get("tasks", {}))
        languages = list(described.get("languages", ()))
        main_origin = origins["pali"]
        if other := [
            name for name in (*origins.values(), *tasks.values(), *languages) if not isinstance(name, str)
        ]:
            raise TypeError(f"{other[0]!r} is no name")
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{description} names no [parts] with a pali ({reason})") from error
    main = _in_bf16(open_bundle(find_model(main_origin)).weights())
    sizes = {}
    for part, origin in origins.items():
        bundle = open_bundle(find_model(origin))
        weights = _in_bf16(bundle.weights())
        facts = bundle.lasting_facts  # it may be of a family itself
        if part != "pali" and bundle.kind == "pali":
            shared = {k for k, v in weights.items() if k in main and torch.equal(v, main[k])}
            weights = {k: v for k, v in weights.items() if k not in shared}
            facts["base"] = "pali"
        write_bundle(
            folder / part,
            weights,
            bundle.config,
            preprocess=bundle.preprocess,
            tokenizer=None if bundle.kind == "mask_vqvae" else bundle.tokenizer,
            facts=facts,
        )
        sizes[part] = sum(weight.nbytes for weight in weights.values())
    family = {"parts": {part: part for part in origins}, "tasks": tasks, "languages": languages}
    (folder / FAMILY).write_text(json.dumps(family, indent=1) + "\n")
    return sizes


def _in_bf16(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.to(torch.bfloat16) for key, value in weights.items()}


class VQVAECodec:
    """The mask VQ-VAE as tasks want it: one mask at a time, on arrays."""

    def __init__(self, model: MaskVQVAE) -> None:
        self.model = model.eval()

    def encode(self, mask: MaskCrop) -> Sequence[int]:
        """``[64, 64]`` in 0..1 -> 16 codes."""
        codes: list[int] = self.model.encode(torch.from_numpy(mask)[None])[0].tolist()
        return codes

    def decode(self, codes: Sequence[int]) -> MaskCrop:
        """16 codes -> ``[64, 64]``, above 0 where the object is."""
        return self.model.decode(torch.tensor([list(codes)]))[0].numpy()


def open_mask_codec(folder: Path) -> VQVAECodec:
    """The mask codec of a model folder.

    Raises:
        ValueError: the folder holds another kind of model.
    """
    model = open_bundle(folder).model()
    if not isinstance(model, MaskVQVAE):
        raise ValueError(f"{folder} is no mask VQ-VAE")
    return VQVAECodec(model)


def transplant(model: nn.Module, part: str, origin: str, tokenizer: Tokenizer | None = None) -> None:
    """Start ``part`` of a model from another one's: ``origin`` is what :func:`find_model` takes, optionally with
    ``#part``. Position embeddings are resampled to this model's grid.

    Args:
        tokenizer: whose ids this model takes; None where it takes none.

    Raises:
        ValueError: no such part, or tensors that are missing there or have another shape; all are listed. Or what
            is taken embeds ids of another vocabulary.
    """
    name, _, there = origin.partition("#")
    bundle = open_bundle(find_model(name))
    there = there or part
    weights = {
        key.removeprefix(there + ".") if there else key: value.float()
        for key, value in bundle.weights().items()
        if not there or key.startswith(there + ".")
    }
    try:
        target = model.get_submodule(part)
    except AttributeError as error:
        parts = ", ".join(child for child, _ in model.named_children())
        raise ValueError(f"model.init names {part!r}, and the parts of the model are {parts}") from error
    positions = {"": "vit.positions", "vit": "positions"}.get(part)
    if positions in weights and not isinstance(bundle.config, MaskVQVAEConfig):
        vit = model.get_submodule("vit")
        assert isinstance(vit, ViT)
        weights[positions] = resample_positions(weights[positions], bundle.config.vision.grid, vit.config.grid)
    if tokenizer is not None and any(_speaks_ids(f"{there}.{key}") for key in weights):
        _same_vocabulary(bundle, tokenizer, origin)
    load_exactly(target, weights, origin)


def _speaks_ids(name: str) -> bool:
    """Whether a tensor has a row for each id of a vocabulary."""
    modules = name.split(".")
    return "embed" in modules or {"text", "head"} <= set(modules)


def _same_vocabulary(bundle: Bundle, tokenizer: Tokenizer, origin: str) -> None:
    if not (bundle.folder / TOKENIZER).is_file():
        return
    theirs = bundle.tokenizer
    ids = range(min(theirs.vocab_size, tokenizer.vocab_size))
    pairs = zip(ids, theirs.pieces(ids), tokenizer.pieces(ids), strict=True)
    if other := [(number, a, b) for number, a, b in pairs if a != b]:
        number, a, b = other[0]
        raise ValueError(
            f"{origin} was trained with another vocabulary ({len(other)} of {len(ids)} ids differ; {number} is "
            f"{a!r} there and {b!r} here): set model.tokenizer to {str(bundle.folder)!r}"
        )


def config_from_json(cls: type[Any], value: Any) -> Any:
    """Nested dataclasses from nested dictionaries; lists become tuples."""
    if isinstance(value, dict) and dataclasses.is_dataclass(cls):
        hints = get_type_hints(cls)
        return cls(**{key: config_from_json(hints[key], v) for key, v in value.items()})
    return tuple(value) if isinstance(value, list) else value
