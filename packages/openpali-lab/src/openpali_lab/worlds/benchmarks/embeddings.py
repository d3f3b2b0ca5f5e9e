"""Scores of image encoders in a synthetic world: retrieval, recognition, and probes of patch tokens."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import Advance, Embedded, Encoders, SeenSamples
from openpali.metrics.scores import Scores, macro_values, mean, mean_scores
from openpali_lab.benchmarks.features import FeatureEncoder
from openpali_lab.worlds.benchmarks.places import Ask, place_probe
from openpali_lab.worlds.benchmarks.samples import SIZE, heldout


def retrieval(world: str, seed: int, model: Encoders, data: Path, limit: int | None, advance: Advance) -> Embedded:
    """Recall at 1 per language, from held-out renderings to captions; the caption of every stamp is a candidate."""
    source = heldout(world, "single", seed)
    stamps = source.world.stamps
    owner = {stamp.captions["en"]: i for i, stamp in enumerate(stamps)}
    examples = [source[i] for i in range(min(limit or SIZE, SIZE))]
    truth = np.array([owner[example.captions["en"][0]] for example in examples])
    seen = SeenSamples()
    images = model.embed_image([seen.image(example.images[0]) for example in examples])
    seen.texts(*truth, *([*stamp.captions.items()] for stamp in stamps))
    hits: dict[str, list[float]] = {}
    owners: dict[str, list[int]] = {}  # images with a caption in a language
    for done, lang in enumerate(source.world.languages):
        having = [i for i, stamp in enumerate(stamps) if lang in stamp.captions]
        texts = model.embed_text([stamps[i].captions[lang] for i in having])
        best = np.array(having)[(images @ texts.T).argmax(1)]
        asked = np.flatnonzero(np.isin(truth, having))
        if len(asked):
            hits[f"r@1/{lang}"] = (best == truth)[asked].astype(float).tolist()
            owners[f"r@1/{lang}"] = asked.tolist()
        advance(done + 1, len(source.world.languages))
    scores = {name: mean(values) for name, values in hits.items()}
    per_image = macro_values(len(examples), [(owners[name], values) for name, values in hits.items()])
    return Embedded(
        scores=Scores({**scores, "r@1/mean": mean(list(scores.values()))}, {**hits, "r@1/mean": per_image}),
        n=len(examples),
        of=SIZE,
        candidates=True,
        data=seen.hash,
        prompt={"text": "the caption alone", "languages": list(source.world.languages)},
    )


def same_thing(world: str, seed: int, model: Encoders, data: Path, limit: int | None, advance: Advance) -> Embedded:
    """Recall at 1, from held-out renderings to others: the most similar image shows the same thing.

    Similar is the cosine of mean patch tokens, less their mean over images.
    """
    source, seen = heldout(world, "single", seed), SeenSamples()
    count = min(limit or SIZE, SIZE)
    if count < 2:
        raise ValueError(f"limit must be at least 2, not {count}: an image is compared with others")
    examples = [source[i] for i in range(count)]
    encoder = FeatureEncoder(model, crop=False)
    loads = seen.images([partial(np.asarray, example.images[0]) for example in examples])
    features = encoder.features(loads, advance=lambda done: advance(done, count))
    names = np.array([example.objects[0].name for example in examples])
    seen.texts(*names)
    features -= features.mean(0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    similar = features @ features.T
    np.fill_diagonal(similar, -np.inf)
    scores = mean_scores({"r@1": (names[similar.argmax(1)] == names).astype(float).tolist()})
    facts = encoder.facts()
    return Embedded(scores=scores, n=count, of=SIZE, candidates=True, data=seen.hash, preprocessing=facts)


def places(
    world: str, kind: str, ask: Ask, seed: int, model: Encoders, data: Path, limit: int | None, advance: Advance
) -> Embedded:
    """The probe of single patch tokens, trained on images of a world and scored on held-out ones."""
    train = open_source(f"{world}/{kind}", {"split": "train", "seed": seed})
    return place_probe(train, heldout(world, kind, seed), ask, model, limit, advance)
