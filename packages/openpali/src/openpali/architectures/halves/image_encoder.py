"""A SigLIP checkpoint, or its image encoder alone, whatever library wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from openpali.architectures.rules import skeleton
from openpali.architectures.siglip.network import SigLIP, SigLIPConfig, TextTowerConfig
from openpali.model.vit import MAPHead, ViT, ViTConfig


@dataclass(frozen=True)
class ImageEncoder:
    """Under the names of :class:`openpali.architectures.siglip.network.SigLIP`."""

    vision: ViTConfig  # shape of the ViT
    text: TextTowerConfig | None  # shape of the text tower; None if there is none
    # vit.*; pool.* with a MAP head; and, with both towers, text.*, log_temperature, bias
    weights: Mapping[str, Tensor]
    # height and width in pixels that it was trained at; the ViT uses the complete patches within. Of one whose
    # images keep their proportions, of a square with a patch for each position embedding
    image_size: tuple[int, int]
    dropped: Sequence[str] = ()  # tensors that are not used, such as a classifier's head

    @property
    def has_pool(self) -> bool:
        """Whether there is a MAP head."""
        return "pool.probe" in self.weights

    @property
    def vit(self) -> dict[str, Tensor]:
        """The weights of the ViT alone, under its own names."""
        return {k.removeprefix("vit."): v for k, v in self.weights.items() if k.startswith("vit.")}

    def describe(self) -> list[str]:
        """Lines of text about it."""
        size = " x ".join(str(side) for side in self.image_size)
        towers = (
            "image encoder" + (" and text tower" if self.text else "") + (", MAP head" if self.has_pool else "")
        )
        shape = f"{self.vision.depth} layers of {self.vision.width}"
        own = f"images of up to {self.vision.tokens} patches, in their own proportions"
        room = own if self.vision.tokens else f"{size} pixels"
        lines = [f"{towers}: {len(self.weights)} tensors, {shape}, {room}"]
        if self.dropped:
            lines.append(f"left out: {', '.join(self.dropped)}")
        if self.image_size != self.vision.image_size:
            whole = " x ".join(str(side) for side in self.vision.image_size)
            lines.append(f"of {size} pixels, whole patches cover {whole}")
        return lines


def parts(vision: ViTConfig, text: TextTowerConfig | None, pool: bool) -> dict[str, Tensor]:
    """The parameters of SigLIP, or of its image encoder, on the meta device."""
    if text is not None:
        return skeleton(lambda: SigLIP(SigLIPConfig(vision, text)))
    found = {f"vit.{k}": v for k, v in skeleton(lambda: ViT(vision)).items()}
    if pool:
        head = skeleton(lambda: MAPHead(vision.width, vision.mlp_dim, vision.heads))
        found |= {f"pool.{k}": v for k, v in head.items()}
    return found
