"""README's table of what one can start from: a test behind each cell, on a checkpoint that transformers wrote."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, SiglipModel

from openpali.distributed import ALONE
from openpali.infer.pali import Pali
from openpali.serve.server import Server
from openpali.train.load import parse_recipe
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.weights.bundle import open_tokenizer
from openpali.weights.convert import convert
from openpali.weights.format import open_model, write_merged
from openpali.weights.quantize import write_int8
from openpali_lab.benchmarks.captions import XM3600_LANGUAGES
from openpali_lab.benchmarks.retrieval import run_xm3600

from . import checkpoints
from .test_chain import data_url, served

ROOT = Path(__file__).parents[2]
CHAIN = "interop.test_chain.test_from_the_hub_to_the_server"
HALVES = "interop.test_weights_doc.test_from_two_folders_to_a_pali_that_trains_and_answers"
HERE = "interop.test_start_from."
TESTS = {  # in the order of the columns
    "nano": [
        "test_readme.test_commands_run",
        "test_readme.test_commands_run",
        "test_finetune_doc.test_commands_run",
        "train.test_lora.test_a_killed_run_equals_one_that_was_not",
        "weights.test_quantize.test_int8_models_are_close_to_the_original",
        "serve.test_serving_doc.test_commands_run",
        "interop.test_parts.test_export_of_a_siglip_a_bundle_and_others",
    ],
    "PaliGemma, PaliGemma 2 (pt, mix)": [
        CHAIN,
        CHAIN,
        "interop.test_paligemma_training.test_the_loss_is_that_of_transformers",
        CHAIN,
        CHAIN,
        CHAIN,
        "interop.test_paligemma.test_a_folder_goes_in_and_out_bit_for_bit",
    ],
    "T5Gemma 2": [
        CHAIN,
        CHAIN,
        "interop.test_t5gemma2.test_it_trains_with_the_loss_of_transformers",
        CHAIN,
        CHAIN,
        CHAIN,
        "interop.test_t5gemma2.test_a_folder_goes_in_and_out_bit_for_bit",
    ],
    "SigLIP, SigLIP 2": [
        f"{HERE}test_similarities_are_those_of_transformers",
        f"{HERE}test_retrieval_finds_what_transformers_finds",
        HALVES,
        f"{HERE}test_an_adapter_of_an_encoder_learns_and_embeds",
        f"{HERE}test_int8_is_close_to_transformers",
        f"{HERE}test_the_server_embeds_as_transformers_does",
        "interop.test_parts.test_export_of_a_siglip_a_bundle_and_others",
    ],
    "T5 v1.1, Flan-T5, mT5, umT5, UL2": [
        CHAIN,
        CHAIN,
        HALVES,
        CHAIN,
        CHAIN,
        CHAIN,
        "interop.test_parts.test_export_writes_what_transformers_opens",
    ],
}
TEXTS = ["a red circle", "two blue stars", "der hund"]


def table() -> dict[str, list[str]]:
    text = (ROOT / "README.md").read_text("utf-8").partition("## What you can start from")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert rows[0] == ["", "predict", "evaluate", "train", "LoRA", "int8", "serve", "export"]
    return {name: cells for name, *cells in rows[2:]}


def test_behind_each_cell_stands_a_test() -> None:
    found = table()
    assert found.keys() == TESTS.keys()
    for name, tests in TESTS.items():
        assert [cell != "no" for cell in found[name]] == [bool(test) for test in tests], name
        for module, _, function in (test.rpartition(".") for test in tests if test):
            text = (ROOT / "tests" / f"{module.replace('.', '/')}.py").read_text("utf-8")
            assert f"\ndef {function}(" in text, (name, module, function)
            if name != "nano":
                assert "import checkpoints" in text, (name, module)  # which has transformers write


# ---- SigLIP


@pytest.fixture(scope="module", params=["siglip", "siglip2"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of transformers with its tokenizer and image processor."""
    return getattr(checkpoints, f"{request.param}_files")(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def converted(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "siglip"
    convert([saved], folder)
    return folder


class Theirs:
    """What transformers computes from a checkpoint, by its own tokenizer and image processor."""

    def __init__(self, folder: Path) -> None:
        self.model = SiglipModel.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = AutoImageProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def __call__(self, images: list[np.ndarray], texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """L2-normalised embeddings of images and texts, and the probabilities that they match."""
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        pixels = self.processor(images, return_tensors="pt").pixel_values
        out = self.model(input_ids=ids.input_ids, pixel_values=pixels)
        return out.image_embeds.numpy(), out.text_embeds.numpy(), out.logits_per_image.sigmoid().numpy()


@pytest.fixture(scope="module")
def theirs(saved: Path) -> Theirs:
    return Theirs(saved)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Of the model's size."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (12, 12, 3), np.uint8) for _ in range(2)]


def test_similarities_are_those_of_transformers(converted: Path, theirs: Theirs, images: list[np.ndarray]) -> None:
    found = Pali(converted).similarity(images, TEXTS)
    np.testing.assert_allclose(found, theirs(images, TEXTS)[2], atol=1e-5)
    assert found.std() > 1e-3


def test_retrieval_finds_what_transformers_finds(converted: Path, theirs: Theirs, tmp_path: Path) -> None:
    """In Crossmodal-3600's layout: as many captions find their image, and as many images their caption."""
    rng, folder, count = np.random.default_rng(0), tmp_path / "xm3600", 6
    images = [
        np.clip(rng.integers(0, 256, (1, 1, 3)) + rng.integers(-40, 41, (12, 12, 3)), 0, 255).astype(np.uint8)
        for _ in range(count)
    ]
    (folder / "images").mkdir(parents=True)
    captions = {lang: [f"{lang} {i}" for i in range(count)] for lang in XM3600_LANGUAGES}
    with (folder / "captions.jsonl").open("w") as file:
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / "images" / f"{i}.jpg", format="PNG")
            entry = {lang: {"caption": [texts[i]]} for lang, texts in captions.items()}
            file.write(json.dumps({"image/key": str(i), **entry}) + "\n")
    pixels, words, _ = theirs(images, [text for texts in captions.values() for text in texts])
    similar = (words @ pixels.T).reshape(len(captions), count, count)  # languages, texts, images
    scores = run_xm3600(Pali(converted).embedding, tmp_path, None, lambda done, total: None).scores.summary
    for way, axis in (("txt2img", 2), ("img2txt", 1)):
        expected = (similar.argmax(axis) == np.arange(count)).mean()
        assert scores[f"{way}_recall@1"] == pytest.approx(expected)


def test_an_adapter_of_an_encoder_learns_and_embeds(
    converted: Path, images: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        Image.fromarray(np.full((12, 12, 3), 60 * i, np.uint8)).save(f"{i}.png")
    Path("mine.jsonl").write_text(
        "".join(json.dumps({"images": f"{i}.png", "caption": "abcd"[i]}) + "\n" for i in range(4))
    )
    raw = {
        "name": "more",
        "objective": "siglip",
        "batch": 4,
        "workers": 0,
        "model": {"init": {"": str(converted)}, "lora": {"rank": 2, "targets": ["vit"]}},
        "optimizer": {"lr": 1e-2},
        "phases": [{"samples": 16, "size": 12, "mixture": [{"source": "mine.jsonl", "task": "contrastive"}]}],
    }
    recipe = inherit(parse_recipe(raw))
    adapter = Trainer(recipe, tmp_path / "run", ALONE, open_tokenizer(recipe.model.tokenizer)).train()
    assert not list(adapter.glob("model*.safetensors"))
    write_merged(open_model(adapter), tmp_path / "merged")
    apart, merged, before = Pali(adapter), Pali(tmp_path / "merged"), Pali(converted)
    np.testing.assert_allclose(apart.embed_image(images), merged.embed_image(images), atol=1e-5)
    assert np.abs(apart.embed_image(images) - before.embed_image(images)).max() > 1e-3
    np.testing.assert_array_equal(apart.embed_text(TEXTS), before.embed_text(TEXTS))


def test_int8_is_close_to_transformers(
    converted: Path, theirs: Theirs, images: list[np.ndarray], tmp_path: Path
) -> None:
    write_int8(open_model(converted), tmp_path / "small")
    assert any(tensor.dtype == torch.int8 for tensor in open_model(tmp_path / "small").stored().values())
    small = Pali(tmp_path / "small")
    pixels, words, _ = theirs(images, TEXTS)
    for found, expected in ((small.embed_image(images), pixels), (small.embed_text(TEXTS), words)):
        assert np.abs(found - expected).max() < expected.std(0).max() / 2  # much closer than one to another


def test_the_server_embeds_as_transformers_does(
    openpali,
    converted: Path,
    theirs: Theirs,
    images: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"{i}.png")
    encoded = [data_url(f"{i}.png") for i in range(len(images))]
    pixels, words, similar = theirs(images, TEXTS)

    def ask(client: httpx.Client) -> None:
        found = client.post("/v1/embeddings", json={"input": TEXTS, "images": encoded}).json()["data"]
        got = np.array([each["embedding"] for each in found])
        np.testing.assert_allclose(got, np.concatenate([words, pixels]), atol=1e-5)
        matched = client.post("/v1/similarity", json={"images": encoded, "texts": TEXTS}).json()
        np.testing.assert_allclose(matched["similarity"], similar, atol=1e-5)

    monkeypatch.setattr(Server, "run", served(ask))
    openpali("serve", "--port", "0", "--model", converted)
