"""PaLI as a transformers model: the modules of :mod:`openpali.model` behind transformers' interface.

All computation is theirs; this file adapts caches, masks, checkpointing, hidden states and attention weights.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, EncoderDecoderCache, GenerationMixin, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling, Seq2SeqLMOutput
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple

from openpali.architectures.pali import PaliModel
from openpali.interop.transformers.configuration import PaliConfig
from openpali.interop.transformers.names import folder_of
from openpali.model.attention import PLAIN, Scoring, auto, eager, recorded_weights, set_attention
from openpali.model.init import init_children
from openpali.model.t5 import CrossAttention, DecoderLayer, EncoderDecoder, EncoderLayer
from openpali.model.vision_language import join
from openpali.model.vit import Block, ViT
from openpali.weights.files import ADAPTER
from openpali.weights.format import STORAGE, open_model

IGNORED = -100  # label of positions without loss, transformers' convention


@dataclass
class PaliEncoderOutput(BaseModelOutput):
    """Encoder outputs; ``attention_mask``: which of them are real, bool ``[B, N + P]``."""

    attention_mask: Tensor | None = None


@dataclass
class _ConfiguredAttention:
    """The attention backend that ``attn_implementation`` names; it may change between calls."""

    config: PaliConfig

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, how: Scoring = PLAIN) -> Tensor:
        backend = eager if self.config._attn_implementation == "eager" else auto
        return backend(q, k, v, how)


class _Layer(GradientCheckpointingLayer):
    """One of our layers, with gradient checkpointing and attention weights as in transformers.

    ``weights``: a list for the weights of each attention call, in order; None: not recorded.
    """

    def forward(self, *inputs: Any, weights: list[Tensor] | None = None, **kwargs: Any) -> Tensor:
        if weights is None:
            return cast(Tensor, super().forward(*inputs, **kwargs))
        with recorded_weights(self) as seen:
            x = cast(Tensor, super().forward(*inputs, **kwargs))
        weights += seen
        return x


class PaliVisionLayer(_Layer, Block):
    """A block of the image encoder."""


class PaliEncoderLayer(_Layer, EncoderLayer):
    """A layer of the encoder."""


@dataclass
class _LayerCache:
    """One layer of transformers' cache as our :data:`openpali.model.cache.Extend`; ``length`` of it are filled."""

    cache: EncoderDecoderCache
    layer: int
    length: int

    def __call__(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.cache.self_attention_cache.update(keys, values, self.layer)
        return keys[:, :, : self.length], values[:, :, : self.length]  # a static cache returns unfilled slots, too

    def memory(self, cross: CrossAttention, memory_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's outputs, projected once."""
        if self.cache.is_updated.get(self.layer):
            held: Any = self.cache.cross_attention_cache.layers[self.layer]
            return held.keys, held.values
        keys, values = self.cache.cross_attention_cache.update(*cross.memory(memory_BND), self.layer)
        self.cache.is_updated[self.layer] = True
        return keys, values


class _CachedDecoderLayer(DecoderLayer):
    """A decoder layer that takes the encoder's outputs, and projects them unless its cache holds them already."""

    def forward(  # type: ignore[override]
        self,
        x_BLD: Tensor,
        bias: Tensor,
        memory_BND: Tensor,
        memory_mask: Tensor | None,
        mask: Tensor | None = None,
        extend: _LayerCache | None = None,
    ) -> Tensor:
        memory = self.cross.memory(memory_BND) if extend is None else extend.memory(self.cross, memory_BND)
        return super().forward(x_BLD, bias, memory, memory_mask, mask, extend)


class PaliDecoderLayer(_Layer, _CachedDecoderLayer):
    """A layer of the decoder."""


@dataclass
class _Record:
    """Calls the layers of a stack; keeps their inputs and attention weights if asked to."""

    with_states: bool
    with_attentions: bool
    states: list[Tensor] = field(default_factory=list)
    attentions: list[list[Tensor]] = field(default_factory=list)  # per layer, in the order of its attention calls

    def __call__(self, layer: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.with_states:
            self.states.append(x)
        weights: list[Tensor] | None = [] if self.with_attentions else None
        x = layer(x, *args, weights=weights, **kwargs)
        if weights is not None:
            self.attentions.append(weights)
        return x

    def hidden_states(self, last: Tensor) -> tuple[Tensor, ...] | None:
        return (*self.states, last) if self.with_states else None

    def weights(self, calls: slice) -> tuple[Tensor, ...] | None:
        """Attention weights per layer, blocks of queries concatenated; ``calls``: which of a layer's calls."""
        if not self.with_attentions:
            return None
        layers = [layer[calls] for layer in self.attentions]
        return tuple(torch.cat(parts, dim=2) if len(parts) > 1 else parts[0] for parts in layers)


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
    supports_gradient_checkpointing = True
    _no_split_modules = ["PaliVisionLayer", "PaliEncoderLayer", "PaliDecoderLayer"]  # noqa: RUF012
    _supports_sdpa = True
    accepts_loss_kwargs = True

    def __init__(self, config: PaliConfig) -> None:
        super().__init__(config)
        model = PaliModel(config.core)
        self.vit: ViT = model.vit
        self.project: nn.Module = model.project
        self.text: EncoderDecoder = model.text
        for stack, layer_class in (
            (self.vit.encoder.blocks, PaliVisionLayer),
            (self.text.encoder, PaliEncoderLayer),
            (self.text.decoder, PaliDecoderLayer),
        ):
            for layer in stack:
                layer.__class__ = layer_class  # adds transformers' behaviour, keeps the weights
        set_attention(self, _ConfiguredAttention(config))
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; also loads folders that OpenPaLI wrote, and models by their names in it."""
        path = folder_of(pretrained_model_name_or_path)
        if path is None or not (Path(path) / "config.json").is_file():
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
        start = self.config.decoder_start_token_id
        assert start is not None
        return nn.functional.pad(labels[:, :-1], (1, 0), value=start).masked_fill_(
            nn.functional.pad(labels[:, :-1] == IGNORED, (1, 0)), PaliModel.pad
        )

    # the two halves

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_image_features(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """Images ``[B, 3, H, W]``, or frames ``[B, F, 3, H, W]``, through the image encoder.

        Returns:
            ``pooler_output``: visual tokens as the encoder sees them, ``[B, F * N, D]``; before the projection, of
            each image, ``last_hidden_state`` ``[B * F, N, width]``.
        """
        pixels = pixel_values[:, None] if pixel_values.ndim == 4 else pixel_values
        if pixels.ndim != 5:
            raise ValueError(
                f"pixel_values are [B, 3, H, W] or [B, F, 3, H, W], and were given as {list(pixel_values.shape)}"
            )
        record = self._record(output_attentions, output_hidden_states)
        tokens = self.vit(pixels.flatten(0, 1).permute(0, 2, 3, 1), record)
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens,
            pooler_output=self.project(tokens).unflatten(0, pixels.shape[:2]).flatten(1, 2),
            hidden_states=record.hidden_states(tokens),
            attentions=record.weights(slice(None)),
        )

    def encode(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        frames: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> PaliEncoderOutput:
        """Inputs as for ``forward`` -> outputs of the encoder; ``return_dict`` is ignored."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds: the prompt, which names the task")
        x_BPD = self.text.embed(input_ids) if inputs_embeds is None else inputs_embeds
        if attention_mask is not None:
            mask = attention_mask.bool()
        elif input_ids is not None:
            mask = input_ids != PaliModel.pad
        else:
            mask = x_BPD.new_ones(x_BPD.shape[:2], dtype=torch.bool)
        record = self._record(output_attentions, output_hidden_states)
        if pixel_values is not None:
            visual = self.get_image_features(pixel_values, False, False, return_dict=True).pooler_output
            tokens = None
            if frames is not None:
                images = 1 if pixel_values.ndim == 4 else pixel_values.shape[1]
                tokens = frames * (visual.shape[1] // images)
            x, mask = join(visual, x_BPD, mask, tokens, gaps=True)
        else:
            x = x_BPD
        x = self.text.encode(x, mask, record)
        return PaliEncoderOutput(
            last_hidden_state=x,
            hidden_states=record.hidden_states(x),
            attentions=record.weights(slice(None)),
            attention_mask=mask,
        )

    @can_return_tuple  # type: ignore[untyped-decorator]
    @deprecate_kwarg("past_key_values", "6.0.0", new_name="cache")  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        frames: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,  # BaseModelOutput, or its fields in order
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        if encoder_outputs is None:
            inputs = input_ids, pixel_values, attention_mask, frames, inputs_embeds
            encoder_outputs = self.encode(*inputs, output_attentions, output_hidden_states)
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if (decoder_input_ids is None) == (decoder_inputs_embeds is None):
            raise ValueError(
                "give labels, decoder_input_ids or decoder_inputs_embeds: what the decoder starts from"
            )
        x = self.text.embed(decoder_input_ids) if decoder_inputs_embeds is None else decoder_inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if labels is not None or (self.is_activation_checkpointing and self.training):
            use_cache = False
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config.get_text_config(decoder=True))
        if cache is not None and not isinstance(cache, EncoderDecoderCache):
            cache = EncoderDecoderCache(cache, DynamicCache(config=self.config.get_text_config(decoder=True)))

        record = self._record(output_attentions, output_hidden_states)
        mask = getattr(encoder_outputs, "attention_mask", None)
        mask = _memory_mask(attention_mask if mask is None else mask, encoder_outputs[0], cache)
        last = self._decode(x, encoder_outputs[0], mask, cache, decoder_attention_mask, record)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self._logits(last[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], shift_labels=labels, **kwargs)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            cache=cache if use_cache else None,
            decoder_hidden_states=record.hidden_states(last),
            decoder_attentions=record.weights(slice(None, -1)),
            cross_attentions=record.weights(slice(-1, None)),
            encoder_last_hidden_state=encoder_outputs[0],
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )

    def _decode(
        self,
        x_BLD: Tensor,
        memory_BND: Tensor,
        memory_mask: Tensor | None,
        cache: EncoderDecoderCache | None,
        mask_BN: Tensor | None,
        record: _Record,
    ) -> Tensor:
        """Embedded decoder inputs, after what ``cache`` holds -> hidden states ready for the head."""
        text = self.text
        start = 0 if cache is None else int(cache.get_seq_length())
        end = start + x_BLD.shape[1]
        mask = None if mask_BN is None else mask_BN[:, None, None, :end].bool()
        memory_mask = None if memory_mask is None else memory_mask[:, None, None, :]
        biases = [bias(1 - end, end - 1 - start) for bias in text.decoder_bias]
        layers = len(text.decoder)
        caches = [None] if cache is None else [_LayerCache(cache, i, end) for i in range(layers)]
        return text.run_decoder(x_BLD, biases, [memory_BND] * layers, memory_mask, mask, caches, record)

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.get_output_embeddings()  # called as a module: adapters and quantisers replace it
        return self.text.logits(hidden) if head is None else cast(Tensor, head(hidden))

    def _record(self, attentions: bool | None, states: bool | None) -> _Record:
        config = self.config
        return _Record(
            with_states=bool(config.output_hidden_states if states is None else states),
            with_attentions=bool(config.output_attentions if attentions is None else attentions),
        )


class _Encoder(nn.Module):
    """The encoder alone, as ``generate`` calls it. The model is not a submodule, so nothing is registered twice."""

    main_input_name = "input_ids"

    def __init__(self, model: PaliForConditionalGeneration) -> None:
        super().__init__()
        self.forward = model.encode  # whose signature tells `generate` what to pass


def _memory_mask(mask: Tensor | None, memory_BND: Tensor, cache: EncoderDecoderCache | None) -> Tensor | None:
    """Which memory positions are real, from a ``mask`` that may cover the prompt alone.

    It does for encoder outputs of another source, and if a cache goes on without the images that it has seen.
    """
    if mask is None:
        return None
    length = memory_BND.shape[1]
    if cache is not None and cache.is_updated.get(0):
        length = cache.cross_attention_cache.get_seq_length()
    visual = length - mask.shape[1]
    if visual == 0:
        return mask.bool()
    real = mask.sum(1, keepdim=True) + visual  # all at the front, see `join`
    return torch.arange(length, device=mask.device) < real
