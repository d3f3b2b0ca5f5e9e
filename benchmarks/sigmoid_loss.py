"""The pairwise sigmoid loss on 1, 2 and 4 ranks: ours against the variants of open_clip.

    pip install -e 'packages/openpali-lab[bench]'
    python benchmarks/sigmoid_loss.py --json sigmoid_loss.json

Loss and gradients of embeddings, temperature and bias, in float32; the script checks that both sides agree. Ranks
are processes on this machine (gloo) that share its threads. Peak memory counts all intermediate tensors on the
first rank. Sides take turns; times are medians.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from _ranks import fork_ranks, wait_for
from _report import Result, cost, interleaved, machine, need, report
from openpali.architectures.siglip.network import normalize
from openpali.model.losses import Embeddings, sigmoid_loss

OURS = "ours"
VARIANTS = ("bidir", "shift", "reduce", "gather")  # equal on one rank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--pairs", type=int, default=2048, help="on each rank")
    parser.add_argument("--width", type=int, default=768, help="of the embeddings")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    need("open_clip", "open_clip_torch")
    import open_clip.loss  # noqa: F401 (once, before ranks are forked)

    facts = machine("open_clip_torch")
    results = (result for world in options.ranks for result in _measure(world, options))
    report(results, {**facts, "pairs": options.pairs, "width": options.width}, options.file)


def _measure(world: int, options: argparse.Namespace) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        threads = max(1, torch.get_num_threads() // world)
        wait_for(fork_ranks(world, world, partial(_run_rank, world, options, Path(folder), threads)))
        seen = json.loads((Path(folder) / "seen.json").read_text("utf-8"))
    mine = seen.pop(OURS)
    name = f"{world} rank{'s' if world > 1 else ''}"
    for peer, theirs in seen.items():
        yield cost(name, mine["seconds"], theirs["seconds"], peer, "s")
        yield cost(f"{name}: peak memory", mine["bytes"] / 1e6, theirs["bytes"] / 1e6, peer, "MB")


def _run_rank(world: int, options: argparse.Namespace, folder: Path, threads: int, rank: int) -> None:
    from open_clip.loss import SigLipLoss

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore", FutureWarning)  # open_clip calls deprecated functions of torch
    dist.init_process_group("gloo")
    torch.manual_seed(rank)
    image, text = (normalize(torch.randn(options.pairs, options.width)) for _ in range(2))
    inputs = Embeddings(*(t.requires_grad_() for t in (image, text, torch.tensor([2.3]), torch.tensor([-10.0]))))
    sides: dict[str, Callable[[], Tensor]] = {OURS: lambda: sigmoid_loss(inputs)}
    for variant in VARIANTS if world > 1 else VARIANTS[:1]:
        loss = SigLipLoss(rank=rank, world_size=world, dist_impl=variant)
        sides[f"open_clip {variant}" if world > 1 else "open_clip"] = partial(_open_clip, loss, inputs)
    _check(sides, inputs, world)
    seconds = interleaved({name: partial(_step, side, inputs) for name, side in sides.items()}, options.rounds)
    seen = {}
    for name, side in sides.items():
        with Held() as held:
            _step(side, inputs)
        seen[name] = {"seconds": seconds[name], "bytes": held.peak}
    if rank == 0:
        (folder / "seen.json").write_text(json.dumps(seen), "utf-8")
    dist.destroy_process_group()


def _open_clip(loss: Any, inputs: Embeddings) -> Tensor:
    total: Tensor = loss(inputs.image, inputs.text, inputs.log_temperature.exp(), inputs.bias)
    return total.squeeze()


def _step(side: Callable[[], Tensor], inputs: Embeddings) -> Tensor:
    for tensor in inputs[:4]:  # those that are there: no regions
        tensor.grad = None
    total = side()
    total.backward()
    return total.detach()


def _check(sides: dict[str, Callable[[], Tensor]], inputs: Embeddings, world: int) -> None:
    """Check that all sides agree: our losses of ranks are summed, open_clip's are averaged."""
    seen = {}
    for name, side in sides.items():
        total = _step(side, inputs)
        gradients = [t.grad / (1 if name == OURS else world) for t in inputs[:4]]
        dist.all_reduce(total)
        for scalar in gradients[2:]:
            dist.all_reduce(scalar)
        seen[name] = [total / (1 if name == OURS else world), *gradients]
    for name, values in seen.items():
        for ours, theirs in zip(seen[OURS], values, strict=True):
            error = torch.linalg.vector_norm(theirs - ours) / torch.linalg.vector_norm(ours)
            if error > 1e-4:
                raise RuntimeError(
                    f"{name} differs from ours: relative error {error:.1e} of the loss or a gradient"
                )


class Held(TorchDispatchMode):
    """Counts the bytes of tensors that are created under it; ``peak`` is the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            self._note(tensor, counts=False)  # if not known yet, it was created before
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            self._note(tensor, counts=True)
        return out

    def _note(self, tensor: object, *, counts: bool) -> None:
        if not isinstance(tensor, Tensor):
            return
        storage = tensor.untyped_storage()
        if storage._cdata not in self.alive:
            size = storage.nbytes() if counts else 0
            self.alive[storage._cdata] = size
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, key: int) -> None:
        self.now -= self.alive.pop(key)


if __name__ == "__main__":
    main()
