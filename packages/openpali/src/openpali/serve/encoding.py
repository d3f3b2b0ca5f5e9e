"""Encoding requests that are decoded together: an image that was seen lately is not embedded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openpali.data.pipeline.encode import images_in
from openpali.infer.pipeline import Pipeline
from openpali.model.patches import real_patches
from openpali.serve.features import FeatureCache, FeatureKey, Features
from openpali.serve.tickets import Attempt
from openpali.tasks.example import Image
from openpali.weights.ood import describe


@torch.inference_mode()
def encode(pipeline: Pipeline, asked: Sequence[Attempt], cache: FeatureCache) -> Any:
    """The memory of attempts of one shape, which the engine decodes; their out-of-distribution scores are noted."""
    prompt = pipeline.inputs([attempt.row.ids for attempt in asked]).prompt
    if not asked[0].keys:
        return pipeline.engine.encode_tokens(None, prompt)
    rows = _embed(pipeline, asked, cache)
    counts = torch.tensor([len(row) for row in rows], device=pipeline.device)
    padded = None if len({len(row) for row in rows}) == 1 else counts
    return pipeline.engine.encode_tokens(pad_sequence(rows, batch_first=True), prompt, padded)


def _embed(pipeline: Pipeline, asked: Sequence[Attempt], cache: FeatureCache) -> list[Tensor]:
    """Visual tokens ``[N, D]`` of each row."""
    found: dict[FeatureKey, Features] = {}
    unseen: dict[FeatureKey, Image] = {}
    detector = pipeline.ood
    for attempt in asked:
        for key, image in zip(attempt.keys, attempt.row.images, strict=True):
            if key in found or key in unseen:
                continue
            features = cache.get(key)
            if features is None or (detector and features.described_D is None):
                unseen[key] = image
            else:
                found[key] = features
    if unseen:
        for key, features in zip(unseen, _features(pipeline, list(unseen.values())), strict=True):
            found[key] = features
            cache.put(key, features)
    if detector is not None:
        for attempt in asked:
            described = [cast(Tensor, found[key].described_D) for key in attempt.keys]
            attempt.ood_score = float(detector.score(torch.stack(described)).mean())
    return [torch.cat([found[key].tokens_ND for key in attempt.keys]) for attempt in asked]


def _features(pipeline: Pipeline, images: Sequence[Image]) -> list[Features]:
    """The features of resized images."""
    stacked = images_in(pipeline.stack([[image] for image in images]))
    patches, tokens_BND, counts = pipeline.engine.encode_images(stacked)
    if counts is None:
        tokens = list(tokens_BND)
    else:
        tokens = [tokens_ND[:count] for tokens_ND, count in zip(tokens_BND, counts.tolist(), strict=True)]
    real = real_patches(stacked.flatten(0, 1))
    described = describe(patches, real).cpu() if pipeline.ood else [None] * len(images)
    return [Features(*each) for each in zip(tokens, described, strict=True)]
