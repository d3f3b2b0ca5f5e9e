"""Scores of transcripts by hand, and stems as NLTK finds them; the golden cases are in test_ocrbench.py."""

from __future__ import annotations

import marshal
import math
import sys
import tempfile
from pathlib import Path

import pytest
from tiny_wordnet import write_wordnet

from openpali_lab.benchmarks.metrics.porter import stem
from openpali_lab.benchmarks.metrics.transcripts import bleu, chinese_words, meteor, transcript
from openpali_lab.benchmarks.metrics.wordnet import WordNet


@pytest.fixture
def tiny(tmp_path: Path) -> WordNet:
    write_wordnet(tmp_path)
    return WordNet(tmp_path)


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


@pytest.mark.parametrize(
    ("said", "true", "value"),
    [  # by hand: 1 - half the cubed share of runs, times the mean of precision and recall
        ("a b c d", "A B C D", 1 - 0.5 / 4**3),
        ("d a b c", "a b c d", 1 - 0.5 * (2 / 4) ** 3),
        ("a b", "a b c d", (1 - 0.5 * (1 / 2) ** 3) / (0.9 / 0.5 + 0.1 / 1)),
        ("a", "b a c a", (1 - 0.5) / (0.9 / 0.25 + 0.1 / 1)),
        ("running dog", "runs hound", 1 - 0.5 / 2**3),  # by stem, by synonym
        ("dogs", "hounded", 1 - 0.5),  # a synonym of one stem is the other
        ("big", "king_size", 0),  # a synonym of several words
        ("a", "b", 0),
        ("", "b", 0),
        ("a", "", 0),
    ],
)
def test_meteor(said: str, true: str, value: float, tiny: WordNet) -> None:
    assert meteor(said.split(), true.split(), tiny) == pytest.approx(value)


@pytest.mark.parametrize(
    ("said", "true", "value"),
    [
        ("a b c d", "a b c d", 1),
        ("a b c d e", "a b c d f", (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)),
        ("a b c d", "a b c d e f", math.exp(1 - 6 / 4)),
        ("a a a a", "A b", 0),  # case matters
        ("a b c", "a b c", sys.float_info.min ** (1 / 4)),  # no four words follow another
        ("", "a", 0),
    ],
)
def test_bleu(said: str, true: str, value: float) -> None:
    assert bleu(said.split(), true.split()) == pytest.approx(value, rel=1e-12, abs=0)


def test_a_transcript_is_the_mean_of_four_scores(tiny: WordNet) -> None:
    similar = (1 - 0.5 / 3**3) / (0.9 / 1 + 0.1 / 0.75)  # METEOR, of three words in one run
    f1, distance = 2 * 2 / (4 + 3), 6 / 9  # BLEU is next to 0 without four words that are the same
    assert transcript("dog a b c", "hound a b", tiny) == pytest.approx((similar + f1 + 1 - distance) / 4)
    assert transcript(" ", "a", tiny) == transcript("", "a", tiny) == 0


def test_white_space_is_a_word_among_words_of_jieba(tiny: WordNet) -> None:
    assert bleu(["出口", " ", "a", "\n"], ["出口", " ", "a", "\n"]) == pytest.approx(1)
    assert transcript("出口 a\n", "出口 a\n", tiny) == pytest.approx((4 - 0.5 / 4**3) / 4)


def test_words_of_jieba_are_those_of_its_own_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "jieba.cache").write_bytes(marshal.dumps(({"来到": 1, "来": 0}, 1)))  # anyone's words
    assert chinese_words.__wrapped__()("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]
