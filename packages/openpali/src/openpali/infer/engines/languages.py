"""Encoder-decoders in one form for engines that compile graphs: what graphs compute, and what torch does before.

Shapes: B rows, N encoder tokens, L text tokens so far, D width, h heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pkgutil import resolve_name
from typing import Any, cast

from torch import Tensor, nn

from openpali.architectures.registry import architecture_of
from openpali.model.attention import unfold_bias
from openpali.model.cache import Extend, Pair
from openpali.model.vision_language import VisionLanguageModel


class Language(nn.Module):
    """The T5 of a PaLI; that of another architecture is derived from it.

    ``run_encoder``, ``run_decoder`` and ``logits`` are traced. Masks and biases are added to scores, and broadcast
    to them.

    Attributes:
        encoder_biases, decoder_biases: how many there are.
        bias_heads: heads of a bias of the decoder: all, or 1 for all alike.
    """

    encoder_biases: int
    decoder_biases: int
    bias_heads: int

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__()
        self.model = model
        self.text: Any = model.text
        self._set_biases()

    def _set_biases(self) -> None:
        self.encoder_biases, self.decoder_biases = len(self.text.encoder_bias), len(self.text.decoder_bias)
        self.bias_heads = self.text.config.heads

    @property
    def crosses(self) -> Iterable[Any]:
        """Cross-attention of each layer of the decoder."""
        return (layer.cross for layer in self.text.decoder)

    def enter_encoder(self, x_BND: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embedded inputs as the first layer takes them, and biases ``[1, h, N, N]``."""
        n = x_BND.shape[1]
        return x_BND, [unfold_bias(bias(1 - n, n - 1), n)[None] for bias in self.text.encoder_bias]

    def run_encoder(self, x_BND: Tensor, biases: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The layers: outputs ``[B, N, D]``."""
        return cast(Tensor, self.text.run_encoder(x_BND, [bias + mask for bias in biases], None))

    def enter_decoder(self, ids_B1: Tensor, lengths_B: Tensor) -> Tensor:
        """Embed the next token of each row, at position ``lengths_B``: inputs of the first layer, ``[B, 1, D]``."""
        return cast(Tensor, self.text.embed(ids_B1))

    def relative(self, length: int) -> list[Tensor]:
        """Biases of a position, behind those of the ``length`` before it: float32 ``[bias_heads, length + 1]``."""
        return [bias(-length, 0).float() for bias in self.text.decoder_bias]

    def run_decoder(
        self, x_B1D: Tensor, biases: Sequence[Tensor], memories: Sequence[Pair], mask: Tensor, extend: Extend
    ) -> Tensor:
        """The layers: hidden states ``[B, 1, D]``."""
        return cast(Tensor, self.text.run_decoder(x_B1D, biases, memories, mask, extends=[extend]))

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` -> ``[..., V]``."""
        return cast(Tensor, self.text.logits(hidden))


def language_of(model: VisionLanguageModel) -> Language:
    """The language model of a model, for engines that compile it, as its architecture says."""
    return cast(Language, resolve_name(architecture_of(model.config).engine_language)(model))
