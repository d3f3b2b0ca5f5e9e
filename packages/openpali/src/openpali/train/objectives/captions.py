"""A loss of the image encoder beside that of pairs: a small decoder writes texts from its patch tokens, as in LocCa
(arXiv 2403.19596, section 3): an image's caption, the name of a box, and the box of a name.

LocCa also learns to write the box before its name; here it is given. The decoder is T5's, of half the encoder's
depth, and no part of the exported model.
Shapes: B images, N patches, D width, L tokens of a sequence, T tokens that have loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from openpali.data.media.native import AnyPreprocess
from openpali.data.pipeline.encode import TEXT_MULTIPLE, Arrays, Batch, PairEncoder, as_shares, pad_ids
from openpali.model.losses import cross_entropy
from openpali.model.t5 import EncoderDecoder, T5Config
from openpali.model.vit import ViTConfig
from openpali.tasks.base import Task
from openpali.tasks.example import Example
from openpali.text.locations import LocationCodec

SEQUENCES = 3  # of each image: its caption, box -> name, name -> box
BOX = LocationCodec(bins=100)  # a word each in most vocabularies; boxes are relative to the whole image
_WHOLE = (1, 1)


def decoder_shape(vision: ViTConfig, vocabulary: int) -> T5Config:
    """A decoder of half the depth of an image encoder, and as wide; what T5 has before it is a norm alone."""
    return T5Config(
        vocabulary,
        d_model=vision.width,
        d_head=vision.width // vision.heads,
        heads=vision.heads,
        d_ff=2 * vision.mlp_dim // 3,  # three matrices instead of two
        encoder_layers=0,
        decoder_layers=max(1, vision.depth // 2),
        bias_per_layer=True,
        tied_head=True,
    )


@dataclass(frozen=True)
class CaptionEncoder:
    """The batches of pairs, with sequences of each image: ``written [3 * B, L]`` int64, padded on the right.

    A sequence is the image's text; the name of one of its objects, behind the object's box; or the box, behind the
    name. The padding token stands between the two, as it does before a sequence. Only what is written has loss:
    ``written_places [T]`` int64 in the flattened sequences, with ``written_weights [T]`` float32, which sum to 1 in
    each sequence. An image without an object, or with one that is too thin for a box, has its text alone.
    """

    pairs: PairEncoder

    def encode(self, example: Example, task: Task, preprocess: AnyPreprocess, rng: np.random.Generator) -> Arrays:
        arrays = self.pairs.encode(example, task, preprocess, rng)
        sequences = [([], self._unpadded(arrays["ids"])), *self._of_object(example, preprocess, rng)]
        prompted = [([*prompt, self.pairs.tokenizer.pad_id] if prompt else [], text) for prompt, text in sequences]
        tokens = np.array([token for prompt, text in prompted for token in (*prompt, *text)], np.int64)
        lengths = np.array([(len(prompt), len(text)) for prompt, text in prompted])
        return {**arrays, "written": tokens, "written_lengths": lengths}

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        batch = self.pairs.collate([{k: v for k, v in s.items() if not k.startswith("written")} for s in samples])
        lengths = np.concatenate([s["written_lengths"] for s in samples])
        rows = np.split(np.concatenate([s["written"] for s in samples]), lengths.sum(1).cumsum()[:-1])
        batch["written"] = pad_ids(rows, self.pairs.tokenizer.pad_id)
        width = batch["written"].shape[1]
        places = [i * width + before + np.arange(own) for i, (before, own) in enumerate(lengths)]
        batch["written_places"] = torch.from_numpy(np.concatenate(places))
        batch["written_weights"] = torch.from_numpy(np.repeat(1 / lengths[:, 1].clip(1), lengths[:, 1])).float()
        return batch

    def _of_object(
        self, example: Example, preprocess: AnyPreprocess, rng: np.random.Generator
    ) -> list[tuple[list[int], list[int]]]:
        """Prompt and text about one object of an image."""
        if example.objects:
            chosen = int(rng.integers(len(example.objects)))
            with suppress(ValueError):  # it is outside the image, or thinner than a hundredth of it
                [box_4] = as_shares([example.objects[chosen].box], example.size, preprocess)
                box = BOX.encode(box_4.tolist(), _WHOLE)
                place = self.pairs.tokenizer.encode(box)
                name = self._unpadded(self.pairs.text(example.objects[chosen].name))
                return [(place, name), (name[:-1], [*place, name[-1]])]
        return [([], [])] * (SEQUENCES - 1)

    def _unpadded(self, ids: NDArray[np.int64]) -> list[int]:
        """A text of the text tower with one EOS."""
        end = int(np.argmax(ids == self.pairs.tokenizer.eos_id)) + 1
        return [int(token) for token in ids[:end]]


def caption_loss(
    decoder: EncoderDecoder, tokens_BND: Tensor, real_BN: Tensor | None, batch: Batch, start: int
) -> Tensor:
    """The cross-entropy of a batch's sequences, each the mean of its tokens, summed.

    Args:
        decoder: of :func:`decoder_shape`.
        tokens_BND: patch tokens.
        real_BN: which of them are no padding; None: all.
        batch: of :class:`CaptionEncoder`.
        start: the token that starts a sequence, the tokenizer's padding token.
    """
    ids = batch["written"]
    inputs = F.pad(ids[:, :-1], (1, 0), value=start)
    hidden = decoder.decode(inputs, decoder.encode(tokens_BND, real_BN), real_BN)
    loss, _ = cross_entropy(
        hidden.flatten(0, 1).index_select(0, batch["written_places"]),
        decoder.head_weight,
        ids.take(batch["written_places"]),
        batch["written_weights"],
    )
    return loss


def example_captions(rows: int, length: int) -> Batch:
    """What :class:`CaptionEncoder` adds to a batch, for plans; all texts have ``length`` tokens."""
    length = -(-(length + 5) // TEXT_MULTIPLE) * TEXT_MULTIPLE  # with a box, and what stands before the text
    written = torch.ones(SEQUENCES * rows, length, dtype=torch.long)
    places = torch.arange(written.numel())
    return {"written": written, "written_places": places, "written_weights": torch.full(places.shape, 1 / length)}
