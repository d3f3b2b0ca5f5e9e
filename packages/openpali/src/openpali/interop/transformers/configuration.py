"""``config.json`` of a PaLI folder as transformers reads it: the same file, the same keys."""

from __future__ import annotations

import dataclasses
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig

from openpali.architectures.facts import Facts
from openpali.architectures.pali import PRESETS, PaliArchitecture, PaliModel, PaliModelConfig
from openpali.weights.format import config_from_json
from openpali.weights.write import FORMAT


def _of_text(name: str) -> Any:
    """A number of the language model's shapes."""

    def read(config: PaliConfig) -> int:
        return int(config._text[name])

    def write(config: PaliConfig, value: int) -> None:
        config._text[name] = value

    return property(read, write)


class PaliConfig(PreTrainedConfig):
    """Shapes of both halves, as :func:`openpali.weights.format.write_model` writes them.

    Args:
        config: ``{"vision": {...}, "text": {...}}``, fields of :class:`openpali.model.vit.ViTConfig` and
            :class:`openpali.model.t5.T5Config`; the nano preset by default.
        preprocess: how images are brought to its size, fields of :class:`openpali.data.media.images.Preprocess`.
        facts: what else is known of the model: recipe, samples seen, task options. Its calibration is left out:
            weights that are saved here may have been trained since it was fitted.
    """

    model_type = PaliArchitecture.model_type

    format: int = FORMAT
    kind: str = "pali"
    config: dict[str, Any] | None = None
    preprocess: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    is_encoder_decoder: bool = True
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    pad_token_id: int | None = PaliModel.pad
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | None = PaliModel.pad

    def __post_init__(self, **kwargs: Any) -> None:
        if self.kind != "pali":
            raise ValueError(f"the folder holds a {self.kind}, and transformers can only be given a pali")
        # a copy that no other configuration shares, in JSON's types
        self.config = _plain(self.config or dataclasses.asdict(PRESETS["nano"]))
        self.facts = {key: value for key, value in (self.facts or {}).items() if key != "calibration"}
        if self.core.vision.tokens:
            raise ValueError(
                "transformers' PaLI takes images of one size, and those of this model keep their proportions: open "
                "it with openpali.Pali"
            )
        if self.preprocess is None:
            height, width = self.core.vision.image_size
            self.preprocess = {"height": height, "width": width}
        super().__post_init__(**kwargs)

    @classmethod
    def from_core(cls, config: PaliModelConfig, **kwargs: Any) -> PaliConfig:
        """The configuration of these shapes."""
        return cls(config=dataclasses.asdict(config), **kwargs)

    @property
    def core(self) -> PaliModelConfig:
        """The shapes as our own modules take them."""
        shapes: PaliModelConfig = config_from_json(PaliModelConfig, self.config)
        return shapes

    def generation_config(self) -> GenerationConfig:
        """How to generate by default: greedy, up to the length of targets that the model was trained on."""
        longest = Facts.model_validate(self.facts).max_target
        config = GenerationConfig.from_model_config(self)
        if longest is not None:
            config.max_new_tokens = longest
        return config

    @property
    def _text(self) -> dict[str, Any]:
        assert self.config is not None
        text: dict[str, Any] = self.config["text"]
        return text

    # what transformers asks any model for

    vocab_size = _of_text("vocab_size")
    hidden_size = _of_text("d_model")
    num_attention_heads = _of_text("heads")
    head_dim = _of_text("d_head")
    num_hidden_layers = _of_text("decoder_layers")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
