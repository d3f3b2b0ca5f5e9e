"""Parameters against the papers' numbers, operations against torch's own counter."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from openpali.architectures.mask_vqvae import MaskVQVAE, MaskVQVAEArchitecture
from openpali.architectures.pali import PRESETS, PaliModel, PaliModelConfig
from openpali.architectures.paligemma import PRESETS as PALIGEMMA
from openpali.architectures.paligemma import PaliGemmaConfig, PaliGemmaModel
from openpali.architectures.registry import architecture_of, build
from openpali.architectures.siglip.architecture import PRESETS as SIGLIP
from openpali.architectures.siglip.network import SigLIP
from openpali.architectures.t5gemma2.architecture import PRESETS as T5GEMMA2
from openpali.architectures.t5gemma2.network import T5Gemma2Config, T5Gemma2Model
from openpali.model.gemma import GemmaConfig
from openpali.model.init import init_weights
from openpali.model.t5 import T5Config
from openpali.model.vit import ViTConfig
from openpali_lab.sizes import PARTS, count_parameters, flops_per_image, flops_per_token, parameters_per_token

MILLION = 10**6
count = functools.cache(count_parameters)  # building the largest takes a second


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_built(name: str) -> None:
    preset = PRESETS[name]
    with torch.device("meta"):
        models = SigLIP(SIGLIP[name]), MaskVQVAE(MaskVQVAEArchitecture.presets[name])
    assert all(p.is_meta for model in models for p in model.parameters())
    counts = count(preset)  # builds the PaLI
    assert tuple(counts) == PARTS
    assert counts["vision"] == sum(p.numel() for p in models[0].vit.parameters())  # stage 0 hands its tower on


@pytest.mark.parametrize(
    ("preset", "parts", "millions", "within"),
    [
        ("pali3-5b", ("vision",), 1840, 10),  # ViT-G/14 (Zhai et al. 2022), no pooling head
        ("pali3-5b", ("encoder", "decoder"), 2720, 10),  # UL2 3B without embeddings
        ("pali3-5b", PARTS, 5200, 500),
        ("large", ("vision",), 412, 1),  # SigLIP So400m/14 without its head
        ("large", ("encoder", "decoder"), 2720, 10),
        ("base", ("vision",), 85.8, 0.1),  # ViT B/16
        ("base", ("encoder", "decoder"), 198.2, 0.1),  # T5 v1.1 base: 247.6M with 32128 x 768 twice
        ("mini", PARTS, 30, 2),
        ("nano", PARTS, 8.3, 0.2),
        ("pali3-b16", ("vision",), 85.8, 0.1),
        ("pali3-l16", ("vision",), 303.2, 0.2),  # ViT L/16
    ],
)
def test_sizes_are_the_published_ones(preset: str, parts: tuple[str, ...], millions: float, within: float) -> None:
    counts = count(PRESETS[preset])
    assert sum(counts[part] for part in parts) / MILLION == pytest.approx(millions, abs=within)


TINY = PaliModelConfig(
    ViTConfig(patch_size=4, grid=(2, 3), width=12, depth=2, mlp_dim=20, heads=3),
    T5Config(31, d_model=16, d_head=6, heads=2, d_ff=24, encoder_layers=2, decoder_layers=3),
)
TINY_GEMMA = PaliGemmaConfig(
    TINY.vision,
    GemmaConfig(31, d_model=16, d_head=6, heads=4, kv_heads=2, d_ff=24, layers=2, query_scalar=6, score_cap=50.0),
    separator=3,
)

TINY_ENCODER_DECODER = T5Gemma2Config(
    replace(TINY.vision, grid=(2, 4)),
    replace(TINY_GEMMA.text, layers=3, d_ff=12, score_cap=None),
    replace(TINY_GEMMA.text, kv_heads=1, score_cap=None),
    pool=2,
    before=(4, 5),
    after=(6, 4),
)


def test_the_parts_add_up() -> None:
    assert sum(count_parameters(TINY).values()) == sum(p.numel() for p in PaliModel(TINY).parameters())
    whole = sum(p.numel() for p in PaliGemmaModel(TINY_GEMMA).parameters())
    assert sum(count_parameters(TINY_GEMMA).values()) == whole
    whole = sum(p.numel() for p in T5Gemma2Model(TINY_ENCODER_DECODER).parameters())
    assert sum(count_parameters(TINY_ENCODER_DECODER).values()) == whole


@pytest.mark.parametrize(
    ("name", "billions"),
    [("paligemma-3b", 2.92), ("paligemma2-3b", 3.03), ("paligemma2-10b", 9.66), ("paligemma2-28b", 27.65)],
)
def test_paligemmas_are_as_large_as_published(name: str, billions: float) -> None:
    counts = count_parameters(PALIGEMMA[name])
    assert sum(counts.values()) / 1e9 == pytest.approx(billions, abs=0.006)
    assert counts["encoder"] == counts["head"] == 0


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("t5gemma2-270m", 786_070_256), ("t5gemma2-1b", 2_116_051_184), ("t5gemma2-4b", 7_509_092_720)],
)
def test_t5gemma2s_are_as_large_as_in_transformers(name: str, parameters: int) -> None:
    """As counted in its `T5Gemma2ForConditionalGeneration`, on the meta device."""
    counts = count_parameters(T5GEMMA2[name])
    assert sum(counts.values()) == parameters
    assert counts["head"] == 0
    assert architecture_of(T5GEMMA2[name]).visual_tokens(T5GEMMA2[name]) == 256


def test_a_tied_head_counts_once() -> None:
    tied = replace(TINY, text=replace(TINY.text, tied_head=True))
    assert count_parameters(tied)["head"] == 0
    assert count_parameters(TINY)["head"] == count_parameters(TINY)["embedding"] == 31 * 16


@torch.no_grad()
@pytest.mark.parametrize(("size", "prompt"), [(None, 5), ((8, 16), 2), ((16, 24), 1)])
@pytest.mark.parametrize("shapes", [TINY, TINY_GEMMA, TINY_ENCODER_DECODER], ids=["pali", "paligemma", "t5gemma2"])
def test_operations_are_those_that_torch_counts(shapes: Any, size: tuple[int, int] | None, prompt: int) -> None:
    model = init_weights(build(shapes)).eval()
    if size is not None:
        model.vit.set_grid((size[0] // 4, size[1] // 4))
    images = torch.zeros(1, 1, *model.vit.config.image_size, 3)
    ids = torch.ones(1, prompt, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of the CPU go uncounted
        with FlopCounterMode(display=False) as counter:
            cache = model.start(model.encode(images, ids), max_length=4)
        assert flops_per_image(shapes, size, prompt=prompt) == counter.get_total_flops()
        for position in range(4):
            with FlopCounterMode(display=False) as counter:
                model.step(ids[:, :1], cache)
            expected = flops_per_token(shapes, size, prompt=prompt, position=position)
            assert expected == counter.get_total_flops()


def test_a_token_multiplies_each_weight_that_it_reads_once() -> None:
    """All but a few weights, of norms and biases; attention is counted by tokens, and has none."""
    preset = PRESETS["nano"]
    with torch.device("meta"):
        model = build(preset)
    first, second = (flops_per_token(preset, position=position) for position in (0, 1))
    seen = architecture_of(preset).visual_tokens(preset) + 1
    assert parameters_per_token(model) == pytest.approx((first - seen * (second - first)) / 2, rel=0.01)


def test_tokens_of_a_resolution() -> None:
    preset = PRESETS["pali3-5b"]
    tokens = partial(architecture_of(preset).visual_tokens, preset)
    assert tokens() == 256
    assert tokens((812, 812)) == 3364
    assert tokens((1064, 1064)) == 5776
    with pytest.raises(ValueError):
        tokens((800, 812))
