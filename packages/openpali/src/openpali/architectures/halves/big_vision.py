"""Image encoders and SigLIP from big_vision's `.npz` files, without JAX.

Reads the layouts of its `models/vit.py` and `models/proj/image_text/`: blocks one by one or stacked (scan);
position embeddings within the encoder; and bf16, which numpy reads as two opaque bytes.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openpali.architectures.halves.image_encoder import ImageEncoder, parts
from openpali.architectures.rules import Rule, read
from openpali.architectures.siglip.network import TextTowerConfig
from openpali.mistakes import reason
from openpali.model.vit import ViTConfig

_CLASSIFIER = ("head", "pre_logits")  # after pooling, which PaLI does not use
_BLOCK = re.compile(r"(.*encoderblock)/(.*)")


def read_npz(path: Path) -> ImageEncoder:
    """Read a ViT, with or without MAP head, or both towers of SigLIP.

    Shapes are inferred from the arrays; the grid of position embeddings is assumed to be square.
    """
    tree = read_arrays(path, ("params/", "opt/target/"))
    if not any(key.startswith(("img/", "txt/")) for key in tree):
        tree = {f"img/{key}": value for key, value in tree.items()}
    tree = _unstacked(tree)
    dropped = [key for key in tree if key.startswith(tuple(f"img/{name}/" for name in _CLASSIFIER))]
    tree = {key: value for key, value in tree.items() if key not in dropped}
    both = any(key.startswith("txt/") for key in tree)
    try:
        vision = vision_config(tree, str(path))
        text = _text_config(tree) if both else None
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path} is not a ViT of big_vision ({reason(error)})") from error
    pool = both or any(key.startswith("img/MAPHead_0/") for key in tree)
    weights = read(rules(vision, text, pool), parts(vision, text, pool), tree, str(path))
    return ImageEncoder(vision, text, weights, vision.image_size, dropped)


def rules(vision: ViTConfig, text: TextTowerConfig | None, pool: bool) -> list[Rule]:
    """big_vision's names, blocks one by one."""
    found = [
        Rule(
            ("vit.patch_embed.weight",),
            ("img/embedding/kernel",),
            lambda w: w.reshape(-1, w.shape[-1]).T,  # [p, p, 3, D] -> [D, p * p * 3]
            lambda w: w.T.reshape(vision.patch_size, vision.patch_size, 3, -1),
        ),
        Rule(("vit.patch_embed.bias",), ("img/embedding/bias",)),
        Rule(("vit.positions",), ("img/pos_embedding",), lambda x: x[0], lambda x: x[None]),
        *_encoder("vit.encoder", "img/Transformer", vision.depth, vision.heads),
    ]
    if pool:
        head = "img/MAPHead_0"
        found += [
            Rule(("pool.probe",), (f"{head}/probe",), lambda x: x[0], lambda x: x[None]),
            *_attention(("pool.query", "pool.key_value"), "pool.out", head, vision.heads),
            *_norm("pool.norm", f"{head}/LayerNorm_0"),
            *_mlp("pool.mlp", f"{head}/MlpBlock_0"),
        ]
    if text is not None:
        found += [
            Rule(("text.embed.weight",), ("txt/Embed_0/embedding",)),
            Rule(("text.positions",), ("txt/pos_embedding",), lambda x: x[0], lambda x: x[None]),
            *_encoder("text.encoder", "txt/Encoder_0", text.depth, text.heads),
            *_dense("text.head", "txt/head"),
            Rule(("log_temperature",), ("t",)),
            Rule(("bias",), ("b",)),
        ]
    return found


def _encoder(ours: str, theirs: str, depth: int, heads: int) -> list[Rule]:
    found = _norm(f"{ours}.norm", f"{theirs}/encoder_norm")
    for i in range(depth):
        here, there = f"{ours}.blocks.{i}", f"{theirs}/encoderblock_{i}"
        found += [
            *_norm(f"{here}.norm_attention", f"{there}/LayerNorm_0"),
            *_attention((f"{here}.attention.qkv",), f"{here}.attention.out", there, heads),
            *_norm(f"{here}.norm_mlp", f"{there}/LayerNorm_1"),
            *_mlp(f"{here}.mlp", f"{there}/MlpBlock_0"),
        ]
    return found


def _attention(projections: tuple[str, ...], out: str, block: str, heads: int) -> list[Rule]:
    there = f"{block}/MultiHeadDotProductAttention_0"
    names = ("query", "key", "value")
    return [
        Rule(
            tuple(f"{name}.weight" for name in projections),
            tuple(f"{there}/{name}/kernel" for name in names),
            lambda w: w.flatten(1).T,  # [D, h, d] -> [h * d, D]
            lambda w: torch.unflatten(w.T, 1, (heads, -1)),
        ),
        Rule(
            tuple(f"{name}.bias" for name in projections),
            tuple(f"{there}/{name}/bias" for name in names),
            torch.flatten,
            lambda b: torch.unflatten(b, 0, (heads, -1)),
        ),
        Rule(
            (f"{out}.weight",),
            (f"{there}/out/kernel",),
            lambda w: w.flatten(0, 1).T,  # [h, d, D] -> [D, h * d]
            lambda w: torch.unflatten(w.T, 0, (heads, -1)),
        ),
        Rule((f"{out}.bias",), (f"{there}/out/bias",)),
    ]


def _mlp(ours: str, theirs: str) -> list[Rule]:
    return [*_dense(f"{ours}.up", f"{theirs}/Dense_0"), *_dense(f"{ours}.down", f"{theirs}/Dense_1")]


def _dense(ours: str, theirs: str) -> list[Rule]:
    return [
        Rule((f"{ours}.weight",), (f"{theirs}/kernel",), torch.t, torch.t),
        Rule((f"{ours}.bias",), (f"{theirs}/bias",)),
    ]


def _norm(ours: str, theirs: str) -> list[Rule]:
    return [
        Rule((f"{ours}.weight",), (f"{theirs}/scale",)),
        Rule((f"{ours}.bias",), (f"{theirs}/bias",)),
    ]


# ---- files


def names_of(path: Path) -> list[str]:
    """Names of the arrays in a `.npz` file."""
    with _opened(path) as file:
        return list(file.files)


def read_arrays(path: Path, wrappers: Sequence[str] = ()) -> dict[str, Tensor]:
    """The arrays of a `.npz` file by name, as they are; of a training checkpoint those below a wrapper, and without
    it: the rest is optimizer state."""
    with _opened(path) as file:
        wrapper = next((each for each in wrappers if any(key.startswith(each) for key in file.files)), "")
        kept = [key for key in file.files if key.startswith(wrapper)]
        return {key.removeprefix(wrapper): _tensor(file[key], key) for key in kept}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not an .npz file of arrays: {error}") from error


def _tensor(array: NDArray[Any], key: str) -> Tensor:
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # bf16, which numpy does not support
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind != "f":
        raise ValueError(f"{key} has dtype {array.dtype}, but weights must be floats")
    return torch.from_numpy(array)


def _unstacked(tree: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blocks one by one (`scan` stacks them), and position embeddings beside the encoder, not within."""
    plain: dict[str, Tensor] = {}
    for key, value in tree.items():
        key = re.sub(r"^img/Transformer/(posembed_input/)?pos_embedding$", "img/pos_embedding", key)
        if scanned := _BLOCK.fullmatch(key):
            stack, rest = scanned.groups()
            plain |= {f"{stack}_{i}/{rest}": layer for i, layer in enumerate(value)}
        else:
            plain[key] = value
    return plain


# ---- shapes


_IMAGE_BLOCK = "img/Transformer/encoderblock_0"
_TEXT_BLOCK = "txt/Encoder_0/encoderblock_0"


def vision_config(tree: Mapping[str, Tensor], where: str) -> ViTConfig:
    """The shape of a ViT, from its arrays (``img/...``), whose position embeddings must be square."""
    patch, width = tree["img/embedding/kernel"].shape[0], tree["img/embedding/kernel"].shape[-1]
    positions = tree["img/pos_embedding"].shape[1]
    side = math.isqrt(positions)
    if side * side != positions:
        class_token = math.isqrt(positions - 1) ** 2 == positions - 1
        extra = ": one belongs to a class token, which SigLIP does not have" if class_token else ""
        raise ValueError(f"{where} has {positions} position embeddings, which do not form a square{extra}")
    return ViTConfig(
        patch_size=patch,
        grid=(side, side),
        width=width,
        depth=_depth(tree, "img/Transformer"),
        mlp_dim=tree[f"{_IMAGE_BLOCK}/MlpBlock_0/Dense_0/kernel"].shape[1],
        heads=tree[f"{_IMAGE_BLOCK}/MultiHeadDotProductAttention_0/query/kernel"].shape[1],
    )


def _text_config(tree: Mapping[str, Tensor]) -> TextTowerConfig:
    vocab_size, width = tree["txt/Embed_0/embedding"].shape
    return TextTowerConfig(
        vocab_size=vocab_size,
        length=tree["txt/pos_embedding"].shape[1],
        width=width,
        depth=_depth(tree, "txt/Encoder_0"),
        mlp_dim=tree[f"{_TEXT_BLOCK}/MlpBlock_0/Dense_0/kernel"].shape[1],
        heads=tree[f"{_TEXT_BLOCK}/MultiHeadDotProductAttention_0/query/kernel"].shape[1],
    )


def _depth(tree: Mapping[str, Tensor], stack: str) -> int:
    return len({key.split("/")[2] for key in tree if key.startswith(f"{stack}/encoderblock_")})
