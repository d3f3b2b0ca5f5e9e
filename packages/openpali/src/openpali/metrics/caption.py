"""Caption metrics: CIDEr-D, BLEU-1..4 and ROUGE-L, equal to pycocoevalcap's without Java.

Each takes raw texts and tokenizes both sides with :func:`~openpali.metrics.ptb.tokenize`. Pass
``tokenize=str.split`` for texts that are already tokenized.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from . import ptb
from .scores import Scores, check_answers, check_paired, mean, mean_scores

Tokenize = Callable[[str], list[str]]
NGram = tuple[str, ...]

MAX_ORDER = 4


class TooFewImages(UserWarning):
    """CIDEr says nothing about so few images."""


@dataclass(frozen=True)
class DocumentFrequency:
    """Number of images whose references contain each n-gram, from which CIDEr computes its idf."""

    counts: Mapping[NGram, int]  # n-gram (1 to 4 words) -> number of images
    images: int  # number of images counted


def document_frequency(
    references: Sequence[Sequence[str]], *, tokenize: Tokenize = ptb.tokenize
) -> DocumentFrequency:
    """Count n-grams over the references of a corpus, to score other samples with its idf."""
    check_answers(references)
    return _document_frequency([[_ngrams(_words(tokenize(text))) for text in texts] for texts in references])


def cider(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    df: DocumentFrequency | None = None,
    tokenize: Tokenize = ptb.tokenize,
) -> Scores:
    """CIDEr-D, times 100 as papers print it.

    TF-IDF vectors of 1- to 4-grams, clipped cosine similarity to each reference, Gaussian length penalty with sigma
    6, mean over references and orders, times 10 (so that a value can exceed 100). Unless ``df`` is given, the idf
    is computed from the references scored here; with a single image it is 0 and so is every score, which raises a
    warning. Source: arXiv 1411.5726; pycocoevalcap ``cider_scorer.py``, where the length is the number of bigrams.

    Args:
        predictions: one caption per image.
        references: one or more captions per image.
        df: document frequencies of another corpus.
        tokenize: text to words, for both sides.

    Returns:
        ``cider``, with per-sample values; 0..1000 each.
    """
    check_paired(predictions, references)
    check_answers(references)
    cooked_refs = [[_ngrams(_words(tokenize(text))) for text in texts] for texts in references]
    if df is None:
        df = _document_frequency(cooked_refs)
    if df.images < 2:
        warnings.warn(
            "CIDEr is always 0 with the references of a single image: score more images together",
            TooFewImages,
            stacklevel=2,
        )
    values = []
    for prediction, refs in zip(predictions, cooked_refs, strict=True):
        hypothesis = _tfidf(_ngrams(_words(tokenize(prediction))), df)
        similarity = mean([_similarity(hypothesis, _tfidf(ref, df)) for ref in refs])
        values.append(1000 * similarity)
    return mean_scores({"cider": values})


def _words(tokens: Sequence[str]) -> list[str]:
    # pycocoevalcap joins the tokens and splits them again at any white space.
    return " ".join(tokens).split()


def _ngrams(words: Sequence[str]) -> Counter[NGram]:
    return Counter(tuple(words[i : i + n]) for n in range(1, MAX_ORDER + 1) for i in range(len(words) - n + 1))


def _document_frequency(references: Iterable[Iterable[Counter[NGram]]]) -> DocumentFrequency:
    counts: Counter[NGram] = Counter()
    images = 0
    for texts in references:
        images += 1
        counts.update(set().union(*texts))
    return DocumentFrequency(counts, images)


@dataclass(frozen=True)
class _Vector:
    weights: tuple[dict[NGram, float], ...]  # one sparse vector per order
    norms: tuple[float, ...]
    bigrams: int


def _tfidf(counts: Counter[NGram], df: DocumentFrequency) -> _Vector:
    weights: tuple[dict[NGram, float], ...] = tuple({} for _ in range(MAX_ORDER))
    log_images = math.log(max(1, df.images))
    for ngram, count in counts.items():
        idf = log_images - math.log(max(1, df.counts.get(ngram, 0)))
        weights[len(ngram) - 1][ngram] = count * idf
    norms = tuple(math.sqrt(sum(w * w for w in order.values())) for order in weights)
    return _Vector(weights, norms, sum(count for ngram, count in counts.items() if len(ngram) == 2))


def _similarity(hypothesis: _Vector, reference: _Vector) -> float:
    """Mean over orders of the clipped cosine, times the length penalty: 0..1."""
    delta = hypothesis.bigrams - reference.bigrams
    total = 0.0
    for hyp, ref, hyp_norm, ref_norm in zip(
        hypothesis.weights, reference.weights, hypothesis.norms, reference.norms, strict=True
    ):
        if hyp_norm and ref_norm:
            dot = sum(min(weight, ref[ngram]) * ref[ngram] for ngram, weight in hyp.items() if ngram in ref)
            total += dot / (hyp_norm * ref_norm)
    return total / MAX_ORDER * math.exp(-(delta**2) / (2 * 6.0**2))


def bleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, tokenize: Tokenize = ptb.tokenize
) -> Scores:
    """BLEU-1 to BLEU-4: corpus level in the summary, per sentence (without smoothing) in the samples.

    The brevity penalty takes each sentence's closest reference length, the shorter of two equally close.
    Source: pycocoevalcap ``bleu_scorer.py``, including its 1e-15 and 1e-9 in place of a division by zero.

    Returns:
        ``bleu1`` .. ``bleu4`` in 0..1, with per-sample values.
    """
    check_paired(predictions, references)
    check_answers(references)
    totals = [0] * (2 * MAX_ORDER + 2)
    names = [f"bleu{n}" for n in range(1, MAX_ORDER + 1)]
    per_sample: dict[str, list[float]] = {name: [] for name in names}
    for prediction, texts in zip(predictions, references, strict=True):
        counts = bleu_counts(_words(tokenize(prediction)), [_words(tokenize(text)) for text in texts])
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        for name, value in zip(names, _bleu(counts), strict=True):
            per_sample[name].append(value)
    return Scores(dict(zip(names, _bleu(totals), strict=True)), per_sample)


def bleu_counts(words: list[str], references: list[list[str]]) -> list[int]:
    """Matches per order, candidates per order, length, closest reference length, by which BLEU is computed."""
    limits: Counter[NGram] = Counter()
    for reference in references:
        limits |= _ngrams(reference)
    matches = [0] * MAX_ORDER
    for ngram, count in (_ngrams(words) & limits).items():
        matches[len(ngram) - 1] += count
    length = len(words)
    closest = min((len(reference) for reference in references), key=lambda n: (abs(n - length), n))
    return [*matches, *(max(0, length - n) for n in range(MAX_ORDER)), length, closest]


def _bleu(counts: Sequence[int]) -> list[float]:
    tiny, small = 1e-15, 1e-9
    *by_order, length, reference_length = counts
    ratio = (length + tiny) / (reference_length + small)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, scores = 1.0, []
    for n in range(MAX_ORDER):
        product *= (by_order[n] + tiny) / (by_order[MAX_ORDER + n] + small)
        scores.append(product ** (1 / (n + 1)) * penalty)
    return scores


def rouge_l(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, tokenize: Tokenize = ptb.tokenize
) -> Scores:
    """ROUGE-L: F-score (beta 1.2) of the longest common subsequence.

    Precision and recall are each the best over the references, possibly from different references.
    Source: pycocoevalcap ``rouge.py``, which counts an empty text as one empty word.

    Returns:
        ``rouge_l`` in 0..1, with per-sample values.
    """
    check_paired(predictions, references)
    check_answers(references)
    values = []
    for prediction, texts in zip(predictions, references, strict=True):
        hypothesis = tokenize(prediction) or [""]
        refs = [tokenize(text) or [""] for text in texts]
        common = [_common_length(hypothesis, ref) for ref in refs]
        precision = max(common) / len(hypothesis)
        recall = max(n / len(ref) for n, ref in zip(common, refs, strict=True))
        beta2 = 1.2**2
        values.append((1 + beta2) * precision * recall / (recall + beta2 * precision) if precision else 0.0)
    return mean_scores({"rouge_l": values})


def _common_length(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def caption(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    df: DocumentFrequency | None = None,
    tokenize: Tokenize = ptb.tokenize,
) -> Scores:
    """All together: ``cider``, ``bleu1`` .. ``bleu4``, ``rouge_l``, and ``exact_match`` of the words."""
    parts = [
        cider(predictions, references, df=df, tokenize=tokenize),
        bleu(predictions, references, tokenize=tokenize),
        rouge_l(predictions, references, tokenize=tokenize),
    ]
    pairs = zip(predictions, references, strict=True)
    parts.append(
        mean_scores({"exact_match": [float(tokenize(p) in [tokenize(text) for text in r]) for p, r in pairs]})
    )
    return Scores(
        {name: value for part in parts for name, value in part.summary.items()},
        {name: values for part in parts for name, values in part.per_sample.items()},
    )
