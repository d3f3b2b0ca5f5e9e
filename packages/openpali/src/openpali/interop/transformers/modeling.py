"""PaLI as a transformers model: the modules of :mod:`openpali.model` behind transformers' interface.

All computation is theirs; this file adapts caches and masks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, EncoderDecoderCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple

from openpali.architectures.pali import PaliModel
from openpali.interop.transformers.configuration import PaliConfig
from openpali.interop.transformers.names import folder_of
from openpali.model.init import init_children
from openpali.model.t5 import DecoderLayer, EncoderDecoder
from openpali.model.vision_language import join
from openpali.model.vit import ViT
from openpali.weights.files import ADAPTER, CONFIG
from openpali.weights.format import STORAGE, open_model

IGNORED = -100  # label of positions without loss, transformers' convention


@dataclass
class PaliEncoderOutput(BaseModelOutput):
    """Encoder outputs; ``attention_mask``: which of them are real, bool ``[B, N + P]``."""

    attention_mask: Tensor | None = None


class PaliForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Images and prompts in, logits or text out.

    Its parameters have the names that they have in :class:`openpali.architectures.pali.PaliModel` and in our files.

    Inputs of ``forward`` and ``generate``:
        input_ids: prompts ``[B, P]``, padded on either side.
        pixel_values: images ``[B, 3, H, W]``, or frames ``[B, F, 3, H, W]``, float in -1..1 or uint8; None:
            text alone. They take no placeholder in the prompt.
        attention_mask: which positions of the prompt are real ``[B, P]``; by default those that are not padding.
        frames: number of real frames of each row ``[B]``; None: all.
        labels: targets ``[B, T]`` with EOS, ``-100`` for positions without loss.
    """

    config_class = PaliConfig
    config: PaliConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012 (transformers reads lists)
    _no_split_modules = ["Block", "EncoderLayer", "DecoderLayer"]  # noqa: RUF012
    _supports_sdpa = True
    accepts_loss_kwargs = True

    def __init__(self, config: PaliConfig) -> None:
        super().__init__(config)
        model = PaliModel(config.core)
        self.vit: ViT = model.vit
        self.project: nn.Module = model.project
        self.text: EncoderDecoder = model.text
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; also loads folders that OpenPaLI wrote, and models by their names in it."""
        path = folder_of(pretrained_model_name_or_path)
        if path is None or not (Path(path) / CONFIG).is_file():
            return super().from_pretrained(path, *args, **kwargs)
        config = kwargs.get("config") or PaliConfig.from_pretrained(path)
        if not (Path(path) / "generation_config.json").is_file():
            kwargs.setdefault("generation_config", config.generation_config())
        stored_so = (config.facts or {}).keys() & set(STORAGE)  # in int8, or with tensors in the folder of its base
        if stored_so or (Path(path) / ADAPTER).is_file():
            kwargs.setdefault("state_dict", dict(open_model(Path(path)).weights()))
            kwargs["config"] = config = copy.deepcopy(config)
            config.facts = {key: value for key, value in (config.facts or {}).items() if key not in STORAGE}
            model = super().from_pretrained(None, *args, **kwargs)
            model.name_or_path = model.config.name_or_path = str(path)  # PEFT names it as the base of an adapter
            return model
        return super().from_pretrained(path, *args, **kwargs)

    # what transformers asks a model for

    def get_input_embeddings(self) -> nn.Module:
        return self.text.embed

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text.embed = cast(nn.Embedding, value)

    def get_output_embeddings(self) -> nn.Module | None:
        return None if self.text.config.tied_head else self.text.head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.text.head = cast(nn.Linear, value)

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        return _Encoder(self) if modality is None else self

    @classmethod
    def is_custom_code(cls) -> bool:
        """False, as for transformers' own models: they also initialise modules without parameters of their own."""
        return False

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
        """The mask unchanged: attention hides the future itself."""
        return attention_mask

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw all weights when asked for those of the whole model, and put back what was loaded."""
        if module is not self:
            return
        tensors = dict(self.named_parameters())
        loaded = {name: p.clone() for name, p in tensors.items() if getattr(p, "_is_hf_initialized", False)}
        if len(loaded) == len(tensors):
            return
        init_children(self)
        for name, value in loaded.items():
            tensors[name].copy_(value)

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Targets shifted right; positions without loss become padding."""
        targets = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, PaliModel.pad)
        return nn.functional.pad(targets, (1, 0), value=PaliModel.first)

    # the two halves

    def encode(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        frames: Tensor | None = None,
        **kwargs: Any,
    ) -> PaliEncoderOutput:
        """Inputs as for ``forward`` -> outputs of the encoder; ``kwargs`` of transformers are ignored."""
        if input_ids is None:
            raise ValueError("input_ids are missing: the prompt, which names the task")
        x = self.text.embed(input_ids)
        mask = input_ids != PaliModel.pad if attention_mask is None else attention_mask.bool()
        if pixel_values is not None:
            images = pixel_values[:, None] if pixel_values.ndim == 4 else pixel_values
            if images.ndim != 5:
                raise ValueError(
                    "pixel_values are [B, 3, H, W] or [B, F, 3, H, W], and were given as "
                    f"{list(pixel_values.shape)}"
                )
            visual = self.project(self.vit(images.flatten(0, 1).permute(0, 2, 3, 1)))
            tokens = None if frames is None else frames * visual.shape[1]
            x, mask = join(visual.unflatten(0, images.shape[:2]).flatten(1, 2), x, mask, tokens, gaps=True)
        return PaliEncoderOutput(self.text.encode(x, mask), attention_mask=mask)

    @can_return_tuple  # type: ignore[untyped-decorator]
    @deprecate_kwarg("past_key_values", "6.0.0", new_name="cache")  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        frames: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        cache: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        if encoder_outputs is None:
            encoder_outputs = self.encode(input_ids, pixel_values, attention_mask, frames)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("give labels or decoder_input_ids: what the decoder starts from")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if labels is not None:
            use_cache = False
        if use_cache and cache is None:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        mask = getattr(encoder_outputs, "attention_mask", None)
        mask = _memory_mask(attention_mask if mask is None else mask, encoder_outputs[0])
        last = self._decode(decoder_input_ids, encoder_outputs[0], mask, cache)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self._logits(last[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], shift_labels=labels, **kwargs)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            cache=cache if use_cache else None,
            encoder_last_hidden_state=encoder_outputs[0],
        )

    def _decode(
        self,
        ids_BL: Tensor,
        memory_BND: Tensor,
        memory_mask: Tensor | None,
        cache: EncoderDecoderCache | None,
    ) -> Tensor:
        """Decoder inputs, after what ``cache`` holds -> hidden states ready for the head."""
        text = self.text
        start = 0 if cache is None else int(cache.get_seq_length())
        end = start + ids_BL.shape[1]
        memory_mask = None if memory_mask is None else memory_mask[:, None, None, :]
        biases = [bias(1 - end, end - 1 - start) for bias in text.decoder_bias]
        layers = range(len(text.decoder))
        extends = [
            None if cache is None else partial(cache.self_attention_cache.update, layer_idx=i) for i in layers
        ]
        memories = self._memories(memory_BND, cache)
        return text.run_decoder(text.embed(ids_BL), biases, memories, memory_mask, extends=extends)

    def _memories(self, memory_BND: Tensor, cache: EncoderDecoderCache | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of the encoder's outputs for each layer; those in a cache are projected once."""
        for i, layer in enumerate(self.text.decoder):
            if cache is not None and cache.is_updated.get(i):
                held: Any = cache.cross_attention_cache.layers[i]
                yield held.keys, held.values
                continue
            keys, values = cast(DecoderLayer, layer).cross.memory(memory_BND)
            if cache is not None:
                keys, values = cache.cross_attention_cache.update(keys, values, i)
                cache.is_updated[i] = True
            yield keys, values

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.get_output_embeddings()  # called as a module: adapters and quantisers replace it
        return self.text.logits(hidden) if head is None else cast(Tensor, head(hidden))


class _Encoder(nn.Module):
    """The encoder alone, as ``generate`` calls it. The model is not a submodule, so nothing is registered twice."""

    main_input_name = "input_ids"

    def __init__(self, model: PaliForConditionalGeneration) -> None:
        super().__init__()
        self.forward = model.encode  # whose signature tells `generate` what to pass


def _memory_mask(mask: Tensor | None, memory_BND: Tensor) -> Tensor | None:
    """Which positions of the memory are real, from a ``mask`` that may cover the prompt alone, as for encoder
    outputs of another source."""
    if mask is None:
        return None
    visual = memory_BND.shape[1] - mask.shape[1]
    if visual == 0:
        return mask.bool()
    real = mask.sum(1, keepdim=True) + visual  # all at the front, see `join`
    return torch.arange(memory_BND.shape[1], device=mask.device) < real
