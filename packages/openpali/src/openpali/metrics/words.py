"""How well the words of pages are read: the text must be equal, and the place right."""

from __future__ import annotations

from collections.abc import Sequence

from .boxes import Detection, f1
from .scores import Scores, check_paired


def word_f1(predictions: Sequence[Sequence[Detection]], references: Sequence[Sequence[Detection]]) -> Scores:
    """Precision, recall and F1 of words.

    A word is right if its text is that of a true word whose box holds its centre; each true word counts once.
    Engines draw boxes by different rules, around the ink or the line, so overlap would measure the rule.

    Args:
        predictions: words of each page, with boxes; confidence is ignored.
        references: true words of each page.

    Returns:
        ``word_f1``, ``word_precision`` and ``word_recall`` in 0..1 over all words of all pages; per page
        ``word_f1``, 1 for a page without words on either side.
    """
    check_paired(predictions, references)
    hits = [sum(right_words(*page)) for page in zip(predictions, references, strict=True)]
    found, true = [len(page) for page in predictions], [len(page) for page in references]
    per_page = [f1(*counts) for counts in zip(hits, found, true, strict=True)]
    return Scores(
        {
            "word_f1": f1(sum(hits), sum(found), sum(true)),
            "word_precision": sum(hits) / max(1, sum(found)),
            "word_recall": sum(hits) / max(1, sum(true)),
        },
        {"word_f1": per_page},
        {"word_f1": [(2.0 * h, f + t) for h, f, t in zip(hits, found, true, strict=True)]},
    )


def pointing(predictions: Sequence[Sequence[Detection]], references: Sequence[Sequence[Detection]]) -> Scores:
    """Share of expressions whose point, the centre of the box that is found, lies in the true box (ScreenSpot).

    Args:
        predictions: of each page, a box for each expression, which is its name; those without an answer are left
            out.
        references: true boxes of each page, named by their expressions.

    Returns:
        ``pointing`` in 0..1 over all expressions of all pages; per page, too, 1 for a page without any.
    """
    check_paired(predictions, references)
    hits = [
        [any(one.name == each.name and holds_centre(each.box, one.box) for one in found) for each in true]
        for found, true in zip(predictions, references, strict=True)
    ]
    every = [hit for page in hits for hit in page]
    per_page = [sum(page) / len(page) if page else 1.0 for page in hits]
    return Scores(
        {"pointing": sum(every) / max(1, len(every))},
        {"pointing": per_page},
        {"pointing": [(sum(page), len(page)) for page in hits]},
    )


def right_words(found: Sequence[Detection], true: Sequence[Detection]) -> list[bool]:
    """Whether each word of a page is right; a true word that two have is the first one's."""
    open_by_text: dict[str, list[Detection]] = {}
    for word in true:
        open_by_text.setdefault(word.name, []).append(word)
    right = []
    for word in found:
        same = open_by_text.get(word.name, [])
        hit = next((other for other in same if holds_centre(other.box, word.box)), None)
        right.append(hit is not None)
        if hit is not None:
            same.remove(hit)
    return right


def holds_centre(box: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the centre of ``other`` is in ``box``; both (ymin, xmin, ymax, xmax)."""
    y, x = (other[0] + other[2]) / 2, (other[1] + other[3]) / 2
    return box[0] <= y <= box[2] and box[1] <= x <= box[3]
