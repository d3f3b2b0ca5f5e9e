"""Values that objectives report beside their loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from openpali.model.siglip import Embeddings
from openpali.train.objectives import hits


def test_hits_are_the_same_in_chunks_and_have_no_gradient() -> None:
    torch.manual_seed(0)
    image = F.normalize(torch.randn(7, 4, requires_grad=True), dim=1)
    text = image[[0, 1, 2, 4, 3, 5, 6]]
    for chunk in (1, 3, 1024):
        found = hits(Embeddings(image, text, torch.zeros(1), torch.zeros(1)), chunk)
        assert found.tolist() == [True, True, True, False, False, True, True]
        assert not found.requires_grad
