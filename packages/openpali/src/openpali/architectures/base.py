"""What an architecture declares: one kind of model, in one file, for every part of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from openpali.architectures.facts import NOTHING, Facts
from openpali.data.media.native import AnyPreprocess
from openpali.model.vit import check_pool
from openpali.tasks.dialects import PALI3, Dialect
from openpali.text.tokenizer import Tokenizer

C = TypeVar("C")
Blocks = Mapping[type[nn.Module], tuple[str, ...]]


@dataclass(frozen=True)
class Stored(Generic[C]):
    """A model with what lies beside it in a folder."""

    config: C  # its shape
    weights: Mapping[str, Tensor]  # by our names
    preprocess: AnyPreprocess | None = None  # how images are resized; None for a model without images
    tokenizer: Tokenizer | None = None  # None for a model without text
    facts: Facts = NOTHING
    about: Sequence[str] = ()  # lines for people on where it came from


@dataclass(frozen=True)
class Exported:
    """A checkpoint of transformers: tensors, JSON files by name, and the name that its SentencePiece model gets."""

    weights: Mapping[str, Tensor]
    files: Mapping[str, Mapping[str, Any]]
    tokenizer: str = ""


class Architecture(Generic[C]):
    """A kind of model. Subclass it, and name the class in ``architectures/registry.py`` or in an extension.

    A model with images has a ``vit``, and its configuration a ``vision``; one that takes prompts is a
    :class:`openpali.model.vision_language.VisionLanguageModel`, and the objective "sequence" trains it.

    Attributes:
        kind: name in model folders.
        config: dataclass of its shapes, written to ``config.json``.
        network: takes the shapes; a subclass that needs more overrides :meth:`build`.
        answers: whether it takes prompts.
        labelled: whether it names classes, the ``labels`` of its configuration.
        quantizes: whether ``openpali quantize`` narrows its weights in a bundle.
        native: whether it takes images in their own proportions (:class:`openpali.model.patches.Patches`).
        presets: shapes by name, for recipes; those of models that take prompts also for ``openpali sizes``.
        sides: of square images in pixels for which ``openpali sizes`` counts FLOPs.
        blocks: the classes of layers that are checkpointed, compiled and sharded one by one -> those of their
            parts that the model calls on their own.
        dialect: how it is asked and answers, unless its folder says otherwise.
        model_types: of transformers, which :meth:`read` takes.
        engine_language: ``module:class`` of its :class:`openpali.infer.engines.languages.Language`, for engines
            that compile it; empty: none can.
        model_type: which ``config.json`` names, for classes of ours that transformers opens; empty: none.
    """

    kind: ClassVar[str]
    config: type[C]
    network: ClassVar[type[nn.Module]]
    answers: ClassVar[bool] = False
    labelled: ClassVar[bool] = False
    quantizes: ClassVar[bool] = True
    native: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Any]] = {}
    sides: ClassVar[Sequence[int]] = (224, 448)
    blocks: ClassVar[Blocks] = {}
    dialect: ClassVar[Dialect] = PALI3
    model_types: ClassVar[Sequence[str]] = ()
    model_type: ClassVar[str] = ""
    engine_language: ClassVar[str] = ""

    def build(self, config: C) -> nn.Module:
        """A model without values."""
        return self.network(config)

    # ---- training

    def vocabulary(self, config: C) -> int:
        """Rows of the embedding of tokens; 0 for a model without."""
        text = getattr(config, "text", None)
        return 0 if text is None else int(text.vocab_size)

    def for_training(self, config: C, vocabulary: int, dropout: float) -> C:
        """A preset's shape, or a start model's, to train with a tokenizer of so many ids, and this dropout."""
        if dropout:
            raise ValueError(f"model.dropout = {dropout}, but a {self.kind} has no dropout: remove it")
        if vocabulary > (rows := self.vocabulary(config)):
            raise ValueError(
                f"model.tokenizer has {vocabulary} ids, more than the {rows} rows of the embedding of this "
                f"{self.kind}: name a smaller one, or remove it to use that of the start model in model.init"
            )
        return config

    # ---- sizes

    def pool(self, config: C) -> int:
        """Side of the square of patches that becomes one visual token."""
        return 1

    def visual_tokens(self, config: Any, size: tuple[int, int] | None = None) -> int:
        """Visual tokens of one image of ``size`` (height, width in pixels; None: the model's own)."""
        height, width = size or config.vision.image_size
        patch, pool = config.vision.patch_size, self.pool(config)
        if min(height, width) < patch or height % patch or width % patch:
            nearest = " x ".join(str(max(1, round(side / patch)) * patch) for side in (height, width))
            raise ValueError(
                f"{height} x {width} pixels do not divide into patches of {patch}: use multiples of it, as "
                f"{nearest}"
            )
        rows, columns = height // patch, width // patch
        check_pool((rows, columns), pool, patch)
        return int(rows * columns // pool**2)

    # ---- public checkpoints

    def reads(self, source: Path, described: Mapping[str, Any]) -> bool:
        """Whether :meth:`read` takes a checkpoint; ``described`` is its ``config.json``, empty if it has none."""
        return described.get("model_type") in self.model_types

    def read(self, source: Path) -> Stored[C]:
        """A public checkpoint, a folder of transformers or a file of another library, as a model of ours."""
        raise ValueError(f"no checkpoint of another library can be read as a {self.kind}")

    def write(self, model: Stored[C]) -> dict[str, Exported]:
        """The opposite of :meth:`read`: subfolder -> what to write there ("" is the folder itself). Warns
        (:class:`openpali.architectures.preprocessor.Inexpressible`) of what transformers does otherwise.
        """
        raise ValueError(f"a {self.kind} cannot be exported to transformers, which has no class for it")


def vision_of(config: Any) -> Any:
    """The :class:`openpali.model.vit.ViTConfig` of a configuration; None for a model without images."""
    return getattr(config, "vision", None)
