"""Rows that enter, leave, are replaced and copied while others go on: each decodes as it would alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from openpali.architectures.pali import PaliModel, PaliModelConfig
from openpali.model import cache as slots
from openpali.model.cache import Cache
from openpali.model.init import init_weights
from openpali.model.t5 import T5Config
from openpali.model.vision_language import Memory
from openpali.model.vit import ViTConfig

VOCAB, ROOM = 23, 24
CONFIG = PaliModelConfig(
    ViTConfig(patch_size=4, grid=(2, 2), width=8, depth=1, mlp_dim=12, heads=2),
    T5Config(
        VOCAB,
        d_model=12,
        d_head=4,
        heads=2,
        d_ff=16,
        encoder_layers=1,
        decoder_layers=2,
        buckets=8,
        max_distance=12,
    ),
)
UMT5_LIKE = replace(CONFIG, text=replace(CONFIG.text, tied_head=True, bias_per_layer=True))


class Rows:
    """A cache, and what each of its rows has been fed, to be held against decoding at once, without a cache."""

    def __init__(self, config: PaliModelConfig) -> None:
        torch.manual_seed(0)
        self.model = init_weights(PaliModel(config)).eval()
        self.memories = [self.model.encode(None, torch.randint(1, VOCAB, (1, n))) for n in (9, 5, 2)]
        self.memories[1] = Memory(self.memories[1].outputs, None)
        self.cache: Cache | None = None
        self.rows: list[tuple[int, list[int]]] = []  # memory, ids fed

    def admit(self, memory: int, prefix: int = 0) -> None:
        """One more row, which has been fed ``prefix`` tokens before."""
        cache, ids = self.model.start(self.memories[memory], ROOM), torch.randint(VOCAB, (1, prefix))
        if prefix:
            self.model.step(ids, cache)
        if self.cache is None:
            self.cache = cache
        else:
            self.cache.append(cache)
        self.rows.append((memory, ids[0].tolist()))

    def reorder(self, rows: list[int]) -> None:
        assert self.cache is not None
        self.cache.reorder(torch.tensor(rows, dtype=torch.long))
        self.rows = [(self.rows[row][0], list(self.rows[row][1])) for row in rows]

    def step(self, count: int = 1) -> Tensor:
        """Feed random tokens; the logits, which are those of each row alone."""
        assert self.cache is not None
        ids = torch.randint(VOCAB, (len(self.rows), count))
        logits = self.model.step(ids, self.cache)
        for (memory, fed), new, found in zip(self.rows, ids.tolist(), logits, strict=True):
            fed += new
            alone = self.model.text.decode(torch.tensor([fed]), *self.memories[memory])
            torch.testing.assert_close(found, self.model.text.logits(alone)[0, -count:], rtol=0, atol=1e-5)
            assert torch.equal(found.argmax(-1), self.model.text.logits(alone)[0, -count:].argmax(-1))
        return logits


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from([CONFIG, UMT5_LIKE]))
@torch.no_grad()
def test_any_coming_and_going(data: st.DataObject, config: PaliModelConfig) -> None:
    rows = Rows(config)
    rows.admit(0)
    for _ in range(8):
        several = st.lists(st.integers(0, len(rows.rows) - 1), min_size=1, max_size=4)
        match data.draw(st.sampled_from(["step", "step", "admit", "reorder", "beams"])):
            case "step":
                rows.step(data.draw(st.integers(1, 2)))
            case "admit":
                rows.admit(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 3)))
            case "reorder":
                rows.reorder(data.draw(several))
            case "beams":
                rows.reorder([row for row in data.draw(several) for _ in range(2)])
    rows.step()


@pytest.mark.parametrize("room", [1, 5, 64])
@torch.no_grad()
def test_a_row_is_admitted_replaced_and_dropped(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "ROOM", room)
    rows = Rows(CONFIG)
    rows.admit(0)
    for _ in range(5):
        rows.step()
    rows.admit(1)  # in the middle of the first
    for _ in range(4):
        rows.step()
    rows.reorder([0])
    rows.admit(2)  # in place of the second
    for _ in range(3):
        rows.step()
    rows.reorder([1])  # the first is done
    assert rows.cache is not None
    for _ in range(ROOM - 3):
        rows.step()
    assert rows.cache.text.lengths.tolist() == [ROOM]
    with pytest.raises(ValueError):
        rows.step()


@torch.no_grad()
def test_beams_of_several_requests_share_their_memories() -> None:
    rows = Rows(CONFIG)
    rows.admit(0)
    rows.step(3)
    rows.reorder([0, 0])
    first, fed = rows.cache, rows.rows
    rows.cache, rows.rows = None, []
    rows.admit(1)
    rows.reorder([0, 0])
    assert first is not None
    assert rows.cache is not None
    first.append(rows.cache)
    rows.cache, rows.rows = first, fed + rows.rows
    assert rows.cache.memory.share == 2
    rows.step()
    rows.reorder([1, 0, 3, 3])
    assert rows.cache.memory.share == 2
    rows.step()
    rows.admit(2)  # a request of one hypothesis: now each row has a memory of its own
    assert rows.cache.memory.share == 1
    rows.step()


@torch.no_grad()
def test_rows_of_equal_length_share_a_bias_and_others_have_their_own() -> None:
    rows = Rows(CONFIG)
    rows.admit(0, 3)
    rows.admit(1, 3)
    assert rows.cache is not None
    relative = rows.model.text.decoder_bias[0]
    places = rows.cache.reserve(1)
    assert places.rows is None
    assert places.bias(relative).ndim == 2
    rows.admit(2)
    places = rows.cache.reserve(1)
    assert places.rows is not None
    assert places.rows.tolist() == [[4], [4], [0]]
    bias = places.bias(relative)
    assert bias.shape == (3, 2, 1, 5)
    assert torch.equal(bias[0, :, 0], relative(-4, 0))
    assert torch.equal(bias[2, :, 0, :1], relative(0, 0))
    assert (bias[2, :, 0, 1:] == -torch.inf).all()


@torch.no_grad()
def test_a_row_does_not_change_by_a_bit_whoever_is_admitted_beside_it() -> None:
    """In a batch of as many rows: other sizes of matmul round in their own ways."""

    def logits(shift: int) -> Tensor:
        rows = Rows(CONFIG)
        torch.manual_seed(1)
        rows.admit(0)
        rows.admit(2)
        seen = []
        for step in range(12):
            if step == shift:
                rows.reorder([0])
                rows.admit(2)
            assert rows.cache is not None
            ids = torch.tensor([[step + 1], [step - shift if step >= shift else step]])
            seen.append(rows.model.step(ids % VOCAB, rows.cache)[0])
        return torch.cat(seen)

    together = logits(99)
    for shift in (1, 5, 11):
        assert torch.equal(logits(shift), together)


@torch.no_grad()
def test_rows_are_admitted_after_the_last_has_left() -> None:
    rows = Rows(CONFIG)
    rows.admit(0)
    rows.reorder([0, 0])
    rows.step()
    rows.reorder([])
    rows.reorder([])
    rows.admit(1)
    rows.step()
    assert rows.cache is not None
    assert rows.cache.max_length == ROOM
    rows.reorder([0, 0])
    idle = Rows(CONFIG)
    idle.admit(0)
    idle.reorder([])
    assert idle.cache is not None
    idle.cache.append(rows.cache)
    rows.cache = idle.cache
    assert rows.cache.memory.share == 2  # still shared
    rows.step()
    empty = Rows(CONFIG)
    empty.admit(0)
    empty.reorder([])
    rows.cache.append(empty.cache)
    assert len(rows.cache.text.lengths) == 2
