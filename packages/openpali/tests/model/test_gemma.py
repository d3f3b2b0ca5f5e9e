"""PaliGemma and T5Gemma 2: what may see what, and the cache. `tests/interop` compares them with transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openpali.architectures.t5gemma2.network import T5Gemma2Model, both_ways, merged_masks
from openpali.model import attention
from openpali.model.attention import Band
from openpali.model.gemma import prefix_masks
from openpali.model.init import init_weights
from openpali.model.vision_language import VisionLanguageModel
from tiny_gemma import KINDS


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    torch.manual_seed(0)
    return init_weights(KINDS[request.param]()).eval()


prefix_lms = pytest.mark.parametrize("model", ["gemma", "gemma2"], indirect=True)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 2, 8, 8, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


PROMPTS = torch.tensor([[11, 12, 13, 14], [15, 16, 0, 0]])
TEXTS = torch.tensor([[21, 22, 23, 24, 25, 26], [27, 28, 29, 30, 31, 1]])


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=5e-6)


def test_masks_by_hand() -> None:
    positions = torch.tensor([[1, 2, 0, 3, 4, 5, 6]])  # two of a prefix, padding, its separator, three of a text
    masks = prefix_masks(positions, positions, torch.tensor([3]), window=2)
    full = """
        11.1...
        11.1...
        11.1...
        11.1...
        11.11..
        11.111.
        11.1111"""
    near = """
        11.1...
        11.1...
        11.1...
        11.1...
        ...11..
        ....11.
        .....11"""
    for mask, drawn in ((masks.full, full), (masks.near, near)):
        assert ["".join(".1"[seen] for seen in row) for row in mask[0, 0].tolist()] == drawn.split()


def test_masks_of_an_encoder_decoder_by_hand() -> None:
    drawn = """
        111...
        1111..
        .1111.
        ..111.
        ...11.
        ....1."""
    real = torch.tensor([[True] * 5 + [False]])
    seen = both_ways(real, 4)  # one before, two after: an even window has one more after
    assert isinstance(seen.near, Band)
    for start, end in ((0, 6), (2, 4), (5, 6)):  # of each block, the keys outside are seen by none
        keys, mask = seen.near.block(start, end)
        rows = ["".join(".1"[key] for key in row) for row in mask[0, 0].tolist()]
        assert rows == [row[keys] for row in drawn.split()[start:end]]
        assert all("1" not in row[: keys.start] + row[keys.stop :] for row in drawn.split()[start:end])
    assert seen.full.tolist() == [[real.tolist()]]
    masks = merged_masks(torch.tensor([[2, 3]]), 4, torch.tensor([[True, False]]), 2)
    assert masks.full.int().tolist() == [[[[1, 0, 1, 1, 1, 0], [1, 0, 1, 1, 1, 1]]]]
    assert masks.near.int().tolist() == [[[[1, 0, 0, 1, 1, 0], [1, 0, 0, 0, 1, 1]]]]


@prefix_lms
@torch.no_grad()
def test_the_prefix_sees_all_of_itself_and_a_text_only_its_past(model: VisionLanguageModel, images: Tensor) -> None:
    before = model(images, PROMPTS, TEXTS)
    changed = model(images, PROMPTS, torch.cat([TEXTS[:, :3], TEXTS[:, 3:].flip(1)], dim=1))
    same(changed[:, :4], before[:, :4])
    assert not torch.allclose(changed[:, 4:], before[:, 4:])
    last = PROMPTS.clone()
    last[0, 3] = 17  # the last of the prompt: visual tokens see it, too
    caches = [model.start(model.encode(images, prompts), 1) for prompts in (PROMPTS, last)]
    before, after = (cache.memory.layer(2)[0] for cache in caches)  # keys [B, g, N, d]
    assert not torch.allclose(before[0, :, 0], after[0, :, 0])
    same(before[1], after[1])


@torch.no_grad()
def test_neighbours_and_missing_frames_change_nothing(model: VisionLanguageModel, images: Tensor) -> None:
    together = model(images, PROMPTS, TEXTS, torch.tensor([2, 1]))
    same(together[:1], model(images[:1], PROMPTS[:1], TEXTS[:1]))
    same(together[1:], model(images[1:, :1], PROMPTS[1:, :2], TEXTS[1:]))
    alone = model(None, PROMPTS[1:, :2], TEXTS[1:])
    assert not torch.allclose(alone, together[1:])


@torch.no_grad()
@pytest.mark.parametrize("model", ["t5gemma2"], indirect=True)
def test_images_stand_where_the_prompt_has_their_marks(model: T5Gemma2Model, images: Tensor) -> None:
    start, end, blank, bos = 5, 6, 4, 2
    visual = model.embed_images(images)  # [2, 2, D]: one token each
    prompts = torch.tensor([[11, start, 12, 13], [15, start, 0, 0]])
    x, real = model.assemble(visual, prompts)
    one = [blank, start, 0, end, blank]
    expected = [[bos, *one, 11, *one, 12, 13], [bos, *one, 15, *one]]
    assert real.sum(1).tolist() == [len(row) for row in expected]
    for row, ids, seen in zip(x, expected, visual, strict=True):
        embedded = model.text.embed(torch.tensor(ids))
        embedded[[i for i, token in enumerate(ids) if token == 0]] = seen
        same(row[: len(ids)], embedded)
    x, real = model.assemble(visual[:, :1], prompts, torch.tensor([1, 0]))
    assert real.sum(1).tolist() == [1 + 8, 3]
    same(x[1, :3], model.text.embed(torch.tensor([bos, 15, start])))
    model.vit.set_grid((2, 3))
    with pytest.raises(ValueError):
        model.embed_images(torch.zeros(1, 1, 8, 12, 3))


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[1] * 6, [2, 1, 3]])
def test_steps_equal_the_whole(model: VisionLanguageModel, images: Tensor, sizes: list[int]) -> None:
    memory = model.encode(images, PROMPTS)
    cache = model.start(memory, 6)
    steps = [model.step(ids, cache) for ids in model.shift(TEXTS).split(sizes, dim=1)]
    same(torch.cat(steps, dim=1), model.logits(model.decode(TEXTS, memory)))


@torch.no_grad()
def test_rows_join_at_any_step(model: VisionLanguageModel, images: Tensor) -> None:
    memory, other = model.encode(images, PROMPTS), model.encode(images[:, :1], PROMPTS[:, :2])
    first, second = model.logits(model.decode(TEXTS, memory)), model.logits(model.decode(TEXTS, other))
    inputs = model.shift(TEXTS)
    cache = model.start(other, 6)
    same(model.step(inputs[:, :3], cache), second[:, :3])
    cache.append(model.start(memory, 6))
    both = model.step(torch.cat([inputs[:, 3:5], inputs[:, :2]]), cache)
    same(both, torch.cat([second[:, 3:5], first[:, :2]]))
    cache.reorder(torch.tensor([3, 0]))
    same(
        model.step(torch.stack([inputs[1, 2], inputs[0, 5]])[:, None], cache)[:, 0],
        torch.stack([first[1, 2], second[0, 5]]),
    )


def test_blocks_of_queries_have_the_same_gradients(
    model: VisionLanguageModel, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradients() -> list[Tensor]:
        model.zero_grad()
        model.logits(model(images, PROMPTS, TEXTS)).square().mean().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    whole = gradients()
    monkeypatch.setattr(attention, "QUERY_BLOCK", 5)
    for a, b in zip(whole, gradients(), strict=True):
        same(a, b)


@prefix_lms
def test_scores_and_logits_are_bounded(model: VisionLanguageModel) -> None:
    capped = model.config.text.logit_cap is not None
    assert (model.logits(torch.full((1, 16), 100.0)).abs().max() <= 3) == capped
    q = torch.tensor([[[[3.0, 0.0]], [[0.0, 5.0]]]])  # two heads of queries, which share keys
    k = torch.tensor([[[[100.0, 0.0], [0.0, 0.1]]]])
    seen = attention.attend_grouped(attention.auto, q, k, torch.eye(2)[None, None], None, 1.0, 2.0)
    scores = 2 * torch.tanh(torch.tensor([[300.0, 0.0], [0.0, 0.5]]) / 2)
    same(seen[0, :, 0], scores.softmax(-1))
