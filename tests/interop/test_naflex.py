"""SigLIP 2 NaFlex of transformers: images in their own proportions, read, embedded and written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GemmaTokenizer, Siglip2ImageProcessor, Siglip2Model

from openpali.architectures.pali import PRESETS, PaliModel, PaliModelConfig, assemble
from openpali.architectures.siglip.architecture import read_siglip, write_siglip
from openpali.data.media.native import NativePreprocess
from openpali.infer.pali import Pali
from openpali.interop.transformers import PaliConfig
from openpali.onnx.graphs import graphs_of
from openpali.tensors import MappedTensors
from openpali.train.load import parse_recipe
from openpali.train.objectives.siglip import SiglipObjective, SiglipRecipe
from openpali.train.start import inherit
from openpali.weights.bundle import open_tokenizer
from openpali.weights.convert import convert, write_stored
from openpali.weights.export import export
from openpali.weights.format import open_model
from openpali_lab.parity import compare_images

from . import checkpoints

SIZES = [(40, 40), (12, 100), (90, 25), (24, 48), (5, 7), (300, 8)]
TEXTS = ["a red circle", "two BLUE stars, and (one) dog"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.naflex_files(tmp_path_factory.mktemp("naflex"))


@pytest.fixture(scope="module")
def ours(theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours") / "siglip"
    convert([theirs], folder)
    return folder


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def test_both_towers_agree_at_several_proportions(tmp_path: Path) -> None:
    checkpoints.naflex(tmp_path)
    encoder = read_siglip(tmp_path)
    assert (encoder.vision.grid, encoder.vision.tokens) == (
        (4, 4),
        256,
    )  # transformers' default: no processor is here
    parities = compare_images(encoder, tmp_path)
    assert len(parities) == 2 + 2 + 3 + 2  # image layers, tokens and embedding, text layers, embedding and loss
    assert all(p.absolute <= 1e-5 and p.relative <= 1e-5 for p in parities), parities


def test_images_and_texts_are_embedded_as_transformers_does(
    theirs: Path, ours: Path, images: list[np.ndarray]
) -> None:
    """From pixels and words; images of several proportions in one batch."""
    pali, model = Pali(ours), Siglip2Model.from_pretrained(theirs).eval()
    pixels = Siglip2ImageProcessor.from_pretrained(theirs)(images, return_tensors="pt")
    assert len({tuple(shape) for shape in pixels["spatial_shapes"].tolist()}) == len(SIZES)
    tokenizer = AutoTokenizer.from_pretrained(theirs)
    lower = [text.lower() for text in TEXTS]
    padded = {"padding": "max_length", "max_length": checkpoints.LENGTH, "truncation": True}
    ids = tokenizer(lower, **padded, return_tensors="pt").input_ids
    assert (ids[0] == tokenizer.eos_token_id).sum() == 1
    assert ids[0, -1] == tokenizer.pad_token_id
    with torch.inference_mode():
        expected = model(input_ids=ids, **pixels)
    np.testing.assert_allclose(pali.embed_image(images), expected.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(pali.embed_text(TEXTS), expected.text_embeds.numpy(), atol=1e-5)
    similar = expected.logits_per_image.sigmoid().numpy()
    np.testing.assert_allclose(pali.similarity(images, TEXTS), similar, atol=1e-5)


def test_a_batch_is_its_images_one_by_one(ours: Path, images: list[np.ndarray]) -> None:
    embedding = Pali(ours).embedding
    together = embedding.embed_image(images)
    np.testing.assert_allclose(embedding.embed_image(images, batch=1), together, atol=1e-6)
    np.testing.assert_allclose(embedding.embed_image(images[::-1], batch=4)[::-1], together, atol=1e-6)
    resized = [embedding.preprocess(image) for image in images]  # as the server holds them
    np.testing.assert_array_equal(embedding.embed_image(resized), together)
    assert embedding.count((), resized) == sum(i.shape[0] * i.shape[1] for i in resized) // 16


def test_what_is_exported_is_what_was_read(theirs: Path, ours: Path, tmp_path: Path) -> None:
    export(open_model(ours), tmp_path / "out")
    written = GemmaTokenizer.from_pretrained(tmp_path / "out")
    for text in TEXTS:
        ids = written(text.lower(), padding="max_length", max_length=checkpoints.LENGTH).input_ids
        assert ids == Pali(ours).embedding._encoder.text(text).tolist()
    model, info = Siglip2Model.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before = Siglip2Model.from_pretrained(theirs).state_dict()
    for key, value in model.state_dict().items():
        if "token_embedding" not in key:  # special tokens have been added
            assert torch.equal(value, before[key]), key
    processor = Siglip2ImageProcessor.from_pretrained(tmp_path / "out")
    assert (processor.patch_size, processor.max_num_patches, processor.resample) == (4, 20, 2)
    convert([tmp_path / "out"], tmp_path / "again")
    again, expected = open_model(tmp_path / "again"), open_model(ours)
    assert (again.config, again.preprocess) == (expected.config, expected.preprocess)
    assert again.preprocess == NativePreprocess(4, 20)
    one, other = MappedTensors(tmp_path / "again"), MappedTensors(ours)
    assert [key for key in other if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize(
    ("files", "resolution"), [(checkpoints.naflex_files, {"tokens": 20}), (checkpoints.siglip2_files, {"size": 12})]
)
def test_a_run_that_starts_from_it_sees_the_token_ids_of_its_own_pipeline(
    tmp_path: Path, files: Callable[[Path], Path], resolution: dict[str, int]
) -> None:
    """Of a SigLIP 2 of fixed resolution, too."""
    (tmp_path / "theirs").mkdir()
    convert([files(tmp_path / "theirs")], tmp_path / "ours")
    mixture = [{"source": "mine.jsonl", "task": "contrastive"}]
    raw = {
        "name": "more",
        "objective": "siglip",
        "batch": 4,
        "model": {"init": {"": str(tmp_path / "ours")}},
        "optimizer": {"lr": 1e-3},
        "phases": [{"samples": 4, **resolution, "mixture": mixture}],
    }
    recipe = inherit(parse_recipe(raw))
    tokenizer = open_tokenizer(recipe.model.tokenizer)
    objective = SiglipObjective(cast(SiglipRecipe, recipe), tokenizer, list)
    for text in TEXTS:
        ids = Pali(tmp_path / "ours").embedding._encoder.text(text).tolist()
        assert ids[-2:] == [tokenizer.pad_id] * 2
        assert objective.encoder.text(text).tolist() == ids


def test_another_size_is_another_number_of_patches(theirs: Path, tmp_path: Path) -> None:
    """Position embeddings stay: each image resamples them."""
    told = convert([theirs], tmp_path / "large", size=(32, 32))
    assert told[-1] == "images keep their proportions: up to 64 patches"
    large = open_model(tmp_path / "large")
    assert (large.config.vision.grid, large.config.vision.tokens) == ((4, 4), 64)
    assert large.preprocess == NativePreprocess(4, 64)


def test_a_pali_with_its_image_encoder_keeps_proportions(theirs: Path, tmp_path: Path) -> None:
    checkpoints.t5(tmp_path / "t5", vocab_size=700)
    (tmp_path / "t5" / "spiece.model").write_bytes(checkpoints.small_proto())
    write_stored(assemble(theirs, tmp_path / "t5"), tmp_path / "pali")
    made = open_model(tmp_path / "pali")
    assert (made.config.vision.grid, made.config.vision.tokens) == ((4, 4), 20)
    assert made.preprocess == NativePreprocess(4, 20)
    patches = Siglip2Model.from_pretrained(theirs).state_dict()["vision_model.embeddings.patch_embedding.weight"]
    assert torch.equal(made.weights()["vit.patch_embed.weight"], patches)
    export(made, tmp_path / "out")
    assert "max_num_patches" in (tmp_path / "out" / "vision" / "preprocessor_config.json").read_text()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"vision_config": {**checkpoints.NAFLEX, "num_patches": 20}}, "num_patches = 20"),
        ("preprocessor_config.json", {"patch_size": 8}, "patch_size = 8"),
        ("preprocessor_config.json", {"image_mean": [0.4, 0.5, 0.5]}, "image_mean"),
    ],
)
def test_what_cannot_be_read_is_named(
    theirs: Path, tmp_path: Path, file: str, change: dict[str, object], message: str
) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        described = json.loads((theirs / name).read_text())
        (tmp_path / name).write_text(json.dumps(described | (change if name == file else {})))
    with pytest.raises(ValueError, match=message):
        read_siglip(tmp_path)


def test_what_other_formats_do_not_have_is_refused(ours: Path) -> None:
    stored = open_model(ours)
    wide = dataclasses.replace(stored.config, vision=dataclasses.replace(stored.config.vision, grid=(2, 8)))
    with pytest.raises(ValueError, match="8 x 32"):
        write_siglip(stored.weights(), wide)
    with pytest.raises(ValueError, match="no ONNX graphs"):
        graphs_of(stored.kind, stored.model())
    pali = PaliModelConfig(stored.config.vision, PRESETS["pico"].text)
    with pytest.raises(ValueError, match="a PaLI whose images keep their proportions has no ONNX graphs"):
        graphs_of("pali", PaliModel(pali))
    with pytest.raises(ValueError, match=r"takes images of one size.*open it with openpali.Pali"):
        PaliConfig.from_core(pali)
