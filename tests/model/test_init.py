"""Construction allocates, and initialisation fills."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from torch import nn

from openpali.architectures.mask_vqvae import MaskVQVAE, MaskVQVAEArchitecture
from openpali.architectures.pali import PRESETS, PaliModel
from openpali.architectures.registry import architecture_of
from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.architectures.siglip.network import SigLIP
from openpali.model.init import init_weights, materialise
from openpali.model.vit import Classifier
from page_readers import SHAPES

PICO = PRESETS["pico"]
TIED = dataclasses.replace(PICO, text=dataclasses.replace(PICO.text, tied_head=True, bias_per_layer=True))
MODELS = {
    "siglip": lambda: SigLIP(SIGLIP["pico"]),
    "classifier": lambda: Classifier(PICO.vision, 3),
    "pali": lambda: PaliModel(PICO),
    "tied": lambda: PaliModel(TIED),
    "mask_vqvae": lambda: MaskVQVAE(MaskVQVAEArchitecture.presets["pico"]),
    **{name: partial(architecture_of(shape).build, shape) for name, shape in SHAPES.items()},
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_constructors_draw_nothing(kind: str, device: str) -> None:
    before = torch.get_rng_state()
    with torch.device(device):
        MODELS[kind]()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", MODELS)
def test_every_tensor_is_drawn(kind: str) -> None:
    model: nn.Module = MODELS[kind]()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(torch.nan)
    init_weights(model)
    assert [name for name, tensor in model.state_dict().items() if tensor.isnan().any()] == []


@pytest.mark.parametrize("kind", MODELS)
def test_a_seed_gives_the_same_weights_wherever_the_model_was_built(kind: str) -> None:
    with torch.device("meta"):
        empty = MODELS[kind]()
    torch.manual_seed(3)
    first = materialise(empty).state_dict()
    torch.manual_seed(3)
    second = init_weights(MODELS[kind]()).state_dict()
    assert all(torch.equal(first[name], value) for name, value in second.items())
    assert all(parameter.requires_grad for parameter in empty.parameters())


def test_fused_projections_are_drawn_one_by_one() -> None:
    """Xavier's bound of a square matrix, which that of the fused one would halve or so."""
    block = init_weights(SigLIP(SIGLIP["nano"])).vit.encoder.blocks[0]
    bound = (6 / (2 * 192)) ** 0.5
    for weight in block.attention.qkv.weight.chunk(3):
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
