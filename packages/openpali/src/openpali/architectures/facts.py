"""What a model folder records about its model beside shapes and preprocessing: ``facts`` of ``config.json``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from openpali.data.pipeline.encode import Padding, TextNormalisation
from openpali.metrics.calibration import Calibration
from openpali.tasks.dialects import DEFAULT

Json = dict[str, Any]


class Facts(BaseModel):
    """The facts of a model. Defaults are not written, and facts of newer versions are kept.

    Attributes:
        run, samples, recipe: of the training run; the recipe as it was resolved.
        max_prompt: longest prompt in tokens.
        dialect: name of the format of prompts and answers.
        tasks: options of each task that the model was trained on.
        calibration: of the confidence, by task (:mod:`openpali.eval.calibrate`).
        text_normalisation, padding: how texts of a SigLIP are normalised and padded, see
            :class:`openpali.data.pipeline.encode.PairEncoder`.
        parts, vocabulary, positions: where converted weights came from, and what was added or resampled.
        base: name of a sibling folder that holds the tensors that are missing here.
        int8: weights are stored in int8 (:mod:`openpali.model.int8`).
        int4: those of the language model but its head are in int4 (:mod:`openpali.model.int4`), in groups of so
            many inputs.
        base_fingerprint: of the tensors of an adapter's base, as they were in training.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    run: str = ""
    samples: int | None = None
    max_prompt: int | None = None
    dialect: str = DEFAULT
    tasks: dict[str, Json] = {}
    recipe: Json = {}
    calibration: dict[str, Calibration] = {}
    parts: dict[str, str | None] = {}
    text_normalisation: TextNormalisation = "lower"
    padding: Padding = "eos"
    vocabulary: dict[str, int] = {}
    positions: Json = {}
    base: str = ""
    int8: bool = False
    int4: int = 0
    base_fingerprint: str = ""

    def json_object(self) -> Json:
        """As in ``config.json``."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def but(self, **changes: Any) -> Facts:
        """These facts, some of them changed."""
        return Facts(**{**self.model_dump(exclude_unset=True), **changes})

    def without(self, *names: str) -> Facts:
        """The facts of all other names."""
        return Facts(**self.model_dump(exclude_unset=True, exclude=set(names)))

    @property
    def start(self) -> str:
        """The name of the model that the run started from; empty if there is none."""
        return str(self._model.get("init", {}).get("", ""))

    @property
    def masks(self) -> str:
        """The name of the mask VQ-VAE that the run used; empty if there is none."""
        return str(self._model.get("masks", ""))

    @property
    def max_target(self) -> int | None:
        """The longest target of the run in tokens."""
        return self.recipe.get("max_target")

    @property
    def normalisation(self) -> TextNormalisation:
        """How texts of a SigLIP are normalised, converted or trained."""
        return "as is" if self.recipe.get("keep_case") else self.text_normalisation

    @property
    def softmax(self) -> bool:
        """Whether a SigLIP was trained to compare texts by softmax, not each pair by the sigmoid loss."""
        return bool(self.recipe.get("softmax"))

    @property
    def _model(self) -> Json:
        return dict(self.recipe.get("model") or {})


NOTHING = Facts()
