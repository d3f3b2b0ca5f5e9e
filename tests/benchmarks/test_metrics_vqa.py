"""Short-answer metrics: golden cases from users' threads and the official scripts' quirks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpali.metrics.exact import exact_match
from openpali_lab.benchmarks.metrics import vqa

answers = st.sampled_from(["yes", "no", "2", "a cat", "The cat."])
ten = st.lists(answers, min_size=10, max_size=10)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Cat.", "cat"),
        ("two dogs", "2 dogs"),
        ("None", "0"),
        ("eleven", "eleven"),  # the official table ends at ten
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),  # official table, the wrong way round
        ("black-white", "black white"),
        ("black- white", "black white"),
        ("a-b c -d", "ab c d"),  # the mark touches a space somewhere: it is deleted everywhere
        ("1,000", "1000"),
        ("1,000-2,000/x", "10002000x"),  # digit-comma-digit deletes all marks
        ("3.5", "3.5"),
        ("3.", "3"),
        ("u.s.", "us"),
        ("5 p.m", "5 pm"),
    ],
)
def test_vqa_normalisation(text: str, normal: str) -> None:
    assert vqa.normalize_vqa(text) == normal


@pytest.mark.parametrize(
    ("matching", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)]
)
def test_vqa_accuracy_leaves_one_annotator_out(matching: int, accuracy: float) -> None:
    references = [["cat"] * matching + [f"dog{i}" for i in range(10 - matching)]]
    assert vqa.vqa_accuracy(["cat"], references).summary["vqa_accuracy"] == pytest.approx(accuracy)


def test_vqa_normalises_only_where_annotators_disagree() -> None:
    assert vqa.vqa_accuracy(["the cat"], [["cat"] * 10]).summary["vqa_accuracy"] == 0
    assert vqa.vqa_accuracy(["the cat"], [["cat"] * 9 + ["dog"]]).summary["vqa_accuracy"] == 1
    assert vqa.vqa_accuracy([" the\tcat\n"], [["the cat"] * 10]).summary["vqa_accuracy"] == 1


def test_vqa_accuracy_needs_ten_annotators() -> None:
    with pytest.raises(ValueError):
        vqa.vqa_accuracy(["a"], [["a", "a", "a"]])


@given(st.lists(st.tuples(answers, ten), min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_vqa_accuracy_is_a_fraction_and_ignores_order(samples, shuffle) -> None:  # type: ignore[no-untyped-def]
    def score(pairs):  # type: ignore[no-untyped-def]
        return vqa.vqa_accuracy([p for p, _ in pairs], [r for _, r in pairs]).summary["vqa_accuracy"]

    before = score(samples)
    assert 0 <= before <= 1
    assert score([(p, shuffle.sample(r, 10)) for p, r in shuffle.sample(samples, len(samples))]) == before


def test_soft_accuracy() -> None:
    scores = vqa.soft_accuracy(
        ["cat", "cat", "cat", "Cat", "dog"],
        [["cat"], ["cat", "dog"], ["cat"] * 3 + ["dog"], ["cat"], ["cat", "cow"]],
    )
    assert scores.per_sample["accuracy"] == pytest.approx([1, 1 / 3, 1, 0, 0])
    assert scores.per_sample["accuracy_any"] == [1, 1, 1, 0, 0]
    # No clean-up, unlike VQAv2.
    assert vqa.soft_accuracy(["the cat"], [["cat"] * 3]).summary["accuracy"] == 0


def test_exact_match() -> None:
    scores = exact_match(["a", "A", "b"], [["a"], ["a"], ["a", "b"]])
    assert scores.per_sample["exact_match"] == [1, 0, 1]
    assert exact_match(["A"], [["a"]], lower=True).summary["exact_match"] == 1


def test_counts() -> None:
    scores = vqa.count_accuracy(["three", "3", "Twenty", "none", "17"], ["3", "four", "20", "0", "seventeen"])
    assert scores.per_sample["accuracy"] == [1, 0, 1, 1, 1]
    assert scores.summary == {
        "accuracy": 0.8,
        "accuracy/count=0": 1.0,
        "accuracy/count=3": 1.0,
        "accuracy/count=4": 0.0,
        "accuracy/count=17": 1.0,
        "accuracy/count=20": 1.0,
    }


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        ("sitting", ["kitten"], 4 / 7),  # .571: distance 3 of 7
        ("a blue bird", ["quarterly revenue"], 0.0),  # unrelated text scores nothing
        ("ab", ["ax"], 0.5),  # ratio exactly 0.5
        ("abc", ["axy"], 0.0),
        ("", ["\r"], 1.0),
        ("", ["0 \t\t 1"], 0.5),
        ("A C", ["A  B"], 0.75),  # lengths are of the texts as they are
        (" ab", ["ax"], 2 / 3),  # with white space at the ends
        ("abc ", ["xbc"], 0.75),
        ("aß", ["bß"], 2 / 3),  # and in upper case: BSS
        ("a", ["  "], 0.5),
        ("abc", ["abx"], 2 / 3),
        ("INVOICE", ["invoice"], 1.0),
        ("x", ["y", "x"], 1.0),
        ("", [""], 1.0),
        ("x", [""], 0.0),
        ("", ["x"], 0.0),
    ],
)
def test_anls(prediction: str, references: list[str], score: float) -> None:
    assert vqa.anls([prediction], [references]).summary["anls"] == pytest.approx(score)


@given(st.text(max_size=12), st.text(max_size=12))
@settings(max_examples=30, deadline=None)
def test_anls_is_symmetric_in_range_and_perfect_on_equal_texts(a: str, b: str) -> None:
    score = vqa.anls([a], [[b]]).summary["anls"]
    assert score == 0 or 0.5 <= score <= 1
    assert score == vqa.anls([b], [[a]]).summary["anls"]
    assert vqa.anls([a], [[a]]).summary["anls"] == 1


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("2008", "2010", True),  # years are numbers: within 5 % counts, as published
        ("1900", "2010", False),
        ("105", "100", True),
        ("105.1", "100", False),
        ("95", "100", True),
        ("-95", "-100", True),
        ("95", "-100", False),
        ("5%", "0.05", True),
        ("5", "5%", False),
        ("1,000", "1000", False),  # no thousands separators
        ("0.0", "0", False),  # a zero must be met as a string
        ("0", "0", True),
        ("Yes", "yes", True),
        ("nan", "10", False),
        ("nan", "nan", True),
        ("inf", "inf", True),
        ("%", "%", True),
    ],
)
def test_relaxed_accuracy(prediction: str, reference: str, right: bool) -> None:
    assert vqa.relaxed_accuracy([prediction], [reference]).summary["relaxed_accuracy"] == right


def test_relaxed_accuracy_reports_exact_match_and_case() -> None:
    scores = vqa.relaxed_accuracy(["98", "Yes"], ["100", "yes"])
    assert scores.summary == {"relaxed_accuracy": 1.0, "exact_match": 0.5}


@pytest.mark.parametrize(
    ("prediction", "right", "unparsed"),
    [
        ("sun", 1, 0),
        ("B", 1, 0),
        ("(b)", 1, 0),
        ("b.", 1, 0),
        ("moon", 0, 0),
        ("A", 0, 0),
        ("star", 0, 1),
        ("D", 0, 1),
    ],
)
def test_multiple_choice(prediction: str, right: int, unparsed: int) -> None:
    scores = vqa.multiple_choice([prediction], [["moon", "sun", "earth"]], [1])
    assert scores.summary == {"accuracy": right, "unparsed": unparsed}


def test_multiple_choice_prefers_the_text_of_an_option_to_its_letter() -> None:
    # Food webs are labelled with letters: "A" here is the second option.
    assert vqa.multiple_choice(["A"], [["C", "A", "B"]], [1]).summary["accuracy"] == 1
    assert vqa.multiple_choice(["same"], [["same", "same"]], [1]).summary["accuracy"] == 1
    with pytest.raises(ValueError):
        vqa.multiple_choice(["a"], [["a", "b"]], [3])


@pytest.mark.parametrize("metric", [vqa.vqa_accuracy, vqa.soft_accuracy, exact_match, vqa.anls])
def test_malformed_inputs(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        metric(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="empty"):
        metric([], [])
    with pytest.raises(ValueError):
        metric(["a"], [[]])
    with pytest.raises(ValueError):
        metric(["a"], ["a"])
