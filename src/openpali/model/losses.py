"""The two losses of PaLI-3: pairwise sigmoid (stage 0) and cross-entropy over the vocabulary (all other stages).

Both compute their gradients chunk by chunk in the forward pass: neither the batch x batch nor the
tokens x vocabulary matrix is ever in memory, and nothing is computed twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from openpali.model.layers import matmul_dtype


class Regions(NamedTuple):
    """Named places in the images of a batch: R regions, which share U names.

    Attributes:
        rows: the image of each region, int64 ``[R]``.
        centres: (y, x) of each region's centre as a share of the image, float ``[R, 2]`` in 0..1.
        names: token ids of the names, int64 ``[U, L]``; a name may occur more than once.
        named: the name of each region, an index below U, int64 ``[R]``; -1 marks padding, which has no loss.
    """

    rows: Tensor
    centres: Tensor
    names: Tensor
    named: Tensor


class Embeddings(NamedTuple):
    """L2-normalised embeddings ``[B, D]`` and the two scalars of the loss.

    Attributes:
        region, name: embeddings of the regions ``[R, D]`` and of their names ``[U, D]``, if there are any.
    """

    image: Tensor
    text: Tensor
    log_temperature: Tensor
    bias: Tensor
    region: Tensor | None = None
    name: Tensor | None = None


_MULTIPLE = 32  # tokens are padded to a multiple of it


def sigmoid_loss(embeddings: Embeddings, *, chunk: int = 1024) -> Tensor:
    """This rank's share of the pairwise sigmoid loss over the global batch; ranks' shares add up to it. Collective.

    ``-1/B sum_ij log sigmoid(y_ij (exp(t) z_i . z_j + b))`` with ``y`` +1 on the diagonal and -1 elsewhere, and
    B the global batch (SigLIP, section 3; big_vision `trainers/proj/image_text/siglip.py`). Text embeddings and
    their gradients travel around the ring of ranks together, so memory does not grow with the number of ranks.
    Ranks may have batches of different sizes. They exchange them as CPU tensors, for which the process group needs
    gloo.

    Args:
        embeddings: of this rank's pairs: image and text ``[B_rank, D]``, log temperature and bias ``[1]``.
        chunk: rows of logits in memory at a time.
    """
    with torch.autocast(embeddings.image.device.type, enabled=False):  # exp(t) magnifies the rounding of bf16
        loss = _SigmoidLoss.apply(  # type: ignore[no-untyped-call]
            *(e.float() for e in embeddings[:4]), chunk
        )
    return cast(Tensor, loss)


def share_names(names_UL: Tensor, named_R: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """The names of all ranks, and the regions' indices into them. Collective.

    Every rank then compares its regions with the same names, so the loss does not depend on the number of ranks.

    Args:
        names_UL: token ids of this rank's names; the first is an empty text, which names no region.
        named_R: the name of each region, an index below U, or -1.
        multiple: the result is padded with empty texts to a multiple of it.
    """
    world, rank = _world()
    sizes = _gather_sizes(len(names_UL), world)
    parts = [names_UL]
    if world > 1:
        largest = max(sizes)
        parts = [names_UL.new_empty(largest, names_UL.shape[1]) for _ in sizes]
        dist.all_gather(parts, F.pad(names_UL, (0, 0, 0, largest - len(names_UL))))
        parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    padding = names_UL[:1].expand(-sum(sizes) % multiple, -1)
    return torch.cat([*parts, padding]), torch.where(named_R >= 0, named_R + sum(sizes[:rank]), -1)


def region_loss(embeddings: Embeddings, regions: Regions) -> Tensor:
    """The sigmoid loss of regions against names, summed over both; a name that occurs k times counts 1/k each time.

    It teaches each patch token what stands there, where the loss of pairs sees the pooled image only.

    Args:
        embeddings: with ``region`` and ``name``.
        regions: what they are embeddings of.
    """
    region, name = embeddings.region, embeddings.name
    if region is None or name is None:
        raise ValueError("these embeddings have no regions: give the model regions as well as pairs")
    numbers_U = _number(regions.names)
    times_U = torch.zeros_like(numbers_U).index_add(0, numbers_U, torch.ones_like(numbers_U))[numbers_U]
    own_RU = (numbers_U[regions.named, None] == numbers_U).float()
    with torch.autocast(region.device.type, enabled=False):
        logits_RU = region.float() @ name.float().T * embeddings.log_temperature.exp() + embeddings.bias
        each = F.binary_cross_entropy_with_logits(logits_RU, own_RU, reduction="none") / times_U
        return (each.sum(1) * (regions.named >= 0)).sum()


def _number(rows_UL: Tensor) -> Tensor:
    """A number below U for each row, ``[U]``; the same for equal rows.

    ``torch.unique`` would make the host wait for the GPU, and comparing each row with each takes U x U x L bytes.
    """
    order = torch.arange(len(rows_UL), device=rows_UL.device)
    for column in reversed(rows_UL.unbind(1)):  # a radix sort
        order = order[column[order].argsort(stable=True)]
    differs = (rows_UL[order[1:]] != rows_UL[order[:-1]]).any(1)
    return torch.empty_like(order).index_copy(0, order, F.pad(differs.cumsum(0), (1, 0)))


class _SigmoidLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, log_t: Tensor, bias: Tensor, chunk: int) -> Tensor:
        world, rank = _world()
        sizes = _gather_sizes(len(image), world)
        batch = sum(sizes)
        temperature = log_t.exp()
        grad_image = torch.zeros_like(image)
        grad_log_t, grad_bias = torch.zeros_like(log_t), torch.zeros_like(bias)
        loss = image.new_zeros(())
        travelling, grad_travelling = text, torch.zeros_like(text)
        for hop in range(world):
            own = hop == 0
            for start in range(0, len(image), chunk):
                rows = slice(start, start + chunk)
                similarity = image[rows] @ travelling.T  # [chunk, B_other]
                logits = similarity * temperature + bias
                loss += F.softplus(logits).sum()  # -log sigmoid(-x): every pair as a negative
                grad = logits.sigmoid()
                if own:  # -log sigmoid(x) = softplus(x) - x on the diagonal
                    diagonal = torch.arange(len(grad), device=grad.device)
                    loss -= logits[diagonal, diagonal + start].sum()
                    grad[diagonal, diagonal + start] -= 1
                grad_bias += grad.sum()
                grad_log_t += (grad * similarity).sum() * temperature
                grad_image[rows] += grad @ travelling * temperature
                grad_travelling += grad.T @ image[rows] * temperature
            if world > 1:  # after `world` hops every text is back home, with gradients from all ranks
                size = sizes[(rank - hop - 1) % world]
                travelling, grad_travelling = _pass_on(travelling, grad_travelling, size, world, rank)
        ctx.save_for_backward(*(g / batch for g in (grad_image, grad_travelling, grad_log_t, grad_bias)))
        return loss / batch

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(g * grad for g in ctx.saved_tensors), None)


def _world() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size(), dist.get_rank()
    return 1, 0


def _gather_sizes(size: int, world: int) -> list[int]:
    if world == 1:
        return [size]
    sizes = [torch.zeros(1, dtype=torch.long) for _ in range(world)]  # on the CPU: no GPU kernel is waited for
    dist.all_gather(sizes, torch.tensor([size]))
    return [int(s) for s in sizes]


def _pass_on(text: Tensor, grad: Tensor, size: int, world: int, rank: int) -> tuple[Tensor, Tensor]:
    """Send text and gradient to the next rank; receive ``size`` rows of both from the previous one."""
    both = torch.cat([text, grad], dim=1)
    incoming = both.new_empty(size, both.shape[1])
    operations = [
        dist.P2POp(dist.isend, both, (rank + 1) % world),
        dist.P2POp(dist.irecv, incoming, (rank - 1) % world),
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    width = text.shape[1]
    return incoming[:, :width].contiguous(), incoming[:, width:].contiguous()


def cross_entropy(
    hidden_TD: Tensor,
    head_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    cap: float | None = None,
    chunk: int = 2048,
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of ``hidden @ head.T`` against ``targets``, without ``[T, V]`` logits in memory.

    Args:
        hidden_TD: decoder outputs at positions with loss, ``[T, D]``.
        head_VD: output embedding, ``[V, D]``.
        targets_T: token ids, ``[T]``.
        weights_T: weight of each token in the sum, ``[T]``. The caller divides by the global count of tokens or
            examples, so that the loss does not depend on accumulation or the number of ranks.
        label_smoothing: big_vision's: ``1 - s`` on the target, ``s / (V - 1)`` on each other token.
        z_loss: factor on ``log(Z)^2``.
        cap: bound of the logits, ``cap * tanh(logits / cap)`` as in Gemma 2; None: no bound.
        chunk: rows of logits in memory at a time.

    Returns:
        The weighted sum (a scalar to call backward on), and the negative log-likelihood of each token ``[T]``,
        detached, for per-task reports.
    """
    # pad T so that few distinct shapes occur: CPU libraries keep a compiled matmul for each
    tokens = len(targets_T)
    padding = -tokens % _MULTIPLE
    out = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        F.pad(hidden_TD, (0, 0, 0, padding)),
        head_VD,
        F.pad(targets_T, (0, padding)),
        F.pad(weights_T, (0, padding)),
        label_smoothing,
        z_loss,
        cap,
        chunk,
    )
    loss, nll = cast(tuple[Tensor, Tensor], out)
    return loss, nll[:tokens]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        weights: Tensor,
        smoothing: float,
        z_loss: float,
        cap: float | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_head = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_head = torch.zeros_like(head, dtype=torch.float32) if needs_head else None
        matrix = head.to(matmul_dtype(hidden))  # here rather than by autocast, once a chunk
        vocab = head.shape[0]
        low = smoothing / (vocab - 1) if smoothing else 0.0
        high = 1.0 - smoothing
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        nll = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(targets), chunk):
            rows = slice(start, start + chunk)
            h, target, weight = hidden[rows], targets[rows, None], weights[rows, None].float()
            logits = (h @ matrix.T).float()  # [chunk, V]
            if cap is not None:
                logits = logits.div_(cap).tanh_().mul_(cap)
            log_z = logits.logsumexp(dim=-1, keepdim=True)
            picked = logits.gather(1, target)
            nll[rows] = (log_z - picked)[:, 0]
            # sum_v q_v (log_z - logit_v) with q = high on the target and low elsewhere
            each = log_z - (high - low) * picked + z_loss * log_z**2
            if low:
                each = each - low * logits.sum(dim=-1, keepdim=True)
            loss += (weight * each).sum()
            if needs_hidden or needs_head:
                slope = None if cap is None else 1 - (logits / cap).square_()  # of the tanh
                grad = logits.sub_(log_z).exp_()  # softmax, in place
                grad *= 1 + 2 * z_loss * log_z
                if low:
                    grad -= low
                grad.scatter_add_(1, target, torch.full_like(picked, low - high))
                if slope is not None:
                    grad *= slope
                grad = (grad * weight).to(hidden.dtype)
                if grad_hidden is not None:
                    grad_hidden[rows] = grad @ matrix
                if grad_head is not None:
                    grad_head += (grad.T @ h).float()
        ctx.save_for_backward(grad_hidden, grad_head.to(head.dtype) if grad_head is not None else None)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (None if g is None else g * grad.to(g.dtype) for g in ctx.saved_tensors)
        return (*scaled, None, None, None, None, None, None)
