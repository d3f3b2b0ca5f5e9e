"""Cached features of any encoder, retrieval over languages, and the built data sets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openpali.eval.breakdown import intervals_of
from openpali.eval.registry import find_benchmark
from openpali.eval.runner import run as evaluate
from openpali.infer.pali import Pali
from openpali_lab.benchmarks.features import BATCH, FeatureEncoder, center_crop
from openpali_lab.benchmarks.probes import logistic
from openpali_lab.benchmarks.retrieval import retrieve
from openpali_lab.worlds.benchmarks import encoders
from openpali_lab.worlds.benchmarks.samples import heldout


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


def noise(count: int, side: int = 40) -> list[partial[np.ndarray]]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side + 8, 3), dtype=np.uint8)
    return [partial(np.asarray, image) for image in images]


def test_every_part_with_a_vit_can_be_probed(pali: Pali) -> None:
    some = noise(3)
    for part in ("siglip", "classifier", "pali", "video"):
        encoder = FeatureEncoder(pali, part)
        found = encoder.features(some)
        assert found.shape == (3, encoder.vit.config.width)
        pixels = np.stack([center_crop(load(), encoder.preprocess) for load in some])
        with torch.inference_mode():
            assert found == pytest.approx(encoder.vit(torch.from_numpy(pixels)).mean(1).numpy(), abs=1e-5)
    with pytest.raises(ValueError):
        FeatureEncoder(pali, "mask_vqvae")
    with pytest.raises(ValueError):
        FeatureEncoder(pali, "vit")


def test_features_have_the_precision_of_the_model(pali: Pali, bundle: Path, tmp_path: Path) -> None:
    some = noise(2)
    half = FeatureEncoder(Pali.from_pretrained(bundle, dtype="bf16"), cache=tmp_path)
    assert half.vit.positions.dtype == torch.bfloat16
    exact, rounded = (e.features(some) for e in (FeatureEncoder(pali, cache=tmp_path), half))
    assert rounded == pytest.approx(exact, abs=0.1)
    assert (rounded != exact).any()
    assert len(list(tmp_path.iterdir())) == 2  # separate cache entries


def test_the_centre_crop() -> None:
    from openpali.data.media.images import Preprocess

    image = np.zeros((256, 256, 3), np.uint8)
    image[16:240, 16:240] = 255  # the centre 224 of 256 pixels
    assert (center_crop(image, Preprocess(224, 224)) == 255).all()


def test_features_are_cached(pali: Pali, tmp_path: Path) -> None:
    encoder, some = FeatureEncoder(pali, "siglip", cache=tmp_path), noise(BATCH + 3)
    told: list[int] = []
    first = encoder.features(some, advance=told.append)
    assert told == [BATCH, BATCH + 3]

    def encoded(other: FeatureEncoder, loads: list[partial[np.ndarray]]) -> list[int]:
        """Sizes of the batches that are not in the cache."""
        asked: list[int] = []
        handle = other.vit.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
        other.features(loads)
        handle.remove()
        return asked

    again = FeatureEncoder(pali, "siglip", cache=tmp_path)
    assert encoded(again, some) == []
    assert np.array_equal(again.features(some), first)
    assert np.array_equal(FeatureEncoder(pali, "siglip").features(some), first)
    assert encoded(again, [*some[:-1], noise(BATCH + 4)[-1]]) == [3]  # one image differs
    for other in (
        FeatureEncoder(pali, "siglip", crop=False, cache=tmp_path),
        FeatureEncoder(pali, "pali", cache=tmp_path),
    ):
        assert encoded(other, some) == [BATCH, 3]
    with pytest.raises(ValueError):
        encoder.features([])


def test_two_processes_fill_one_cache(pali: Pali, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, some, save = *(FeatureEncoder(pali, cache=tmp_path) for _ in range(2)), noise(1), np.save

    def meet(*arguments: Any) -> None:
        save(*arguments)
        monkeypatch.setattr(np, "save", save)
        other.features(some)

    monkeypatch.setattr(np, "save", meet)
    found = one.features(some)
    assert np.array_equal(other.features(some), found)
    assert len(list(tmp_path.iterdir())) == 1


# --- retrieval ---


def embed(texts: list[str]) -> np.ndarray:
    """Embeds a text as its counts of letters."""
    counts = np.array([[text.count(chr(97 + i)) + 1e-3 for i in range(26)] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_retrieval_over_languages() -> None:
    images = embed(["cat", "dog", "emu"])
    captions = {
        "en": [["cat", "dox"], ["dog"], ["emu"]],  # "dox" is nearer to another image than to its own
        "de": [["dog"], ["cat"], ["emu"]],  # the first two are the wrong way round
        "fr": [[], ["dog"], ["zzz", "emu"]],  # one image has none; of another the second is right
    }
    scores = retrieve(images, captions, embed)
    found = scores.summary
    for name, values in scores.per_sample.items():  # of the means one per image, else one per query
        assert np.mean(values) == pytest.approx(found[name]), name
    assert len(scores.per_sample["txt2img_recall@1"]) == 3
    assert scores.per_sample["txt2img_recall@1/en"] == [1, 0, 1, 1]
    assert set(found) == set(scores.per_sample)
    assert [found[f"img2txt_recall@1/{lang}"] for lang in captions] == pytest.approx([1, 1 / 3, 1])
    assert found["first/img2txt_recall@1/fr"] == 0.5
    assert found["txt2img_recall@1/en"] == 0.75
    assert found["img2txt_recall@1"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert found["img2txt_recall@10"] == 1
    with pytest.raises(ValueError, match="language de has captions of 2 images"):
        retrieve(images, {"de": [["a"], ["b"]]}, embed)
    with pytest.raises(ValueError):
        retrieve(images, {"de": [[], [], []]}, embed)


# --- sets ---


@pytest.fixture
def fashion(world_with_vocabulary: Path) -> None:
    """Ten classes of grey images, each with its own bright row."""
    folder = world_with_vocabulary / "data" / "fashion-mnist"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 300), ("test", 50)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), 2 * labels + 2] = 255
        np.savez(folder / f"{split}.npz", images=images, labels=labels)


def run(name: str, pali: Pali, limit: int | None = None) -> dict[str, float]:
    steps: list[tuple[int, int]] = []
    found = find_benchmark(name).run(pali, Path(), limit, lambda done, total: steps.append((done, total)))  # type: ignore[attr-defined]
    assert limit is None or found.n == min(limit, found.of)
    assert bool(found.limits()) == (found.train[0] < found.train[1] or (found.candidates and found.n < found.of))
    assert limit is not None or found.train[0] == found.train[1]
    assert found.preprocessing or found.prompt
    assert intervals_of((), found.scores)
    assert steps[-1][0] == steps[-1][1]
    assert steps == sorted(steps)
    return dict(found.scores.summary)


@pytest.mark.usefixtures("fashion")
def test_fashion_mnist(pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "logistic", partial(logistic, strengths=(0.01,), iterations=20))
    scores = run("fashion-mnist", pali)
    for part in ("siglip", "classifier"):
        assert {f"acc/{k}-shot/{part}" for k in (1, 5, 10, 25)} <= scores.keys()
        assert scores[f"acc/full/{part}"] > 0.5  # the images are easy even for random weights
        assert scores[f"acc/lbfgs/{part}"] > 0.5
    assert run("fashion-mnist", pali) == pytest.approx(scores)  # out of the cache


@pytest.mark.usefixtures("fashion")
def test_a_limit_is_also_on_what_probes_train_on(pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "logistic", partial(logistic, strengths=(0.01,), iterations=5))
    monkeypatch.setattr(encoders, "LEAST", 8)
    encoded: list[int] = []
    features = FeatureEncoder.features

    def counted(self: FeatureEncoder, some: list[partial[np.ndarray]], **how: object) -> np.ndarray:
        encoded.append(len(some))
        return features(self, some, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureEncoder, "features", counted)
    card = evaluate(find_benchmark("fashion-mnist"), pali, Path(), limit=25).card
    assert encoded == [20, 25, 20, 25]  # two of each of ten classes to train on, with both encoders
    assert (card.data["train"], card.data["train_of"], card.data["of"]) == (20, 300, 50)
    assert "probes were trained on 20 of 300 images" in card.note
    encoded.clear()
    card = evaluate(find_benchmark("stamps-fewshot"), pali, Path(), limit=2).card
    assert encoded == [card.data["train"], 2]
    assert card.data["train"] < card.data["train_of"]


def test_the_same_thing_is_found_by_the_most_similar_features(world_with_vocabulary: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPENPALI_HOME", str(world_with_vocabulary))
    count = 140  # 128 things are shown once before any is shown again
    source = heldout("nano", "single")
    names = np.array([source[i].objects[0].name for i in range(count)])
    truth = (names[:, None] == np.unique(names)).astype(float)

    class Known:
        def __init__(self, features: np.ndarray) -> None:
            self.found = features

        def features(self, loads: object, advance: Callable[[int], None]) -> np.ndarray:
            return self.found.copy()

        def facts(self) -> dict[str, dict[str, object]]:
            return {}

    def recall(features: np.ndarray) -> float:
        monkeypatch.setattr(
            "openpali_lab.worlds.benchmarks.embeddings.FeatureEncoder", lambda model, crop: Known(features)
        )
        found = find_benchmark("nano/same").run(None, Path(), count, lambda done, total: None)  # type: ignore[attr-defined, arg-type]
        assert found.n == len(found.scores.per_sample["r@1"]) == count
        return found.scores.summary["r@1"]

    shown_again = np.mean([(names == name).sum() > 1 for name in names])
    assert 0 < recall(truth) == pytest.approx(shown_again)
    assert recall(np.random.default_rng(0).normal(size=truth.shape)) < shown_again / 2
    with pytest.raises(ValueError, match="limit must be at least 2, not 1"):
        find_benchmark("nano/same").run(None, Path(), 1, lambda done, total: None)  # type: ignore[attr-defined, arg-type]
