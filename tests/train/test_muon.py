"""Muon: orthogonal updates for matrices, exactly AdamW for the rest."""

from __future__ import annotations

import pytest
import torch

from openpali.train.optim.muon import MOMENTUM, SIZE, Muon, _iterate, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = torch.linalg.svdvals(orthogonalize(matrix))
    assert found.min() > 0.5
    assert found.max() < 1.3
    rotated = u.T @ orthogonalize(matrix) @ v.T  # diagonal in the matrix's own singular vectors
    torch.testing.assert_close(rotated, rotated.diag().diag(), atol=1e-4, rtol=0)


def test_wide_matrices_are_orthogonalised_alike_by_their_squares() -> None:
    """Also with singular values from 1 to 1e-4; in half precision, where squares lose them, as they stand."""
    torch.manual_seed(0)
    matrix = torch.randn(3, 16, 40) @ torch.diag(torch.logspace(0, -4, 40))
    unit = matrix / torch.linalg.matrix_norm(matrix, keepdim=True)
    torch.testing.assert_close(orthogonalize(matrix), _iterate(unit), atol=1e-3, rtol=0)
    half = matrix.bfloat16()
    assert torch.equal(orthogonalize(half), _iterate(half / (torch.linalg.matrix_norm(half, keepdim=True) + 1e-7)))


def test_the_first_update_is_the_orthogonalised_gradient_at_its_size() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(6, 10))
    before, gradient = weight.detach().clone(), torch.randn(6, 10)
    weight.grad = gradient
    Muon([{"params": [weight], "orthogonal": True, "weight_decay": 0.1}], lr=0.5, betas=(0.9, 0.99)).step()
    nesterov = gradient * (1 - MOMENTUM) + gradient * (1 - MOMENTUM) * MOMENTUM
    expected = before * (1 - 0.05) - 0.5 * SIZE * 10**0.5 * orthogonalize(nesterov)
    torch.testing.assert_close(weight.detach(), expected)


def test_other_groups_are_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.arange(6.0)) for _ in range(2))
    muon = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.01, betas=(0.9, 0.98))
    adam = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    for _ in range(5):
        gradient = torch.randn(6)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_parameters_without_gradient_stay() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    Muon([{"params": [weight], "orthogonal": True, "weight_decay": 0.1}], lr=1.0, betas=(0.9, 0.99)).step()
    assert (weight == 1).all()
