"""PaliGemma (arXiv 2407.07726, 2412.03555): patch tokens -> one linear projection -> before the prompt -> Gemma.

    visual tokens, BOS, prompt, separator | text, EOS

What stands before the bar sees all of itself, the text is causal. Keys and values of the prefix are the memory from
which text is generated, in the same cache as that of an encoder-decoder. The separator is not in it: being the last
of the prefix, it sees exactly what the first token of a decoder would, and so starts the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.model.cache import Cache, Pair
from openpali.model.gemma import Gemma, GemmaConfig, prefix_masks
from openpali.model.layers import Dense
from openpali.model.pali import Head, Memory, VisionLanguageModel
from openpali.model.vit import ViTConfig


@dataclass(frozen=True)
class PaliGemmaConfig:
    """Shapes of the two halves, and ids of tokens.

    Attributes:
        bos, separator: what the tokenizer has for the beginning of a prompt and its end.
        image_token: what transformers puts into a prompt for each visual token; nothing here reads it.
    """

    vision: ViTConfig
    text: GemmaConfig
    bos: int = 2
    separator: int = 108
    image_token: int = 257_152


class PaliGemmaModel(VisionLanguageModel):
    """Images and prompts in, hidden states or text out; inputs as for :class:`VisionLanguageModel`."""

    first_is_read = True  # the separator

    def __init__(self, config: PaliGemmaConfig) -> None:
        super().__init__(config.vision, Dense(config.vision.width, config.text.d_model))
        self.config = config
        self.first = config.separator
        self.text = Gemma(config.text)

    def encode_tokens(self, visual_BND: Tensor | None, prompt: Tensor, frames: Tensor | None = None) -> Memory:
        """The prefix without its separator, embedded: visual tokens, BOS and prompt."""
        return Memory(*self.assemble(visual_BND, prompt, frames))

    def embed_prompt(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        prompt = F.pad(prompt, (1, 0), value=self.config.bos)
        return self.text.embed(prompt), prompt != self.pad

    def decode(self, targets: Tensor, memory: Memory) -> Tensor:
        x_BND, real_BN = memory
        assert real_BN is not None
        n, text = x_BND.shape[1], self.shift(targets)
        end_B = real_BN.sum(1) + 1  # of the prefix: the separator's position
        positions = torch.cat([_count(real_BN), _following(end_B, 0, text.shape[1])], dim=1)
        masks = prefix_masks(positions, positions, end_B, self.config.text.window)
        hidden: Tensor = self.text(torch.cat([x_BND, self.text.embed(text)], dim=1), positions, masks)
        return hidden[:, n:]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.text.logits(hidden)

    @property
    def head(self) -> Head:
        return Head(self.text.embed.matrix, self.config.text.logit_cap)

    def start(self, memory: Memory, max_length: int) -> Cache:
        x_BND, real_BN = memory
        assert real_BN is not None
        n, end_B = x_BND.shape[1], real_BN.sum(1) + 1
        separator = torch.full_like(end_B, self.first)[:, None]
        positions = torch.cat([_count(real_BN), end_B[:, None]], dim=1)
        masks = prefix_masks(positions[:, -1:], positions, end_B, None)  # the same for all of the prefix
        prefixes: list[Pair] = []

        def keep(keys: Tensor, values: Tensor) -> Pair:
            prefixes.append((keys[:, :, :n], values[:, :, :n]))
            return keys, values

        self.text(torch.cat([x_BND, self.text.embed(separator)], dim=1), positions, masks, repeat(keep))
        return Cache(prefixes, real_BN, max_length)

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        places = cache.reserve(ids.shape[1])
        real_BN = cache.memory.of_rows(cache.memory.real())
        end_B = real_BN.sum(1) + 1
        queries = end_B[:, None] + places.positions(ids.device)
        keys = torch.cat([_count(real_BN), _following(end_B, 0, places.end)], dim=1)
        masks = prefix_masks(queries, keys, end_B, self.config.text.window)
        return self.logits(self.text(self.text.embed(ids), queries, masks, cache.extends(places, merged=True)))


def _count(real_BN: Tensor) -> Tensor:
    """The position of each real one, from 1; 0 is padding."""
    return real_BN.cumsum(1) * real_BN


def _following(end_B: Tensor, first: int, last: int) -> Tensor:
    """Positions ``first..last - 1`` from the end of each prefix, ``[B, last - first]``; 0 is the separator's."""
    return end_B[:, None] + torch.arange(first, last, device=end_B.device)
