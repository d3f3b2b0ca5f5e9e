"""What ranks do for `test_losses.py`: ``python ranks.py FOLDER``.

Four forks of one process go through worlds of 2, 3 and 4 ranks one after the other, since starting one costs most
of the time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from openpali.architectures.mask_vqvae import MaskVQVAE, MaskVQVAEConfig
from openpali.architectures.siglip.network import normalize
from openpali.model import losses
from openpali.model.collectives import gather_rows, gather_sizes
from openpali.model.init import init_weights
from openpali.model.losses import Embeddings, sigmoid_loss, softmax_loss
from openpali.train.optim.muon import _orthogonalize_among_ranks, orthogonalize

# batch of each rank; unequal, one of them empty
WORLDS = {2: (4, 1), 3: (2, 5, 3), 4: (3, 0, 1, 4)}
EVEN = 6  # rows of each rank where the memory is looked at


def pairs(rows: int) -> Embeddings:
    """The global batch: embeddings and the two scalars, all of them leaves."""
    generator = torch.Generator().manual_seed(rows)
    image, text = (normalize(torch.randn(rows, 7, generator=generator)) for _ in range(2))
    return Embeddings(
        *(t.requires_grad_() for t in (image, text, torch.tensor([1.5]), torch.tensor([-2.0]))),
    )


def share(everything: Embeddings, rows: slice) -> Embeddings:
    image, text = (t.detach()[rows].clone().requires_grad_() for t in everything[:2])
    log_t, bias = (t.detach().clone().requires_grad_() for t in everything[2:4])
    return Embeddings(image, text, log_t, bias)


def gradients(embeddings: Embeddings) -> dict[str, Tensor | None]:
    return {name: tensor.grad for name, tensor in embeddings._asdict().items() if tensor is not None}


def masks() -> Tensor:
    return (torch.rand(8, 64, 64, generator=torch.Generator().manual_seed(3)) > 0.5).float()


def vqvae() -> MaskVQVAE:
    torch.manual_seed(0)
    return init_weights(MaskVQVAE(MaskVQVAEConfig(codes=8, code_dim=4, width=8, decay=0.5)))


@contextmanager
def largest_logits() -> Iterator[list[int]]:
    """Sizes of every block of logits while it is open."""
    seen: list[int] = []
    softplus = losses.F.softplus

    def spy(logits: Tensor) -> Tensor:
        seen.append(logits.numel())
        return softplus(logits)

    losses.F.softplus = spy  # type: ignore[assignment]
    try:
        yield seen
    finally:
        losses.F.softplus = softplus


def main(folder: Path, rank: int) -> None:
    for world, sizes in WORLDS.items():
        if rank >= world:
            continue
        dist.init_process_group("gloo", init_method=f"file://{folder}/{world}", rank=rank, world_size=world)
        start = sum(sizes[:rank])
        mine = share(pairs(sum(sizes)), slice(start, start + sizes[rank]))
        loss = sigmoid_loss(mine, chunk=2)
        loss.backward()
        again = share(pairs(sum(sizes)), slice(start, start + sizes[rank]))
        softmax = softmax_loss(again, chunk=2)
        softmax.backward()
        with largest_logits() as seen:
            sigmoid_loss(share(pairs(EVEN * world), slice(EVEN * rank, EVEN * (rank + 1))), chunk=2)
        result = {
            "loss": loss.detach(),
            **{k: t.grad for k, t in mine._asdict().items() if t is not None},
            "largest": max(seen),
            "softmax": {
                "loss": softmax.detach(),
                **{k: t.grad for k, t in again._asdict().items() if t is not None},
            },
        }
        if world in (2, 4):
            model = vqvae()
            model(masks().chunk(world)[rank])
            result |= {"codebook": model.codebook, "code_count": model.code_count}
        rows = torch.arange(2.0 * sizes[rank], dtype=torch.bfloat16).view(-1, 2) + 100 * rank
        result["gathered"] = gather_rows(rows, gather_sizes(len(rows)))
        matrices = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))  # fewer than ranks
        result["orthogonal"] = _orthogonalize_among_ranks(matrices) - orthogonalize(matrices)
        torch.save(result, folder / f"{world}-{rank}.pt")
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[4] / "benchmarks"))
    from _ranks import fork_ranks

    torch.set_num_threads(1)
    started = fork_ranks(max(WORLDS), max(WORLDS), partial(main, Path(sys.argv[1])))
    sys.exit(any([os.waitpid(child, 0)[1] for child in started]))
