"""SigLIP: two towers and the pairwise sigmoid loss (Zhai et al. 2023; big_vision `two_towers.py`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from openpali.model.init import init_children, init_normal, init_weights
from openpali.model.layers import Dense, Embedding
from openpali.model.losses import Embeddings
from openpali.model.patches import Images, visible
from openpali.model.regions import Regions
from openpali.model.vit import MAPHead, Transformer, ViT, ViTConfig


@dataclass(frozen=True)
class TextTowerConfig:
    """Shape of the text tower. ``length`` is fixed: texts are padded to it with EOS (big_vision's "sticky")."""

    vocab_size: int
    length: int
    width: int
    depth: int
    mlp_dim: int
    heads: int


@dataclass(frozen=True)
class SigLIPConfig:
    """Both towers, and the initial temperature ``exp(t)`` and bias ``b`` of the loss.

    A bias of -10 suits batches of 32k; take about ``-log(batch)`` for small ones. With ``sides``, each patch also
    tells the distances to the sides of the thing that it is part of.
    """

    vision: ViTConfig
    text: TextTowerConfig
    temperature: float = 10.0
    bias: float = -10.0
    sides: bool = False


class TextTower(nn.Module):
    """Bidirectional encoder without a padding mask; the last token is the embedding.

    ``forward``: ids ``[B, length]`` -> ``[B, out_dim]``.
    """

    def __init__(self, config: TextTowerConfig, out_dim: int) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.length, config.width))
        self.encoder = Transformer(config.width, config.depth, config.mlp_dim, config.heads)
        self.head = Dense(config.width, out_dim)

    def init_weights(self) -> None:
        init_normal(self.embed, self.config.width**-0.5)
        nn.init.normal_(self.positions).div_(self.config.width**0.5)
        init_weights(self.encoder)
        init_weights(self.head)

    def forward(self, ids_BL: Tensor) -> Tensor:
        if ids_BL.shape[1] != self.config.length:
            raise ValueError(
                f"the text tower takes exactly {self.config.length} tokens and was given {ids_BL.shape[1]}: "
                "pad with the EOS id, as in training"
            )
        x_BLD = self.encoder(self.embed(ids_BL) + self.positions)
        return cast(Tensor, self.head(x_BLD[:, -1]))


class SigLIP(nn.Module):
    """Image tower (a ViT and a MAP head, which outputs the embedding) and text tower."""

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.config = config
        v = config.vision
        self.vit = ViT(v)
        self.pool = MAPHead(v.width, v.mlp_dim, v.heads)
        self.text = TextTower(config.text, v.width)
        self.sides = Dense(v.width, 4) if config.sides else None
        self.log_temperature = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(1))

    def init_weights(self) -> None:
        init_children(self)
        if self.sides is not None:
            nn.init.constant_(self.sides.bias, -2.0)  # most things are small
        nn.init.constant_(self.log_temperature, math.log(self.config.temperature))
        nn.init.constant_(self.bias, self.config.bias)

    def embed_image(self, images: Images) -> Tensor:
        """Images as for :class:`ViT` -> normalised embeddings ``[B, D]``."""
        return normalize(self.pool(self.vit(images), visible(images)))

    def embed_text(self, ids_BL: Tensor) -> Tensor:
        """Token ids ``[B, length]`` -> normalised embeddings ``[B, D]``."""
        return normalize(self.text(ids_BL))

    def embed_regions(self, tokens_BND: Tensor, regions: Regions, grids_B2: Tensor | None = None) -> Tensor:
        """The patch at the centre of each region, pooled alone: normalised embeddings ``[R, D]``.

        ``grids_B2``: rows and columns of each image; None: the ViT's own grid.
        """
        grids_R2 = None if grids_B2 is None else grids_B2[regions.rows]
        at = self.vit.patches_at(regions.centres, grids_R2)
        return normalize(self.pool(tokens_BND[regions.rows, at, None]))

    def embed_patches(self, tokens_BND: Tensor) -> Tensor:
        """Each patch, pooled alone: normalised embeddings ``[B * N, D]``."""
        return normalize(self.pool(tokens_BND.flatten(0, 1)[:, None]))

    def side_distances(self, tokens_BND: Tensor) -> Tensor:
        """Of each patch to the top, left, bottom and right of its thing, as shares of the image: ``[B * N, 4]``."""
        if self.sides is None:
            raise ValueError("this model was trained without sides: it does not tell where a thing ends")
        return cast(Tensor, self.sides(tokens_BND.flatten(0, 1)).float().clamp(-8, 2).exp())

    def forward(self, images: Images, ids_BL: Tensor, regions: Regions | None = None) -> Embeddings:
        tokens_BND = self.vit(images)
        image = normalize(self.pool(tokens_BND, visible(images)))
        pairs = Embeddings(image, self.embed_text(ids_BL), self.log_temperature, self.bias, tokens=tokens_BND)
        if regions is None:
            return pairs
        name = self.embed_text(regions.names)
        if regions.points is not None:
            sides = None if self.sides is None else self.side_distances(tokens_BND)
            return pairs._replace(region=self.embed_patches(tokens_BND), name=name, sides=sides)
        region = self.embed_regions(tokens_BND, regions, None if isinstance(images, Tensor) else images.grids)
        return pairs._replace(region=region, name=name)


def normalize(x: Tensor) -> Tensor:
    """Divide by the L2 norm (+ 1e-8, as big_vision does), in float32."""
    x = x.float()
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (norm + 1e-8)
