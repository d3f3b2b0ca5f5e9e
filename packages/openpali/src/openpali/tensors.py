"""Tensors on disk: one safetensors file, or several with an index, laid out as `transformers` does.

``model.safetensors``, or ``model-00001-of-00003.safetensors`` ... with ``model.safetensors.index.json``, whose
``weight_map`` says which file holds which tensor. Files are mapped: a tensor takes memory when it is touched, in
pages that the OS can drop again. Pickles are never opened.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from mmap import PAGESIZE
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from openpali.mistakes import reason
from openpali.model import int4, int8

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 4 << 30
SAMPLED = 64  # values of each tensor in a fingerprint
LISTED = 5  # names of a kind in an error; more are counted
_MADV_PAGEOUT = 21  # from <sys/mman.h>; unlike MADV_DONTNEED it keeps memory that no file backs
Shape = tuple[int, ...]


class MappedTensors(Mapping[str, Tensor]):
    """All tensors of a folder by name. Opened tensors keep their values, even if the files are replaced.

    Args:
        folder: holds one file, or shards with their index; a single file is preferred.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}  # tensor -> open file
        if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
            _refuse_pickles(folder)
            file = _open(folder / WEIGHTS)
            self._files = dict.fromkeys(file.keys(), file)
            return
        where = _read_index(folder)
        files = [_open(folder / name) for name in sorted(set(where.values()))]
        held = {key: file for file in files for key in file.keys()}  # noqa: SIM118 (not a mapping)
        if lost := [key for key in where if key not in held]:
            raise ValueError(f"{folder / INDEX} names tensors that its files do not hold: {some(lost)}")
        self._files = held

    def __getitem__(self, key: str) -> Tensor:
        tensor: Tensor = self._files[key].get_tensor(key)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def shape(self, key: str) -> Shape:
        """Shape of a tensor, from the header alone."""
        return tuple(self._files[key].get_slice(key).get_shape())


class WidenedTensors(Mapping[str, Tensor]):
    """Tensors of which some are int8 or int4, these as float32: multiplied by their scales, which are left out.

    Args:
        stored: of :class:`openpali.model.int8.QuantizedLinear`, ``weight`` and ``scale``, among others.
    """

    WIDEN: ClassVar = {torch.int8: int8.widen, torch.uint8: int4.widen}

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self.stored = stored
        self.scales = {  # by dtype, since norms have a scale too
            name: scale
            for name in stored
            if (scale := name.removesuffix("weight") + "scale") in stored and stored[name].dtype in self.WIDEN
        }
        self.names = [name for name in stored if name not in self.scales.values()]

    def __getitem__(self, key: str) -> Tensor:
        value = self.stored[key]
        return self.WIDEN[value.dtype](value, self.stored[self.scales[key]]) if key in self.scales else value

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def write_tensors(
    folder: Path, tensors: Mapping[str, Tensor], *, shard_bytes: int = SHARD_BYTES, name: str = WEIGHTS
) -> None:
    """Write tensors into a folder, in shards of at most ``shard_bytes``, or in one file of another ``name``.

    Old files are replaced by new ones, not changed: processes that have them mapped keep the old values.
    The old files stay if the new ones cannot be written.
    """
    alone = name != WEIGHTS
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for key, tensor in tensors.items():
        if not alone and filled and filled + tensor.nbytes > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][key] = tensor.detach()
        filled += tensor.nbytes
    names = [name]
    if len(shards) > 1:
        names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    try:
        for file, shard in zip(names, shards, strict=True):
            written.append(folder / f".{file}")
            written[-1].touch()
            mode = written[-1].stat().st_mode  # others may read it as any new file, which safetensors forbids
            save_file({k: v.contiguous() for k, v in shard.items()}, written[-1], metadata={"format": "pt"})
            written[-1].chmod(mode)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError | SafetensorError):
            raise OSError(f"{folder / name} cannot be written: {error}") from error
        raise
    for path, file in zip(written, names, strict=True):
        path.replace(folder / file)
    if len(shards) > 1:
        size = sum(tensor.nbytes for tensor in tensors.values())
        where = {key: file for file, shard in zip(names, shards, strict=True) for key in sorted(shard)}
        index = {"metadata": {"total_size": size}, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", "utf-8")
    for old in (*folder.glob("model-*-of-*.safetensors"), folder / WEIGHTS, folder / INDEX):
        if old.name not in names and not (old.name == INDEX and len(shards) > 1):
            old.unlink(missing_ok=True)


def give_back(tensors: Iterable[Tensor]) -> None:
    """Let the OS drop mapped tensors from memory until they are touched again.

    Useful for the ViT of a large model while text is generated. Values do not change. Only whole pages are dropped,
    and only on Linux.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    for tensor in tensors:
        first = -(-tensor.data_ptr() // PAGESIZE) * PAGESIZE
        length = tensor.data_ptr() + tensor.nbytes - first
        if length > 0:  # refused before Linux 5.4, where they stay in memory
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), _MADV_PAGEOUT)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes, dtypes and up to 64 values of each tensor, evenly spaced.

    It tells models that were trained apart, but may not see a change of a few values.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        values = tensor.detach().flatten()
        picked = values[:: max(1, len(values) // SAMPLED)][:SAMPLED]
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype), picked.tolist())).encode())
    return digest.hexdigest()


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """The shape of each tensor; of files, from their headers alone."""
    if isinstance(tensors, MappedTensors):
        return {key: tensors.shape(key) for key in tensors}
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def require_fit(expected: Mapping[str, Shape], found: Mapping[str, Shape], name: str) -> None:
    """Compare tensors by name and shape."""
    missing = [f"{key} is missing" for key in expected if key not in found]
    unknown = [f"{key} is not of this model" for key in found if key not in expected]
    misshapen = [
        f"{key} has shape {shape}, the model expects {expected[key]}"
        for key, shape in found.items()
        if key in expected and shape != expected[key]
    ]
    if problems := [some(kind, separator="; ") for kind in (missing, unknown, misshapen) if kind]:
        raise ValueError(f"weights of {name} do not fit: " + "; ".join(problems))


def some(items: Sequence[str], *, separator: str = ", ") -> str:
    """The first few of a list, and how many more there are."""
    more = len(items) - LISTED
    return separator.join([*items[:LISTED], *([f"and {more} more"] if more > 0 else [])])


def load_exactly(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Assign ``weights`` to a model, all of its tensors or none. ``name`` is what to call them in an error."""
    require_fit(shapes(model.state_dict()), shapes(weights), name)
    model.load_state_dict(dict(weights), assign=True)


def _read_index(folder: Path) -> dict[str, str]:
    """Tensor -> name of its file in the folder itself: directories in the index are ignored."""
    try:
        where = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        return {key: Path(name).name for key, name in where.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{folder / INDEX} is no index of weights ({reason(error)})") from error


def _refuse_pickles(folder: Path) -> None:
    """Raise an error if the folder holds weights as pickles only."""
    pickles = sorted(path.name for ending in ("bin", "pt", "pth", "ckpt") for path in folder.glob(f"*.{ending}"))
    if pickles and not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{folder} holds no {WEIGHTS}, but {pickles[0]}: a pickle, which can run any code and is never "
            "opened; let transformers save it as safetensors, as docs/weights.md shows"
        )


def _open(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"no weights in {path.parent}: it has no {path.name}")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
