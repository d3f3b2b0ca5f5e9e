"""The finder and the reader: shapes, padding, and losses beside oracles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openpali.model.init import materialise
from openpali.model.vit import ViTConfig
from openpali_screen.find.network import Cells, Finder, FinderConfig, Truth, finding_loss
from openpali_screen.read.network import Reader, ReaderConfig, best_path, placing_loss, reading_loss
from openpali_screen.vit import PageViT

TINY = ViTConfig(patch_size=16, grid=(2, 4), width=32, depth=1, mlp_dim=64, heads=2)


@pytest.fixture
def reader() -> Reader:
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Reader(ReaderConfig(TINY, tuple(" abc")))
    materialise(model)
    return model


def images(count: int, width: int = 64) -> Tensor:
    torch.manual_seed(width)
    return torch.randint(0, 256, (count, 32, width, 3), dtype=torch.uint8)


def test_a_finder_says_something_of_every_cell() -> None:
    with torch.device("meta"):
        finder = Finder(FinderConfig(TINY))
    materialise(finder)
    with torch.no_grad():
        finder.around.weight.zero_()
        finder.around.bias.zero_()
        finder.within.weight.zero_()
        bias = finder.within.bias.data.view(4, 4, -1)
        bias[..., 0] = torch.arange(16).view(4, 4)
        bias[..., 1:] = 0
        finder.head.weight[0] = torch.eye(32)[0]
        cells = finder(images(2))
    assert {part.shape for part in cells} == {torch.Size([2, 8, 16])}
    values = torch.nn.functional.gelu(bias[..., 0]) - 2
    torch.testing.assert_close(cells.logits[0, :4, :4], values)
    torch.testing.assert_close(cells.logits[1, 4:, 12:], values)
    assert torch.all(cells.up > 0)


def test_patches_are_what_the_stem_makes() -> None:
    with pytest.raises(ValueError):
        PageViT(ViTConfig(14, (2, 2), 32, 1, 64, 2))


def test_padding_changes_no_line(reader: Reader) -> None:
    narrow, wide = images(1, 32), images(1, 64)
    batch = torch.zeros(2, 32, 64, 3, dtype=torch.uint8)
    batch[0, :, :32], batch[1] = narrow[0], wide[0]
    together = reader(batch, torch.tensor([2, 4]))
    assert together.shape == (2, 16, 5)
    torch.testing.assert_close(together[0, :8], reader(narrow)[0])
    torch.testing.assert_close(together[1], reader(wide)[0])


@pytest.mark.parametrize("shape", [(32, 80), (32, 24), (48, 32)])
def test_a_reader_refuses_what_it_has_no_positions_for(reader: Reader, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        reader(torch.zeros(1, *shape, 3, dtype=torch.uint8))


def test_the_loss_of_a_line_is_that_of_all_its_paths() -> None:
    torch.manual_seed(1)
    logits, target = torch.randn(1, 4, 3), [1, 2]
    likelihood = torch.zeros(())
    for path in torch.cartesian_prod(*[torch.arange(3)] * 4).tolist():
        written = [c for c, before in zip(path, [0, *path], strict=False) if c and c != before]
        if written == target:
            likelihood += logits[0].softmax(-1)[range(4), path].prod()
    padded = torch.cat([logits, torch.randn(1, 2, 3)], 1)
    loss = reading_loss(padded, torch.tensor([4]), torch.tensor([[1, 2, 0]]))
    torch.testing.assert_close(loss, -likelihood.log()[None])


def test_the_best_path_has_no_repeats_and_no_blanks() -> None:
    paths = torch.tensor([[1, 1, 0, 1, 2, 2], [0, 0, 3, 3, 3, 1], [1, 2, 1, 2, 0, 0], [1, 2, 3, 0, 0, 0]])
    logits = torch.nn.functional.one_hot(paths, 4).float()
    written = best_path(logits, torch.tensor([6, 6, 6, 2]), 3)
    assert written[0].tolist() == [1, 1, 2]
    assert written[1].tolist() == [3, 1, 0]
    assert written[2].tolist() == [1, 2, -1]  # there are more
    assert written[3].tolist() == [1, 2, 0]  # the rest is padding


def test_a_perfect_finder_has_no_loss_and_unknown_cells_do_not_count() -> None:
    text = torch.zeros(1, 4, 4, dtype=torch.int8)
    text[0, 1, :2], text[0, 3] = 1, -1
    height = torch.where(text > 0, 6.0, 0.0)
    logits = torch.where(text > 0, 50.0, -50.0)
    logits[0, 3] = 50.0
    known = torch.full_like(height, 6.0)
    truth = Truth(text, height, height, torch.ones_like(height))
    assert finding_loss(Cells(logits, known, known), truth).item() < 1e-4
    half = finding_loss(Cells(logits, known / 2, known / 2), truth)
    assert half.item() == pytest.approx(0.5, abs=1e-4)  # 1 - IoU
    wrong = logits.clone()
    wrong[0, 0, 0] = 50.0
    once = finding_loss(Cells(wrong, known, known), truth).item()
    assert once > 1
    heavy = truth._replace(weight=torch.where(wrong == logits, 1.0, 4.0))
    assert finding_loss(Cells(wrong, known, known), heavy).item() == pytest.approx(once * 4 * 12 / 15)


def test_a_character_counts_in_one_of_three_columns() -> None:
    probabilities = torch.full((1, 6, 4), 0.25)
    probabilities[0, 2] = torch.tensor([0.01, 0.97, 0.01, 0.01])
    probabilities[0, 5] = torch.tensor([0.01, 0.01, 0.01, 0.97])
    loss = placing_loss(probabilities.log(), torch.tensor([[3, 5, -1]]), torch.tensor([[1, 2, 3]]))
    near, far = (0.97 + 0.25 + 0.25) / 3, (0.25 + 0.01 + 0.01) / 3  # the last column counts for the one after it
    torch.testing.assert_close(loss, -torch.tensor([near, far]).log().mean()[None])
    assert placing_loss(probabilities.log(), torch.tensor([[-1]]), torch.tensor([[1]])).tolist() == [0]
