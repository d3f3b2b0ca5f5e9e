"""Rows that join and leave while others go on are each generated as if alone, by both engines."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from tiny_models import DECODINGS, check_same, inputs, row, tiny

from openpali.infer.engines import openvino as engine
from openpali.infer.engines.openvino import OpenVinoPali
from openpali.infer.generate import Ask, Decoding, Generation, Model, Rows, Text, encode, generate
from openpali.model.init import init_weights
from tiny_gemma import KINDS

EOS = 1
WAYS = [*DECODINGS.values(), Decoding(max_tokens=30, temperature=0.7, seed=3), Decoding(max_tokens=3)]


def arrive(model: Model, seed: int, drops: bool = False) -> int:
    """Twelve rows of every kind arrive at random; each must get its own text.

    Returns the most that were together.
    """
    rng, batch = np.random.default_rng(seed), inputs(seed, rows=12)
    waiting = [(i, WAYS[int(rng.integers(len(WAYS)))]) for i in range(12)]
    rows, texts, most = Rows(model, EOS), {}, 0
    while waiting or len(rows):
        some = [waiting.pop(0) for _ in range(min(len(waiting), int(rng.integers(3))))]
        if some:
            places = [i for i, _ in some]
            memory = encode(model, *(each[places] for each in batch))
            found = rows.add(rows.begin(memory, [Ask(decoding) for _, decoding in some]))
            texts |= {i: (decoding, text) for (i, decoding), text in zip(some, found, strict=True)}
        most = max(most, len(rows))
        if len(rows):
            rows.step()
        if drops and len(rows) > 1 and rng.integers(3) == 0:
            gone = next(i for i, (_, text) in texts.items() if text.live)
            rows.drop([texts.pop(gone)[1]])
    for i, (decoding, text) in texts.items():
        check_all(text, generate(model, *row(batch, i), decoding=decoding)[0])
    return most


def check_all(text: Text, alone: list[Generation]) -> None:
    assert len(text.generations) == len(alone)
    for got, expected in zip(text.generations, alone, strict=True):
        check_same(got, expected)


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_rows_that_come_and_go_get_the_texts_that_they_get_alone(seed: int, drops: bool) -> None:
    assert arrive(tiny(seed), seed, drops) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_so_they_do_in_a_prefix_model(kind: str) -> None:
    torch.manual_seed(0)
    assert arrive(init_weights(KINDS[kind]()).eval(), 0, drops=True) > 3


def test_rows_are_decoded_together_only_if_every_option_of_the_choice_is_the_same() -> None:
    base = {"temperature": 0.5, "top_p": 0.9}
    changes = {"beams": 2, "temperature": 0.7, "top_p": 0.8}
    alone = {"max_tokens": 3, "samples": 2, "seed": 4, "max_repeats": 9}
    alone["no_repeat_ngram_size"] = 3
    assert changes.keys() | alone.keys() == {each.name for each in fields(Decoding)}
    for name, value in (changes | alone).items():
        own = {"beams": value} if name == "beams" else {**base, name: value}
        assert (Decoding(**own).choice == Decoding(**base).choice) == (name in alone), name  # type: ignore[arg-type]


@pytest.mark.parametrize("spare", [0, 64])
def test_so_they_do_in_the_compiled_model(
    compiled: OpenVinoPali, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SPARE", spare)  # without any, what no row sees is dropped all the time
    for seed in range(3):
        assert arrive(compiled, seed, drops=seed == 2) > 3


def test_a_request_that_never_rests_does_not_grow(compiled: OpenVinoPali, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SPARE", 8)
    rows, (images, prompt, frames) = Rows(compiled, EOS), inputs(0)
    memory = encode(compiled, images[:1], prompt[:1], frames[:1])
    ask, longest = Ask(Decoding(max_tokens=4, max_repeats=None)), 0
    for _ in range(20):
        rows.add(rows.begin(memory, [ask]))
        rows.step()
        longest = max(longest, rows._cache.length if rows._cache else 0)
    assert longest <= 2 * 4 + 8


def test_a_text_that_is_told_to_stop() -> None:
    model, batch = tiny(38), inputs(38)
    [full] = generate(model, *row(batch, 0), decoding=Decoding(max_tokens=12))[0]
    assert len(full.ids) > 3
    rows = Rows(model, EOS)
    memory = encode(model, *row(batch, 0))
    ask = Ask(Decoding(max_tokens=12), stop=lambda ids: len(ids) == 3)
    texts = [text for each in (ask, replace(ask, stop=None)) for text in rows.add(rows.begin(memory, [each]))]
    seen = []
    while len(rows):
        rows.step()
        seen.append(len(texts[0].written[0]))
    [stopped], [whole] = (text.generations for text in texts)
    assert (stopped.ids, stopped.finish_reason) == (full.ids[:3], "stop")
    assert whole.ids == full.ids
    assert seen[:3] == [1, 2, 3]
