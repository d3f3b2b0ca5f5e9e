"""Hidden states, logits, losses and gradients against randomly initialised `transformers` models."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Attention

from openpali.architectures.halves.t5 import rules as t5_rules
from openpali.architectures.siglip.architecture import rules as siglip_rules
from openpali.architectures.siglip.network import SigLIP
from openpali.model import attention
from openpali.model.losses import cross_entropy, sigmoid_loss
from openpali.model.t5 import EncoderDecoder, RelativeBias, T5Config

from .oracles import as_ours, gradients, siglip_pair, t5_pair, weights


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def same_gradients(ours: nn.Module, theirs: dict[str, Tensor]) -> None:
    mine = gradients(ours)
    assert mine.keys() == theirs.keys()
    for name, grad in mine.items():
        scale = max(1.0, theirs[name].abs().max().item())
        torch.testing.assert_close(
            grad / scale, theirs[name] / scale, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert theirs[name].abs().max() > 0, f"{name} has no gradient, the comparison says nothing"


# ---- SigLIP ----


@pytest.fixture
def siglip_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.rand(4, 12, 12, 3, generator=generator) * 2 - 1,
        torch.randint(0, 30, (4, 5), generator=generator),
    )


def test_siglip_towers_loss_and_gradients(siglip_batch: tuple[Tensor, Tensor]) -> None:
    images, ids = siglip_batch
    hf, config = siglip_pair()
    model = SigLIP(config)
    rules = siglip_rules(config.vision, config.text, pool=True)
    model.load_state_dict(as_ours(rules, weights(hf), model))

    theirs = hf(input_ids=ids, pixel_values=images.permute(0, 3, 1, 2), return_loss=True)
    ours = model(images, ids)
    close(model.vit(images), theirs.vision_model_output.last_hidden_state)
    close(model.pool(model.vit(images)), theirs.vision_model_output.pooler_output)
    close(model.text(ids), theirs.text_model_output.pooler_output)
    close(ours.image, theirs.image_embeds)
    close(ours.text, theirs.text_embeds)

    loss = sigmoid_loss(ours, chunk=3)
    close(loss, theirs.loss)
    loss.backward()
    theirs.loss.backward()
    expected = as_ours(rules, gradients(hf), model)
    # the keys' bias shifts all scores of a query alike: its gradient is rounding noise in both
    same_gradients(model, expected)


# ---- T5 family ----


def test_buckets_of_every_distance() -> None:
    distances = torch.arange(-2500, 2501)
    for buckets, max_distance in ((32, 128), (32, 64), (16, 128), (8, 20), (64, 1000)):
        config = T5Config(8, 8, 4, 2, 8, 1, 1, buckets=buckets, max_distance=max_distance)
        for bidirectional in (True, False):
            expected = T5Attention._relative_position_bucket(distances, bidirectional, buckets, max_distance)
            assert torch.equal(RelativeBias(config, bidirectional).bucket(distances), expected)


@pytest.mark.parametrize("query_block", [7, 1024])
@pytest.mark.parametrize("kind", ["t5_v11", "ul2", "t5_tied", "mt5", "umt5"])
def test_t5_family(kind: str, query_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths go beyond max_distance (17) and, of one parametrisation, beyond the block of queries."""
    monkeypatch.setattr(attention, "QUERY_BLOCK", query_block)
    hf, config = t5_pair(kind, max_distance=17)
    model = EncoderDecoder(config)
    model.load_state_dict(as_ours(t5_rules(config), weights(hf), model))

    generator = torch.Generator().manual_seed(2)
    inputs = torch.randint(1, 50, (3, 31), generator=generator)
    targets = torch.randint(1, 50, (3, 19), generator=generator)
    mask = torch.arange(31) < torch.tensor([31, 20, 3])[:, None]
    decoder_inputs = F.pad(targets[:, :-1], (1, 0))

    theirs = hf(
        input_ids=inputs, attention_mask=mask.long(), decoder_input_ids=decoder_inputs, output_hidden_states=True
    )
    memory = model.encode(model.embed(inputs), mask)
    hidden = model.decode(decoder_inputs, memory, mask)
    logits = model.logits(hidden)
    close(memory[mask], theirs.encoder_last_hidden_state[mask])
    last = theirs.decoder_hidden_states[-1]
    close(hidden, last * config.d_model**-0.5 if config.tied_head else last)
    close(logits, theirs.logits)

    unmasked = model.encode(model.embed(inputs), None)
    close(unmasked, hf.encoder(input_ids=inputs).last_hidden_state)

    F.cross_entropy(theirs.logits.flatten(0, 1), targets.flatten()).backward()
    loss, _ = cross_entropy(
        hidden.flatten(0, 1), model.head_weight, targets.flatten(), torch.full((57,), 1 / 57), chunk=10
    )
    loss.backward()
    same_gradients(model, as_ours(t5_rules(config), gradients(hf), model))
