"""Both losses against the plain formula, on one process and on several ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openpali.model.losses import Embeddings, cross_entropy, sigmoid_loss, softmax_loss

from .memory import Largest
from .ranks import EVEN, WORLDS, largest_logits, masks, pairs, share, vqvae

Ranks = dict[int, list[dict[str, Any]]]


def naive_sigmoid_loss(e: Embeddings) -> Tensor:
    """-1/B sum_ij log sigmoid(y_ij (exp(t) z_i . z_j + b))."""
    logits = e.image @ e.text.T * e.log_temperature.exp() + e.bias
    y = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(y * logits).sum() / len(logits)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("rows", [1, 7])
def test_sigmoid_loss_is_the_formula(chunk: int, rows: int) -> None:
    ours, naive = pairs(rows), pairs(rows)
    loss, expected = sigmoid_loss(ours, chunk=chunk), naive_sigmoid_loss(naive)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    (3 * loss).backward()  # a scaled loss scales its gradients
    (3 * expected).backward()
    for mine, theirs in zip(ours[:4], naive[:4], strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=2e-6)


@pytest.mark.parametrize("chunk", [3, 1000])
def test_softmax_loss_is_the_formula(chunk: int) -> None:
    ours, naive = pairs(7), pairs(7)
    loss, expected = softmax_loss(ours, chunk=chunk), naive_softmax_loss(naive)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(ours[:4], naive[:4], strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-6)


def test_sigmoid_loss_holds_chunks_of_logits() -> None:
    with largest_logits() as seen:
        sigmoid_loss(pairs(12), chunk=5)
    assert seen == [5 * 12, 5 * 12, 2 * 12]


def test_softmax_loss_holds_chunks_of_logits() -> None:
    with Largest() as seen:
        softmax_loss(pairs(200), chunk=5).backward()
    assert seen.elements < 200 * 200 / 4


def test_sigmoid_loss_is_float32_under_autocast() -> None:
    ours, plain = pairs(9), pairs(9)
    with torch.autocast("cpu", torch.bfloat16):
        loss = sigmoid_loss(ours)
    expected = sigmoid_loss(plain)
    assert loss == expected
    loss.backward()
    expected.backward()
    assert all(torch.equal(mine.grad, theirs.grad) for mine, theirs in zip(ours[:4], plain[:4], strict=True))


def naive_softmax_loss(e: Embeddings) -> Tensor:
    logits, own = e.image @ e.text.T * e.log_temperature.exp() + e.bias, torch.arange(len(e.image))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
@pytest.mark.parametrize("world", WORLDS)
def test_losses_of_pairs_over_ranks_are_those_of_the_whole_batch(name: str, world: int, ranks: Ranks) -> None:
    whole = pairs(sum(WORLDS[world]))
    loss = naive_sigmoid_loss(whole) if name == "sigmoid" else naive_softmax_loss(whole)
    loss.backward()
    results = [r if name == "sigmoid" else r["softmax"] for r in ranks[world]]
    near = dict(rtol=0, atol=1e-6)
    torch.testing.assert_close(sum(r["loss"] for r in results), loss.detach(), **near)
    torch.testing.assert_close(torch.cat([r["image"] for r in results]), whole.image.grad, **near)
    torch.testing.assert_close(torch.cat([r["text"] for r in results]), whole.text.grad, **near)
    torch.testing.assert_close(sum(r["log_temperature"] for r in results), whole.log_temperature.grad, **near)
    torch.testing.assert_close(sum(r["bias"] for r in results), whole.bias.grad, **near)
    assert all(r["loss"] < loss for r in results if r["loss"] > 0)  # shares, not copies


def test_memory_of_the_sigmoid_loss_does_not_grow_with_the_ranks(ranks: Ranks) -> None:
    with largest_logits() as seen:
        sigmoid_loss(share(pairs(EVEN), slice(None)), chunk=2)
    assert {r["largest"] for results in ranks.values() for r in results} == {max(seen)} == {2 * EVEN}


@pytest.mark.parametrize("world", [2, 4])
def test_codebook_over_ranks_is_that_of_the_whole_batch(world: int, ranks: Ranks) -> None:
    model = vqvae()
    before = model.codebook.clone()
    model(masks())
    assert not torch.equal(model.codebook, before)
    for result in ranks[world]:
        torch.testing.assert_close(result["code_count"], model.code_count, rtol=0, atol=1e-6)
        torch.testing.assert_close(result["codebook"], model.codebook, rtol=0, atol=1e-5)


# ---- cross-entropy ----

VOCAB, WIDTH, TOKENS = 11, 5, 13


def tokens() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator).requires_grad_()
    head = torch.randn(VOCAB, WIDTH, generator=generator).requires_grad_()
    targets = torch.randint(0, VOCAB, (TOKENS,), generator=generator)
    weights = torch.rand(TOKENS, generator=generator)
    weights[2] = 0
    return hidden, head, targets, weights


def naive_cross_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, smoothing: float, z_loss: float
) -> Tensor:
    logits = hidden @ head.T
    wanted = torch.full_like(logits, smoothing / (VOCAB - 1)).scatter(1, targets[:, None], 1 - smoothing)
    each = F.cross_entropy(logits, wanted, reduction="none") + z_loss * logits.logsumexp(-1) ** 2
    return (weights * each).sum()


@pytest.mark.parametrize("chunk", [1, 4, 1000])
@pytest.mark.parametrize("z_loss", [0.0, 1e-1])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_the_formula(smoothing: float, z_loss: float, chunk: int) -> None:
    hidden, head, targets, weights = tokens()
    loss, nll = cross_entropy(hidden, head, targets, weights, label_smoothing=smoothing, z_loss=z_loss, chunk=chunk)
    (2 * loss).backward()
    hidden_2, head_2, *_ = tokens()
    expected = naive_cross_entropy(hidden_2, head_2, targets, weights, smoothing, z_loss)
    (2 * expected).backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden.grad, hidden_2.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(head.grad, head_2.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(nll, F.cross_entropy(hidden @ head.T, targets, reduction="none").detach())
    assert not nll.requires_grad


@pytest.mark.parametrize("learns", [(True, False), (False, True), (False, False)])
def test_cross_entropy_of_frozen_inputs(learns: tuple[bool, bool]) -> None:
    hidden, head, targets, weights = tokens()
    full, _ = cross_entropy(hidden, head, targets, weights, chunk=4)
    full.backward()
    expected = [hidden.grad, head.grad]
    inputs = [x.detach().clone().requires_grad_(learn) for x, learn in zip((hidden, head), learns, strict=True)]
    loss, _ = cross_entropy(inputs[0], inputs[1], targets, weights, chunk=4)
    assert torch.equal(loss, full)
    assert loss.requires_grad == any(learns)
    if any(learns):
        loss.backward()
    for x, grad, learn in zip(inputs, expected, learns, strict=True):
        assert torch.equal(x.grad, grad) if learn else x.grad is None


def test_cross_entropy_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that autograd keeps, and no block of logits, has tokens x vocabulary elements; tokens come in 32s."""
    seen: list[int] = []
    plain = Tensor.logsumexp
    monkeypatch.setattr(
        Tensor, "logsumexp", lambda x, *args, **kwargs: seen.append(x.numel()) or plain(x, *args, **kwargs)
    )
    hidden, head, targets, weights = tokens()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        loss, _ = cross_entropy(hidden, head, targets, weights, chunk=4)
    loss.backward()
    assert seen == [4 * VOCAB] * 8
    assert sorted(kept) == [VOCAB * WIDTH, 32 * WIDTH]


def test_cross_entropy_of_no_tokens_is_zero() -> None:
    hidden, head, targets, weights = tokens()
    loss, nll = cross_entropy(hidden[:0], head, targets[:0], weights[:0])
    loss.backward()
    assert loss == 0
    assert nll.shape == (0,)
    assert torch.equal(head.grad, torch.zeros_like(head))


def test_cross_entropy_in_bfloat16_keeps_dtypes_and_float32_sums() -> None:
    hidden, head, targets, weights = tokens()
    low = hidden.detach().bfloat16().requires_grad_()
    loss, nll = cross_entropy(low, head, targets, weights, chunk=4)
    loss.backward()
    assert (loss.dtype, nll.dtype, low.grad.dtype, head.grad.dtype) == (
        torch.float32,
        torch.float32,
        torch.bfloat16,
        torch.float32,
    )
    expected, _ = cross_entropy(hidden, head, targets, weights)
    torch.testing.assert_close(loss, expected, rtol=2e-2, atol=0)


@pytest.mark.parametrize("world", WORLDS)
def test_ranks_gather_rows_of_any_dtype_and_share_the_work_of_muon(world: int, ranks: Any) -> None:
    """Where a rank may have no row, and there are more ranks than matrices."""
    parts = [torch.arange(2.0 * size).view(-1, 2) + 100 * rank for rank, size in enumerate(WORLDS[world])]
    for seen in ranks[world]:
        assert torch.equal(seen["gathered"], torch.cat(parts).bfloat16())
        torch.testing.assert_close(seen["orthogonal"], torch.zeros(2, 3, 4), atol=1e-6, rtol=0)
