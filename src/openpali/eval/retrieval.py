"""Retrieval of pictures by captions and captions by pictures, in as many languages as there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from openpali.eval.zero_shot import EmbedText
from openpali.infer.pipeline import Floats
from openpali.metrics.retrieval import language_macro, retrieval
from openpali.metrics.scores import Scores, macro_values, mean_scores


def retrieve(
    images: Floats,
    captions: Mapping[str, Sequence[Sequence[str]]],
    embed_text: EmbedText,
    *,
    advance: Callable[[int], None] = lambda done: None,
) -> Scores:
    """Recall@1, @5 and @10 in both directions, per language and as mean over languages.

    Every caption is a query; from picture to text, any caption of the picture is right, or only its first is
    (``first/...``). The captions of one language compete with each other, and so do the pictures that have one.

    Args:
        images: normalised embeddings ``[N, D]``.
        captions: language -> the captions of each picture; a picture may have none in a language and is then left
            out of it.
        embed_text: as :meth:`~openpali.infer.pipeline.EmbeddingPipeline.embed_text`.
        advance: is told how many languages are done.

    Returns:
        Means over languages of ``img2txt_recall@k``, ``txt2img_recall@k`` and ``first/img2txt_recall@k``, and each
        with ``/<language>``; 0..1. Those of a language with a value per query; the means with one per picture,
        since pictures, not captions, are what a data set was drawn from.

    Raises:
        ValueError: no languages, a language without captions, or not one entry per picture.
    """
    by_language = {}
    values: dict[str, list[tuple[list[int], list[float]]]] = {}  # score -> per language: picture, hit
    for done, (lang, texts) in enumerate(captions.items(), start=1):
        if len(texts) != len(images):
            raise ValueError(f"language {lang} has captions of {len(texts)} pictures, and there are {len(images)}")
        having = [i for i, own in enumerate(texts) if own]
        if not having:
            raise ValueError(f"no picture has a caption in the language {lang}")
        owner = [n for n, i in enumerate(having) for _ in texts[i]]
        owners = {"img2txt": having, "txt2img": [having[n] for n in owner]}
        similarity = images[having] @ embed_text([text for i in having for text in texts[i]]).T
        either, first = (retrieval(similarity, owner, positive=rule) for rule in ("any", "first"))
        strict = {f"first/{name}": hits for name, hits in first.per_sample.items() if name.startswith("img2txt")}
        by_language[lang] = mean_scores(either.per_sample | strict)
        for name, hits in by_language[lang].per_sample.items():
            values.setdefault(name, []).append((owners[name.removeprefix("first/")[:7]], hits))
        advance(done)
    each = {f"{name}/{lang}": v for lang, scores in by_language.items() for name, v in scores.summary.items()}
    hits_of = {f"{name}/{lang}": v for lang, scores in by_language.items() for name, v in scores.per_sample.items()}
    per_picture = {name: macro_values(len(images), groups) for name, groups in values.items()}
    return Scores(language_macro(by_language).summary | each, per_picture | hits_of)
