"""QK-clip scales heads whose scores spread too far down to the limit, and changes nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_runs import make_recipe
from torch import nn

from openpali.model.attention import PLAIN, Scoring, set_attention
from openpali.model.init import init_weights
from openpali.model.t5 import CrossAttention, SelfAttention, T5Config
from openpali.model.vit import Attention
from openpali.train.optim.optimizer import freeze
from openpali.train.optim.qk_clip import attentions, clip_queries_and_keys, spread
from openpali.train.step import describe_learning
from tiny_gemma import KINDS

SHAPE = T5Config(vocab_size=8, d_model=24, d_head=8, heads=3, d_ff=16, encoder_layers=1, decoder_layers=1)


def layers() -> list[nn.Module]:
    return [init_weights(layer) for layer in (Attention(24, 3), SelfAttention(SHAPE), CrossAttention(SHAPE))]


def scores(layer: nn.Module, x_ND: torch.Tensor) -> torch.Tensor:
    """Attention scores by the layer's own forward pass, ``[h, N, N]``."""
    seen: list[torch.Tensor] = []

    def spy(q, k, v, how: Scoring = PLAIN) -> torch.Tensor:
        seen.append(q @ k.mT * (q.shape[-1] ** -0.5 if how.scale is None else how.scale))
        return v

    set_attention(layer, spy)
    if isinstance(layer, Attention):
        layer(x_ND[None])
    elif isinstance(layer, CrossAttention):
        layer(x_ND[None], *layer.memory(x_ND[None]), None)
    else:
        layer(x_ND[None], torch.zeros(layer.heads, 2 * len(x_ND) - 1), None)
    return torch.cat(seen, dim=2)[0]  # of one block of queries, or several


@pytest.mark.parametrize("which", range(3))
def test_the_spread_is_the_standard_deviation_of_scores(which: int) -> None:
    torch.manual_seed(0)
    layer = layers()[which]
    found = scores(layer, torch.randn(1500, 24))
    off_diagonal = ~torch.eye(1500, dtype=torch.bool)
    expected = torch.stack([head[off_diagonal].std() for head in found])
    torch.testing.assert_close(spread(layer), expected, rtol=0.05, atol=0)


@pytest.mark.parametrize("which", range(3))
def test_heads_above_the_limit_are_scaled_to_it_and_others_stay(which: int) -> None:
    torch.manual_seed(0)
    layer = layers()[which]
    query = layer.query.weight if isinstance(layer, CrossAttention) else layer.qkv.weight
    with torch.no_grad():
        query[8:16] *= 50  # the second head's queries
    before, rows = spread(layer), {name: p.clone() for name, p in layer.named_parameters()}
    assert before[1] > 4 > max(before[0], before[2])
    x = torch.randn(6, 24)
    old = scores(layer, x)
    clip_queries_and_keys([layer], 4.0)
    after, new = spread(layer), scores(layer, x)
    assert after[1].item() == pytest.approx(4.0)
    torch.testing.assert_close(new[1], old[1] * (4.0 / before[1]))
    torch.testing.assert_close(new[[0, 2]], old[[0, 2]], rtol=0, atol=0)
    changed = {name for name, p in layer.named_parameters() if not torch.equal(p, rows[name])}
    assert changed <= {"qkv.weight", "query.weight", "key_value.weight"} | {"qkv.bias"}


def test_biases_shrink_with_their_weights() -> None:
    torch.manual_seed(0)
    layer = init_weights(Attention(24, 3))
    with torch.no_grad():
        layer.qkv.weight[:48] *= 6
        layer.qkv.bias.normal_()
    x = torch.randn(6, 24)
    old, factor = scores(layer, x), 2.0 / spread(layer)
    value_bias = layer.qkv.bias[48:].clone()
    clip_queries_and_keys([layer], 2.0)
    torch.testing.assert_close(scores(layer, x), old * factor[:, None, None])
    assert torch.equal(layer.qkv.bias[48:], value_bias)


def test_a_run_keeps_the_limit_and_leaves_frozen_parts_alone(make_trainer) -> None:
    trainer = make_trainer(make_recipe(optimizer__qk_clip=0.5, model__frozen=["vit"]))
    frozen = [spread(m) for m in trainer.model.vit.modules() if isinstance(m, Attention)]
    trainer.train()
    assert trainer.train_step.clipped == attentions(trainer.model)
    assert not any(isinstance(m, Attention) for m in trainer.train_step.clipped)
    for layer in trainer.train_step.clipped:
        assert spread(layer).max() <= 0.5 + 1e-5
    for before, layer in zip(
        frozen, (m for m in trainer.model.vit.modules() if isinstance(m, Attention)), strict=True
    ):
        assert torch.equal(before, spread(layer))


def test_without_a_limit_no_layer_is_clipped(make_trainer) -> None:
    assert make_trainer(make_recipe()).train_step.clipped == []


@pytest.mark.parametrize("kind", KINDS)
def test_attention_of_gemma_that_learns_is_refused(kind: str) -> None:
    model, recipe = KINDS[kind](), make_recipe(phases__0__size=8, optimizer__qk_clip=4.0)
    with pytest.raises(ValueError, match=r"optimizer\.qk_clip.*Gemma's"):
        list(describe_learning(recipe, SimpleNamespace(model=model, config=model.config)))
    freeze(model, ["text"])
    [vit] = attentions(model)
    assert isinstance(vit, Attention)
