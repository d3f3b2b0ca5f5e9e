"""Linear probes on a frozen encoder: few-shot by ridge regression to the letter of big_vision, and full."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from openpali.bundle import open_bundle
from openpali.data.build import data_folder
from openpali.data.images import Preprocess
from openpali.eval.benchmark import Result
from openpali.eval.benchmarks.base import Advance
from openpali.infer.pali import Pali
from openpali.model.vit import ViT

L2 = 2.0**10  # big_vision's `fewshot_lsr.py`
BIAS = 100.0  # the constant feature
SEEDS = 3
BATCH = 256

Floats = NDArray[np.float64]  # features [N, D]
Labels = NDArray[np.int64]  # [N]


def fewshot_accuracy(
    train: Floats,
    train_labels: Labels,
    test: Floats,
    test_labels: Labels,
    shots: int,
    seed: int,
) -> float:
    """Top-1 accuracy of ridge regression on ``shots`` examples per class (big_vision `fewshot_lsr.py`).

    Features ``[N, D]`` are whitened by the support set's mean and deviation (+ 1e-5), a constant 100 is appended,
    targets are one-hot in {-1, 1}, and l2 is 2^10.
    """
    rng = np.random.default_rng(seed)
    classes = np.unique(train_labels)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(train_labels == c))[:shots] for c in classes])
    return ridge_accuracy(train[chosen], train_labels[chosen], test, test_labels)


def ridge_accuracy(train: Floats, train_labels: Labels, test: Floats, test_labels: Labels) -> float:
    """Top-1 accuracy of ridge regression on all of ``train``, as above."""
    mean, deviation = train.mean(0), train.std(0) + 1e-5
    x = _with_bias((train - mean) / deviation)
    classes = np.unique(train_labels)
    y = 2.0 * (train_labels[:, None] == classes) - 1
    if len(x) >= x.shape[1]:
        weights = np.linalg.solve(x.T @ x + L2 * np.eye(x.shape[1]), x.T @ y)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + L2 * np.eye(len(x)), y)
    predicted = classes[(_with_bias((test - mean) / deviation) @ weights).argmax(1)]
    return float((predicted == test_labels).mean())


def fashion_mnist(pali: Pali, n: int, advance: Advance) -> Result:
    """10-shot (mean of 3 seeds) and full probe on mean patch tokens, for SigLIP and for the classifier control."""
    folder = data_folder("fashion-mnist")
    sets = {}
    for split in ("train", "test"):
        with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
            sets[split] = file["images"], file["labels"].astype(np.int64)
    scores: dict[str, float] = {}
    encoders = [part for part in ("siglip", "classifier") if part in pali.parts]
    if not encoders:
        raise ValueError(f"the model {pali.folder} has neither a siglip nor a classifier part to probe")
    total = len(encoders) * (len(sets["train"][0]) + n)
    for number, part in enumerate(encoders):
        bundle = open_bundle(pali.parts[part])
        vit = cast(ViT, bundle.model().get_submodule("vit"))
        before = number * total // len(encoders)
        train = _features(vit, sets["train"][0])
        advance(before + len(train), total)
        test = _features(vit, sets["test"][0][:n])
        advance((number + 1) * total // len(encoders), total)
        labels, test_labels = sets["train"][1], sets["test"][1][:n]
        shots = [fewshot_accuracy(train, labels, test, test_labels, 10, seed) for seed in range(SEEDS)]
        scores[f"acc/10-shot/{part}"] = float(np.mean(shots))
        scores[f"acc/full/{part}"] = ridge_accuracy(train, labels, test, test_labels)
    return Result(scores)


def _features(vit: ViT, images: NDArray[np.uint8]) -> Floats:
    """Mean patch token of grey pictures ``[N, 28, 28]`` -> ``[N, D]``."""
    preprocess = Preprocess(*vit.config.image_size)
    out = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            pixels = [preprocess(np.repeat(image[..., None], 3, axis=2)) for image in images[start : start + BATCH]]
            out.append(vit(torch.from_numpy(np.stack(pixels))).mean(1))
    return torch.cat(out).double().numpy()


def _with_bias(x: Floats) -> Floats:
    return np.concatenate([x, np.full((len(x), 1), BIAS)], axis=1)
