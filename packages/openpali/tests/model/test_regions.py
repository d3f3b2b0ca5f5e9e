"""What patches learn of named places: which patch is part of what, and the losses, against plain loops."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou

from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.architectures.siglip.network import SigLIP, normalize
from openpali.model.init import init_weights
from openpali.model.regions import PADDING, UNKNOWN, Places, Regions, places_of, region_loss, side_loss

from .memory import Largest
from .ranks import pairs


def test_region_loss_is_the_sigmoid_loss_of_regions_and_names() -> None:
    generator = torch.Generator().manual_seed(5)
    region, name = (F.normalize(torch.randn(n, 7, generator=generator), dim=1).requires_grad_() for n in (4, 3))
    named = torch.tensor([2, 0, -1, 2])
    regions = Regions(torch.zeros(4), torch.zeros(4, 4), torch.tensor([[3, 1], [1, 1], [4, 5]]), named)
    embeddings = pairs(1)._replace(region=region, name=name)
    loss = region_loss(embeddings, regions, places_of(regions))
    expected = 0.0
    for row in (0, 1, 3):
        logits = name @ region[row] * torch.tensor(1.5).exp() - 2
        sign = torch.where(torch.arange(3) == named[row], 1, -1)
        expected = expected - F.logsigmoid(sign * logits).sum()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert not region.grad[2].any()
    assert region.grad[[0, 1, 3]].any(1).all()
    with pytest.raises(ValueError):
        region_loss(pairs(1), regions, places_of(regions))
    twice = regions._replace(names=regions.names[[2, 0, 1, 2]], named=torch.tensor([3, 1, -1, 0]))
    doubled = embeddings._replace(name=name[[2, 0, 1, 2]])
    torch.testing.assert_close(region_loss(doubled, twice, places_of(twice)), expected)


def test_softmax_of_regions_is_the_cross_entropy_over_distinct_names() -> None:
    """Where no region is, the empty text, which is the last, is right."""
    generator = torch.Generator().manual_seed(5)
    region, name = (F.normalize(torch.randn(n, 7, generator=generator), dim=1) for n in (4, 3))
    distinct = torch.tensor([[4, 5], [3, 1], [1, 1]])
    regions = Regions(torch.zeros(2), torch.zeros(2, 4), distinct[[1, 0, 1, 2]], torch.tensor([2, 1]))
    places = Places(torch.tensor([0, 1, -1, -1]), torch.tensor([1.0, 0.5, 0.25, 0.0]))
    embeddings = pairs(1)._replace(region=region.requires_grad_(), name=name[[1, 0, 1, 2]])
    loss = region_loss(embeddings, regions, places, softmax=True)
    logits = region @ name.T * torch.tensor(1.5).exp()
    expected = F.cross_entropy(logits, torch.tensor([1, 0, 2, 2]), reduction="none") @ places.weights
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(region_loss(embeddings, regions, places, softmax=True, chunk=3), expected)
    loss.backward()
    assert not region.grad[3].any()


def test_memory_of_the_region_loss_does_not_grow_with_pairs_of_names() -> None:
    names, named = torch.randint(0, 9, (500, 4)), torch.arange(3)
    embeddings = pairs(1)._replace(region=torch.randn(3, 7), name=torch.randn(500, 7))
    regions = Regions(torch.zeros(3), torch.zeros(3, 4), names, named)
    with Largest() as seen:
        region_loss(embeddings, regions, places_of(regions))
    assert seen.elements < 500 * 500 / 10


def test_a_region_is_the_patch_at_its_centre() -> None:
    config = SIGLIP["pico"]
    model = init_weights(SigLIP(config))
    images = torch.randint(0, 256, (2, 72, 72, 3), dtype=torch.uint8)
    ids = torch.ones(2, config.text.length, dtype=torch.long)
    centres = torch.tensor([[0.0, 0.99], [0.5, 0.49], [1.0, 1.0]])  # patches (0, 5), (3, 2) and the last
    regions = Regions(torch.tensor([0, 1, 1]), centres.repeat(1, 2), ids[:1], torch.zeros(3, dtype=torch.long))
    out = model(images, ids, regions)
    tokens = model.vit(images)
    expected = model.pool(torch.stack([tokens[0, 5], tokens[1, 3 * 6 + 2], tokens[1, -1]])[:, None])
    torch.testing.assert_close(out.region, normalize(expected))
    torch.testing.assert_close(out.name, model.embed_text(ids[:1]))
    assert model(images, ids).region is None


# ---- every patch ----


def scene() -> tuple[SigLIP, Regions]:
    """Two images of 6 x 6 patches. The first has a large thing, a smaller one within it, and one that lies between
    the centres of patches; the second has nothing but padding of regions."""
    model = init_weights(SigLIP(dataclasses.replace(SIGLIP["pico"], sides=True)))
    boxes = torch.tensor([[0, 0, 2 / 3, 1], [0.3, 0, 0.7, 0.5], [0.98, 0.98, 1, 1], [0, 0, 1, 1]])
    names = torch.tensor([[1, 1], [5, 1], [7, 1]])
    points = model.vit.centres(36).expand(2, -1, -1)
    return model, Regions(torch.tensor([0, 0, 0, 1]), boxes, names, torch.tensor([1, 2, 1, -1]), points)


def test_a_patch_is_part_of_the_smallest_thing_that_holds_its_centre() -> None:
    _, regions = scene()
    region, weights = (each.view(2, 6, 6) for each in places_of(regions))
    expected = torch.full((6, 6), -1)
    expected[:4] = 0
    expected[2:4, :3] = 1
    expected[5, 5] = 2  # although it holds no centre of a patch
    assert torch.equal(region[0], expected)
    assert (region[1] == -1).all()
    for number, patches in ((0, 18), (1, 6), (2, 1), (-1, 11)):
        torch.testing.assert_close(weights[0][expected == number], torch.full((patches,), 1 / patches))
    assert not weights[1].any()  # an image without regions may show anything


def test_what_may_be_anything_does_not_teach_that_nothing_is_there() -> None:
    _, regions = scene()
    boxes = torch.cat((regions.boxes, torch.tensor([[0.5, 0.5, 1, 1]])))
    more = {"rows": torch.tensor([0, 0, 0, 0, 0]), "named": torch.tensor([1, 2, 1, PADDING, UNKNOWN])}
    region, weights = (each.view(2, 6, 6) for each in places_of(regions._replace(boxes=boxes, **more)))
    alone = places_of(regions)
    assert torch.equal(region, alone.region.view(2, 6, 6))
    assert not weights[0, 4:, 3:][region[0, 4:, 3:] == -1].any()
    torch.testing.assert_close(weights[0, 4:, :3], torch.full((2, 3), 1 / 6))
    assert torch.equal(weights[0][region[0] >= 0], alone.weights.view(2, 6, 6)[0][region[0] >= 0])


def test_losses_of_every_patch_are_those_of_plain_loops() -> None:
    _, regions = scene()
    generator = torch.Generator().manual_seed(3)
    region, name = (F.normalize(torch.randn(n, 7, generator=generator), dim=1).requires_grad_() for n in (72, 3))
    sides = torch.rand(72, 4, generator=generator).requires_grad_()
    embeddings = pairs(1)._replace(region=region, name=name, sides=sides)
    places, named, of_names, of_sides = places_of(regions), [1, 2, 1], torch.zeros(()), torch.zeros(())
    for patch, (thing, weight) in enumerate(zip(places.region.tolist(), places.weights, strict=True)):
        logits = name @ region[patch] * torch.tensor(1.5).exp() - 2
        sign = torch.tensor([1 if thing >= 0 and named[thing] == n else -1 for n in range(3)])
        of_names = of_names - weight * F.logsigmoid(sign * logits).sum()
        if thing >= 0:
            (y, x), (top, left, bottom, right) = regions.points.flatten(0, 1)[patch], sides[patch]
            true = regions.boxes[thing]
            if thing == 2:  # its sides are no nearer than a thousandth
                true = torch.tensor([y - 0.001, x - 0.001, 1, 1])
            found = torch.stack([y - top, x - left, y + bottom, x + right])
            of_sides = of_sides + weight * (1 - generalized_box_iou(found[None], true[None])[0, 0])
    torch.testing.assert_close(region_loss(embeddings, regions, places), of_names)
    torch.testing.assert_close(side_loss(embeddings, regions, places), of_sides)
    whole = torch.autograd.grad(region_loss(embeddings, regions, places), (region, name))
    loss = region_loss(embeddings, regions, places, chunk=7)
    torch.testing.assert_close(loss, of_names)
    torch.testing.assert_close(torch.autograd.grad(loss, (region, name)), whole)


def test_logits_of_every_patch_are_in_memory_by_chunks() -> None:
    _, regions = scene()
    regions = regions._replace(names=torch.randint(0, 9, (50, 4)))
    embeddings = pairs(1)._replace(region=torch.randn(72, 7), name=torch.randn(50, 7))
    with Largest() as seen:
        region_loss(embeddings, regions, places_of(regions), chunk=8)
    assert seen.elements < 72 * 50 / 4


def test_every_patch_is_pooled_alone_and_tells_its_sides() -> None:
    model, regions = scene()
    images = torch.randint(0, 256, (2, 72, 72, 3), dtype=torch.uint8)
    ids = torch.ones(3, model.config.text.length, dtype=torch.long)
    out = model(images, ids[:2], regions._replace(names=ids))
    tokens = model.vit(images)
    torch.testing.assert_close(out.region[40], normalize(model.pool(tokens[1, 4][None, None]))[0])
    assert out.sides.shape == (72, 4)
    assert (out.sides > 0).all()
    with pytest.raises(ValueError):
        init_weights(SigLIP(SIGLIP["pico"])).side_distances(tokens)
    with pytest.raises(ValueError):
        side_loss(out, regions._replace(points=None), places_of(regions))
