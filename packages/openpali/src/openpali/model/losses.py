"""The two losses of PaLI-3: pairwise sigmoid (stage 0) and cross-entropy over the vocabulary (all other stages).
The region losses of stage 0 are in `regions.py`.

Both compute their gradients chunk by chunk in the forward pass: neither the batch x batch nor the
tokens x vocabulary matrix is ever in memory, and nothing is computed twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from openpali.model.collectives import gather_sizes, gather_with_gradient, pass_on, world_and_rank
from openpali.model.layers import matmul_dtype


class Embeddings(NamedTuple):
    """L2-normalised embeddings ``[B, D]`` and the two scalars of the loss."""

    image: Tensor
    text: Tensor
    log_temperature: Tensor
    bias: Tensor
    # region, name: embeddings of places [R, D], or of every patch [B * N, D], and of names [U, D], if there are any
    region: Tensor | None = None
    name: Tensor | None = None
    # distances of each patch to the sides of the thing that it is part of, as shares of the image: [B * N, 4]
    sides: Tensor | None = None
    tokens: Tensor | None = None  # the image encoder's patch tokens, as they are: [B, N, D]


_MULTIPLE = 32  # tokens are padded to a multiple of it


def sigmoid_loss(embeddings: Embeddings, *, chunk: int = 1024) -> Tensor:
    """This rank's share of the pairwise sigmoid loss over the global batch; ranks' shares add up to it. Collective.

    ``-1/B sum_ij log sigmoid(y_ij (exp(t) z_i . z_j + b))`` with ``y`` +1 on the diagonal and -1 elsewhere, and
    B the global batch (SigLIP, section 3; big_vision `trainers/proj/image_text/siglip.py`). Text embeddings and
    their gradients travel around the ring of ranks together, so memory does not grow with the number of ranks.
    Ranks may have batches of different sizes.

    Args:
        embeddings: of this rank's pairs: image and text ``[B_rank, D]``, log temperature and bias ``[1]``.
        chunk: rows of logits in memory at a time.
    """
    with torch.autocast(embeddings.image.device.type, enabled=False):  # exp(t) magnifies the rounding of bf16
        loss = _SigmoidLoss.apply(  # type: ignore[no-untyped-call]
            *(e.float() for e in embeddings[:4]), chunk
        )
    return cast(Tensor, loss)


def softmax_loss(embeddings: Embeddings, *, chunk: int = 1024) -> Tensor:
    """This rank's share of the softmax loss over the global batch; ranks' shares add up to it. Collective.

    The mean cross-entropy of each image over all texts, and of each text over all images: InfoNCE, as in CLIP
    (arXiv 2103.00020, figure 3). Every rank holds the embeddings of all ranks, but only ``chunk`` rows of logits.

    Args:
        embeddings: as for :func:`sigmoid_loss`.
        chunk: rows of logits in memory at a time.
    """
    with torch.autocast(embeddings.image.device.type, enabled=False):
        image, text = embeddings.image.float(), embeddings.text.float()
        _, rank = world_and_rank()
        sizes = gather_sizes(len(image))
        own = torch.arange(len(image), device=image.device) + sum(sizes[:rank])
        weights = torch.full_like(own, 1 / (2 * sum(sizes)), dtype=torch.float32)
        temperature = embeddings.log_temperature.float().exp()
        total = 0.0 * embeddings.bias.float().sum()  # a bias of all logits changes no softmax
        for mine, others in ((image, text), (text, image)):
            everyone = gather_with_gradient(others, sizes)
            total = total + cross_entropy(temperature * mine, everyone, own, weights, chunk=chunk)[0]
        return total


class _SigmoidLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, log_t: Tensor, bias: Tensor, chunk: int) -> Tensor:
        world, rank = world_and_rank()
        sizes = gather_sizes(len(image))
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
                both = pass_on(torch.cat([travelling, grad_travelling], dim=1), sizes[(rank - hop - 1) % world])
                travelling, grad_travelling = (half.contiguous() for half in both.tensor_split(2, dim=1))
        ctx.save_for_backward(*(g / batch for g in (grad_image, grad_travelling, grad_log_t, grad_bias)))
        return loss / batch

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(g * grad for g in ctx.saved_tensors), None)


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
