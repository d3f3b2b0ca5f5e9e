"""Transcripts of whole texts: the mean of BLEU, METEOR, F1 of words and similarity of characters.

As ``page_ocr_metric.py`` and ``eval.py`` in ``OCRBench_v2/eval_scripts`` of Yuliang-Liu/MultimodalOCR compute it,
with NLTK 3.9. NLTK 3.10.4 refuses the edit distance of texts of more than 2,000 characters.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import cast

from openpali.messages import cannot_import
from openpali.metrics.boxes import f1
from openpali.metrics.caption import MAX_ORDER, bleu_counts
from openpali.metrics.edit import edit_distance
from openpali.metrics.scores import mean
from openpali_lab.benchmarks.metrics.porter import stem
from openpali_lab.benchmarks.metrics.wordnet import WordNet

Words = Sequence[str]

_CHINESE = re.compile("[\u4e00-\u9fa5]")


def transcript(answer: str, text: str, wordnet: WordNet) -> float:
    """The mean of four scores of words, 0..1; of an empty answer 0.

    Words are what is between white space or, if the answer or the text has a Chinese character, what jieba finds.
    """
    if not answer:
        return 0.0
    cut = chinese_words() if _CHINESE.search(answer) or _CHINESE.search(text) else str.split
    said, true = cut(answer), cut(text)
    distance = edit_distance(answer, text) / max(len(answer), len(text))
    same = f1(len({*said} & {*true}), len({*said}), len({*true})) if said and true else 0.0  # each word once
    return mean([bleu(said, true), meteor(said, true, wordnet), same, 1 - distance])


@cache
def chinese_words() -> Callable[[str], list[str]]:
    """What cuts a text into words, as ``jieba.lcut``: punctuation and white space are words, too.

    Raises:
        ValueError: jieba is not installed.
    """
    try:
        from jieba import Tokenizer
    except ImportError as error:
        raise ValueError(cannot_import("words of Chinese text need jieba", "openpali-lab[eval]", error)) from error
    tokenizer = Tokenizer()  # by itself, it trusts a cache in the temporary folder, where anyone may write
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return cast(Callable[[str], list[str]], tokenizer.lcut)


def bleu(said: Words, true: Words) -> float:
    """BLEU-4 of one text, by one reference, without smoothing (``nltk.translate.bleu``)."""
    *counts, length, true_length = bleu_counts([*said], [[*true]])
    matches, candidates = counts[:MAX_ORDER], counts[MAX_ORDER:]
    if not matches[0]:
        return 0.0
    precisions = [found / max(1, of) for found, of in zip(matches, candidates, strict=True)]
    logs = [0.25 * math.log(value or sys.float_info.min) for value in precisions]  # next to 0, as in NLTK
    return min(1.0, math.exp(1 - true_length / length)) * math.exp(math.fsum(logs))


def meteor(said: Words, true: Words, wordnet: WordNet) -> float:
    """METEOR of 2007 by one reference, without regard to case (``nltk.translate.meteor_score``).

    Words are paired if they are the same, then if their stems are, then if a synonym of one stem is the other. This
    is not METEOR 1.5, which papers on captions report.
    """
    pairs = _paired([word.lower() for word in said], [word.lower() for word in true], wordnet)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(said), len(pairs) / len(true)
    harmonic = precision * recall / (0.9 * precision + 0.1 * recall)
    runs = 1 + sum((b[0] - a[0], b[1] - a[1]) != (1, 1) for a, b in pairwise(pairs))
    return float((1 - 0.5 * (runs / len(pairs)) ** 3) * harmonic)


def _paired(said: Words, true: Words, wordnet: WordNet) -> list[tuple[int, int]]:
    """Places of words that are paired, in the order of the first text; each takes the last one that is free."""
    left, right = dict(enumerate(said)), dict(enumerate(true))
    pairs = []
    for step in ("words", "stems", "synonyms"):
        if step == "stems":
            left, right = ({i: stem(word) for i, word in words.items()} for words in (left, right))
        free: dict[str, list[int]] = {}
        for j, word in right.items():
            free.setdefault(word, []).append(j)
        for i, word in reversed([*left.items()]):
            alike = {word, *wordnet.synonyms(word)} if step == "synonyms" else {word}
            last = max(
                (other for other in alike if free.get(other)), key=lambda other: free[other][-1], default=None
            )
            if last is not None:
                j = free[last].pop()
                del left[i], right[j]
                pairs.append((i, j))
    return sorted(pairs)
