"""What models that read images and write text share: their interface, images before a prompt, their memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.cache import Cache
from openpali.model.patches import Images, real_patches
from openpali.model.vit import ViT

DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class Memory(NamedTuple):
    """What a text is generated from, as encoder outputs ``[B, N, D]``, and which of it is real, from the first
    position on (bool ``[B, N]``; None: all)."""

    outputs: Tensor
    mask: Tensor | None


class VisualTokens(NamedTuple):
    """Images of rows, F frames each, as a model sees them."""

    patches: Tensor  # what the ViT makes of each image, [B * F, N, D]
    # visual tokens as the language model takes them, [B, F * N', D']; the real ones of a row stand first
    tokens: Tensor
    counts: Tensor | None  # how many of each row's are real, int64 [B]; None: all


class Head(NamedTuple):
    """How hidden states become logits: ``hidden @ matrix.T``, bounded by ``cap * tanh(. / cap)`` if there is a cap.

    Training takes the loss from this, without all logits in memory; :meth:`VisionLanguageModel.logits` is the same.
    """

    matrix: Tensor  # [V, D]
    cap: float | None = None


class VisionLanguageModel(nn.Module, ABC):
    """Images and prompts in, hidden states or text out: a ViT, ``project``, and ``text``, the language model.

    Inputs throughout:
        images: ``[B, F, H, W, 3]`` uint8 or float in -1..1; F frames, each encoded alone and their tokens
            concatenated; None: text alone. Or :class:`~openpali.model.patches.Patches` ``[B, F, N, P]`` of images
            in their own proportions; the architectures that take those say so (``Architecture.native``).
        frames: number of real frames per row, ``[B]``; None: all.
        counts: number of real visual tokens per row, ``[B]``; None: all (:class:`VisualTokens`).
        prompt: ids ``[B, P]``; padded on the right with ``pad``.

    Attributes:
        first: the token that starts a text; it is not part of the text.
        first_is_read: whether ``first`` is the end of the prompt, and so is read, but not in the memory.
        image_place: the token of a prompt in whose place an image goes; None: images stand before the prompt.
    """

    pad = 0
    first: int
    first_is_read: bool = False
    image_place: int | None = None

    def __init__(self, vision: Any, project: nn.Module) -> None:
        super().__init__()
        self.vit = ViT(vision)
        self.project = project

    def check_pad(self, pad: int) -> None:
        """Check that a tokenizer, whose pad token is ``pad``, pads with what this model takes for padding."""
        if pad != self.pad:
            raise ValueError(
                f"the tokenizer pads with id {pad}, and {type(self).__name__} takes id {self.pad} for padding: use "
                "the tokenizer that belongs to the model"
            )

    def forward(
        self, images: Images | None, prompt: Tensor, targets: Tensor, frames: Tensor | None = None
    ) -> Tensor:
        """Hidden states ``[B, T, D]`` that predict ``targets`` ``[B, T]`` (not yet shifted right)."""
        return self.decode(targets, self.encode(images, prompt, frames))

    def encode(self, images: Images | None, prompt: Tensor, frames: Tensor | None = None) -> Memory:
        """What a text is generated from."""
        if images is None:
            return self.encode_tokens(None, prompt)
        _, tokens, counts = self.encode_images(images, frames)
        return self.encode_tokens(tokens, prompt, counts)

    def encode_tokens(self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None) -> Memory:
        """:meth:`encode` for images that :meth:`encode_images` has embedded: visual tokens and prompt, through the
        encoder of ``text``."""
        x, real = self.assemble(visual_BND, prompt, counts)
        return Memory(cast(Any, self.text).encode(x, real), real)

    @abstractmethod
    def decode(self, targets: Tensor, memory: Memory) -> Tensor:
        """As :meth:`forward`, from a memory."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``[..., D]`` -> ``[..., V]``."""
        return cast(Tensor, cast(Any, self.text).logits(hidden))

    @property
    def precision(self) -> str:
        """What it computes in: "fp32", "bf16" or "fp16"."""
        return DTYPES[next(p.dtype for p in self.parameters() if p.is_floating_point())]

    @property
    @abstractmethod
    def head(self) -> Head:
        """What :meth:`logits` computes with."""

    @abstractmethod
    def start(self, memory: Memory, max_length: int) -> Cache:
        """A cache to generate up to ``max_length`` tokens."""

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        """Feed the next tokens ``[B, L]``; logits of the one after each, ``[B, L, V]``."""
        return self.logits(cast(Any, self.text).step(ids, cache))

    @abstractmethod
    def embed_prompt(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """A prompt as the language model takes it, ``[B, P', D]``, and which of it is real, bool ``[B, P']``."""

    def embed_images(self, images: Images) -> Tensor:
        """Images -> ``[B, F * N, D]``: the visual tokens as the language model sees them."""
        return self.encode_images(images).tokens

    def encode_images(self, images: Images, frames: Tensor | None = None) -> VisualTokens:
        """Images through the image encoder, once."""
        patches = self.vit(images.flatten(0, 1))
        return in_rows(patches, self.visual(patches), images, frames)

    def visual(self, patches_BND: Tensor) -> Tensor:
        """What the ViT makes of images -> their visual tokens, ``[B, N', D']``."""
        return cast(Tensor, self.project(patches_BND))

    def assemble(
        self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Visual tokens before the embedded prompt, ``[B, N, D]``, and which are real."""
        x_BPD, mask_BP = self.embed_prompt(prompt)
        if visual_BND is None:
            return x_BPD, mask_BP
        return join(visual_BND, x_BPD, mask_BP, counts)

    def shift(self, targets: Tensor) -> Tensor:
        """Targets ``[B, T]`` -> the tokens that they are predicted from, shifted right."""
        return F.pad(targets[:, :-1], (1, 0), value=self.first)


def in_rows(patches_BND: Tensor, tokens_BND: Tensor, images: Images, frames: Tensor | None) -> VisualTokens:
    """What was made of each image, ``[B * F, N, D]`` and ``[B * F, N', D']``, as rows of ``images``.

    Of images in their own proportions N' is N, and padding of a row's images moves to its end.
    """
    tokens_BFND = tokens_BND.reshape(*images.shape[:2], *tokens_BND.shape[1:])
    tokens, (most, length) = tokens_BFND.flatten(1, 2), tokens_BFND.shape[1:3]
    real_BFN = real_patches(images)
    if real_BFN is None:
        return VisualTokens(patches_BND, tokens, None if frames is None else frames * length)
    if frames is not None:
        given_BF = torch.arange(most, device=frames.device) < frames[:, None]
        real_BFN = real_BFN & given_BF[..., None]
    real = real_BFN.flatten(1)
    if most > 1:
        tokens, _ = real_first(tokens, real)
    return VisualTokens(patches_BND, tokens, real.sum(1))


def real_first(x_BND: Tensor, real_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Move the real positions of each row before its padding, in their order."""
    order_BN = torch.argsort(~real_BN, dim=1, stable=True)
    return x_BND.gather(1, order_BN[..., None].expand_as(x_BND)), real_BN.gather(1, order_BN)


def join(
    visual_BND: Tensor, x_BPD: Tensor, mask_BP: Tensor, tokens: Tensor | None = None, *, gaps: bool = False
) -> tuple[Tensor, Tensor]:
    """Visual tokens before the embedded prompt, ``[B, N + P, D]``, and which of them are real, bool ``[B, N + P]``.

    Args:
        visual_BND, x_BPD, mask_BP: visual tokens, embedded prompt, and which of its positions are real.
        tokens: how many of each row's visual tokens are real, ``[B]``; None: all.
        gaps: padding may stand before real positions. It is moved to the end, so that neither missing frames nor
            padding on the left move the prompt away; always so where ``tokens`` is given.
    """
    x = torch.cat([visual_BND.to(x_BPD.dtype), x_BPD], dim=1)
    if tokens is None:
        real = mask_BP.new_ones(visual_BND.shape[:2])
    else:
        real = torch.arange(visual_BND.shape[1], device=x.device) < tokens[:, None]
    mask = torch.cat([real, mask_BP], dim=1)
    return real_first(x, mask) if gaps or tokens is not None else (x, mask)
