"""The stream: bad samples are replaced and reported, and ranks and workers change nothing."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import Arrays, Batch, SequenceEncoder
from openpali.data.pipeline.stream import SUBSTITUTES, Entry, Loaded, Phase, Stream, load, start_method
from openpali.tasks.base import Task
from openpali.tasks.example import Example
from openpali.tasks.registry import get_task
from openpali.text.tokenizer import Tokenizer
from openpali_lab.worlds.compose import WorldSource
from openpali_lab.worlds.world import World


@dataclass(frozen=True)
class Numbers:
    """Examples 0 .. size - 1; those that are ``bad`` cannot be read."""

    size: int
    bad: frozenset[int] = frozenset()
    error: type[Exception] = ValueError

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Example:
        if index in self.bad:
            raise self.error(f"number {index} is damaged")
        return Example(key=str(index))


class NumberEncoder:
    """``id [B]``; ``noise [B]``, from the sample's generator; ``side [B]``, of the preprocessing."""

    def encode(self, example: Example, task: Task, preprocess: Preprocess, rng: np.random.Generator) -> Arrays:
        return {
            "id": np.array(int(example.key)),
            "noise": np.array(rng.integers(2**40)),
            "side": np.array(preprocess.height),
        }

    def collate(self, samples: Sequence[Arrays]) -> Batch:
        return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in ("id", "noise", "side")}


def stream(*sources: Numbers, seed: int = 0, lengths: Sequence[int] = (64,)) -> Stream:
    task = get_task("caption")
    entries = [Entry(f"s{i}", source, task, weight=i + 1.0) for i, source in enumerate(sources)]
    phases = [Phase(length, Preprocess(8 * (i + 1), 8), entries) for i, length in enumerate(lengths)]
    return Stream(phases, NumberEncoder(), seed)


def row(s: Stream, counter: int) -> tuple[int, int, int, int]:
    sample = s[counter]
    return sample.entry, *(int(sample.arrays[key]) for key in ("id", "noise", "side"))


@given(
    st.integers(9, 60),
    st.sets(st.integers(0, 59), max_size=4),
    st.integers(0, 99),
    st.sampled_from([ValueError, OSError]),
)
@settings(max_examples=10, deadline=None)
def test_a_bad_sample_is_replaced_and_no_other_changes(
    size: int, bad: set[int], seed: int, error: type[Exception]
) -> None:
    whole = stream(Numbers(size), Numbers(7), seed=seed)
    holed = stream(Numbers(size, frozenset(bad), error), Numbers(7), seed=seed)
    for counter in range(64):
        entry, number, *rest = row(whole, counter)
        if entry == 0 and number in bad:
            sample = holed[counter]
            substitute = next(n % size for n in range(number, number + size) if n % size not in bad)
            assert sample.entry == 0
            assert int(sample.arrays["id"]) == substitute
            assert len(sample.problems) == (substitute - number) % size
            assert sample.problems[0] == f"s0[{number}]: number {number} is damaged"
        else:
            assert row(holed, counter) == (entry, number, *rest)
            assert holed[counter].problems == []


def test_a_source_of_only_bad_samples_stops_the_run() -> None:
    nothing = stream(Numbers(20, frozenset(range(20))))
    sentence = f"^{SUBSTITUTES} samples in a row cannot be used, at sample 0: .*s0.*is damaged"
    with pytest.raises(ValueError, match=sentence):
        nothing[0]
    for workers in (0, 1):
        with pytest.raises(ValueError, match=sentence) as raised:
            next(load(nothing, start=0, batch=16, workers=workers))
        assert "Traceback" not in str(raised.value)
        assert not multiprocessing.active_children()  # although the error keeps its stack frames


class Deadly(Numbers):
    """Kills its reader, like the kernel when memory runs out."""

    def __getitem__(self, index: int) -> Example:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_killed_worker_is_reported_in_one_sentence() -> None:
    with pytest.raises(OSError, match=r"a data worker was killed .*run the same command to continue"):
        next(load(stream(Deadly(9)), start=0, batch=16, workers=1))


class Local(Numbers):
    """Cannot be sent to a spawned worker."""

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle this source")


def test_without_fork_a_source_that_cannot_be_copied_to_workers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_method() == "fork"
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert start_method() == "spawn"
    with pytest.raises(ValueError, match=r"workers cannot be started .*cannot pickle this .*set workers to 0"):
        next(load(stream(Local(9)), start=0, batch=16, workers=1))


def test_a_stream_can_be_copied_to_spawned_workers(world: World) -> None:
    encoder = SequenceEncoder(Tokenizer.train(["a b c"] * 9, 800), max_prompt=64, max_target=64)
    entries = [Entry("x", WorldSource(world, "single", canvas=32), get_task("caption"), 1.0)]
    whole = Stream([Phase(16, Preprocess(8, 8), entries)], encoder, seed=0)
    copy = pickle.loads(pickle.dumps(whole))
    for name, array in whole[5].arrays.items():
        assert np.array_equal(copy[5].arrays[name], array)


def test_a_long_run_lists_no_batches_up_front() -> None:
    tracemalloc.start()
    next(load(stream(Numbers(9), lengths=(2**30,)), start=0, batch=16, workers=0))
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_other_errors_are_not_caught() -> None:
    with pytest.raises(KeyError):
        stream(Numbers(20, frozenset(range(20)), KeyError))[0]
    with pytest.raises(KeyError) as raised:
        next(load(stream(Numbers(20, frozenset(range(20)), KeyError)), start=0, batch=16, workers=1))
    assert raised.tb is not None  # and with it the stack frames of the loader
    assert not multiprocessing.active_children()


def test_randomness_depends_on_seed_and_counter_only() -> None:
    rows = [row(stream(Numbers(5), seed=1), i) for i in range(64)]
    assert rows == [row(stream(Numbers(5), seed=1), i) for i in range(64)]
    assert rows != [row(stream(Numbers(5), seed=2), i) for i in range(64)]
    assert len({noise for _, _, noise, _ in rows}) == 64  # repeated examples get new randomness


def test_phases_follow_each_other() -> None:
    s = stream(Numbers(1000), lengths=(16, 32))
    assert len(s) == 48
    assert [s.phase_of(i) for i in (0, 15, 16, 47)] == [0, 0, 1, 1]
    assert [row(s, i)[3] for i in range(48)] == [8] * 16 + [16] * 32
    first, second = ([row(s, i)[1] for i in r] for r in (range(16), range(16, 32)))
    assert first != second  # each phase has a different order


def joined(groups: Sequence[Sequence[Loaded]]) -> list[tuple[int, ...]]:
    return [
        (entry, *(int(loaded.batch[key][i]) for key in ("id", "noise", "side")))
        for group in groups
        for loaded in group
        for i, entry in enumerate(loaded.entries)
    ]


@pytest.mark.parametrize(
    ("ranks", "workers", "micro"), [(1, 0, 1), (1, 1, 2), (2, 2, 1), (4, 0, 2), (2, 0, 4), (4, 1, 1), (3, 0, 2)]
)
def test_ranks_workers_and_micro_batches_give_the_same_global_batches(ranks: int, workers: int, micro: int) -> None:
    s = stream(Numbers(9, frozenset({3})), Numbers(50), lengths=(16, 32))
    parts = [
        list(load(s, start=0, batch=16, micro=micro, rank=rank, world=ranks, workers=workers))
        for rank in range(ranks)
    ]
    assert [len(part) for part in parts] == [3] * ranks
    assert all(len(group) == micro for part in parts for group in part)
    steps = [joined([part[step] for part in parts]) for step in range(3)]
    assert steps == [[row(s, i) for i in range(step * 16, step * 16 + 16)] for step in range(3)]
    problems = sorted(p for part in parts for group in part for loaded in group for p in loaded.problems)
    assert problems == sorted(p for i in range(48) for p in s[i].problems)
    assert problems


class Texts(NumberEncoder):
    """Numbers with targets of up to 5 tokens; neighbours have very different lengths."""

    def encode(self, example: Example, task: Task, preprocess: Preprocess, rng: np.random.Generator) -> Arrays:
        target = np.zeros(1 + int(example.key) * 7 % 5, np.int64)
        return {**super().encode(example, task, preprocess, rng), "target": target}


def test_rows_of_similar_length_share_a_micro_batch() -> None:
    s = stream(Numbers(50))
    s.encoder = Texts()
    short, long = next(load(s, start=16, batch=16, micro=2, workers=0))
    lengths = [[1 + number * 7 % 5 for number in loaded.batch["id"].tolist()] for loaded in (short, long)]
    assert max(lengths[0]) <= min(lengths[1]) < max(lengths[1])
    whole = next(load(stream(Numbers(50)), start=16, batch=16, workers=0))
    assert sorted(joined([[short, long]])) == sorted(joined([whole]))


def test_a_later_start_gives_the_remaining_batches() -> None:
    s = stream(Numbers(9), Numbers(50))
    rest = joined(list(load(s, start=32, batch=16, workers=1)))
    assert rest == [row(s, i) for i in range(32, 64)]
    assert list(load(s, start=64, batch=16, workers=0)) == []
    assert len(list(load(s, start=0, batch=24, workers=0))) == 2  # the incomplete batch is dropped


def test_a_batch_smaller_than_its_slices_is_refused() -> None:
    with pytest.raises(ValueError):
        next(load(stream(Numbers(9)), start=0, batch=16, world=17))


def test_computed_counts_per_source_equal_loaded_counts() -> None:
    """Substitutes of bad samples included: they are of the same source."""
    s = stream(Numbers(9, frozenset({3})), Numbers(50), Numbers(7), lengths=(1040, 48))
    loaded = [entry for [each] in load(s, start=0, batch=16, workers=0) for entry in each.entries]
    for n in (0, 16, 1024, 1040, 1056, 1088):
        assert s.drawn(n) == {f"s{i}": loaded[:n].count(i) for i in range(3)}
    assert sum(s.drawn(1088).values()) == 1088


def test_after_the_end_the_last_phase_goes_on() -> None:
    short, long = (stream(Numbers(9), Numbers(50), lengths=(16, last)) for last in (8, 32))
    assert [short.place(at)[1] for at in range(48)] == [long.place(at)[1] for at in range(48)]
