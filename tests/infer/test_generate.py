"""Generation, against loops without a cache, against exhaustive search and against transformers' T5."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import DECODINGS, check_same, inputs, row, tiny
from torch import Tensor

from openpali.architectures.pali import PaliModel
from openpali.infer.generate import Ask, Decoding, Generation, Rows, encode, generate, loops, repeating, write

EOS = 1


def teacher_forced(model: PaliModel, images: Tensor | None, prompt: Tensor, ids: list[int]) -> Tensor:
    """Log-probabilities ``[T, V]`` of each position of ``ids``, for one row without padding, without a cache."""
    with torch.inference_mode():
        return model.text.logits(model(images, prompt, torch.tensor([ids])))[0].log_softmax(-1)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_the_loop_without_a_cache(seed: int) -> None:
    model, batch = tiny(seed), inputs(seed)
    for i, (got,) in enumerate(generate(model, *batch, decoding=Decoding(max_tokens=10))):
        ids: list[int] = []
        while len(ids) < 10 and EOS not in ids:
            ids.append(int(teacher_forced(model, *row(batch, i), [*ids, 0])[-1].argmax()))
        assert got.ids == [t for t in ids if t != EOS]
        assert got.finish_reason == ("eos" if ids[-1] == EOS else "length")


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS.keys())
@pytest.mark.parametrize("seed", [38, 39, 43])  # whose rows finish at different steps
def test_a_batch_is_its_rows_one_by_one(decoding: Decoding, seed: int) -> None:
    model, batch = tiny(seed), inputs(seed, rows=6)
    together = generate(model, *batch, decoding=decoding)
    assert len({len(g[0].ids) for g in together}) > 1
    for i, got in enumerate(together):
        (alone,) = generate(model, *row(batch, i), decoding=decoding)
        assert len(got) == len(alone) == decoding.samples
        for a, b in zip(got, alone, strict=True):
            check_same(a, b)


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS.keys())
def test_log_probs_are_the_teacher_forced_ones(decoding: Decoding) -> None:
    model, batch = tiny(1), inputs(11)
    for i, generations in enumerate(generate(model, *batch, decoding=decoding)):
        assert [g.score for g in generations] == sorted((g.score for g in generations), reverse=True)
        for g in generations:
            ids = g.ids + [EOS] * (g.finish_reason == "eos")
            expected = teacher_forced(model, *row(batch, i), ids)[range(len(ids)), ids]
            assert g.log_probs == pytest.approx(expected.tolist(), abs=1e-4)
            assert g.alternatives == ()
            assert g.score == pytest.approx(sum(g.log_probs), abs=1e-6)
            assert EOS not in g.ids
            assert len(ids) <= decoding.max_tokens


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS.keys())
def test_alternatives_are_the_likeliest_tokens_at_each_place(decoding: Decoding) -> None:
    model, batch = tiny(1), inputs(11)
    rows = Rows(model, EOS)
    asks = [Ask(decoding, alternatives=3 if i % 2 == 0 else 0) for i in range(len(batch[1]))]
    texts = rows.add(rows.begin(encode(model, *batch), asks))
    while len(rows):
        rows.step()
    for i, text in enumerate(texts):
        for g in text.generations:
            best = teacher_forced(model, *row(batch, i), g.ids + [EOS] * (g.finish_reason == "eos")).topk(3)
            if i % 2:
                assert g.alternatives == ()
                continue
            assert [[token for token, _ in place] for place in g.alternatives] == best.indices.tolist()
            values = [[value for _, value in place] for place in g.alternatives]
            torch.testing.assert_close(torch.tensor(values), best.values, atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_wide_beams_are_exhaustive_search(seed: int) -> None:
    """With room for every hypothesis, the best of all texts up to the limit, in order, or the first of them."""
    vocab, longest = 5, 4
    model = tiny(seed, vocab, peak=1.0)
    _, prompt, _ = inputs(seed, rows=2, vocab=vocab)
    decoding = Decoding(max_tokens=longest, beams=4**3, samples=10)
    got = generate(model, None, prompt, decoding=decoding)
    firsts = generate(model, None, prompt, decoding=replace(decoding, samples=1))
    others = [t for t in range(vocab) if t != EOS]
    texts = [[*t, EOS] for n in range(longest) for t in itertools.product(others, repeat=n)]
    for i in range(2):
        scores = {}
        for ids in texts:
            lp = teacher_forced(model, None, prompt[i : i + 1, : (prompt[i] != 0).sum()], ids)
            scores[tuple(ids[:-1])] = float(lp[range(len(ids)), ids].sum())
        best = sorted(scores, key=lambda t: -scores[t])[:10]
        assert [tuple(g.ids) for g in got[i]] == best
        assert [tuple(g.ids) for g in firsts[i]] == best[:1], "stopped too early"
        assert [g.score for g in got[i]] == pytest.approx([scores[t] for t in best], abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_beams_are_the_plain_algorithm(seed: int) -> None:
    """Narrow beams, where the search can err, against the same search written plainly, without cache or batch."""
    model, batch, beams, longest = tiny(seed, peak=1.5), inputs(seed, rows=3), 3, 7
    for i, (got,) in enumerate(generate(model, *batch, decoding=Decoding(max_tokens=longest, beams=beams))):
        live: list[tuple[float, list[int]]] = [(0.0, [])]
        best: tuple[float, list[int]] = (-math.inf, [])
        for _ in range(longest):
            after = []
            for score, ids in live:
                lp = teacher_forced(model, *row(batch, i), [*ids, 0])[-1].tolist()
                best = max(best, (score + lp[EOS], ids))
                after += [(score + lp[t], [*ids, t]) for t in range(len(lp)) if t != EOS]
            live = sorted(after, reverse=True)[:beams]
            if live[0][0] < best[0]:
                break
        assert got.ids == best[1]
        assert got.score == pytest.approx(best[0], abs=1e-4)
        assert got.finish_reason == "eos"


def test_finish_reasons_and_limits() -> None:
    model, (images, prompt, frames) = tiny(0), inputs(0)
    never = [token for token in range(14) if token != EOS]
    for decoding in DECODINGS.values():
        for generations in generate(
            model, images, prompt, frames, replace(decoding, max_tokens=5), allowed=lambda ids: never
        ):
            assert [len(g.ids) for g in generations] == [5] * decoding.samples
            assert {g.finish_reason for g in generations} == {"length"}
        for generations in generate(model, images, prompt, frames, decoding, allowed=lambda ids: [EOS]):
            assert {(tuple(g.ids), len(g.log_probs), g.finish_reason) for g in generations} == {((), 1, "eos")}
    assert generate(model, images[:0], prompt[:0]) == []


def test_repetition_stops_a_loop() -> None:
    model, batch = tiny(0), inputs(0)
    for beams in (1, 3):
        for (g,) in generate(model, *batch, Decoding(max_tokens=100, beams=beams), allowed=lambda ids: [5]):
            assert (g.ids, g.finish_reason) == ([5] * 24, "repetition")
        for (g,) in generate(
            model, *batch, Decoding(max_tokens=60, beams=beams, max_repeats=None), allowed=lambda ids: [5]
        ):
            assert (len(g.ids), g.finish_reason) == (60, "length")


@given(
    st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(2, 9)
)
def test_loops(head: list[int], gram: list[int], repeats: int) -> None:
    full = max(repeats, math.ceil(24 / len(gram)))
    assert loops(head + gram * full, repeats)
    assert not loops([*head, *gram * full, 99], repeats)
    assert not loops(list(range(100, 200)) + gram * (min(repeats, 24 // len(gram)) - 1), repeats)
    assert not loops(list(range(9)) * 20, repeats), "9 tokens are no short loop"


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 5))
def test_ngrams_are_blocked_as_in_transformers(ids: list[int], size: int) -> None:
    processor = transformers.NoRepeatNGramLogitsProcessor(size)
    scores = processor(torch.tensor([ids], dtype=torch.long), torch.zeros(1, 5))
    assert {*repeating(ids, size)} == {*scores[0].isinf().nonzero().flatten().tolist()}


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS.keys())
def test_no_ngram_comes_twice_unless_nothing_else_is_allowed(decoding: Decoding) -> None:
    model, batch = tiny(0), inputs(0)

    def repeated(size: int, allowed: Sequence[int]) -> list[bool]:
        way = replace(decoding, no_repeat_ngram_size=size, max_tokens=16, max_repeats=None)
        texts = [g.ids for row in generate(model, *batch, decoding=way, allowed=lambda ids: allowed) for g in row]
        assert {len(ids) for ids in texts} == {16}
        return [len({*itertools.pairwise(ids)}) < 15 for ids in texts]

    assert any(repeated(0, range(5, 13)))
    assert not any(repeated(2, range(5, 13)))
    assert all(repeated(2, [5]))


def test_allowed_function_keeps_to_the_listed_texts() -> None:
    model, batch = tiny(3), inputs(3)
    answers = [[5], [5, 6, 7], [8, 9], [4, 4, 4, 4]]

    def allowed(i: int, ids: list[int]) -> list[int]:
        texts = [[*a, EOS] for a in answers if i or a != [5]]
        return [t[len(ids)] for t in texts if t[: len(ids)] == ids]

    def ask(decoding: Decoding) -> list[list[Generation]]:
        with torch.inference_mode():
            asks = [Ask(decoding, partial(allowed, i)) for i in range(len(batch[1]))]
            return write(model, encode(model, *batch), asks, EOS)

    for decoding in DECODINGS.values():
        got = ask(decoding)
        assert all(g.ids in answers and g.finish_reason == "eos" for generations in got for g in generations)
        assert all(g.ids != [5] for g in got[0])
        ids = [*got[1][0].ids, EOS]
        unrestricted = teacher_forced(model, *row(batch, 1), ids)[range(len(ids)), ids]
        assert got[1][0].log_probs == pytest.approx(unrestricted.tolist(), abs=1e-4)
    every = ask(Decoding(beams=4, samples=4))
    assert sorted(g.ids for g in every[1]) == sorted(answers)
    assert sorted(g.ids for g in every[0]) == sorted(answers[1:])
    with pytest.raises(ValueError, match="allowed leaves row 0 no token after"):
        generate(model, *batch, allowed=lambda ids: [3] if not ids else [])


def first_tokens(model: PaliModel, prompt: Tensor, **decoding: float) -> Tensor:
    """Frequencies of the first token over many samples."""
    options = Decoding(max_tokens=1, samples=3000, **decoding)  # type: ignore[arg-type]
    tokens = [(g.ids or [EOS])[0] for g in generate(model, None, prompt, decoding=options)[0]]
    return torch.bincount(torch.tensor(tokens), minlength=14) / len(tokens)


def test_samples_follow_the_distribution() -> None:
    model = tiny(2, peak=1.0)
    _, prompt, _ = inputs(2, rows=1)
    prompt = prompt[:, : (prompt[0] != 0).sum()]
    logits = teacher_forced(model, None, prompt, [0])[0]
    order = logits.argsort(descending=True)

    def expected(temperature: float, kept: int) -> Tensor:
        probs = torch.zeros(14)
        probs[order[:kept]] = (logits[order[:kept]] / temperature).softmax(-1)
        return probs

    warm = (logits / 1.5).softmax(-1)[order].cumsum(-1)
    nucleus = int((warm < 0.7).sum()) + 1
    assert 2 <= nucleus <= 12
    for got, probs in (
        (first_tokens(model, prompt, temperature=1.5), expected(1.5, 14)),
        (first_tokens(model, prompt, temperature=0.7, seed=3), expected(0.7, 14)),
        (first_tokens(model, prompt, temperature=1.5, top_p=0.7), expected(1.5, nucleus)),
        (first_tokens(model, prompt, temperature=1.5, top_p=1e-9), expected(1.5, 1)),
    ):
        assert (got[probs == 0] == 0).all()
        assert (got - probs).abs().max() < 0.035


def test_seeds() -> None:
    model, batch = tiny(1, peak=0.5), inputs(1)
    decoding = Decoding(max_tokens=12, temperature=1.0, samples=3)
    once = generate(model, *batch, decoding=decoding)
    assert once == generate(model, *batch, decoding=decoding)
    assert once != generate(model, *batch, decoding=replace(decoding, seed=1))
    assert len({tuple(g.ids) for g in once[0]}) == 3
    more = generate(model, *batch, decoding=replace(decoding, samples=5, max_tokens=20))
    short = {tuple(g.ids) for g in once[0] if g.finish_reason == "eos"}
    assert short
    assert short <= {tuple(g.ids) for g in more[0]}, "more and longer samples keep the earlier ones"
    greedy = [g.ids for (g,) in generate(model, *batch, decoding=Decoding(max_tokens=12))]
    for temperature in (1e-4, 1e-45, 1e-300):
        cold = generate(model, *batch, decoding=replace(decoding, temperature=temperature, samples=1))
        assert [g.ids for (g,) in cold] == greedy


def test_leaves_the_model_as_it_was() -> None:
    model, batch = tiny(0), inputs(0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    quiet = generate(model, *batch, decoding=Decoding(max_tokens=8))
    model.train()
    assert generate(model, *batch, decoding=Decoding(max_tokens=8)) == quiet
    assert model.training


def test_finished_rows_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny(39), inputs(39, rows=6)
    seen: list[int] = []
    step = model.step
    monkeypatch.setattr(model, "step", lambda ids, cache: (seen.append(len(ids)), step(ids, cache))[1])
    got = generate(model, *batch, decoding=Decoding(max_tokens=12))
    lengths = [len(g.log_probs) for (g,) in got]
    assert seen == [sum(n > i for n in lengths) for i in range(max(lengths))]
    assert seen[0] > seen[-1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1 and finite, not 0"),
        ({"beams": 0}, "beams must be"),
        ({"samples": 0}, "samples must be"),
        ({"top_p": 0.0, "temperature": 1.0}, "top_p must be"),
        ({"top_p": 1.1, "temperature": 1.0}, "top_p must be"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"temperature": math.nan}, "temperature must be"),
        ({"seed": -1}, "seed must be"),
        ({"max_repeats": 1}, "max_repeats must be"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be"),
        ({"top_p": 0.5}, "top_p limits sampling"),
        ({"samples": 2}, "samples=2 needs temperature"),
        ({"samples": 3, "beams": 2}, "samples=3 needs temperature"),
        ({"beams": 2, "temperature": 1.0}, "beams search and temperature samples"),
    ],
)
def test_errors_name_the_field(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Decoding(**values)  # type: ignore[arg-type]
