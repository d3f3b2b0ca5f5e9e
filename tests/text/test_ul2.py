import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.text.ul2 import DENOISERS, Denoiser, denoise

SENTINELS = list(range(10_000, 10_100))
MODES = {"[R]": 20_000, "[S]": 20_001, "[X]": 20_002}


def run(ids, seed=0, *, denoisers=DENOISERS, sentinels=SENTINELS, max_inputs=10_000, max_targets=10_000):
    return denoise(
        ids,
        np.random.default_rng(seed),
        sentinels=sentinels,
        modes=MODES,
        max_inputs=max_inputs,
        max_targets=max_targets,
        denoisers=denoisers,
    )


def restore(inputs: list[int], targets: list[int]) -> list[int]:
    """The original text, with each sentinel replaced by its span from the targets."""
    if inputs[0] == MODES["[S]"]:
        assert inputs[-1] == SENTINELS[0]
        return inputs[1:-1] + targets
    hidden: dict[int, list[int]] = {}
    for token in targets:
        if token in SENTINELS:
            hidden[token] = []
        else:
            hidden[list(hidden)[-1]].append(token)
    used = [token for token in inputs if token in SENTINELS]
    assert used == list(hidden) == SENTINELS[: len(used)]
    return [original for token in inputs[1:] for original in hidden.get(token, [token])]


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=300), st.integers(0, 2**32), st.sampled_from(DENOISERS))
def test_inputs_and_targets_restore_the_text(ids: list[int], seed: int, denoiser: Denoiser) -> None:
    inputs, targets = run(ids, seed, denoisers=[denoiser])
    assert inputs[0] == MODES[denoiser.mode]
    assert restore(inputs, targets) == ids


@given(
    st.integers(1, 400), st.integers(0, 2**32), st.sampled_from(DENOISERS), st.integers(3, 99), st.integers(3, 99)
)
def test_limits_hold_and_cut_a_window(length, seed, denoiser, max_inputs, max_targets) -> None:
    inputs, targets = run(range(length), seed, denoisers=[denoiser], max_inputs=max_inputs, max_targets=max_targets)
    assert 1 < len(inputs) <= max_inputs
    assert 0 < len(targets) <= max_targets
    window = restore(inputs, targets)
    assert window == list(range(window[0], window[0] + len(window)))


def test_long_texts_fill_the_limits() -> None:
    for denoiser in DENOISERS:
        inputs, targets = run(range(1000), denoisers=[denoiser], max_inputs=64, max_targets=64)
        assert max(len(inputs), len(targets)) >= 62


@pytest.mark.parametrize("denoiser", [d for d in DENOISERS if d.mean_span], ids=str)
def test_rates_and_spans_are_nominal(denoiser: Denoiser) -> None:
    many = list(range(20_000, 30_000))
    length = 2000
    inputs, targets = denoise(
        range(length),
        np.random.default_rng(0),
        sentinels=many,
        modes=dict.fromkeys(MODES, 0),
        max_inputs=9999,
        max_targets=9999,
        denoisers=[denoiser],
    )
    spans = sum(token >= 20_000 for token in targets)
    hidden = len(targets) - spans
    assert hidden / length == pytest.approx(denoiser.rate, rel=0.01)
    assert hidden / spans == pytest.approx(denoiser.mean_span, rel=0.1)
    assert len(inputs) == 1 + length - hidden + spans


def test_spans_differ_in_length() -> None:
    _, targets = run(range(500), denoisers=[Denoiser("[R]", 0.15, 8)])
    starts = [i for i, token in enumerate(targets) if token in SENTINELS]
    assert len(set(np.diff(starts))) > 2


def test_suffixes_are_a_quarter_on_average() -> None:
    lengths = [len(run(range(200), seed, denoisers=[Denoiser("[S]", 0.25, 0)])[1]) for seed in range(400)]
    assert np.mean(lengths) / 200 == pytest.approx(0.25, abs=0.02)
    assert len(set(lengths)) > 50


def test_seven_denoisers_equally_often() -> None:
    assert {(d.mode, d.rate, d.mean_span) for d in DENOISERS} == {
        *(("[R]", 0.15, span) for span in (3, 8)),
        *(("[X]", 0.50, span) for span in (3, 8, 64)),
        ("[X]", 0.15, 64),
        ("[S]", 0.25, 0),
    }
    firsts = [run(range(50), seed)[0][0] for seed in range(2100)]
    shares = {mode: firsts.count(id_) / 2100 for mode, id_ in MODES.items()}
    assert shares == pytest.approx({"[R]": 2 / 7, "[S]": 1 / 7, "[X]": 4 / 7}, abs=0.04)


def test_few_sentinels_bound_the_spans() -> None:
    inputs, targets = run(range(500), denoisers=[Denoiser("[X]", 0.5, 3)], sentinels=SENTINELS[:5])
    assert sum(token in SENTINELS for token in targets) == 5
    assert restore(inputs, targets) == list(range(500))


def test_same_generator_state_same_result() -> None:
    assert run(range(100), 7) == run(range(100), 7)
    assert run(range(100), 7) != run(range(100), 8)


def test_empty_texts_and_small_limits_are_refused() -> None:
    with pytest.raises(ValueError):
        run([])
    with pytest.raises(ValueError):
        run([1, 2], max_inputs=2)
