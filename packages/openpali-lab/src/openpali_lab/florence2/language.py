"""Florence-2's language model for engines that compile graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, cast

import torch
from torch import Tensor, nn

from openpali.infer.engines.languages import Language
from openpali.model.cache import Extend, Pair
from openpali.model.int8 import Int8Linear
from openpali_lab.florence2.architecture import Florence2Model


class BartLanguage(Language):
    """Florence-2's."""

    def __init__(self, model: Florence2Model) -> None:
        super().__init__(model)
        self.before = (model.end,)
        embed = self.text.embed
        count, width = embed.weight.shape
        # the shared matrix as a layer, whose weights are compiled as they are stored
        self.head: nn.Module = nn.Linear(width, count, bias=False, device="meta")
        if embed.scale is None:
            self.head.weight = embed.weight
        else:
            self.head = Int8Linear(width, count, bias=False)
            self.head.weight, self.head.scale = embed.weight, embed.scale

    def _set_biases(self) -> None:
        self.encoder_biases, self.decoder_biases, self.bias_heads = 0, 1, 1

    @property
    def crosses(self) -> Iterable[Any]:
        return (layer.cross for layer in self.text.decoder.layers)

    def enter_encoder(self, x_BND: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.text.encoder.enter(x_BND, self.text.encoder.places(x_BND.shape[1])), []

    def run_encoder(self, x_BND: Tensor, biases: Sequence[Tensor], mask: Tensor) -> Tensor:
        return cast(Tensor, self.text.run_encoder(x_BND, mask))

    def enter_decoder(self, ids_B1: Tensor, lengths_B: Tensor) -> Tensor:
        return cast(Tensor, self.text.decoder.enter(self.text.embed(ids_B1), lengths_B[:, None]))

    def relative(self, length: int) -> list[Tensor]:
        return [torch.zeros(1, length + 1)]

    def run_decoder(
        self, x_B1D: Tensor, biases: Sequence[Tensor], memories: Sequence[Pair], mask: Tensor, extend: Extend
    ) -> Tensor:
        return cast(Tensor, self.text.run_decoder(x_B1D, biases[0], memories, mask, repeat(extend)))

    def logits(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.head(hidden))
