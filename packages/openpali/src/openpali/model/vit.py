"""Vision Transformer as in big_vision (`models/vit.py`): the image encoder of PaLI-3 (paper section 3.1).

Shapes: B batch, H W image height and width in pixels, N patches, D width, h heads, R points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openpali.model.attention import AttentionLayer, Scoring, merge_heads, split_heads
from openpali.model.cache import Extend
from openpali.model.init import init_children, init_weights
from openpali.model.layers import Dense, Linear
from openpali.model.patches import Images, positions_on, real_places, visible

LAYER_NORM_EPS = 1e-6  # flax default, used by every public SigLIP checkpoint


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a ViT. ``grid`` is the number of patches (rows, columns) that the position embeddings cover.

    ``tokens`` is the most patches of an image that keeps its proportions; 0: images are squashed or padded to
    :attr:`image_size`.
    """

    patch_size: int
    grid: tuple[int, int]
    width: int
    depth: int
    mlp_dim: int
    heads: int
    tokens: int = 0

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels of images with a patch for each position embedding."""
        return self.grid[0] * self.patch_size, self.grid[1] * self.patch_size


def check_pool(grid: tuple[int, int], pool: int, patch: int) -> None:
    """Refuse a grid of patches that does not divide into squares of ``pool`` x ``pool``, which are averaged."""
    rows, columns = grid
    if rows % pool or columns % pool:
        raise ValueError(
            f"{rows} x {columns} patches cannot be averaged {pool} x {pool} at a time: sides of images must be "
            f"multiples of {pool * patch} pixels"
        )


class Attention(AttentionLayer):
    """Multi-head self-attention with biases; query, key and value in one projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def init_weights(self) -> None:
        init_children(self)
        init_projections(self.qkv, self.out)

    def forward(self, x_BND: Tensor, mask: Tensor | None = None, extend: Extend | None = None) -> Tensor:
        """Attend to ``x_BND`` and to what ``extend`` adds; ``mask``, bool, broadcasts to ``[B, h, N, keys]``."""
        q, k, v = (split_heads(t, self.heads) for t in self.qkv(x_BND).chunk(3, dim=-1))
        if extend is not None:
            k, v = extend(k, v)
        return cast(Tensor, self.out(merge_heads(self.attend(q, k, v, Scoring(mask)))))


class MLP(nn.Module):
    """Dense -> GELU, approximated by tanh unless it is ``exact`` -> Dense, of ``width`` numbers or ``out``.

    On a CPU torch's exact GELU takes a fifth of the time, as oneDNN has it.
    """

    def __init__(self, width: int, mlp_dim: int, out: int | None = None, *, exact: bool = False) -> None:
        super().__init__()
        self.up = Linear(width, mlp_dim)
        self.down = Linear(mlp_dim, out or width)
        self.approximate = "none" if exact else "tanh"

    def init_weights(self) -> None:
        init_children(self)
        for dense in (self.up, self.down):
            nn.init.xavier_uniform_(dense.weight)
            nn.init.normal_(dense.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.down(F.gelu(self.up(x), approximate=self.approximate)))


class Block(nn.Module):
    """Pre-norm transformer block; ``exact``: see :class:`MLP`."""

    def __init__(self, width: int, mlp_dim: int, heads: int, *, exact: bool = False) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = MLP(width, mlp_dim, exact=exact)

    def forward(self, x_BND: Tensor, mask: Tensor | None = None) -> Tensor:
        x_BND = x_BND + self.attention(self.norm_attention(x_BND), mask)
        return cast(Tensor, x_BND + self.mlp(self.norm_mlp(x_BND)))


class Transformer(nn.Module):
    """A stack of blocks and a final norm; shared by the image and the text tower of SigLIP.

    ``mask``, bool, says which tokens may be seen; it broadcasts to ``[B, heads, N, N]``. ``exact``: as in
    :class:`MLP`.
    """

    def __init__(self, width: int, depth: int, mlp_dim: int, heads: int, *, exact: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, mlp_dim, heads, exact=exact) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, x_BND: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x_BND = block(x_BND, mask)
        return cast(Tensor, self.norm(x_BND))


class ViT(nn.Module):
    """Image -> one token per patch, before any pooling.

    Args:
        config: its shape.
        exact: see :class:`MLP`.

    ``forward`` takes images ``[B, H, W, 3]``, uint8 in 0..255 or float in -1..1, of exactly
    ``config.image_size``, or :class:`~openpali.model.patches.Patches` of images of other sizes. It returns float
    tokens ``[B, N, D]``, row-major over the grid; those of padding mean nothing.
    """

    def __init__(self, config: ViTConfig, *, exact: bool = False) -> None:
        super().__init__()
        self.config = config
        self.patch_embed: nn.Module = Dense(config.patch_size**2 * 3, config.width)
        self.positions = nn.Parameter(torch.empty(config.grid[0] * config.grid[1], config.width))
        self.encoder = Transformer(config.width, config.depth, config.mlp_dim, config.heads, exact=exact)

    def init_weights(self) -> None:
        init_children(self)
        self.positions.copy_(sincos_positions(self.config.grid, self.config.width))

    def require_size(self, images_BHWC: Tensor) -> None:
        """Check that images have the size that this ViT is made for."""
        if images_BHWC.ndim != 4 or images_BHWC.shape[3] != 3:
            raise ValueError(f"the ViT takes RGB images [B, H, W, 3] and was given {list(images_BHWC.shape)}")
        if tuple(images_BHWC.shape[1:3]) != self.config.image_size:
            raise ValueError(
                f"images of {images_BHWC.shape[1]} x {images_BHWC.shape[2]} pixels given to a ViT made for "
                f"{self.config.image_size[0]} x {self.config.image_size[1]}: resize them, or call set_grid"
            )

    def forward(self, images: Images) -> Tensor:
        if isinstance(images, Tensor):
            x_BND = self.patch_embed(self.patchify(images)) + self.positions
        else:
            patches_BNP = scaled(images.values, self.positions.dtype)
            x_BND = self.patch_embed(patches_BNP)
            x_BND = x_BND + positions_on(images.grids, x_BND.shape[1], self.positions, self.config.grid)
        return cast(Tensor, self.encoder(x_BND, visible(images)))

    def patchify(self, images_BHWC: Tensor) -> Tensor:
        """Cut images into flattened patches ``[B, N, patch * patch * 3]``, values in -1..1."""
        self.require_size(images_BHWC)
        images_BHWC = scaled(images_BHWC, self.positions.dtype)  # the patch embedding's weight may be int8
        return cut(images_BHWC, self.config.patch_size)

    def patches_at(self, points_R2: Tensor, grids_R2: Tensor | None = None) -> Tensor:
        """Token of the patch at each point ``[R, 2]``, (y, x) as shares of the image: indices ``[R]`` into N.

        ``grids_R2``: rows and columns of the image of each point; None: the ViT's own grid.
        """
        grid = torch.tensor(self.config.grid, device=points_R2.device) if grids_R2 is None else grids_R2
        row, column = torch.minimum((points_R2 * grid).long().clamp(min=0), grid - 1).unbind(1)
        return row * grid[..., 1] + column

    def centres(self, count: int, grids_B2: Tensor | None = None) -> Tensor:
        """(y, x) of the centre of each of ``count`` patches as shares of the image, -1 for padding: ``[B, N, 2]``.

        ``grids_B2``: rows and columns of each image; None: one image with the ViT's own grid.
        """
        grids_B2 = torch.tensor([self.config.grid], device=self.positions.device) if grids_B2 is None else grids_B2
        number_N, columns_B1 = torch.arange(count, device=grids_B2.device), grids_B2[:, 1:]
        at_BN2 = torch.stack((number_N // columns_B1, number_N % columns_B1), -1)
        return torch.where(real_places(grids_B2, count)[..., None], (at_BN2 + 0.5) / grids_B2[:, None], -1.0)

    @torch.no_grad()
    def set_grid(self, grid: tuple[int, int]) -> None:
        """Change the resolution in place: resample the position embeddings to ``grid`` (rows, columns)."""
        resampled = resample_positions(self.positions, self.config.grid, grid)
        self.positions = nn.Parameter(resampled, requires_grad=self.positions.requires_grad)
        self.config = replace(self.config, grid=(grid[0], grid[1]))


def vit_of(model: nn.Module) -> ViT | None:
    """The image encoder of a model, if it has one."""
    vit = getattr(model, "vit", None)
    return vit if isinstance(vit, ViT) else None


def cut(images_BHWC: Tensor, patch: int) -> Tensor:
    """Images, whose sides are multiples of ``patch``, as flattened patches ``[B, N, patch * patch * 3]``."""
    rows, columns = images_BHWC.shape[1] // patch, images_BHWC.shape[2] // patch
    patches = images_BHWC.reshape(-1, rows, patch, columns, patch, 3).transpose(2, 3)
    return patches.flatten(3).flatten(1, 2)


def scaled(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels in -1..1: uint8 is scaled, float is left as it is."""
    if images.dtype == torch.uint8:
        images = images.div(127.5).sub_(1)  # few passes over large images
    return images.to(dtype)


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Sines and cosines of a patch's row and of its column, ``[rows * columns, width]``; where learning starts.

    Waves are 2/3 to 13 images long, in equal ratios, so that the same place looks the same on another grid.
    big_vision's ViT has such positions too (`posemb_sincos_2d`), in waves of patches; its SigLIP starts from noise
    of 1 / sqrt(width), which patches outgrow: at the doses of small models attention then never learns place.
    """
    if width % 4:
        raise ValueError(
            f"a ViT's width is a multiple of 4, for a sine and a cosine of row and column; this is {width}"
        )
    frequencies = 3 * math.pi / 20 ** torch.linspace(0, 1, width // 4)
    rows, columns = ((torch.arange(n) + 0.5) / n for n in grid)  # centres of patches, in images
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    angles = torch.stack([row, column]).flatten(1)[..., None] * frequencies  # [2, N, width / 4]
    return torch.cat([angles.sin(), angles.cos()], dim=-1).movedim(0, 1).flatten(1)


def resample_positions(positions_ND: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resample position embeddings from an ``old`` grid to a ``new`` one, ``[N, D] -> [M, D]``.

    Bilinear, corners aligned, no antialiasing: big_vision's `scipy.ndimage.zoom(order=1)`. Identity where the
    grids agree.
    """
    if tuple(old) == tuple(new):
        return positions_ND.clone()
    grid = positions_ND.float().view(*old, -1).permute(2, 0, 1)[None]  # [1, D, rows, columns]
    grid = F.interpolate(grid, size=tuple(new), mode="bilinear", align_corners=True)
    resampled = grid[0].permute(1, 2, 0).flatten(0, 1).to(positions_ND.dtype)
    return resampled.contiguous()  # sums over it, as of norms, follow memory order: a resumed run must agree


class MAPHead(AttentionLayer):
    """Multi-head attention pooling: one learned probe attends to all tokens, then ``x + MLP(LN(x))``.

    ``[B, N, D] -> [B, D]``; ``mask``, bool ``[B, 1, 1, N]``, says which tokens may be seen. Thrown away with the
    text tower after SigLIP: PaLI sees the tokens before it.
    """

    def __init__(self, width: int, mlp_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(torch.empty(1, width))
        self.query = Linear(width, width)
        self.key_value = Linear(width, 2 * width)
        self.out = Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = MLP(width, mlp_dim)

    def init_weights(self) -> None:
        nn.init.xavier_uniform_(self.probe)
        projections = (self.query, self.key_value, self.out)
        for projection in projections:
            init_weights(projection)
        init_projections(*projections)
        init_weights(self.norm)
        init_weights(self.mlp)

    def forward(self, x_BND: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self.query(self.probe).expand(x_BND.shape[0], 1, -1)
        k, v = self.key_value(x_BND).chunk(2, dim=-1)
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        x = self.out(merge_heads(self.attend(q, k, v, Scoring(mask))))
        x = x + self.mlp(self.norm(x))
        return cast(Tensor, x[:, 0])


class Classifier(nn.Module):
    """ViT, pooling and a linear layer: the classification-pretrained control of the paper's Table 1.

    ``forward``: images as for :class:`ViT` -> logits ``[B, classes]``. The head starts at zero (big_vision's
    ``head_zeroinit``).
    """

    def __init__(self, config: ViTConfig, classes: int) -> None:
        super().__init__()
        self.vit = ViT(config)
        self.pool = MAPHead(config.width, config.mlp_dim, config.heads)
        self.head = Linear(config.width, classes)

    def init_weights(self) -> None:
        init_children(self)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images_BHWC: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.pool(self.vit(images_BHWC))))


def init_projections(*layers: nn.Linear) -> None:
    """Xavier-uniform weights for query, key, value and output, and biases of zero.

    A fused layer of ``[3 * D, D]`` or ``[2 * D, D]`` is drawn one square projection at a time, as if unfused.
    """
    for layer in layers:
        for weight in torch.split(layer.weight, layer.in_features):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(layer.bias)
