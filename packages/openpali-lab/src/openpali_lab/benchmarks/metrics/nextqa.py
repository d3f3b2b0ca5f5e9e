"""NExT-QA, open-ended: WUPS, the WordNet similarity of answer and reference, word by word."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from openpali.metrics.scores import Scores, check_answers, check_paired, mean, mean_scores
from openpali_lab.benchmarks.metrics.porter import stem
from openpali_lab.benchmarks.metrics.wordnet import Pos, WordNet

# Kinds of question that need an exact match ("two", "yes"): counting and yes/no questions.
EXACT_KINDS = frozenset(("DC", "DB"))
# First letter of a kind -> causal, temporal and descriptive questions.
GROUPS = {"C": "causal", "T": "temporal", "D": "descriptive"}

# Words that NExT-QA's script removes: NLTK's English stop words except those of place and negation.
_STOP_WORDS = """
i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves he him his
himself she she's her hers herself it it's its itself they them their theirs themselves what which who whom this
that that'll these those am is are was were be been being have has had having do does did doing a an the and but
if or because as until while to from of at for with about into through during again further then here there when
where why how all any each most other some such only own so than too very s t can will just don don't should
should've now d ll m o re ve y ain aren aren't couldn couldn't didn didn't doesn doesn't hadn hadn't hasn hasn't
haven haven't isn isn't ma mightn mightn't mustn mustn't needn needn't shan shan't shouldn shouldn't wasn wasn't
weren weren't won won't wouldn wouldn't
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def nextqa(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    kinds: Sequence[str],
    wordnet: WordNet,
) -> Scores:
    """WUPS of NExT-QA's open-ended questions, with its means over causal, temporal and descriptive ones.

    Both texts are lower-cased, reduced to base forms and stripped of stop words. The score is the best :func:`wups`
    over the references. Questions of the kinds DC and DB score 1 for the same words, otherwise 0.
    Source: NExT-OE ``eval_oe.py`` and ``metrics.py``. The official script tags parts of speech with NLTK's trained
    tagger to find base forms. This function takes forms in -ing and -ed as verbs and all other words as nouns;
    docs/metrics.md measures the difference.

    Args:
        predictions: one answer per sample.
        references: one or more answers per sample.
        kinds: CW, CH, TN, TP, TC, DC, DB, DL or DO per sample, as in the data set's column ``type``.
        wordnet: WordNet 3.0.

    Returns:
        ``wups`` in 0..1 with per-sample values, and ``wups/causal``, ``wups/temporal``, ``wups/descriptive`` and
        ``wups/<kind>`` for those that occur.
    """
    check_paired(predictions, references)
    check_paired(predictions, kinds, "kinds")
    check_answers(references)
    values = []
    for index, (prediction, answers, kind) in enumerate(zip(predictions, references, kinds, strict=True)):
        if kind[:1] not in GROUPS or len(kind) != 2:
            raise ValueError(f"sample {index} is of the unknown kind {kind!r}: kinds are CW, CH, TN, TP, TC, D?")
        guess = content_words(prediction, wordnet)
        truths = [content_words(answer, wordnet) for answer in answers]
        if kind in EXACT_KINDS:
            values.append(float(guess in truths))
        else:
            values.append(max(wups(guess, truth, wordnet) for truth in truths))
    scores = mean_scores({"wups": values})
    labels = [(GROUPS[kind[0]], "TN" if kind == "TP" else kind) for kind in kinds]
    for name in sorted({label for pair in labels for label in pair}):
        having = [value for value, pair in zip(values, labels, strict=True) if name in pair]
        scores.summary[f"wups/{name}"] = mean(having)
    return scores


def wups(prediction: Sequence[str], reference: Sequence[str], wordnet: WordNet) -> float:
    """Similarity of two lists of words, 0..1: the lower of both directions.

    Each direction is the product, over the words of one side, of the greatest similarity with a word of the other.
    Words without any similar word are skipped; this rule is NExT-OE's, not in arXiv 1410.0210.
    """
    return min(_one_way(prediction, reference, wordnet), _one_way(reference, prediction, wordnet))


def _one_way(words: Sequence[str], others: Sequence[str], wordnet: WordNet) -> float:
    best = [max((_alike(word, other, wordnet) for other in others), default=0.0) for word in words]
    similar = [*filter(None, best)]
    return math.prod(similar) if similar else 0.0


def _alike(a: str, b: str, wordnet: WordNet) -> float:
    """Similarity of the most common senses of two words."""
    if a == b:
        return 1.0
    senses_a, senses_b = wordnet.synsets(a), wordnet.synsets(b)
    if not senses_a or not senses_b:
        return 0.0
    return wordnet.similarity(senses_a[0], senses_b[0])


def content_words(text: str, wordnet: WordNet) -> list[str]:
    """Base forms of the words of a text, without stop words."""
    words = re.findall(r"[\w'-]+|[^\w\s]", text.lower())
    lemmas = [_base(word, _guess_pos(word, wordnet), wordnet) for word in words]
    return [lemma for lemma in lemmas if lemma not in STOP_WORDS]


def _guess_pos(word: str, wordnet: WordNet) -> Pos:
    return "v" if word.endswith(("ing", "ed")) and wordnet.lemma(word, "v") != word else "n"


def _base(word: str, pos: Pos, wordnet: WordNet) -> str:
    """The lemma of a word, or its stem, of which the first has a sense; else the word (pywsd's ``lemmatize``)."""
    found = (each for each in (wordnet.lemma(word, pos), stem(word)) if wordnet.synsets(each))
    return next(found, word)
