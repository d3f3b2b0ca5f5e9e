"""Caption metrics and the tokenizer against pycocoevalcap 1.2.

``golden_captions.json`` holds our own sentences and what pycocoevalcap gave for them: its ``PTBTokenizer``
(Stanford CoreNLP 3.4.1 on OpenJDK 17) on references and predictions, then ``Cider``, ``Bleu(4)`` and ``Rouge``;
CIDEr is times 100. Tokens are the tokenizer's output split at single spaces, the prediction first.
``golden_scripts.json`` is the same for 2,000 captions in seventy languages, see ``make_golden_captions.py``.
"""

import hashlib
import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpali.metrics import caption, ptb

GOLDEN = json.loads((Path(__file__).parent / "golden_captions.json").read_text(encoding="utf-8"))
PREDICTIONS, REFERENCES = GOLDEN["predictions"], GOLDEN["references"]

words = st.lists(st.sampled_from(list("abcde")), max_size=7).map(" ".join)
corpora = st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=2, max_size=6)


def test_tokens_equal_the_java_program() -> None:
    for prediction, references, tokens in zip(PREDICTIONS, REFERENCES, GOLDEN["tokens"], strict=True):
        assert [ptb.tokenize(text) or [""] for text in (prediction, *references)] == tokens


def test_two_thousand_captions_in_seventy_languages_equal_pycocoevalcap() -> None:
    golden = json.loads((Path(__file__).parent / "golden_scripts.json").read_text(encoding="utf-8"))
    predictions, references, languages = (golden[name] for name in ("predictions", "references", "languages"))
    assert len(predictions) == 2000
    assert len(set(languages)) > 60
    wrong = set()
    for prediction, refs, lang, digest in zip(predictions, references, languages, golden["tokens"], strict=True):
        lines = "\n".join(" ".join(ptb.tokenize(text)) for text in (prediction, *refs))
        if hashlib.sha256(lines.encode()).hexdigest()[:12] != digest:
            wrong.add(lang)
    assert not wrong
    scores = caption.caption(predictions, references)
    for name, value in golden["summary"].items():
        assert scores.summary[name] == pytest.approx(value, abs=1e-6), name
    for name, values in golden["per_sample"].items():
        assert scores.per_sample[name] == pytest.approx(values, abs=1e-6), name


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog's bowl (red), isn't it?", "a dog 's bowl -lrb- red -rrb- is n't it"),
        ("The cats' \u201cbed\u201d \u2014 it\u2019s soft...", "the cats bed it 's soft"),
        ("I cannot go; he'll wanna stay!!", "i can not go he 'll wan na stay !!"),
        ("7 a.m. in the U.S.", "7 a.m. in the u.s."),
        ("etc. The end. No. 5, no.", "etc. the end no. 5 no"),
        ("the letter B. The letter C. x", "the letter b the letter c. x"),
        ("12:30pm, $1,000.50 and 5\u20ac", "12:30 pm $ 1,000.50 and 5 $"),
        ("sun. may. a.b.c. e.g. Ph.D.", "sun may a.b.c. e.g. ph.d."),
        ("\U0001f600 na\u00efve caf\u00e9 \u0e01\u0e34\u0e19", "na\u00efve caf\u00e9 \u0e01\u0e34\u0e19"),
        ("\u732b\u3002\u72ac\uff0c\u9ce5", "\u732b \u3002 \u72ac \uff0c \u9ce5"),
        ("grand'm\u00e8re Kanada'n\u0131n l'\u00e9t\u00e9", "grand 'm \u00e8re kanada n\u0131n l'\u00e9t\u00e9"),
        ("\U0001d400 \U00020000 x", "x"),  # letters beyond the basic plane vanish
        ("et al. in Inc. Blvd. Jan. Pa. pa. fig. 2 fig. x", "et al. in inc. blvd. jan. pa. pa fig. 2 fig x"),
        ("Is it a T\u2011shirt? a/b/c --- hi", "is it a t\u2011shirt a/b/c hi"),
    ],
)
def test_tokens_as_seen_from_the_java_program(text: str, tokens: str) -> None:
    assert ptb.tokenize(text) == tokens.split(" ")


def test_a_fraction_after_a_number_is_one_token_with_a_no_break_space() -> None:
    assert ptb.tokenize("1 1/2 cups") == ["1\u00a01/2", "cups"]


@given(st.text(max_size=40))
@settings(max_examples=30, deadline=None)
def test_tokenizer_takes_any_text(text: str) -> None:
    tokens = ptb.tokenize(text)
    assert all(token and " " not in token and token not in ptb.PUNCTUATION for token in tokens)


def test_scores_equal_pycocoevalcap() -> None:
    scores = caption.caption(PREDICTIONS, REFERENCES)
    for name, value in GOLDEN["summary"].items():
        assert scores.summary[name] == pytest.approx(value, abs=1e-9), name
        assert scores.per_sample[name] == pytest.approx(GOLDEN["per_sample"][name], abs=1e-9), name


@given(corpora, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_order_of_samples_and_references_does_not_matter(
    corpus: list[tuple[str, list[str]]], shuffle: random.Random
) -> None:
    def score(pairs: list[tuple[str, list[str]]]) -> dict[str, float]:
        return caption.caption([p for p, _ in pairs], [r for _, r in pairs]).summary

    before = score(corpus)
    shuffled = [(p, shuffle.sample(r, len(r))) for p, r in shuffle.sample(corpus, len(corpus))]
    assert score(shuffled) == pytest.approx(before, abs=1e-12)


@given(corpora)
@settings(max_examples=30, deadline=None)
def test_ranges(corpus: list[tuple[str, list[str]]]) -> None:
    scores = caption.caption([p for p, _ in corpus], [r for _, r in corpus])
    for name, values in scores.per_sample.items():
        top = 1000 if name == "cider" else 1
        assert all(0 <= value <= top + 1e-9 for value in [scores.summary[name], *values])


def test_perfect_predictions_get_the_maximum() -> None:
    texts = ["a red bus on a street", "two cats sleep on the sofa", "the man rides a big horse"]
    scores = caption.caption(texts, [[text] for text in texts]).summary
    assert scores["cider"] == pytest.approx(1000)
    for name in ("bleu1", "bleu4", "rouge_l", "exact_match"):
        assert scores[name] == pytest.approx(1, abs=1e-9)


def test_single_image_cider_warns_and_is_zero() -> None:
    with pytest.warns(caption.TooFewImages):
        scores = caption.cider(["a cat"], [["a cat"]])
    assert scores.summary["cider"] == 0


def test_given_document_frequency_replaces_the_corpus() -> None:
    df = caption.document_frequency(REFERENCES)
    assert caption.cider(PREDICTIONS, REFERENCES, df=df) == caption.cider(PREDICTIONS, REFERENCES)
    # One sample scored with the idf of all has the value that it has among them.
    alone = caption.cider(PREDICTIONS[:1], REFERENCES[:1], df=df).summary["cider"]
    assert alone == pytest.approx(GOLDEN["per_sample"]["cider"][0], abs=1e-9)


def test_bleu_takes_the_shorter_of_two_equally_close_references() -> None:
    scores = caption.bleu(["a b c"], [["a b", "a b c d"]], tokenize=str.split).summary
    assert scores["bleu1"] == pytest.approx(1)  # no brevity penalty: 3 words against 2, not 4


def test_clipping_and_length_penalty_by_hand() -> None:
    # Words x, y occur in one image of two each, so idf = log 2 for all n-grams; refs "x y", hypothesis "x x y".
    value = caption.cider(["x x y", "z"], [["x y"], ["z"]], tokenize=str.split).per_sample["cider"][0]
    unigrams = (1 * 1 + 1 * 1) / (math.sqrt(4 + 1) * math.sqrt(2))
    bigrams = 1 / (math.sqrt(2) * 1)
    penalty = math.exp(-(1**2) / 72)
    assert value == pytest.approx(1000 * (unigrams + bigrams) / 4 * penalty)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "1 predictions but 2 references"),
        ([], [], "empty"),
        (["a", "b"], [["a"], []], "sample 1 has no reference"),
        (["a", "b"], [["a"], "b"], "sample 1 are one string"),
    ],
)
def test_malformed_inputs(predictions: list[str], references: list[list[str]], message: str) -> None:
    for metric in (caption.cider, caption.bleu, caption.rouge_l, caption.caption):
        with pytest.raises(ValueError, match=message):
            metric(predictions, references)
