"""Accuracy of short answers: VQAv2, OKVQA, TallyQA, ANLS, ChartQA and multiple choice.

Each reproduces its owner's script exactly, quirks included, since published numbers depend on them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from openpali.metrics.edit import edit_distance
from openpali.metrics.exact import fold
from openpali.metrics.scores import Scores, check_answers, check_paired, mean, mean_scores

VQA_ANNOTATORS = 10

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
# The official script mistyped its lookbehind as a lookahead for "<=digit": only the digit after the stop counts.
_FULL_STOP = re.compile(r"(?!<=\d)\.(?!\d)")
_ARTICLES = frozenset(("a", "an", "the"))

_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_NUMERALS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}

# Words whose apostrophe the official table restores; the key is the word without it.
_APOSTROPHES = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's "
    "isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd "
    "there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've "
    "when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all "
    "you'd you'll you're you've"
)
# Words with two apostrophes; each key lacks one of them.
_DOUBLE_APOSTROPHES = (
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've"
)


def _contractions() -> dict[str, str]:
    table = {word.replace("'", ""): word for word in _APOSTROPHES.split()}
    for word in _DOUBLE_APOSTROPHES.split():
        first, second = (i for i, char in enumerate(word) if char == "'")
        table[word[:first] + word[first + 1 :]] = word
        table[word[:second] + word[second + 1 :]] = word
    table |= {key: "y'all'd've" for key in ("yall'd've", "y'alld've", "y'all'dve")}
    table |= {key: "'ow's'at" for key in ("'ows'at", "'ow'sat", "ow's'at")}
    table["somebody'd"] = "somebodyd"  # the official table swaps key and value of this pair
    return table


_CONTRACTIONS = _contractions()


def normalize_vqa(text: str) -> str:
    """The official VQAv2 normalisation of an answer: punctuation, articles, numbers up to ten, contractions.

    Quirks kept: a mark is deleted (not replaced by a space) everywhere if it touches a space anywhere, and all
    marks are deleted if the text has a digit-comma-digit; a full stop stays only before a digit.
    """
    cleaned = text
    has_digit_comma = _DIGIT_COMMA.search(text) is not None
    for mark in _PUNCTUATION:
        delete = has_digit_comma or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if delete else " ")
    cleaned = _FULL_STOP.sub("", cleaned)
    words = (word for word in cleaned.lower().split() if word not in _ARTICLES)
    return " ".join(_vqa_word(word) for word in words)


def _vqa_word(word: str) -> str:
    numeral = _NUMERALS.get(word)
    if numeral is not None and int(numeral) <= 10:
        return numeral
    return _CONTRACTIONS.get(word, word)


def vqa_accuracy(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """VQAv2 and TextVQA accuracy: ``min(1, matches / 3)``, averaged over leaving out each of ten annotators.

    Line breaks and tabs become spaces on both sides; answers are normalised (:func:`normalize_vqa`) only where the
    annotators disagree. Source: big_vision ``transfers/vqav2.py``, equal to the VQA challenge's ``vqaEval.py``.

    Args:
        predictions: one answer per sample.
        references: ten answers per sample.

    Returns:
        ``vqa_accuracy`` in 0..1, with per-sample values.
    """
    check_paired(predictions, references)
    check_answers(references)
    pairs = enumerate(zip(predictions, references, strict=True))
    return mean_scores({"vqa_accuracy": [_vqa_sample(p, r, i) for i, (p, r) in pairs]})


def _vqa_sample(prediction: str, answers: Sequence[str], index: int) -> float:
    if len(answers) != VQA_ANNOTATORS:
        raise ValueError(
            f"sample {index} has {len(answers)} answers: VQA accuracy is defined over {VQA_ANNOTATORS} annotators; "
            "for other counts use soft_accuracy or exact_match"
        )
    prediction, *answers = (re.sub(r"[\n\t]", " ", text).strip() for text in (prediction, *answers))
    if len(set(answers)) > 1:
        prediction, *answers = map(normalize_vqa, (prediction, *answers))
    agree = answers.count(prediction)
    # Leaving one annotator out takes a vote away from the prediction where that annotator agreed with it.
    with_vote, without_vote = min(1.0, agree / 3), min(1.0, (agree - 1) / 3)
    return ((VQA_ANNOTATORS - agree) * with_vote + agree * without_vote) / VQA_ANNOTATORS


def soft_accuracy(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """OKVQA-style accuracy: ``min(1, matches / 3)`` over several answers, exact match where there is one.

    No normalisation, and no annotator is left out. Source: big_vision ``transfers/vqa.py``, which follows the
    A-OKVQA script.

    Args:
        predictions: one answer per sample.
        references: one or more answers per sample.

    Returns:
        ``accuracy`` and ``accuracy_any`` (1 if any answer matches) in 0..1, with per-sample values.
    """
    check_paired(predictions, references)
    check_answers(references)
    soft, hit = [], []
    for prediction, answers in zip(predictions, references, strict=True):
        matches = sum(prediction == answer for answer in answers)
        soft.append(min(1.0, matches / (1 if len(answers) == 1 else 3)))
        hit.append(float(matches > 0))
    return mean_scores({"accuracy": soft, "accuracy_any": hit})


def count_accuracy(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """TallyQA accuracy: number words up to twenty become numerals on both sides, then exact match.

    Source: big_vision ``transfers/tallyqa.py`` (which fails on true counts above 15; this does not).

    Args:
        predictions: one answer per sample, "3" or "three".
        references: the true count per sample, same forms.

    Returns:
        ``accuracy`` (with per-sample values) and ``accuracy/count=N`` for each true count that occurs.
    """
    check_paired(predictions, references)
    truth = [_NUMERALS.get(text.lower(), text) for text in references]
    right = [float(_NUMERALS.get(p.lower(), p) == t) for p, t in zip(predictions, truth, strict=True)]
    scores = mean_scores({"accuracy": right})
    for count in sorted(set(truth), key=lambda text: (len(text), text)):
        at_count = [value for value, t in zip(right, truth, strict=True) if t == count]
        scores.summary[f"accuracy/count={count}"] = mean(at_count)
    return scores


def anls(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Average normalised Levenshtein similarity, the score of DocVQA, InfographicVQA and ST-VQA.

    The similarity is ``1 - distance / longer length`` in characters, or 0 if it is below 0.5. The distance is that
    of lower-cased texts with single spaces and none at the ends; the lengths are those of the texts as they are, in
    upper case. A sample scores the best over its references.
    Source: arXiv 1907.00490 eq. 1, as the Robust Reading Competition's script has it (Qwen-VL:
    ``eval_mm/infographicsvqa_eval.py``). big_vision's ``transfers/vqa.py`` gives 0 at 0.5.

    Args:
        predictions: one answer per sample.
        references: one or more answers per sample.

    Returns:
        ``anls`` in 0..1, with per-sample values.
    """
    check_paired(predictions, references)
    check_answers(references)
    pairs = zip(predictions, references, strict=True)
    best = [max(_similarity(prediction, text) for text in some) for prediction, some in pairs]
    return mean_scores({"anls": best})


def _similarity(prediction: str, reference: str) -> float:
    texts = prediction, reference
    distance = edit_distance(*(" ".join(text.lower().split()) for text in texts))
    similarity = 1 - distance / max(1, *(len(text.upper()) for text in texts))
    return similarity if similarity >= 0.5 else 0.0


def relaxed_accuracy(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """ChartQA's relaxed accuracy: a number must be within 5 % of the answer, any other text must be equal to it.

    ``"12%"`` reads as 0.12; a number with thousands separators counts as text. The answer 0 needs an exact match.
    Years are numbers, too, so 2008 is accepted for 2010, as the official rule does.
    Source: arXiv 2203.10244 section 5.1; big_vision ``transfers/chartqa.py``.

    Returns:
        ``relaxed_accuracy`` and ``exact_match`` in 0..1, with per-sample values.
    """
    check_paired(predictions, references)
    pairs = [(fold(p, lower=True), fold(r, lower=True)) for p, r in zip(predictions, references, strict=True)]
    return mean_scores(
        {
            "relaxed_accuracy": [float(_relaxed_match(p, r)) for p, r in pairs],
            "exact_match": [float(p == r) for p, r in pairs],
        }
    )


def _relaxed_match(prediction: str, reference: str) -> bool:
    guess, truth = _number(prediction), _number(reference)
    if guess is None or not truth:
        return prediction == reference
    return abs(guess - truth) / abs(truth) <= 0.05


def _number(text: str) -> float | None:
    """The finite number that a text states, or None ("nan" and "inf" are words here)."""
    try:
        value = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def multiple_choice(predictions: Sequence[str], choices: Sequence[Sequence[str]], answers: Sequence[int]) -> Scores:
    """Multiple-choice accuracy (AI2D, NExT-QA): the exact text of an option, or else its letter A, B, ...

    The text of an option has precedence, since options may themselves be letters. A letter may be in brackets or
    end with a full stop: ``(b)``, ``B.``.

    Args:
        predictions: one answer per sample.
        choices: the options of each sample.
        answers: index of the correct option of each sample.

    Returns:
        ``accuracy`` and ``unparsed`` (share of predictions that name no option) in 0..1, with per-sample values.
    """
    check_paired(predictions, choices, "lists of choices")
    check_paired(predictions, answers, "answers")
    check_answers(choices)
    right, unparsed = [], []
    for index, (prediction, options, answer) in enumerate(zip(predictions, choices, answers, strict=True)):
        if not 0 <= answer < len(options):
            raise ValueError(f"sample {index}: answer {answer} is not one of its {len(options)} choices")
        chosen = _choice(prediction, options)
        # Options with the same text are one option: naming any of them is correct.
        right.append(float(chosen is not None and options[chosen] == options[answer]))
        unparsed.append(float(chosen is None))
    return mean_scores({"accuracy": right, "unparsed": unparsed})


def _choice(prediction: str, options: Sequence[str]) -> int | None:
    text = prediction.strip()
    if text in options:
        return list(options).index(text)
    letter = re.fullmatch(r"\(?([A-Za-z])[).]?", text)
    if letter is None:
        return None
    index = ord(letter[1].upper()) - ord("A")
    return index if index < len(options) else None
