"""WUPS on a WordNet of thirteen synsets, with similarities counted by hand, and stems as NLTK finds them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_wordnet import write_wordnet

from openpali_lab.benchmarks.metrics.nextqa import content_words, nextqa, wups
from openpali_lab.benchmarks.metrics.porter import stem
from openpali_lab.benchmarks.metrics.wordnet import WordNet


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    folder = tmp_path_factory.mktemp("wordnet")
    write_wordnet(folder)
    return WordNet(folder)


def similarity(wordnet: WordNet, a: str, b: str) -> float:
    return wordnet.similarity(wordnet.synsets(a)[0], wordnet.synsets(b)[0])


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        # 2 d / (steps + 2 d), d: depth of the deepest common ancestor, counted from 1
        ("dog", "cat", 2 * 2 / (1 + 1 + 4)),  # animal
        ("puppy", "dog", 2 * 3 / (1 + 0 + 6)),  # dog
        ("puppy", "cat", 2 * 2 / (2 + 1 + 4)),
        ("dog", "child", 2 * 1 / (2 + 1 + 2)),  # entity
        ("dog", "dog", 1.0),
        ("run", "eat", 2 * 1 / (1 + 1 + 2)),  # under the artificial root alone
        ("dash", "run", 2 * 1 / (1 + 2 + 2)),  # the root has the same least depth as "run", and its name is first
        ("run", "dog", 2 * 1 / (1 + 3 + 2)),  # from a verb there is a root,
        ("dog", "run", 0.0),  # from a noun there is none: NLTK's rule
    ],
)
def test_similarity_by_hand(wordnet: WordNet, a: str, b: str, value: float) -> None:
    assert similarity(wordnet, a, b) == pytest.approx(value)


def test_senses_and_base_forms(wordnet: WordNet) -> None:
    assert [pos for pos, _ in wordnet.synsets("Hounds")] == ["n", "v"]
    assert len(wordnet.synsets("bank")) == 2
    assert wordnet.lemma("children", "n") == "child"
    assert wordnet.lemma("running", "v") == "running"  # the rules take "ing" away and no more
    assert wordnet.lemma("eating", "v") == "eat"
    assert wordnet.lemma("dogs", "n") == "dog"
    assert wordnet.lemma("hounders", "n") == "hounders"
    assert wordnet.lemma("runesses", "v") == "run"  # ending after ending
    assert wordnet.synsets("qwerty") == []


@pytest.mark.parametrize(
    ("words", "stems"),
    [  # the results of NLTK 3.9
        ("skies dying news proceed by", "sky die news proceed by"),
        ("dies flies ponies caresses cats", "die fli poni caress cat"),
        ("died spied agreed feed plastered sing motoring", "die spi agre feed plaster sing motor"),
        ("conflated hopping falling filing failing a*ded", "conflat hop fall file fail ad"),
        ("happy enjoy spy toy syzygy", "happi enjoy spi toy syzygi"),
        ("relational radically analogically geology logi", "relat radic analog geolog logi"),
        ("hopefully sensibiliti rational", "hope sensibl ration"),
        ("electrical goodness formalize", "electr good formal"),
        ("adoption replacement airliner onion", "adopt replac airlin onion"),
        ("rate cease probate roll controlling 12.5% é", "rate ceas probat roll control 12.5% é"),
    ],
)
def test_stems(words: str, stems: str) -> None:
    assert " ".join(map(stem, words.split())) == stems


def test_wups_by_hand(wordnet: WordNet) -> None:
    dog_cat, puppy_dog = 4 / 6, 6 / 7
    assert wups(["dog"], ["cat"], wordnet) == pytest.approx(dog_cat)
    # Each word finds the nearest of the other side; both directions are made, and the lesser counts.
    one_way, other_way = 1.0 * puppy_dog, 1.0
    assert wups(["dog", "puppy"], ["dog"], wordnet) == pytest.approx(min(one_way, other_way))
    assert wups(["dog", "qwerty"], ["dog"], wordnet) == 1.0  # words that are like none are passed over
    assert wups(["qwerty"], ["dog"], wordnet) == 0.0
    assert wups(["qwerty"], ["qwerty"], wordnet) == 1.0
    assert wups([], ["dog"], wordnet) == 0.0


def test_stop_words_go_and_words_of_place_stay(wordnet: WordNet) -> None:
    assert content_words("The Children are eating", wordnet) == ["child", "eat"]
    assert content_words("not up, in the house", wordnet) == ["not", "up", ",", "in", "house"]
    assert content_words("dogful qwertyful", wordnet) == ["dog", "qwertyful"]  # by its stem, if that has a sense


def test_nextqa_groups_and_exact_kinds(wordnet: WordNet) -> None:
    scores = nextqa(
        ["a dog", "the dogs", "dog", "two", "puppy"],
        [["the dog"], ["cat", "a dog"], ["cat"], ["three"], ["dog"]],
        ["CW", "CH", "TP", "DC", "DL"],
        wordnet,
    )
    assert scores.per_sample["wups"] == pytest.approx([1, 1, 4 / 6, 0, 6 / 7])
    assert scores.summary == pytest.approx(
        {
            "wups": (2 + 4 / 6 + 6 / 7) / 5,
            "wups/causal": 1.0,
            "wups/temporal": 4 / 6,
            "wups/descriptive": 3 / 7,
            "wups/CW": 1.0,
            "wups/CH": 1.0,
            "wups/TN": 4 / 6,  # TP is counted as TN
            "wups/DC": 0.0,
            "wups/DL": 6 / 7,
        }
    )
    # A count must be met to the letter, though "cat" and "dog" are alike.
    assert nextqa(["cat"], [["dog"]], ["DB"], wordnet).summary["wups"] == 0


def test_malformed_inputs_are_refused(wordnet: WordNet, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        nextqa(["a"], [["a"]], ["X"], wordnet)
    with pytest.raises(ValueError):
        nextqa(["a"], [["a"]], ["CW", "CW"], wordnet)
    with pytest.raises(FileNotFoundError, match="openpali data build wordnet"):
        WordNet(tmp_path)


phrases = st.lists(st.sampled_from(["dog", "hound", "puppy", "kid", "ran", "the", "zebra"]), min_size=1, max_size=3)
sentences = phrases.map(" ".join)
asked = st.tuples(sentences, st.lists(sentences, min_size=1, max_size=2), st.sampled_from(["CW", "TN", "TP", "DC"]))


@given(samples=st.lists(asked, min_size=1, max_size=6), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_order_range_and_a_second_reference(
    samples: list[tuple[str, list[str], str]], shuffle: random.Random, wordnet: WordNet
) -> None:
    def score(some: list[tuple[str, list[str], str]]) -> tuple[dict[str, float], list[float]]:
        found = nextqa(*map(list, zip(*some, strict=True)), wordnet)
        return found.summary, found.per_sample["wups"]

    summary, values = score(samples)
    order = shuffle.sample(range(len(samples)), len(samples))
    again, moved = score([samples[i] for i in order])
    assert again == pytest.approx(summary, abs=1e-12)
    assert moved == [values[i] for i in order]
    assert all(0 <= value <= 1 for value in [*summary.values(), *values])
    # The best of the references counts, and a perfect answer has the maximum unless it is of stop words alone.
    alone = [score([(text, [truth], kind) for truth in truths])[1] for text, truths, kind in samples]
    assert values == [max(each) for each in alone]
    perfect = [(truths[0], truths, kind) for _, truths, kind in samples if set(truths[0].split()) != {"the"}]
    assert not perfect or score(perfect)[0]["wups"] == 1
