"""Image-text retrieval: Recall@k in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from openpali.metrics.scores import Scores, mean

RECALL_AT = (1, 5, 10)
_ROWS = 256  # queries per block: bounds the memory of the comparison


def retrieval(
    similarity: NDArray[np.floating], text_image: Sequence[int], *, positive: Literal["any", "first"] = "any"
) -> Scores:
    """Recall@1, @5 and @10, image to text and text to image.

    From text to image, every caption is a query. From image to text, the rule ``any`` (big_vision, CLIP) counts a
    hit if any caption of the image is in the top k; ``first`` requires its first caption there, and treats its
    other captions as negatives. Ties count against the model: candidates with the score of the positive rank before
    it, so a constant embedding scores 0, in any order of the samples.

    Args:
        similarity: finite [images, texts], higher is closer.
        text_image: index of each text's image; every image has at least one text.
        positive: captions of an image that count as correct from image to text.

    Returns:
        ``img2txt_recall@k`` and ``txt2img_recall@k`` in 0..1; per-sample values per image and per text.
    """
    owner = np.asarray(text_image, dtype=np.int64)
    if similarity.ndim != 2 or not similarity.size or owner.shape != (similarity.shape[1],):
        raise ValueError(
            "similarity must be [images, texts] with one image index per text, "
            f"got {similarity.shape} and {owner.shape}"
        )
    if not np.isfinite(similarity).all():
        raise ValueError("similarity has NaN or infinite values")
    images = np.arange(similarity.shape[0])
    if not np.array_equal(np.unique(owner), images):
        raise ValueError(f"text_image must name each of the {len(images)} images at least once, and no other")

    # The first occurrence of each image, in order of image.
    first = np.unique(owner, return_index=True)[1]
    positives = owner[None, :] == images[:, None] if positive == "any" else first[:, None] == np.arange(len(owner))
    image_ranks = _ranks(similarity, positives)
    text_ranks = _ranks(similarity.T, owner[:, None] == images[None, :])
    per_sample = {
        f"{direction}_recall@{k}": (ranks < k).astype(float).tolist()
        for direction, ranks in (("img2txt", image_ranks), ("txt2img", text_ranks))
        for k in RECALL_AT
    }
    return Scores({name: mean(values) for name, values in per_sample.items()}, per_sample)


def _ranks(similarity: NDArray[np.floating], positives: NDArray[np.bool_]) -> NDArray[np.int64]:
    """0-based rank of each row's best positive; [queries, gallery] twice -> [queries]."""
    ranks = np.empty(len(similarity), dtype=np.int64)
    for start in range(0, len(similarity), _ROWS):
        block, hits = similarity[start : start + _ROWS], positives[start : start + _ROWS]
        best = np.where(hits, block, -np.inf).max(axis=1, keepdims=True)
        ranks[start : start + _ROWS] = ((block >= best) & ~hits).sum(axis=1)
    return ranks
