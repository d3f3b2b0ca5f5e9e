"""Zero-shot classification: the class whose sentences are nearest to the image
(big_vision ``evaluators/proj/image_text/discriminative_classifier.py``)."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from openpali.infer.pipeline import Floats
from openpali.metrics.scores import Scores, check_paired, mean_scores

EmbedText = Callable[[Sequence[str]], Floats]  # N texts -> normalised [N, D]

# The 80 templates of the CLIP paper (arXiv 2103.00020), without punctuation; "*" is both "a" and "the".
_TEMPLATES = (
    "a bad photo of *;a photo of many;a sculpture of *;a photo of the hard to see;a low resolution photo of *;"
    "a rendering of *;graffiti of *;a cropped photo of *;a tattoo of *;the embroidered;a photo of a hard to see;"
    "a bright photo of *;a photo of * clean;a photo of * dirty;a dark photo of *;a drawing of *;a photo of my;"
    "the plastic;a photo of * cool;a closeup photo of *;a black and white photo of *;a painting of *;"
    "a pixelated photo of *;a plastic;a jpeg corrupted photo of *;a blurry photo of *;a photo of *;"
    "a good photo of *;* {} in a video game;a photo of one;a doodle of *;the origami;a sketch of *;a origami;"
    "the toy;a rendition of *;a photo of * large;a photo of * nice;a photo of * weird;* cartoon;art of *;"
    "a embroidered;itap of *;* plushie;a photo of * small;a toy;itap of my"
)


def clip_templates() -> list[str]:
    """CLIP's 80 sentences, with "{}" for the class name."""
    out = []
    for short in _TEMPLATES.split(";"):
        sentence = short if "{}" in short else f"{short} {{}}"
        out += [sentence.replace("*", article) for article in ("a", "the")] if "*" in sentence else [sentence]
    return out


def canonical(text: str) -> str:
    """Lower case, without punctuation except "{}" (big_vision ``prompt_engineering.py``)."""
    return " ".join(text.replace("_", " ").translate(_WITHOUT).lower().split())


_WITHOUT = str.maketrans("", "", "".join(set(string.punctuation) - set("{}")))


def prompt_of(names: Sequence[str]) -> dict[str, Any]:
    """For a score card: the templates, and the first sentence."""
    templates = clip_templates()
    first = templates[0].replace("{}", canonical(names[0]))
    return {"templates": f"CLIP's {len(templates)}, embeddings averaged", "first": first}


def class_embeddings(
    embed_text: EmbedText, names: Sequence[str], *, advance: Callable[[int], None] = lambda done: None
) -> Floats:
    """One embedding per class: the mean over its sentences, normalised again (+ 1e-8), ``[classes, D]``.

    Args:
        embed_text: as :meth:`~openpali.infer.pipeline.EmbeddingPipeline.embed_text`.
        names: of the classes; they are made :func:`canonical`, like the templates.
        advance: called with the number of classes done.
    """
    sentences = clip_templates()
    plain = [canonical(name) for name in names]
    if len(plain) < 2 or len(set(plain)) < len(plain):
        raise ValueError("zero-shot classification needs the names of two classes or more, all different")
    out = []
    for done, name in enumerate(plain, start=1):
        average = embed_text([sentence.replace("{}", name) for sentence in sentences]).mean(0)
        out.append(average / (np.linalg.norm(average) + 1e-8))
        advance(done)
    return np.stack(out)


def zero_shot(images: Floats, classes: Floats, labels: Sequence[int]) -> Scores:
    """Top-1 and top-5 accuracy.

    Args:
        images: normalised embeddings ``[N, D]``.
        classes: from :func:`class_embeddings`.
        labels: the class of each image.

    Returns:
        ``acc`` and ``acc@5`` in 0..1, with per-sample values.
    """
    check_paired(list(images), labels, "labels")
    ranked = np.argsort(-(images @ classes.T), axis=1, kind="stable")
    found = {
        name: [float(right in row[:k]) for row, right in zip(ranked, labels, strict=True)]
        for name, k in (("acc", 1), ("acc@5", 5))
    }
    return mean_scores(found)
