"""Retrieval between images and captions, in any number of languages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from openpali.eval.benchmark import Advance, Embedded, EncoderBenchmark, Encoders, SeenSamples
from openpali.infer.batches import chunked
from openpali.infer.pipeline import Floats
from openpali.metrics.scores import Scores, macro_values, mean, mean_scores
from openpali_lab.benchmarks.captions import XM3600_LANGUAGES, xm3600_captions, xm3600_image
from openpali_lab.benchmarks.files import Folder, described
from openpali_lab.benchmarks.metrics.retrieval import retrieval

BATCH = 64  # images in memory
EmbedText = Callable[[Sequence[str]], Floats]  # N texts -> normalised [N, D]
_ABOUT = described("xm3600-retrieval")


def retrieve(
    images: Floats,
    captions: Mapping[str, Sequence[Sequence[str]]],
    embed_text: EmbedText,
    *,
    advance: Callable[[int], None] = lambda done: None,
) -> Scores:
    """Recall@1, @5 and @10 in both directions, per language and as mean over languages.

    Every caption is a query. From image to text, any caption of the image is correct, or only its first
    (``first/...``). Candidates are the captions of the same language, and the images that have one.

    Args:
        images: normalised embeddings ``[N, D]``.
        captions: language -> the captions of each image; an image without any is left out of that language.
        embed_text: as :meth:`~openpali.infer.pipeline.EmbeddingPipeline.embed_text`.
        advance: called with the number of languages done.

    Returns:
        Means over languages of ``img2txt_recall@k``, ``txt2img_recall@k`` and ``first/img2txt_recall@k``, and each
        with ``/<language>``; 0..1. Per-sample values are per query for a language, and per image for the means,
        since a data set samples images, not captions.

    Raises:
        ValueError: one image alone, or a language without a caption.
    """
    if len(images) < 2:
        raise ValueError(f"limit must be at least 2, not {len(images)}: an image is compared with others")
    by_language = {}
    values: dict[str, list[tuple[list[int], list[float]]]] = {}  # score -> per language: image, hit
    for done, (lang, texts) in enumerate(captions.items(), start=1):
        if len(texts) != len(images):
            raise ValueError(f"language {lang} has captions of {len(texts)} images, but there are {len(images)}")
        having = [i for i, own in enumerate(texts) if own]
        if not having:
            raise ValueError(f"no image has a caption in the language {lang}")
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
    per_image = {name: macro_values(len(images), groups) for name, groups in values.items()}
    macro = {name: mean([scores.summary[name] for scores in by_language.values()]) for name in sorted(values)}
    return Scores(macro | each, per_image | hits_of)


def run_xm3600(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Recall@1, @5 and @10 in both directions, per language and as mean over languages.

    Every caption is a query; from image to text, any caption of the image is right (``any``), or only its first
    is (``first/...``). The captions of one language compete with each other.
    """
    folder = Folder(root, "Crossmodal-3600", _ABOUT["home"])
    every = folder.rows(_ABOUT["layout"][0])
    entries, seen = every[:limit], SeenSamples()
    total = len(entries) + len(XM3600_LANGUAGES)
    chunks = []
    for some in chunked(entries, BATCH):
        chunks.append(model.embed_image([seen.image(folder.image(xm3600_image(entry))) for entry in some]))
        advance(sum(map(len, chunks)), total)
    captions = {lang: [xm3600_captions(entry, lang) for entry in entries] for lang in XM3600_LANGUAGES}
    seen.texts(captions)
    images, n = np.concatenate(chunks), len(entries)
    scores = retrieve(images, captions, model.embed_text, advance=lambda done: advance(n + done, total))
    prompt = {"text": "the caption alone", "languages": list(XM3600_LANGUAGES)}
    return Embedded(scores=scores, n=n, of=len(every), candidates=True, data=seen.hash, prompt=prompt)


BENCHMARKS = (EncoderBenchmark(name="xm3600-retrieval", run=run_xm3600, **_ABOUT),)
