"""What objectives report beside their loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from openpali.model.siglip import Embeddings
from openpali.train.objectives import hits


def test_hits_are_those_of_the_whole_matrix_and_cost_no_graph() -> None:
    torch.manual_seed(0)
    image = F.normalize(torch.randn(7, 4, requires_grad=True), dim=1)
    text = F.normalize(image + 0.5 * torch.randn(7, 4), dim=1)
    found = [hits(Embeddings(image, text, torch.zeros(1), torch.zeros(1)), chunk) for chunk in (1, 3, 1024)]
    expected = (image @ text.T).argmax(1) == torch.arange(7)
    assert 0 < expected.sum() < 7
    assert all(torch.equal(each, expected) for each in found)
    assert not found[0].requires_grad
